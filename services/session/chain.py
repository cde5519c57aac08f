"""The hash chain over a conversation's turns.

A turn's hash covers the hash of the turn before it, its number and the digests of what
was said, so that no stored turn can be changed, dropped or moved unnoticed, and yet a
text can be erased: the digests stay. The formula stands in `focus.session.v1.Turn`;
PostgreSQL computes the same one while it stores a turn.
"""

from __future__ import annotations

import hashlib
import uuid

from services.session.model import Outcome


def text_digest(text: str) -> bytes:
    """SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).digest()


def turn_digest(turn_id: str, outcome: Outcome, question_digest: bytes, answer_digest: bytes) -> bytes:
    """What a turn's hash covers beside its number and the hash before it."""
    head = uuid.UUID(turn_id).bytes + bytes([outcome])
    return hashlib.sha256(head + question_digest + answer_digest).digest()


def first_hash(conversation_uuid: str) -> bytes:
    """The hash before a conversation's first turn."""
    return hashlib.sha256(uuid.UUID(conversation_uuid).bytes).digest()


def next_hash(previous: bytes, seq: int, digest: bytes) -> bytes:
    """The hash of turn `seq`."""
    return hashlib.sha256(previous + seq.to_bytes(8, "big") + digest).digest()
