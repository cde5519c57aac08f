"""Requests and responses of the API: what is accepted, and what OpenAPI says is answered.

Requests are validated by these models. Responses are written by `views` straight from
the protobuf messages; their models describe them, and a test compares the two.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from services.flow.question import CacheUse

# C0 but for tab, line feed and carriage return, DEL, and halves of surrogate pairs. PostgreSQL takes no NUL.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_LINE_BREAKS = re.compile("[\x09\x0a\x0d\u2028\u2029\x85]")


def _plain(text: str) -> str:
    found = _FORBIDDEN.search(text)
    if found is not None:
        raise PydanticCustomError("control_character", f"holds the control character U+{ord(found.group()):04X}")
    return text


def _not_blank(text: str) -> str:
    if not text or text.isspace():
        raise PydanticCustomError("blank", "must hold more than white space")
    return text


def _one_line(text: str) -> str:
    if _LINE_BREAKS.search(text) is not None:
        raise PydanticCustomError("one_line", "must be a single line")
    return text


Text = Annotated[str, AfterValidator(_plain)]
SaidText = Annotated[Text, AfterValidator(_not_blank)]
Line = Annotated[Text, AfterValidator(_one_line)]
Uuid = Annotated[str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]


class Request(BaseModel):
    """A body: nothing unknown in it, and no type bent into another."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _examples(*values: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(values)})


class Wishes(Request):
    """How a question is to be answered."""

    mode: Literal["auto", "junior", "senior"] = Field(
        default="auto", description="auto: the fast model first, the strong one where the first is not sure"
    )
    system: Text = Field(default="", description="extra instructions for the model")
    max_output_tokens: int | None = Field(default=None, ge=1, le=65_536)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)


class AskBody(Wishes):
    """A question that stands alone."""

    model_config = _examples(
        {"question": "What is the capital of Brazil?"},
        {"question": "Prove that there are infinitely many primes.", "mode": "senior", "max_output_tokens": 2000},
    )

    question: SaidText


class TurnBody(AskBody):
    """The next question of a conversation."""

    model_config = _examples({"question": "And how many people live there?"})

    parent_turn_id: Uuid | None = Field(default=None, description="the turn to follow; else the newest one")


class EditBody(AskBody):
    """Another question in the place of one that was asked: a branch beside it."""

    model_config = _examples({"question": "What is the capital of Argentina?"})


class RegenerateBody(Wishes):
    """How the question is to be answered anew."""

    model_config = _examples({"mode": "senior"})


class CreateConversationBody(Request):
    model_config = _examples({}, {"title": "Capitals"})

    title: Line = Field(default="", max_length=200, description="empty: the first question becomes the title")


class RenameBody(Request):
    model_config = _examples({"title": "Capitals of South America"})

    title: Annotated[Line, AfterValidator(_not_blank)] = Field(max_length=200)


class SignUpBody(Request):
    model_config = _examples({"email": "ada@example.com", "password": "correct horse battery", "display_name": "Ada"})

    email: Line = Field(min_length=3, max_length=320)
    password: str = Field(min_length=1, max_length=1024)
    display_name: Line = Field(default="", max_length=200)


class SignInBody(Request):
    model_config = _examples({"email": "ada@example.com", "password": "correct horse battery"})

    email: Line = Field(min_length=1, max_length=320)
    password: str = Field(min_length=1, max_length=1024)


class RefreshBody(Request):
    model_config = _examples({"refresh_token": "fr_…"})

    refresh_token: Line = Field(min_length=1, max_length=512)


class ApiKeyBody(Request):
    model_config = _examples({"label": "nightly reports"})

    label: Line = Field(default="", max_length=100)


class FeedbackBody(Request):
    """A thumb for a stored answer."""

    model_config = _examples({"answer_id": "ZQ3c…", "verdict": "down"})

    answer_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,170}$", description="as it came with the answer")
    verdict: Literal["up", "down"] = Field(description="up: it may live longer; down: nobody gets it any more")


class RetentionBody(Request):
    model_config = _examples({"days": 365})

    days: int = Field(ge=0, le=36_500, description="without activity; 0: for ever")


class PageQuery(Request):
    """A page of a list."""

    limit: int = Field(default=50, ge=1, le=200)
    cursor: str = Field(default="", max_length=1024, pattern=r"^[\x21-\x7e]*$", description="`next_cursor` of a page")


class SearchQuery(Request):
    q: SaidText = Field(max_length=500, description="words; quotation marks keep them together, - leaves one out")
    limit: int = Field(default=20, ge=1, le=50)
    cursor: str = Field(default="", max_length=1024, pattern=r"^[\x21-\x7e]*$")


class ExportQuery(Request):
    format: Literal["json", "markdown"] = "json"


def _day(text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise PydanticCustomError("day", "is not a day of the calendar") from None
    return text


Day = Annotated[
    str,
    Field(pattern=r"^(19[7-9]\d|2\d{3})-\d\d-\d\d$", json_schema_extra={"format": "date"}),
    AfterValidator(_day),
]


class UsageQuery(Request):
    """Days in UTC, both included; at most 366."""

    first: Day = Field(default="", alias="from", description="the first day; else 29 days before the last one")
    last: Day = Field(default="", alias="to", description="the last day; else today")


class UsageView(BaseModel):
    """Tokens over all calls that the answer took; zero for a hit."""

    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    thought_tokens: int


class AnswerView(BaseModel):
    """An answer with how it came about."""

    model_config = _examples(
        {
            "answer": "Brasília.",
            "tier": "junior",
            "model": "gemini-2.5-flash-lite",
            "confidence": 0.97,
            "finish_reason": "stop",
            "escalated": False,
            "usage": {"prompt_tokens": 31, "cached_tokens": 0, "output_tokens": 9, "thought_tokens": 0},
            "cost_microusd": 7,
            "cache": "miss",
            "answer_id": "ZQ3c…",
        }
    )

    answer: str
    tier: Literal["junior", "senior"] | None
    model: str
    confidence: float | None = Field(description="how likely the answer is right, 0 to 1")
    finish_reason: str | None
    escalated: bool
    usage: UsageView
    cost_microusd: int = Field(description="millionths of a US dollar; 0 for a hit")
    cache: CacheUse = Field(
        description="miss: generated for you; hit, stale (past its time), coalesced (generated for another who asked "
        "the same a moment earlier): it cost nothing; bypass: it depends on what was said before"
    )
    answer_id: str | None = Field(description="names the stored answer, for /v1/feedback; null: it is not kept")


class TurnView(BaseModel):
    """A turn as it is stored."""

    turn_id: str
    conversation_id: str | None = Field(default=None, description="told where the turn stands alone")
    seq: int = Field(description="1, 2, 3, … over all branches")
    parent_turn_id: str | None
    question: str
    outcome: Literal["answer", "failure", "cancelled"]
    answer: str
    tier: Literal["junior", "senior"] | None
    model: str
    confidence: float | None
    finish_reason: str | None
    escalated: bool
    usage: UsageView
    cost_microusd: int
    failure_reason: str | None
    failure_message: str | None
    erased: bool
    created_at: str
    hash: str = Field(description="covers the previous turn's hash and digests of this one's texts")
    cache: CacheUse | None = Field(default=None, description="told to who asked")
    answer_id: str | None = Field(default=None, description="for /v1/feedback; told to who asked")
    history_cut: bool | None = Field(default=None, description="older turns were left out; told to who asked")


class FeedbackView(BaseModel):
    found: bool = Field(description="false: the answer was not stored any more")


class ConversationView(BaseModel):
    conversation_id: str
    title: str
    created_at: str
    updated_at: str
    turn_count: int


class ConversationsView(BaseModel):
    """A page, the newest activity first."""

    conversations: list[ConversationView]
    next_cursor: str | None


class ConversationWithTurnsView(ConversationView):
    """A conversation with a page of its turns, oldest first."""

    turns: list[TurnView]
    next_cursor: str | None


class DeletedView(BaseModel):
    restorable_until: str


class FoundView(BaseModel):
    conversation_id: str
    title: str
    turn_id: str
    seq: int
    created_at: str
    snippet: str


class SearchView(BaseModel):
    found: list[FoundView]
    next_cursor: str | None


class ShareView(BaseModel):
    share_id: str
    conversation_id: str
    created_at: str
    last_seq: int
    secret: str | None = Field(default=None, description="told once, when the link is made")
    path: str | None = Field(default=None, description="where the link reads the conversation")


class SharesView(BaseModel):
    shares: list[ShareView]


class CancelView(BaseModel):
    conversation_id: str
    turn_id: str
    outcome: Literal["answer", "failure", "cancelled", "stopping"] = Field(
        description="how the turn ended: the cancel may have come too late; stopping: it has not ended yet"
    )


class TokensView(BaseModel):
    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int = Field(description="seconds")
    refresh_token: str
    tenant_id: str
    person_id: str


class ApiKeyView(BaseModel):
    key_id: str
    api_key: str = Field(description="shown this once")


class ListedApiKeyView(BaseModel):
    key_id: str
    label: str
    created_at: str
    last_used_at: str | None = Field(description="to within three minutes; null: never")


class ApiKeysView(BaseModel):
    """Your keys that work, newest first."""

    keys: list[ListedApiKeyView]


class UsedView(BaseModel):
    """One day's calls to one model."""

    day: str
    model: str
    tier: Literal["junior", "senior"] | None
    calls: int
    estimated_calls: int = Field(description="of them, those that nobody settled: booked as they were estimated")
    usage: UsageView
    cost_microusd: int


class UsageReportView(BaseModel):
    """What the tenant has used; a call is there within seconds of its end."""

    first: str = Field(alias="from")
    last: str = Field(alias="to")
    cost_microusd: int = Field(description="millionths of a US dollar, of all days together")
    used: list[UsedView]


class ProblemView(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    request_id: str
    retry_after: int | None = Field(default=None, description="seconds")
    field: str | None = None
