"""Secrets are read from a directory, rotated without a restart, and refused with a sentence."""

from pathlib import Path

import pytest

from focus.cache.v1.entry_pb2 import StoredEntry
from services.cache.entries import Coder, Unreadable
from services.cache.vault import Vault

KEY = b"k" * 32


def test_a_short_or_missing_secret_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="put at least 16 random bytes"):
        Vault(tmp_path)
    (tmp_path / "hmac").write_bytes(b"short\n")
    with pytest.raises(ValueError, match="holds 5 bytes"):
        Vault(tmp_path)


def test_a_malformed_encryption_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hmac").write_bytes(b"0123456789abcdef")
    (tmp_path / "aes-1").write_text("00" * 31)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        Vault(tmp_path)


def test_values_stay_readable_while_the_encryption_key_rotates(tmp_path: Path) -> None:
    """Add the new key, later remove the old one; without a restart."""
    (tmp_path / "hmac").write_bytes(b"0123456789abcdef")
    (tmp_path / "aes-2026-11").write_text("11" * 32)
    vault = Vault(tmp_path)
    coder = Coder(lambda: vault.ring, 1024, 1 << 16)
    entry = StoredEntry(stored_at_ms=1)
    old = coder.encode(KEY, entry)
    assert old is not None

    (tmp_path / "aes-2026-12").write_text("22" * 32 + "\n")
    vault.reload()
    new = coder.encode(KEY, entry)
    assert new is not None
    assert coder.decode(KEY, old) == coder.decode(KEY, new) == entry

    (tmp_path / "aes-2026-11").unlink()
    vault.reload()
    assert coder.decode(KEY, new) == entry
    with pytest.raises(Unreadable, match="key"):
        coder.decode(KEY, old)


def test_a_bad_file_leaves_the_loaded_secrets_in_use(tmp_path: Path) -> None:
    (tmp_path / "hmac").write_bytes(b"0123456789abcdef")
    vault = Vault(tmp_path)
    (tmp_path / "hmac").write_bytes(b"")
    with pytest.raises(ValueError, match="holds 0 bytes"):
        vault.reload()
    assert vault.secret == b"0123456789abcdef"
