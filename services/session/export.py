"""A conversation as a document: JSON for programs, Markdown for people."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import datetime

from focus.chat.v1 import chat_pb2
from services.session.model import Conversation, Outcome, Turn

_CHUNK_BYTES = 65_536
_OUTCOMES = {Outcome.ANSWER: "answer", Outcome.FAILURE: "failure", Outcome.CANCELLED: "cancelled"}


async def chunks(pieces: AsyncIterator[str]) -> AsyncIterator[bytes]:
    """The document in UTF-8, in pieces of at most 64 KiB."""
    held = bytearray()
    async for piece in pieces:
        held += piece.encode()
        while len(held) >= _CHUNK_BYTES:
            yield bytes(held[:_CHUNK_BYTES])
            del held[:_CHUNK_BYTES]
    if held:
        yield bytes(held)


async def as_json(conversation: Conversation, turns: AsyncIterator[Turn]) -> AsyncIterator[str]:
    """One object; its list of turns is the last member."""
    head = {
        "conversation_id": conversation.id,
        "title": conversation.title,
        "created_at": _moment(conversation.created_at),
        "updated_at": _moment(conversation.active_at),
        "turn_count": conversation.turn_count,
    }
    yield json.dumps(head, ensure_ascii=False)[:-1] + ', "turns": ['
    separator = "\n"
    async for turn in turns:
        yield separator + json.dumps(_fields(turn), ensure_ascii=False)
        separator = ",\n"
    yield "\n]}\n"


async def as_markdown(conversation: Conversation, turns: AsyncIterator[Turn]) -> AsyncIterator[str]:
    """A heading, then every turn with question and answer; branches name the turn that they follow."""
    yield f"# {_inline(conversation.title) or 'Conversation'}\n\n{_moment(conversation.created_at)}\n"
    previous = ""
    async for turn in turns:
        yield f"\n## {turn.seq}. {_moment(turn.created_at)}\n\n"
        if turn.parent_id != previous:
            yield f"_Follows {f'turn `{turn.parent_id}`' if turn.parent_id else 'nothing: begins anew'}._\n\n"
        previous = turn.id
        if turn.erased:
            yield "_The texts of this turn were erased._\n"
            continue
        yield "".join(f"> {line}\n" for line in turn.question.splitlines() or [""])
        if turn.answer.text:
            yield f"\n{turn.answer.text}\n"
        if turn.outcome is Outcome.FAILURE:
            yield f"\n_No answer: {_inline(turn.failure_message) or turn.failure_reason}_\n"
        elif turn.outcome is Outcome.CANCELLED:
            yield "\n_Cancelled._\n"


def _fields(turn: Turn) -> dict[str, object]:
    answer = turn.answer
    return {
        "turn_id": turn.id,
        "seq": turn.seq,
        "parent_turn_id": turn.parent_id or None,
        "created_at": _moment(turn.created_at),
        "question": turn.question,
        "outcome": _OUTCOMES[turn.outcome],
        "answer": answer.text,
        "tier": chat_pb2.Tier.Name(answer.tier).removeprefix("TIER_").lower() if answer.tier else None,  # type: ignore[arg-type]
        "model": answer.model or None,
        "confidence": answer.confidence,
        "usage": {
            "prompt_tokens": answer.prompt_tokens,
            "cached_tokens": answer.cached_tokens,
            "output_tokens": answer.output_tokens,
            "thought_tokens": answer.thought_tokens,
        },
        "cost_microusd": answer.cost_microusd,
        "failure_reason": turn.failure_reason or None,
        "failure_message": turn.failure_message or None,
        "erased": turn.erased,
        "question_sha256": turn.question_digest.hex(),
        "answer_sha256": turn.answer_digest.hex(),
        "previous_hash": turn.previous_hash.hex(),
        "hash": turn.hash.hex(),
    }


def _inline(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>#])", r"\\\1", " ".join(text.split()))


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
