"""What counts as an e-mail address here, and when two are the same."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

# RFC 5321 section 4.5.3.1 with its erratum 1690: a path holds 254 characters.
MAX_CHARS = 254
_MAX_LOCAL_CHARS = 64
# Deliberately no full RFC 5322: only what can be no address, and no comments or quotes. Letters of
# any alphabet are allowed (RFC 6531).
_LOCAL = re.compile(r"[^\s@\"(),:;<>\[\]\\.]+(\.[^\s@\"(),:;<>\[\]\\.]+)*")
_LABEL = re.compile(r"[^\W_]([\w-]{0,61}[^\W_])?")


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """`text` as the person typed it, without the blanks around it; `key` for comparing."""

    text: str
    key: str


def parse(typed: str) -> EmailAddress | None:
    """None if it cannot be an address. Upper and lower case are the same person, as with every large provider."""
    text = unicodedata.normalize("NFC", typed.strip())
    if not 3 <= len(text) <= MAX_CHARS or any(unicodedata.category(char) in ("Cc", "Cf") for char in text):
        return None
    local, at, domain = text.rpartition("@")
    if not at or len(local) > _MAX_LOCAL_CHARS or _LOCAL.fullmatch(local) is None:
        return None
    labels = domain.split(".")
    if any(_LABEL.fullmatch(label) is None for label in labels):
        return None
    # After lower(), which can decompose a letter (İ), so that the key is NFC as well.
    return EmailAddress(text, unicodedata.normalize("NFC", text.lower()))
