"""Requests checked and turned into the domain's words."""

from __future__ import annotations

from focus.cache.v1.cache_pb2 import CacheControl, LookupRequest, Question, Scope, StoreRequest
from focus.chat.v1.chat_pb2 import Mode, Principal
from services.cache.answers import Made, Terms
from services.cache.keys import Asked
from services.cache.keys import Scope as KeyScope
from services.cache.tokens import FillToken
from services.common.errors import InvalidRequest

MAX_TAGS = 8
MAX_TAG_BYTES = 64
# No answer is older; larger ages would overflow the store's arithmetic.
_MAX_AGE_SECONDS = 10 * 86_400

_AUTO = Mode.MODE_AUTO
_PERSON = Scope.SCOPE_PERSON


def asked_of(principal: Principal, question: Question, scope: Scope.ValueType, max_bytes: int) -> Asked:
    """Raises InvalidRequest."""
    if not principal.tenant_id:
        raise InvalidRequest("principal.tenant_id is missing; every question belongs to a tenant.")
    person = scope == _PERSON
    return _asked(principal, question, KeyScope.PERSON if person else KeyScope.TENANT, max_bytes)


def public_of(question: Question, max_bytes: int) -> Asked:
    """Raises InvalidRequest."""
    return _asked(Principal(), question, KeyScope.PUBLIC, max_bytes)


def _asked(principal: Principal, question: Question, scope: KeyScope, max_bytes: int) -> Asked:
    text, system = question.text, question.system_instruction
    if not text or text.isspace():
        raise InvalidRequest("question.text is empty; send the question.")
    # A character is at most four bytes: most questions need not be encoded to be measured.
    if (len(text) + len(system)) * 4 + len(question.other_parameters) > max_bytes:
        size = len(text.encode()) + len(system.encode()) + len(question.other_parameters)
        if size > max_bytes:
            fields = "question.text, system_instruction and other_parameters"
            raise InvalidRequest(f"{fields} have {size} bytes, over {max_bytes}; shorten them.")
    return Asked(
        principal.tenant_id,
        principal.person_id,
        scope,
        text,
        question.mode or _AUTO,
        system,
        question.max_output_tokens,
        question.temperature if question.HasField("temperature") else None,
        question.language,
        question.other_parameters,
    )


def terms_of(request: LookupRequest) -> Terms:
    """What the look-up may do and give."""
    control: CacheControl = request.cache_control
    max_age = None
    if control.HasField("max_age_seconds"):
        max_age = min(max(control.max_age_seconds, 0), _MAX_AGE_SECONDS) * 1000
    return Terms(
        control.no_cache,
        control.no_store,
        control.only_if_cached,
        max_age,
        request.single_flight,
        request.may_refresh and not control.no_store,
        min(max(request.refresh_within_seconds, 0), _MAX_AGE_SECONDS) * 1000,
    )


def made_of(request: StoreRequest) -> Made:
    """How the answer came about. Raises InvalidRequest."""
    if len(request.tags) > MAX_TAGS or any(not 0 < len(tag.encode()) <= MAX_TAG_BYTES for tag in request.tags):
        raise InvalidRequest(f"tags holds more than {MAX_TAGS}, or one that is empty or over {MAX_TAG_BYTES} bytes.")
    return Made(
        FillToken.decode(request.fill_token) if request.fill_token else None,
        request.no_store,
        request.time_dependent,
        list(request.tags),
        request.generation_ms,
        request.origin,
    )
