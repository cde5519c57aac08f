"""Response bodies, put together from rendered pieces so that a call costs a few joins and no JSON encoding."""

import itertools
import json
import time
from collections.abc import Sequence

from devstack.gemini.backend import Piece, Usage

_BOOT = f"{time.time_ns() // 1_000_000:x}"
_COUNTER = itertools.count(1)

SSE_END = b"\r\n\r\n"


def response_id() -> str:
    """An id that no other answer has."""
    return f"{_BOOT}-{next(_COUNTER):x}"


def text_part(text: str) -> bytes:
    """A ``parts`` array with one text."""
    return b'[{"text":' + json.dumps(text, ensure_ascii=False).encode() + b"}]"


def usage_json(usage: Usage, total: int | None = None) -> bytes:
    """``usageMetadata`` as Google writes it: absent numbers are zero; ``total`` overrides the sum, for faults."""
    head = b'{"promptTokenCount":%d' % usage.prompt
    if usage.candidates:
        head += b',"candidatesTokenCount":%d' % usage.candidates
    if usage.cached:
        head += b',"cachedContentTokenCount":%d' % usage.cached
    if usage.thoughts:
        head += b',"thoughtsTokenCount":%d' % usage.thoughts
    whole = usage.prompt + usage.output if total is None else total
    return b'%s,"totalTokenCount":%d,"promptTokensDetails":[{"modality":"TEXT","tokenCount":%d}]}' % (
        head,
        whole,
        usage.prompt,
    )


def candidate(piece: Piece) -> bytes:
    """One element of ``candidates``; without parts it has no content, as after a safety stop."""
    content = b'"content":{"parts":%s,"role":"model"},' % piece.parts if piece.parts else b""
    finish = b'"finishReason":"%s",' % piece.finish.encode() if piece.finish else b""
    return b'{%s%s"index":%d}' % (content, finish, piece.index)


def response(pieces: Sequence[Piece], usage: bytes | None, model: str, identity: str) -> bytes:
    """A GenerateContentResponse; ``usage`` is rendered usageMetadata, or None to leave it out."""
    candidates = candidate(pieces[0]) if len(pieces) == 1 else b",".join(map(candidate, pieces))
    metadata = b'"usageMetadata":%s,' % usage if usage is not None else b""
    return b'{"candidates":[%s],%s"modelVersion":"%s","responseId":"%s"}' % (
        candidates,
        metadata,
        model.encode(),
        identity.encode(),
    )


def blocked(reason: str, usage: bytes, model: str, identity: str) -> bytes:
    """A GenerateContentResponse for a prompt that was refused: no candidate, but a promptFeedback."""
    return b'{"promptFeedback":{"blockReason":"%s"},"usageMetadata":%s,"modelVersion":"%s","responseId":"%s"}' % (
        reason.encode(),
        usage,
        model.encode(),
        identity.encode(),
    )
