"""Protobuf messages as the API's JSON."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any

import orjson
from google.protobuf.timestamp_pb2 import Timestamp
from starlette.types import Receive, Scope, Send

from focus.chat.v1 import chat_pb2
from focus.session.v1 import auth_pb2, conversation_pb2, turn_pb2, usage_pb2
from services.flow.question import Answered, Committed

View = dict[str, Any]

_TIERS = {chat_pb2.TIER_JUNIOR: "junior", chat_pb2.TIER_SENIOR: "senior"}
_FINISH_REASONS = {
    number: name.removeprefix("FINISH_REASON_").lower() for name, number in chat_pb2.FinishReason.items() if number
}
_OUTCOMES = {
    turn_pb2.OUTCOME_ANSWER: "answer",
    turn_pb2.OUTCOME_FAILURE: "failure",
    turn_pb2.OUTCOME_CANCELLED: "cancelled",
}


class Json:
    """A JSON response: an ASGI callable without what a hot path does not need."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(self, view: object, *, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self._body = orjson.dumps(view)
        self._status = status
        self._headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(self._body)).encode()),
            (b"cache-control", b"no-store"),
            *(headers or ()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body})


class NoContent:
    """204."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def answer_view(answer: chat_pb2.Answer) -> View:
    model = answer.model
    return {
        "answer": answer.text,
        "tier": _TIERS.get(answer.tier),
        "model": model,
        "confidence": round(answer.confidence, 4) if model else None,
        "finish_reason": _FINISH_REASONS.get(answer.finish_reason),
        "escalated": answer.escalated,
        "usage": _tokens(answer.usage),
        "cost_microusd": answer.cost_microusd,
    }


def asked_view(answered: Answered) -> View:
    return {**answer_view(answered.answer), "cache": answered.cache, "answer_id": answer_id(answered.entry)}


def answer_id(entry: bytes) -> str | None:
    """The cache's name of a stored answer, as it is told."""
    return urlsafe_b64encode(entry).rstrip(b"=").decode() if entry else None


def turn_view(turn: turn_pb2.Turn) -> View:
    return {
        "turn_id": turn.turn_id,
        "seq": turn.seq,
        "parent_turn_id": turn.parent_turn_id or None,
        "question": turn.question,
        "outcome": _OUTCOMES.get(turn.outcome, "failure"),
        **answer_view(turn.answer),
        "failure_reason": turn.failure_reason.lower() or None,
        "failure_message": turn.failure_message or None,
        "erased": turn.erased,
        "created_at": time_view(turn.created_at),
        "hash": turn.hash,
    }


def committed_view(conversation_id: str, committed: Committed) -> View:
    return {
        "conversation_id": conversation_id,
        **turn_view(committed.turn),
        "cache": committed.cache,
        "answer_id": answer_id(committed.entry),
        "history_cut": committed.history_cut,
    }


def outcome_view(outcome: turn_pb2.Outcome.ValueType) -> str:
    return _OUTCOMES.get(outcome, "failure")


def conversation_view(conversation: conversation_pb2.Conversation) -> View:
    return {
        "conversation_id": conversation.conversation_id,
        "title": conversation.title,
        "created_at": time_view(conversation.created_at),
        "updated_at": time_view(conversation.updated_at),
        "turn_count": conversation.turn_count,
    }


def found_view(found: conversation_pb2.SearchTurnsResponse.Found) -> View:
    return {
        "conversation_id": found.conversation_id,
        "title": found.title,
        "turn_id": found.turn_id,
        "seq": found.seq,
        "created_at": time_view(found.created_at),
        "snippet": found.snippet,
    }


def share_view(share: conversation_pb2.Share) -> View:
    return {
        "share_id": share.share_id,
        "conversation_id": share.conversation_id,
        "created_at": time_view(share.created_at),
        "last_seq": share.last_seq,
    }


def tokens_view(tokens: auth_pb2.TokenSet) -> View:
    return {
        "access_token": tokens.access_token,
        "token_type": "Bearer",
        "expires_in": tokens.expires_in,
        "refresh_token": tokens.refresh_token,
        "tenant_id": tokens.principal.tenant_id,
        "person_id": tokens.principal.person_id,
    }


def api_key_view(key: auth_pb2.ApiKey) -> View:
    return {
        "key_id": key.key_id,
        "label": key.label,
        "created_at": time_view(key.created_at),
        "last_used_at": time_view(key.last_used_at) if key.HasField("last_used_at") else None,
    }


def used_view(used: usage_pb2.GetUsageResponse.Used) -> View:
    return {
        "day": used.day,
        "model": used.model,
        "tier": _TIERS.get(used.tier),
        "calls": used.calls,
        "estimated_calls": used.estimated_calls,
        "usage": _tokens(used),
        "cost_microusd": used.cost_microusd,
    }


def _tokens(usage: chat_pb2.Usage | usage_pb2.GetUsageResponse.Used) -> View:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "thought_tokens": usage.thought_tokens,
    }


def time_view(time: Timestamp) -> str:
    """RFC 3339, UTC, with microseconds."""
    return time.ToDatetime().isoformat(timespec="microseconds") + "Z"
