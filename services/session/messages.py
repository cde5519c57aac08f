"""What the service keeps, as protobuf messages and back."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from focus.chat.v1 import chat_pb2
from focus.session.v1 import conversation_pb2, turn_pb2
from services.common.errors import InvalidRequest
from services.session import identifiers
from services.session.conversations import Found, Share
from services.session.model import NOBODY, Answer, Begun, Conversation, Outcome, Principal, Turn

_NO_ANSWER = Answer()


def principal(message: chat_pb2.Principal) -> Principal:
    """Who asks; raises InvalidRequest when that is not said."""
    return Principal(
        identifiers.require_uuid("principal.tenant_id", message.tenant_id),
        identifiers.require_uuid("principal.person_id", message.person_id or NOBODY),
    )


def outcome(value: turn_pb2.Outcome.ValueType) -> Outcome:
    """How it ended; raises InvalidRequest for what is not an outcome."""
    try:
        return Outcome(value)
    except ValueError:
        raise InvalidRequest("outcome must be set.", metadata={"field": "outcome"}) from None


def answer(message: chat_pb2.Answer) -> Answer:
    """What a model said."""
    usage = message.usage
    return Answer(
        message.text,
        message.tier,
        message.model,
        message.confidence,
        message.finish_reason,
        message.escalated,
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.output_tokens,
        usage.thought_tokens,
        message.cost_microusd,
    )


def answer_message(said: Answer) -> chat_pb2.Answer:
    """The inverse of `answer`."""
    return chat_pb2.Answer(
        text=said.text,
        tier=said.tier,  # type: ignore[arg-type]
        model=said.model,
        confidence=said.confidence,
        finish_reason=said.finish_reason,  # type: ignore[arg-type]
        escalated=said.escalated,
        usage=chat_pb2.Usage(
            prompt_tokens=said.prompt_tokens,
            cached_tokens=said.cached_tokens,
            output_tokens=said.output_tokens,
            thought_tokens=said.thought_tokens,
        ),
        cost_microusd=said.cost_microusd,
    )


def turn_message(turn: Turn) -> turn_pb2.Turn:
    """A stored turn."""
    return turn_pb2.Turn(
        turn_id=turn.id,
        seq=turn.seq,
        question=turn.question,
        outcome=int(turn.outcome),  # type: ignore[arg-type]
        answer=None if turn.answer == _NO_ANSWER else answer_message(turn.answer),
        failure_reason=turn.failure_reason,
        failure_message=turn.failure_message,
        created_at=timestamp(turn.created_at),
        hash=turn.hash.hex(),
        parent_turn_id=turn.parent_id,
        previous_hash=turn.previous_hash.hex(),
        question_sha256=turn.question_digest,
        answer_sha256=turn.answer_digest,
        erased=turn.erased,
        fence=turn.fence,
    )


def begun_message(begun: Begun) -> turn_pb2.BegunTurn:
    """A lease with its history."""
    message = turn_pb2.BegunTurn(
        turn_id=begun.turn_id,
        fence=begun.fence,
        seq=begun.seq,
        parent_turn_id=begun.parent_id,
        history_cut=begun.history_cut,
        replaced_question=begun.replaced_question,
    )
    for exchange in begun.history:
        message.history.add(role=chat_pb2.ROLE_USER).parts.add(text=exchange.question)
        message.history.add(role=chat_pb2.ROLE_MODEL).parts.add(text=exchange.answer)
    return message


def conversation_message(conversation: Conversation) -> conversation_pb2.Conversation:
    """A conversation without its turns."""
    return conversation_pb2.Conversation(
        conversation_id=conversation.id,
        title=conversation.title,
        created_at=timestamp(conversation.created_at),
        updated_at=timestamp(conversation.active_at),
        turn_count=conversation.turn_count,
    )


def share_message(share: Share) -> conversation_pb2.Share:
    """A link without its secret."""
    return conversation_pb2.Share(
        share_id=share.id,
        conversation_id=share.conversation_id,
        created_at=timestamp(share.created_at),
        last_seq=share.last_seq,
    )


def found_message(found: Found) -> conversation_pb2.SearchTurnsResponse.Found:
    """A search result."""
    return conversation_pb2.SearchTurnsResponse.Found(
        conversation_id=found.conversation_id,
        title=found.title,
        turn_id=found.turn_id,
        seq=found.seq,
        created_at=timestamp(found.created_at),
        snippet=found.snippet,
    )


def timestamp(moment: datetime) -> Timestamp:
    """A moment in UTC."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message
