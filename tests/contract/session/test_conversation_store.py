"""What every store of conversations promises: the fake and PostgreSQL against one suite."""

from __future__ import annotations

from datetime import timedelta
from secrets import token_bytes

from services.session.conversations import ListPosition
from services.session.identifiers import split_conversation_id
from services.session.model import Principal
from tests.contract.session.stores import MAX_CONVERSATIONS, Stores, new_id, somebody

MONTH = timedelta(days=30)


async def page(stores: Stores, after: ListPosition | None, limit: int = 2) -> tuple[list[str], ListPosition]:
    """Ids, and the position after the last of them."""
    rows, as_of = await stores.conversations.listed(stores.me, after, limit)
    last, at = rows[-1]
    return [row.id for row, _ in rows], ListPosition(as_of, at, split_conversation_id(last.id)[1])


async def everything(stores: Stores) -> list[str]:
    rows, _ = await stores.conversations.listed(stores.me, None, 100)
    return [row.id for row, _ in rows]


async def test_new_conversation_is_empty_and_ones_own(stores: Stores) -> None:
    made = await stores.conversations.create(stores.me, "Locks")
    assert made is not None
    assert (made.title, made.turn_count, made.created_at) == ("Locks", 0, made.active_at)
    assert await stores.conversations.get(stores.me, made.id) == made
    for stranger in (Principal(stores.me.tenant_id, new_id()), Principal(new_id(), stores.me.person_id)):
        assert await stores.conversations.get(stranger, made.id) is None
        assert await stores.conversations.rename(stranger, made.id, "x") is None
        assert await stores.conversations.delete(stranger, made.id) is None
        assert await stores.conversations.restore(stranger, made.id, MONTH) is None


async def test_number_of_conversations_is_limited_for_each_person(stores: Stores) -> None:
    made = [await stores.conversation() for _ in range(MAX_CONVERSATIONS)]
    assert await stores.conversations.create(stores.me, "") is None
    assert await stores.conversations.create(somebody(), "") is not None
    await stores.conversations.delete(stores.me, made[0])
    assert await stores.conversations.create(stores.me, "") is not None


async def test_list_is_newest_activity_first(stores: Stores) -> None:
    a, b, c = [await stores.conversation() for _ in range(3)]
    await stores.turn(a)
    assert await everything(stores) == [a, c, b]


async def test_pages_stay_as_they_were_when_the_first_was_read(stores: Stores) -> None:
    """Turns and conversations that come meanwhile change nothing on later pages."""
    a, b, c, d = [await stores.conversation() for _ in range(4)]
    await stores.turn(b)
    first, position = await page(stores, None)
    assert first == [b, d]
    await stores.turn(a)
    await stores.turn(d)
    new = await stores.conversation()
    second, _ = await page(stores, position)
    assert second == [c, a]
    assert await everything(stores) == [new, d, a, b, c]


async def test_deleted_conversation_is_nowhere_until_restored(stores: Stores) -> None:
    conversation = await stores.conversation()
    assert await stores.conversations.delete(stores.me, conversation) is not None
    assert await stores.conversations.get(stores.me, conversation) is None
    assert await everything(stores) == []
    assert await stores.conversations.delete(stores.me, conversation) is None
    assert await stores.conversations.rename(stores.me, conversation, "x") is None
    restored = await stores.conversations.restore(stores.me, conversation, MONTH)
    assert restored is not None
    assert await everything(stores) == [conversation]
    assert await stores.conversations.restore(stores.me, conversation, MONTH) == restored


async def test_restoring_is_possible_for_a_while(stores: Stores) -> None:
    conversation = await stores.conversation()
    await stores.conversations.delete(stores.me, conversation)
    await stores.pass_time(61)
    assert await stores.conversations.restore(stores.me, conversation, timedelta(minutes=1)) is None


async def test_name_given_by_a_person_stays(stores: Stores) -> None:
    conversation = await stores.conversation()
    turn = await stores.turn(conversation, "First question")
    renamed = await stores.conversations.rename(stores.me, conversation, "Mine")
    assert renamed is not None
    assert renamed.title == "Mine"
    await stores.turn(conversation)
    await stores.conversations.erase(stores.me, conversation, turn.id)
    found = await stores.conversations.get(stores.me, conversation)
    assert found is not None
    assert found.title == "Mine"


async def test_turns_come_in_order_and_in_part(stores: Stores) -> None:
    conversation = await stores.conversation()
    for n in range(5):
        await stores.turn(conversation, f"q{n}")
    turns = await stores.conversations.turns(conversation, 1, 4, 2)
    assert [turn.question for turn in turns] == ["q1", "q2"]
    turns = await stores.conversations.turns(conversation, 3, 4, 9)
    assert [turn.question for turn in turns] == ["q3"]


async def test_erased_turn_keeps_its_digests_only(stores: Stores) -> None:
    conversation = await stores.conversation()
    turn = await stores.turn(conversation, "secret", "secret too")
    erased = await stores.conversations.erase(stores.me, conversation, turn.id)
    assert erased is not None
    assert (erased.question, erased.answer.text, erased.erased) == ("", "", True)
    assert (erased.hash, erased.question_digest, erased.answer_digest) == (
        turn.hash,
        turn.question_digest,
        turn.answer_digest,
    )
    assert await stores.conversations.turns(conversation, 0, 9, 9) == [erased]
    assert await stores.conversations.erase(stores.me, conversation, turn.id) == erased
    assert await stores.conversations.erase(stores.me, conversation, new_id()) is None
    assert await stores.conversations.erase(somebody(), conversation, turn.id) is None


async def test_link_shows_what_was_there_when_it_was_made(stores: Stores) -> None:
    secret = token_bytes(32)
    conversation = await stores.conversation()
    await stores.turn(conversation)
    link = await stores.conversations.share(stores.me, conversation, secret, 5)
    assert link is not None
    await stores.turn(conversation)
    shared = await stores.conversations.shared(secret)
    assert shared is not None
    assert (shared[0].id, shared[1]) == (conversation, link)
    assert link.last_seq == 1
    assert await stores.conversations.shared(token_bytes(32)) is None


async def test_link_ends_when_withdrawn_or_deleted(stores: Stores) -> None:
    secret = token_bytes(32)
    conversation = await stores.conversation()
    link = await stores.conversations.share(stores.me, conversation, secret, 5)
    assert link is not None
    await stores.conversations.delete(stores.me, conversation)
    assert await stores.conversations.shared(secret) is None
    await stores.conversations.restore(stores.me, conversation, MONTH)
    assert await stores.conversations.shared(secret) is not None
    assert not await stores.conversations.withdraw(somebody(), link.id)
    assert await stores.conversations.withdraw(stores.me, link.id)
    assert await stores.conversations.shared(secret) is None
    assert not await stores.conversations.withdraw(stores.me, link.id)


async def test_links_are_listed_newest_first_and_limited(stores: Stores) -> None:
    conversation = await stores.conversation()
    made = [await stores.conversations.share(stores.me, conversation, token_bytes(32), 2) for _ in range(3)]
    assert made[2] is None
    assert await stores.conversations.shares(conversation) == [made[1], made[0]]
