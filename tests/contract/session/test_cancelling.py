"""How word that a turn is to be stopped reaches its holder: the fake and PostgreSQL against one suite."""

from __future__ import annotations

from tests.contract.session.stores import Stores, new_id, somebody


async def test_word_is_left_for_the_holder_until_it_says_that_it_has_stopped(stores: Stores) -> None:
    conversation, other = await stores.conversation(), await stores.conversation()
    turns = [(await stores.begun(one)).turn_id for one in (conversation, other)]
    assert await stores.turns.renew(stores.holder) == []
    for one, turn in zip((conversation, other, conversation), (*turns, turns[0]), strict=True):
        assert await stores.turns.cancel(stores.me, one, turn) is True
    # Told again and again: an answer to a heartbeat may be lost.
    for _ in range(2):
        assert sorted(await stores.turns.renew(stores.holder)) == sorted(turns)
    assert await stores.turns.renew(stores.holder, [turns[0], new_id()]) == [turns[1]]
    assert await stores.turns.renew(stores.holder, [turns[1]]) == []


async def test_only_the_one_that_holds_the_turn_is_told(stores: Stores) -> None:
    conversation = await stores.conversation()
    begun = await stores.begun(conversation)
    bystander = new_id()
    await stores.turns.renew(bystander)
    await stores.turns.cancel(stores.me, conversation, begun.turn_id)
    assert await stores.turns.renew(bystander) == []


async def test_a_turn_without_a_lease_and_somebody_elses_are_not_told_apart(stores: Stores) -> None:
    conversation = await stores.conversation()
    assert await stores.turns.cancel(stores.me, conversation, new_id()) is None
    assert await stores.turns.cancel(stores.me, f"local-{new_id()}", new_id()) is None
    begun = await stores.begun(conversation)
    assert await stores.turns.cancel(somebody(), conversation, begun.turn_id) is None
    assert await stores.turns.renew(stores.holder) == []
    await stores.commit(stores.ending(conversation, begun))
    assert await stores.turns.cancel(stores.me, conversation, begun.turn_id) is None


async def test_a_dead_holder_is_told_from_a_living_one(stores: Stores) -> None:
    conversation = await stores.conversation()
    begun = await stores.begun(conversation)
    await stores.pass_time(2.1)
    assert await stores.turns.cancel(stores.me, conversation, begun.turn_id) is False


async def test_of_a_turn_that_waits_every_holder_hears(stores: Stores) -> None:
    conversation, turn = await stores.conversation(), new_id()
    another = new_id()
    for holder in (stores.holder, another):
        await stores.turns.renew(holder)
    assert not await stores.turns.cancel_waiting(somebody(), conversation, turn)
    assert not await stores.turns.cancel_waiting(stores.me, f"local-{new_id()}", turn)
    assert await stores.turns.renew(another) == []
    assert await stores.turns.cancel_waiting(stores.me, conversation, turn)
    assert await stores.turns.cancel_waiting(stores.me, conversation, turn)
    for holder in (stores.holder, another):
        assert await stores.turns.renew(holder) == [turn]


async def test_a_released_holder_is_told_nothing_when_it_comes_back(stores: Stores) -> None:
    conversation = await stores.conversation()
    begun = await stores.begun(conversation)
    await stores.turns.cancel(stores.me, conversation, begun.turn_id)
    await stores.turns.release(stores.holder)
    assert await stores.turns.renew(stores.holder) == []
