"""Finding answers and keeping them.

A cache never makes a question fail: whatever goes wrong with the store is a miss.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from focus.cache.v1.cache_pb2 import FollowResponse, NotStored
from focus.cache.v1.entry_pb2 import Origin, StoredEntry
from focus.chat.v1.chat_pb2 import Answer
from services.cache import stats
from services.cache.admission import Admission
from services.cache.entries import Coder, Unreadable
from services.cache.freshness import lot
from services.cache.keys import Asked, Scope, fingerprint_of, key_of
from services.cache.marks import PUBLIC, Belongs, Marks
from services.cache.storage import AnswerStore, Found, State, StoreUnavailable, Value, Wish
from services.cache.tokens import FillToken, entry_of, entry_token, new_holder, version_of

_OPERATORS_WORD = 100


@dataclass(frozen=True, slots=True)
class Terms:
    """How an answer is asked for: the request's Cache-Control and what the caller can do."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    # Milliseconds.
    max_age: int | None = None
    single_flight: bool = False
    may_refresh: bool = False
    # Warming: refresh what ends within so many milliseconds; nobody's question, so it is not counted.
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Hit:
    """A stored answer that may be given."""

    entry: StoredEntry
    stale: bool
    # Names the entry to this tenant; empty for a public one.
    token: bytes
    # A lease to generate the answer anew.
    refresh: FillToken | None = None


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look-up came to: a hit, somebody to follow, or a miss."""

    hit: Hit | None = None
    # Key and holder of a fill under way.
    flight: tuple[bytes, bytes] | None = None
    # For a miss: the chance to store; None where the answer may not be stored.
    fill: FillToken | None = None
    # For a miss: an old answer, should generating fail.
    fallback: Hit | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of an answer."""

    reason: NotStored.ValueType
    token: bytes = b""


@dataclass(frozen=True, slots=True)
class Made:
    """How an answer came about."""

    fill: FillToken | None = None
    no_store: bool = False
    time_dependent: bool = False
    tags: Sequence[str] = ()
    # Milliseconds that generating took.
    took: int = 0
    origin: Origin.ValueType = Origin.ORIGIN_TRAFFIC
    confirmations: int = 0


class Answers:
    """Looks answers up and keeps them. `beta` is XFetch's; over 1 refreshes earlier."""

    def __init__(
        self,
        store: AnswerStore,
        secret: Callable[[], bytes],
        coder: Coder,
        marks: Marks,
        admission: Admission,
        *,
        beta: float = 1.0,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._secret = secret
        self._coder = coder
        self._marks = marks
        self._admission = admission
        self._beta = beta
        self._clock = clock
        self._chance = chance

    async def lookup(self, asked: Asked, terms: Terms) -> Looked:
        """The stored answer, who generates it, or the chance to do so; see `Looked`."""
        key = key_of(self._secret(), asked)
        if self._marks.public:
            public = await self._public(asked, terms)
            if public is not None:
                return public
        holder = new_holder(self._marks.version)
        storable = not terms.no_store and not terms.only_if_cached
        if terms.no_cache:
            stats.LOOKUPS.labels("bypass").inc()
            return Looked(fill=self._loose_fill(asked, key, holder) if storable else None)
        wish = Wish(
            holder,
            refresh=terms.may_refresh,
            fill=terms.single_flight and storable,
            max_age=terms.max_age,
            lot=lot(self._chance(), self._beta),
            ahead=terms.ahead,
        )
        found = await self._store.lookup(key, wish)
        hit = self._hit(asked, key, found)
        if hit is None and found.state is not State.NONE:
            # What lies there is of no use to anybody: make room and ask once more, for the lease.
            await self._remove(key)
            found = await self._store.lookup(key, wish)
            hit = self._hit(asked, key, found)
        if hit is not None and found.state is not State.EXPIRED:
            if found.granted:
                stats.REFRESHES.inc()
                hit = Hit(hit.entry, hit.stale, hit.token, FillToken(key, holder, leased=True))
            return Looked(hit=hit if terms.ahead else self._counted(hit))
        return await self._missed(asked, terms, key, found, FillToken(key, holder, found.granted), hit)

    async def keep(self, asked: Asked, answer: Answer, made: Made) -> Kept:
        """Keeps an answer, unless the rules forbid it, and ends its fill for all who follow."""
        key = key_of(self._secret(), asked)
        # A token of other words, or from before the secret changed, says nothing about this answer.
        fill = made.fill if made.fill is not None and made.fill.key == key else None
        holder = fill.holder if fill is not None else new_holder(self._marks.version)
        why = self._admission.refused(asked.text, answer, no_store=made.no_store, flagged=made.time_dependent)
        value = b""
        if why == NotStored.NOT_STORED_UNSPECIFIED:
            entry = StoredEntry(
                answer=answer,
                stored_at_ms=int(self._clock() * 1000),
                origin=made.origin or Origin.ORIGIN_TRAFFIC,
                marks_version=version_of(holder),
                tags=made.tags,
            )
            value = self._coder.encode(key, entry) or b""
            if not value:
                why = NotStored.NOT_STORED_TOO_LARGE
        if not value:
            stats.NOT_KEPT.labels(NotStored.Name(why).removeprefix("NOT_STORED_").lower()).inc()
            if fill is not None and fill.leased:
                finished = FollowResponse(finished=FollowResponse.Finished(answer=answer))
                last = self._coder.seal(finished.SerializeToString(), key + holder)
                await self._store.release(key, holder, last, 0)
            return Kept(why)
        try:
            await self._store.put(
                key,
                holder,
                Value(value, fingerprint_of(self._secret(), answer.text), max(0, made.took), made.confirmations),
            )
        except StoreUnavailable:
            stats.NOT_KEPT.labels("unavailable").inc()
            return Kept(NotStored.NOT_STORED_UNAVAILABLE, entry_token(self._secret(), asked.tenant, key))
        stats.KEPT.labels(Origin.Name(entry.origin).removeprefix("ORIGIN_").lower()).inc()
        return Kept(why, entry_token(self._secret(), asked.tenant, key))

    async def confirm(self, tenant: str, token: bytes) -> bool:
        """Lets an answer live longer. Raises InvalidRequest, StoreUnavailable."""
        return await self._store.confirm(entry_of(self._secret(), tenant, token))

    async def evict(self, tenant: str, token: bytes) -> bool:
        """Removes an answer for everybody. Raises InvalidRequest, StoreUnavailable."""
        key = entry_of(self._secret(), tenant, token)
        found = await self._store.evict(key)
        await self._marks.set([b"k" + key])
        return found

    def hit_of(self, tenant: str, key: bytes, value: bytes) -> Hit | None:
        """A value that a followed filler stored, as its followers get it."""
        found = Found(State.FRESH, value)
        return self._read(tenant, key, found)

    async def _missed(
        self, asked: Asked, terms: Terms, key: bytes, found: Found, fill: FillToken, fallback: Hit | None
    ) -> Looked:
        if self._admission.rules.time_dependent(asked.text):
            looked, kind = Looked(fallback=fallback), "time_dependent"
            if found.granted:
                await self._store.release(key, fill.holder, b"", 0)
        elif found.follows and not self._marks.may_kill(version_of(found.follows), key):
            looked, kind = Looked(flight=(key, found.follows)), "following"
        else:
            storable = not terms.no_store and not terms.only_if_cached
            looked, kind = Looked(fill=fill if storable else None, fallback=fallback), "miss"
        if not terms.ahead:
            stats.LOOKUPS.labels(kind).inc()
        return looked

    def _loose_fill(self, asked: Asked, key: bytes, holder: bytes) -> FillToken | None:
        if self._admission.rules.time_dependent(asked.text):
            return None
        return FillToken(key, holder, leased=False)

    async def _public(self, asked: Asked, terms: Terms) -> Looked | None:
        if terms.no_cache:
            return None
        public = Asked(
            "", "", Scope.PUBLIC, asked.text, asked.mode, asked.system_instruction, asked.max_output_tokens,
            asked.temperature, asked.language, asked.other,
        )  # fmt: skip
        key = key_of(self._secret(), public)
        if key not in self._marks.public:
            return None
        found = await self._store.lookup(key, Wish(max_age=terms.max_age))
        hit = self._hit(public, key, found)
        if hit is None or found.state not in (State.FRESH, State.STALE):
            if found.state is State.NONE and terms.max_age is None:
                self._marks.public.discard(key)  # it ran out
            return None
        return Looked(hit=self._counted(Hit(hit.entry, hit.stale, b"")))

    async def put_public(self, asked: Asked, answer: Answer, tags: Sequence[str]) -> Kept:
        """Keeps an answer for every tenant. Raises StoreUnavailable."""
        # An operator's word is worth any number of thumbs: it lives as long as anything may.
        made = Made(tags=tags, origin=Origin.ORIGIN_OPERATOR, confirmations=_OPERATORS_WORD)
        kept = await self.keep(asked, answer, made)
        if kept.reason == NotStored.NOT_STORED_UNAVAILABLE:
            raise StoreUnavailable
        if kept.reason == NotStored.NOT_STORED_UNSPECIFIED:
            await self._marks.set([PUBLIC + key_of(self._secret(), asked)])
        return kept

    def _hit(self, asked: Asked, key: bytes, found: Found) -> Hit | None:
        if found.state is State.NONE:
            return None
        return self._read(asked.tenant, key, found)

    def _read(self, tenant: str, key: bytes, found: Found) -> Hit | None:
        try:
            entry = self._coder.decode(key, found.value)
        except Unreadable as err:
            stats.UNREADABLE.labels(err.why).inc()
            return None
        if self._marks.kills(entry.marks_version, Belongs(key, tenant, entry.answer.model, entry.tags)):
            stats.PURGED.inc()
            return None
        return Hit(entry, found.state is State.STALE, entry_token(self._secret(), tenant, key))

    def _counted(self, hit: Hit) -> Hit:
        cost = hit.entry.answer.cost_microusd
        if hit.stale:
            stats.STALE_HITS.inc()
            stats.STALE_HITS_SAVED.inc(cost)
        else:
            stats.HITS.inc()
            stats.HITS_SAVED.inc(cost)
        return hit

    async def _remove(self, key: bytes) -> None:
        try:
            await self._store.evict(key)
        except StoreUnavailable:
            stats.UNAVAILABLE.labels("evict").inc()
