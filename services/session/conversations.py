"""Conversations as people use them: make, read, name, delete and restore, share, search, erase."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from focus.errors.v1.reason_pb2 import ErrorReason
from services.common.errors import Exhausted, InvalidRequest, NotFound
from services.session import cursors, identifiers
from services.session.identifiers import no_conversation, no_turn
from services.session.model import Conversation, Principal, Turn
from services.session.turns import storable

MAX_TITLE_CHARS = 200
MAX_QUERY_CHARS = 500
MAX_SHARES = 100
MAX_RETENTION_DAYS = 36_500
SHARE_PREFIX = "fs_"
_EXPORT_PAGE = 100


@dataclass(slots=True)
class Share:
    """A link to a conversation up to turn `last_seq`, without its secret."""

    id: str
    conversation_id: str
    created_at: datetime
    last_seq: int


@dataclass(slots=True)
class Found:
    """A turn that has the words looked for."""

    conversation_id: str
    title: str
    turn_id: str
    seq: int
    created_at: datetime
    snippet: str


@dataclass(frozen=True, slots=True)
class ListPosition:
    """A place in a person's list as it stood at `as_of`: after this activity and id."""

    as_of: datetime
    active_at: datetime
    conversation_uuid: str


@dataclass(frozen=True, slots=True)
class SearchPosition:
    """A place among search results: after this turn."""

    created_at: datetime
    conversation_uuid: str
    seq: int


class ConversationStore(Protocol):
    """The truth about conversations. None and False mean: not there for this principal."""

    async def create(self, principal: Principal, title: str) -> Conversation | None:
        """A new conversation; None when the person has as many as may be."""

    async def get(self, principal: Principal, conversation_id: str) -> Conversation | None: ...

    async def turns(self, conversation_id: str, after: int, last: int, limit: int) -> Sequence[Turn]:
        """Turns with after < seq <= last, oldest first. Whose they are was asked before."""

    async def listed(
        self, principal: Principal, after: ListPosition | None, limit: int
    ) -> tuple[Sequence[tuple[Conversation, datetime]], datetime]:
        """Conversations with the activity that they are ordered by, and the moment of the order."""

    async def rename(self, principal: Principal, conversation_id: str, title: str) -> Conversation | None: ...
    async def delete(self, principal: Principal, conversation_id: str) -> datetime | None: ...
    async def restore(
        self, principal: Principal, conversation_id: str, deleted_after: timedelta
    ) -> Conversation | None: ...
    async def erase(self, principal: Principal, conversation_id: str, turn_id: str) -> Turn | None: ...
    async def search(
        self, principal: Principal, query: str, after: SearchPosition | None, limit: int
    ) -> Sequence[Found]: ...
    async def share(
        self, principal: Principal, conversation_id: str, secret_hash: bytes, most: int
    ) -> Share | None: ...
    async def shares(self, conversation_id: str) -> Sequence[Share]: ...
    async def withdraw(self, principal: Principal, share_id: str) -> bool: ...
    async def shared(self, secret_hash: bytes) -> tuple[Conversation, Share] | None: ...
    async def set_retention(self, principal: Principal, days: int) -> None: ...


class Conversations:
    """Every method raises NotFound for what is not the principal's own."""

    def __init__(self, store: ConversationStore, *, undelete: timedelta) -> None:
        self._store = store
        self._undelete = undelete

    async def create(self, principal: Principal, title: str) -> Conversation:
        """An empty conversation. Raises Exhausted (LIMIT_REACHED)."""
        made = await self._store.create(principal, _title(title))
        if made is None:
            raise Exhausted(
                "You have as many conversations as you may have; delete some first.",
                ErrorReason.ERROR_REASON_LIMIT_REACHED,
                metadata={"limit": "conversations"},
            )
        return made

    async def get(self, principal: Principal, conversation_id: str, size: int, token: str) -> tuple[Conversation, Page]:
        """A conversation with a page of its turns."""
        conversation = await self._own(principal, conversation_id)
        return conversation, await self._page(conversation, conversation.turn_count, size, token)

    async def listed(self, principal: Principal, size: int, token: str) -> tuple[list[Conversation], str]:
        """A page of conversations and the token of the next one."""
        size = cursors.page_size(size, default=50, most=200)
        scope = f"conversations/{principal.tenant_id}/{principal.person_id}"
        after = None
        if token:
            as_of, active_at, conversation = cursors.decode(scope, token, datetime, datetime, str)
            assert isinstance(as_of, datetime)
            assert isinstance(active_at, datetime)
            after = ListPosition(as_of, active_at, identifiers.require_uuid("page_token", str(conversation)))
        rows, as_of = await self._store.listed(principal, after, size + 1)
        next_token = ""
        if len(rows) > size:
            last, active_at = rows[size - 1]
            next_token = cursors.encode(scope, as_of, active_at, identifiers.split_conversation_id(last.id)[1])
        return [conversation for conversation, _ in rows[:size]], next_token

    async def rename(self, principal: Principal, conversation_id: str, title: str) -> Conversation:
        """Sets the title."""
        if not title.strip():
            raise InvalidRequest(f"A title has 1 to {MAX_TITLE_CHARS} characters.", metadata={"field": "title"})
        identifiers.split_conversation_id(conversation_id)
        return _there(await self._store.rename(principal, conversation_id, _title(title)))

    async def delete(self, principal: Principal, conversation_id: str) -> datetime:
        """Hides it; gives the moment until which it can be restored."""
        identifiers.split_conversation_id(conversation_id)
        deleted_at = await self._store.delete(principal, conversation_id)
        if deleted_at is None:
            raise no_conversation()
        return deleted_at + self._undelete

    async def restore(self, principal: Principal, conversation_id: str) -> Conversation:
        """Undoes `delete`."""
        identifiers.split_conversation_id(conversation_id)
        return _there(await self._store.restore(principal, conversation_id, self._undelete))

    async def erase(self, principal: Principal, conversation_id: str, turn_id: str) -> Turn:
        """Destroys a turn's texts; its digests stay."""
        conversation = await self._own(principal, conversation_id)
        if not identifiers.is_uuid(turn_id):
            raise no_turn()
        turn = await self._store.erase(principal, conversation.id, turn_id)
        if turn is None:
            raise no_turn()
        return turn

    async def search(self, principal: Principal, query: str, size: int, token: str) -> tuple[list[Found], str]:
        """Turns with the words of the query, newest first."""
        query = storable(query).strip()
        if not 1 <= len(query) <= MAX_QUERY_CHARS:
            raise InvalidRequest(f"A search has 1 to {MAX_QUERY_CHARS} characters.", metadata={"field": "query"})
        size = cursors.page_size(size, default=20, most=50)
        scope = f"search/{principal.tenant_id}/{principal.person_id}/{query}"
        after = None
        if token:
            at, conversation, seq = cursors.decode(scope, token, datetime, str, int)
            assert isinstance(at, datetime)
            assert isinstance(seq, int)
            after = SearchPosition(at, identifiers.require_uuid("page_token", str(conversation)), seq)
        found = await self._store.search(principal, query, after, size + 1)
        next_token = ""
        if len(found) > size:
            last = found[size - 1]
            uuid = identifiers.split_conversation_id(last.conversation_id)[1]
            next_token = cursors.encode(scope, last.created_at, uuid, last.seq)
        return list(found[:size]), next_token

    async def whole(self, principal: Principal, conversation_id: str) -> tuple[Conversation, AsyncIterator[Turn]]:
        """A conversation with every turn that it has now, oldest first, read page by page."""
        conversation = await self._own(principal, conversation_id)

        async def turns() -> AsyncIterator[Turn]:
            seq = 0
            while seq < conversation.turn_count:
                page = await self._store.turns(conversation.id, seq, conversation.turn_count, _EXPORT_PAGE)
                if not page:
                    return  # destroyed meanwhile
                for turn in page:
                    yield turn
                seq = page[-1].seq

        return conversation, turns()

    async def share(self, principal: Principal, conversation_id: str) -> tuple[Share, str]:
        """A link to what is there now, and its secret of 256 random bits."""
        conversation = await self._own(principal, conversation_id)
        secret = SHARE_PREFIX + secrets.token_urlsafe(32)
        share = await self._store.share(principal, conversation.id, _secret_hash(secret), MAX_SHARES)
        if share is None:
            raise Exhausted(
                f"A conversation can have {MAX_SHARES} links; withdraw some first.",
                ErrorReason.ERROR_REASON_LIMIT_REACHED,
                metadata={"limit": "shares"},
            )
        return share, secret

    async def shares(self, principal: Principal, conversation_id: str) -> Sequence[Share]:
        """The links to a conversation, newest first."""
        conversation = await self._own(principal, conversation_id)
        return await self._store.shares(conversation.id)

    async def withdraw(self, principal: Principal, share_id: str) -> None:
        """Ends a link."""
        if not identifiers.is_uuid(share_id) or not await self._store.withdraw(principal, share_id):
            raise _no_share()

    async def shared(self, secret: str, size: int, token: str) -> tuple[Conversation, Page]:
        """What a link shows."""
        found = await self._store.shared(_secret_hash(secret)) if secret.startswith(SHARE_PREFIX) else None
        if found is None:
            raise _no_share()
        conversation, share = found
        conversation.turn_count = share.last_seq
        return conversation, await self._page(conversation, share.last_seq, size, token)

    async def set_retention(self, principal: Principal, days: int) -> None:
        """How many days without activity the tenant's conversations live; 0: for ever."""
        if not 0 <= days <= MAX_RETENTION_DAYS:
            raise InvalidRequest(f"days must be from 0 to {MAX_RETENTION_DAYS}.", metadata={"field": "days"})
        await self._store.set_retention(principal, days)

    async def _own(self, principal: Principal, conversation_id: str) -> Conversation:
        identifiers.split_conversation_id(conversation_id)
        return _there(await self._store.get(principal, conversation_id))

    async def _page(self, conversation: Conversation, last: int, size: int, token: str) -> Page:
        size = cursors.page_size(size, default=50, most=200)
        scope = f"turns/{conversation.id}"
        after = 0
        if token:
            (position,) = cursors.decode(scope, token, int)
            assert isinstance(position, int)
            after = position
        turns = await self._store.turns(conversation.id, after, last, size)
        more = bool(turns) and turns[-1].seq < last
        return Page(turns, cursors.encode(scope, turns[-1].seq) if more else "")


@dataclass(frozen=True, slots=True)
class Page:
    """Turns, oldest first, and the token of the next page (empty: there is none)."""

    turns: Sequence[Turn]
    next_token: str


def _title(title: str) -> str:
    title = " ".join(storable(title).split())
    if len(title) > MAX_TITLE_CHARS:
        raise InvalidRequest(f"A title has {MAX_TITLE_CHARS} characters at most.", metadata={"field": "title"})
    return title


def _there(conversation: Conversation | None) -> Conversation:
    if conversation is None:
        raise no_conversation()
    return conversation


def _secret_hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _no_share() -> NotFound:
    return NotFound(
        "There is no such link; perhaps it was withdrawn.",
        ErrorReason.ERROR_REASON_SHARE_NOT_FOUND,
    )
