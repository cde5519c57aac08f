"""A value that is not exactly what was written for this key never becomes an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from focus.cache.v1.entry_pb2 import StoredEntry
from focus.chat.v1.chat_pb2 import Answer
from services.cache.entries import Coder, KeyRing, Unreadable

RING = KeyRing.derived(b"0123456789abcdef")
CODER = Coder(lambda: RING, compress_above=256, max_bytes=1 << 16)
KEY, OTHER = b"k" * 32, b"o" * 32


def entry(text: str = "Brasília.") -> StoredEntry:
    return StoredEntry(answer=Answer(text=text, model="m", confidence=0.9, cost_microusd=7), stored_at_ms=5)


def value(text: str = "Brasília.") -> bytes:
    made = CODER.encode(KEY, entry(text))
    assert made is not None
    return made


@pytest.mark.parametrize("text", ["", "short", "long " * 5000])
def test_what_was_written_is_read(text: str) -> None:
    assert CODER.decode(KEY, value(text)) == entry(text)


def test_large_values_are_compressed_and_small_ones_are_not() -> None:
    assert len(value("long " * 5000)) < 1000
    assert len(value("x" * 100)) > 100


def test_nothing_readable_lies_in_the_store() -> None:
    assert b"secret words" not in value("secret words")


def test_a_value_larger_than_allowed_is_not_made() -> None:
    assert Coder(lambda: RING, 256, 1024).encode(KEY, entry("x" * 1025)) is None


def test_the_value_of_another_key_does_not_open() -> None:
    with pytest.raises(Unreadable, match="corrupt"):
        CODER.decode(OTHER, value())


def test_an_older_version_does_not_open() -> None:
    with pytest.raises(Unreadable, match="version"):
        CODER.decode(KEY, b"\x00" + value()[1:])


def test_a_value_under_an_unknown_encryption_key_does_not_open() -> None:
    rotated = KeyRing({"2026-12": b"n" * 32}, "2026-12")
    made = Coder(lambda: rotated, 256, 1024).encode(KEY, entry())
    assert made is not None
    with pytest.raises(Unreadable, match="key"):
        CODER.decode(KEY, made)


@given(st.integers(0, 10_000), st.integers(0, 7), st.booleans())
def test_no_damaged_value_opens(position: int, bit: int, cut: bool) -> None:
    """Any flipped bit and any cut is noticed, also in the header and in compressed values."""
    whole = value("long " * 200)
    place = position % len(whole)
    damaged = whole[:place] if cut else whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :]
    with pytest.raises(Unreadable):
        CODER.decode(KEY, damaged)
