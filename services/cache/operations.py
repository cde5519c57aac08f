"""What people and operators do to the cache: thumbs, purges, public entries, what to warm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from focus.cache.v1 import cache_pb2 as pb
from focus.errors.v1.reason_pb2 import ErrorReason
from services.cache.answers import Answers
from services.cache.keys import Asked, Scope, key_of
from services.cache.marks import ENTRY, FLOOR, MAX_PUBLIC, Marks
from services.cache.popular import MAX_TEXT_CHARS, Popular, PopularQuestions
from services.cache.requests import public_of
from services.cache.storage import StoreUnavailable
from services.cache.tokens import key_in
from services.common import errors

MAX_LISTED = 1000


class Operations:
    def __init__(
        self, answers: Answers, marks: Marks, questions: PopularQuestions, secret: Callable[[], bytes]
    ) -> None:
        self._answers = answers
        self._marks = marks
        self._questions = questions
        self._secret = secret

    def learn(self, asked: Asked, request: pb.LookupRequest) -> None:
        """Notes a question for warming, unless its text is somebody's own, long, or not all that is asked."""
        if asked.scope is not Scope.TENANT or request.cache_control.no_store or asked.other:
            return
        if len(asked.text) + len(asked.system_instruction) > MAX_TEXT_CHARS:
            return
        popular = Popular(question=request.question, scope=pb.Scope.SCOPE_TENANT)
        # Who asked is nobody's business later.
        popular.principal.tenant_id = asked.tenant
        self._questions.note(key_of(self._secret(), asked), popular)

    async def feedback(self, tenant: str, entry: bytes, verdict: pb.Verdict.ValueType) -> bool:
        """Raises InvalidRequest, Unavailable."""
        if verdict == pb.Verdict.VERDICT_UNSPECIFIED:
            raise errors.InvalidRequest("verdict is missing; send VERDICT_UP or VERDICT_DOWN.")
        try:
            if verdict == pb.Verdict.VERDICT_UP:
                return await self._answers.confirm(tenant, entry)
            return await self._answers.evict(tenant, entry)
        except StoreUnavailable:
            raise _unavailable() from None

    async def purge(self, request: pb.PurgeRequest) -> None:
        """Raises InvalidRequest, Unavailable."""
        names = [ENTRY + key_in(token) for token in request.entries]
        names += [self._marks.tenant(tenant) for tenant in request.tenant_ids]
        names += [self._marks.model(model) for model in request.models]
        names += [self._marks.tag(tag) for tag in request.tags]
        if request.everything:
            names.append(FLOOR)
        if not names:
            raise errors.InvalidRequest("Nothing to purge is named; give entries, tenants, models, tags or everything.")
        try:
            await self._marks.set(names)
        except StoreUnavailable:
            raise _unavailable() from None

    async def put_public(self, request: pb.PutPublicRequest, max_bytes: int) -> bytes:
        """Raises InvalidRequest, Exhausted, Unavailable."""
        if len(self._marks.public) >= MAX_PUBLIC:
            raise errors.Exhausted(
                f"{MAX_PUBLIC} public entries are kept; purge some first.", ErrorReason.ERROR_REASON_LIMIT_REACHED
            )
        try:
            kept = await self._answers.put_public(
                public_of(request.question, max_bytes), request.answer, list(request.tags)
            )
        except StoreUnavailable:
            raise _unavailable() from None
        if kept.reason != pb.NotStored.NOT_STORED_UNSPECIFIED:
            why = pb.NotStored.Name(kept.reason).removeprefix("NOT_STORED_").lower().replace("_", " ")
            raise errors.InvalidRequest(f"This answer may not be kept: {why}.")
        return kept.token

    async def popular(self, tenants: Sequence[str], limit: int) -> list[Popular]:
        """Raises InvalidRequest, Unavailable."""
        if not 0 <= limit <= MAX_LISTED:
            raise errors.InvalidRequest(f"limit is not within 0 and {MAX_LISTED}.")
        try:
            return await self._questions.list(tenants, limit or 100)
        except StoreUnavailable:
            raise _unavailable() from None


def _unavailable() -> errors.Unavailable:
    return errors.Unavailable(
        "The cache's store cannot be reached; nothing was changed, try again in a moment.",
        ErrorReason.ERROR_REASON_STORE_UNAVAILABLE,
        retry_after=1.0,
    )
