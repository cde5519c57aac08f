"""One question's dealings with the cache: found there, followed while another generates it, or generated and kept.

A cache that is down has nothing and takes nothing: it never makes a question fail.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from focus.cache.v1 import cache_pb2, entry_pb2
from focus.chat.v1 import chat_pb2
from focus.errors.v1.reason_pb2 import ErrorReason
from services.common import logs
from services.common.errors import Exhausted, FocusError, NotFound, Unavailable
from services.flow.clients import Clients
from services.flow.deadline import Deadline
from services.flow.events import Delta, Escalated
from services.flow.fills import Fill
from services.flow.flight import Course
from services.flow.joint import Found, Joint, for_nothing
from services.flow.question import CacheUse, Question

log = logs.get(__name__)

# The cache answers in about a millisecond; what takes longer than this is no help.
CACHE_SECONDS = 0.5
# A lease that nobody renewed for so long may be another's.
_FRESH_SECONDS = 1.0
# How often a stream that broke off is looked for again, before the question is asked alone.
_MOST_TRIES = 3


@dataclass(frozen=True, slots=True)
class Terms:
    """How the cache may be used: the request's Cache-Control, and whether the text may be kept to warm with it."""

    control: cache_pb2.CacheControl = field(default_factory=cache_pb2.CacheControl)
    may_learn: bool = False


class Inquiry:
    """`find` first; where it finds nothing the caller generates and calls `keep`, or `instead_of` the failure.

    With `at_once` the look-up starts when the context opens, beside whatever else is done
    there. Leaving the context gives back what was not used, so that nobody waits for it.
    """

    def __init__(
        self,
        clients: Clients,
        principal: chat_pb2.Principal,
        question: Question,
        terms: Terms,
        course: Course,
        deadline: Deadline,
        *,
        at_once: bool = False,
    ) -> None:
        self._answers, self._fills, self._refreshes = clients.answers, clients.fills, clients.refreshes
        self._joints = clients.joints
        self._principal = principal
        self._question = question.for_cache()
        self._terms = terms
        self._course = course
        self._deadline = deadline
        self._at_once = at_once
        self._early: asyncio.Task[cache_pb2.LookupResponse | None] | None = None
        self._joint: Joint | None = None
        self._looked = 0.0
        # None: the cache did not answer, so it is not told the answer either.
        self._fill: cache_pb2.Fill | None = None
        self._held: Fill | None = None
        self._fallback: Found | None = None

    def __enter__(self) -> Self:
        if self._at_once:
            self._early = asyncio.create_task(self._look_up(), name="look up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._early is not None:
            self._fills.give_back(self._early)  # it was not needed
        self.give_up(error if isinstance(error, FocusError) else None)

    async def find(self) -> Found | None:
        """The stored answer, or that which another is generating; None: generate it.

        Raises NotFound (NOT_CACHED) where only a stored answer was wanted, and the failure
        of whoever was followed.
        """
        control = self._terms.control
        if not (self._early or control.no_cache or control.no_store or control.only_if_cached):
            key = (
                self._principal.tenant_id,
                self._question.SerializeToString(deterministic=True),
                control.SerializeToString(deterministic=True),
            )
            while (joint := self._joints.get(key)) is not None:
                found = await self._watch(joint)
                if found is not None:
                    self._course.cache = found.cache
                    return found
            self._joint = self._joints.lead(key, self._course)
        self._course.shared(self._audience)
        found = await self._find()
        if found is None:
            self._must_generate("miss")
        elif self._joint is not None:
            self._joint.found(found)
        return found

    def bypass(self) -> None:
        """In place of `find` where the answer depends on what was said before. Raises NotFound (NOT_CACHED)."""
        self._must_generate("bypass")

    async def keep(self, answer: chat_pb2.Answer, seconds: float) -> bytes:
        """Stores an answer for others, and ends it for those who follow; a failure to do so is nobody's.

        `seconds` is what generating took. Returns what names the stored answer.
        """
        fill, held = self._fill, self._held
        complete = answer.finish_reason == chat_pb2.FINISH_REASON_STOP and answer.text
        entry = b""
        if fill is not None and (complete or held is not None):
            if held is not None:
                await self._fills.publish(held)
            entry = await self._store(answer, fill, seconds)
        if self._joint is not None:
            self._joint.found(Found(answer, "miss", entry=entry))
        return entry

    async def _store(self, answer: chat_pb2.Answer, fill: cache_pb2.Fill, seconds: float) -> bytes:
        request = cache_pb2.StoreRequest(
            principal=self._principal,
            question=self._question,
            answer=answer,
            fill_token=fill.token,
            no_store=self._terms.control.no_store,
            generation_ms=int(seconds * 1000),
            origin=entry_pb2.ORIGIN_TRAFFIC,
        )
        try:
            stored = await self._answers.store(request, timeout=CACHE_SECONDS)
        except FocusError as err:
            log.warning("an answer could not be cached", reason=err.reason_name)
            return b""
        self._forget()
        return stored.entry

    def instead_of(self, failure: FocusError) -> Found:
        """An old answer where generating failed (stale-if-error, RFC 5861 section 4); else raises the failure."""
        if self._fallback is None or not _is_ours(failure):
            raise failure
        self._course.restart()
        if self._joint is not None:
            self._joint.found(self._fallback)
        self.give_up(failure)
        log.info("a stale answer is given, for generating failed", reason=failure.reason_name)
        return self._fallback

    async def _watch(self, joint: Joint) -> Found | None:
        try:
            async with asyncio.timeout(self._deadline.remaining()):
                return await joint.watch(self._course)
        except TimeoutError:
            self._deadline.remaining()  # says it as everywhere
            return None

    async def _find(self) -> Found | None:
        for _ in range(_MOST_TRIES):
            looked = await self._first_look_up()
            kind = looked.WhichOneof("result") if looked is not None else None
            if looked is None:
                break
            if kind == "hit":
                return self._hit(looked.hit)
            if kind == "miss":
                self._take(looked.miss)
                break
            self._course.cache = "coalesced"
            try:
                found = await self._follow(looked.following.token)
            except Unavailable as err:
                # Only the stream broke: the fill may go on, and another replica knows of it.
                log.info("a stream to follow broke off", reason=err.reason_name)
                self._course.restart()
                continue
            if found is not None:
                return found
            break
        return None

    async def _audience(self) -> bool:
        if self._joint is not None and self._joint.followers:
            return True
        return self._held is not None and await self._fills.followed(self._held)

    async def _first_look_up(self) -> cache_pb2.LookupResponse | None:
        early, self._early = self._early, None
        if early is not None:
            looked = await early
            if time.monotonic() - self._looked < _FRESH_SECONDS:
                return looked
        return await self._look_up()

    async def _look_up(self, *, single_flight: bool = True) -> cache_pb2.LookupResponse | None:
        request = cache_pb2.LookupRequest(
            principal=self._principal,
            question=self._question,
            cache_control=self._terms.control,
            single_flight=single_flight,
            may_refresh=single_flight and self._refreshes.may_start,
            may_learn=self._terms.may_learn,
        )
        try:
            looked = await self._answers.look_up(request, timeout=self._deadline.remaining(CACHE_SECONDS))
        except FocusError as err:
            log.warning("cache look-up failed; taken as a miss", reason=err.reason_name)
            return None
        self._looked = time.monotonic()
        return looked

    def _hit(self, hit: cache_pb2.LookupResponse.Hit) -> Found:
        if hit.HasField("refresh"):
            self._refreshes.start(self._principal, self._question, hit.refresh)
        found = _stored(hit, "stale" if hit.stale else "hit")
        self._course.cache = found.cache
        return found

    def _take(self, miss: cache_pb2.LookupResponse.Miss) -> None:
        if miss.HasField("stale_if_error"):
            self._fallback = _stored(miss.stale_if_error, "stale")
        if miss.HasField("fill"):
            self._lead(miss.fill)

    def _lead(self, fill: cache_pb2.Fill) -> None:
        self._fill = fill
        if fill.leased:
            self._held = self._fills.hold(fill, self._course)

    async def _follow(self, token: bytes) -> Found | None:
        """Another's answer, told as it comes; None: it is ours to generate now."""
        course = self._course
        request = cache_pb2.FollowRequest(principal=self._principal, token=token)
        try:
            async with aclosing(self._answers.follow(request, timeout=self._deadline.remaining())) as events:
                async for event in events:
                    kind = event.WhichOneof("event")
                    if kind == "piece" and event.piece.HasField("escalated"):
                        told = event.piece.escalated
                        course.emit(Escalated(told.confidence, told.threshold, told.model))
                    elif kind == "piece":
                        course.emit(Delta(event.piece.delta))
                    elif kind == "restarted":
                        course.restart()
                    elif kind == "finished":
                        return Found(for_nothing(event.finished.answer), "coalesced", entry=event.finished.entry)
                    elif kind == "lead":
                        course.restart()
                        self._lead(event.lead.fill)
                        return None
                    elif kind == "failed":
                        return await self._failed(_failure(event.failed))
        except Exhausted as err:
            if err.reason != ErrorReason.ERROR_REASON_OVERLOADED:
                raise
            return None  # no room for another follower there
        raise Unavailable("The answer that was followed ended without an end.")

    async def _failed(self, failure: FocusError) -> Found:
        """What the filler would have got as well: an old answer, or the failure."""
        looked = await self._look_up(single_flight=False)
        if looked is not None and looked.miss.HasField("stale_if_error"):
            self._fallback = _stored(looked.miss.stale_if_error, "stale")
        return self.instead_of(failure)

    def _must_generate(self, use: CacheUse) -> None:
        if self._terms.control.only_if_cached:
            raise NotFound(
                "No stored answer may be given to this question, and Cache-Control says only-if-cached.",
                ErrorReason.ERROR_REASON_NOT_CACHED,
            )
        self._course.cache = self._course.cache or use

    def give_up(self, failure: FocusError | None = None) -> None:
        """The answer will not be kept; those who follow it fail alike, or without a failure one takes over."""
        if self._held is not None:
            self._fills.release(self._held, failure)
        self._forget()
        if self._joint is not None:
            self._joint.failed(failure)

    def _forget(self) -> None:
        if self._held is not None:
            self._fills.drop(self._held)
        self._held = self._fill = None


def _stored(hit: cache_pb2.LookupResponse.Hit, cache: CacheUse) -> Found:
    age = max(0, int(time.time() - hit.stored_at.seconds)) if hit.HasField("stored_at") else 0
    return Found(for_nothing(hit.answer), cache, age, hit.entry)


def _failure(told: cache_pb2.FillFailure) -> FocusError:
    return FocusError(
        told.message, told.reason, retry_after=told.retry_after_ms / 1000 if told.retry_after_ms else None
    )


# Of a caller's own doing, or what would be the same with every provider.
_THEIRS = frozenset(
    {
        ErrorReason.ERROR_REASON_INVALID_ARGUMENT,
        ErrorReason.ERROR_REASON_PROVIDER_REJECTED,
        ErrorReason.ERROR_REASON_ANSWER_BLOCKED,
        ErrorReason.ERROR_REASON_CANCELLED,
    }
)


def _is_ours(failure: FocusError) -> bool:
    return failure.reason not in _THEIRS
