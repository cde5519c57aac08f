"""What every store of turns promises: the fake and PostgreSQL against one suite."""

from __future__ import annotations

import asyncio

from services.session import chain
from services.session.identifiers import split_conversation_id
from services.session.model import Exchange, Principal
from services.session.turns import Attempt
from tests.contract.session.fake_store import prepared
from tests.contract.session.stores import MAX_TURNS, Stores, new_id

DIGEST = b"d" * 32


async def test_first_turn_begins_with_nothing_before_it(stores: Stores) -> None:
    begun = await stores.begun(await stores.conversation())
    assert (begun.fence, begun.seq, begun.parent_id, begun.history, begun.history_cut) == (1, 1, "", [], False)


async def test_next_turn_sees_the_one_before(stores: Stores) -> None:
    conversation = await stores.conversation()
    first = await stores.turn(conversation, "2 + 2?", "4")
    begun = await stores.begun(conversation)
    assert (begun.seq, begun.parent_id, begun.history) == (2, first.id, [Exchange("2 + 2?", "4")])
    assert begun.fence > first.fence


async def test_lease_is_held_by_one_turn(stores: Stores) -> None:
    conversation = await stores.conversation()
    await stores.begun(conversation)
    attempt = await stores.turns.begin(stores.wanted(conversation), reached=False)
    assert attempt.status == "busy"
    assert 0 < attempt.busy_seconds <= 2


async def test_conversations_do_not_wait_for_one_another(stores: Stores) -> None:
    await stores.begun(await stores.conversation())
    assert (await stores.begun(await stores.conversation())).seq == 1


async def test_repeated_begin_is_the_same_lease(stores: Stores) -> None:
    """Also when somebody has queued meanwhile."""
    conversation = await stores.conversation()
    begun = await stores.begun(conversation)
    assert (await stores.turns.begin(stores.wanted(conversation), reached=False)).status == "busy"
    assert await stores.begun(conversation, turn_id=begun.turn_id) == begun


async def test_same_turn_of_another_holder_is_another_lease(stores: Stores) -> None:
    conversation = await stores.conversation()
    begun = await stores.begun(conversation)
    other = stores.wanted(conversation, turn_id=begun.turn_id, holder_id=new_id())
    assert (await stores.turns.begin(other, reached=False)).status == "busy"


async def test_committed_turn_is_not_begun_again(stores: Stores) -> None:
    conversation = await stores.conversation()
    turn = await stores.turn(conversation)
    attempt = await stores.turns.begin(stores.wanted(conversation, turn_id=turn.id), reached=False)
    assert attempt == Attempt("replay", stored_id=turn.id)
    assert (await stores.begun(conversation)).seq == 2


async def test_newcomer_does_not_barge_past_who_has_queued(stores: Stores) -> None:
    conversation = await stores.conversation()
    begun = await stores.begun(conversation)
    waiter = stores.wanted(conversation)
    assert (await stores.turns.begin(waiter, reached=False)).status == "busy"
    committed = await stores.turns.commit(
        stores.ending(conversation, begun), prepared(stores.ending(conversation, begun))
    )
    assert committed is not None
    assert committed.queued
    assert (await stores.turns.begin(stores.wanted(conversation), reached=False)).status == "busy"
    assert (await stores.turns.begin(waiter, reached=True)).status == "begun"


async def test_queue_that_nobody_renews_is_forgotten(stores: Stores) -> None:
    conversation = await stores.conversation()
    begun = await stores.begun(conversation)
    await stores.turns.begin(stores.wanted(conversation), reached=False)
    await stores.commit(stores.ending(conversation, begun))
    await stores.pass_time(3.1)
    assert (await stores.begun(conversation)).seq == 2


async def test_last_of_a_queue_opens_the_conversation_again(stores: Stores) -> None:
    """But not if somebody has queued after it."""
    conversation = await stores.conversation()
    await stores.turns.renew(stores.holder)
    for queued_again in (True, False):
        wanted = stores.wanted(conversation)
        attempt = await stores.turns.begin(wanted, reached=True)
        assert attempt.begun is not None
        assert attempt.mark is not None
        if queued_again:
            await stores.turns.begin(stores.wanted(conversation), reached=False)
        await stores.turns.calm(conversation, wanted.turn_id, attempt.mark)
        await stores.commit(stores.ending(conversation, attempt.begun))
        newcomer = await stores.turns.begin(stores.wanted(conversation), reached=False)
        assert (newcomer.status == "busy") is queued_again


async def test_dead_holder_is_replaced_and_commits_no_more(stores: Stores) -> None:
    conversation = await stores.conversation()
    dead = await stores.begun(conversation)
    await stores.pass_time(2.1)
    heir = await stores.begun(conversation, holder_id=new_id())
    assert heir.fence > dead.fence
    await stores.turns.renew(stores.holder)
    assert await stores.commit(stores.ending(conversation, dead)) is None
    assert await stores.commit(stores.ending(conversation, heir)) is not None


async def test_holder_that_is_late_but_not_replaced_commits(stores: Stores) -> None:
    conversation = await stores.conversation()
    late = await stores.begun(conversation)
    await stores.pass_time(60)
    assert await stores.commit(stores.ending(conversation, late)) is not None


async def test_lease_ends_after_five_minutes_even_if_its_holder_lives(stores: Stores) -> None:
    conversation = await stores.conversation()
    await stores.begun(conversation)
    await stores.pass_time(299)
    await stores.turns.renew(stores.holder)
    assert (await stores.turns.begin(stores.wanted(conversation), reached=False)).status == "busy"
    await stores.pass_time(4)
    assert (await stores.begun(conversation)).seq == 1


async def test_released_holder_holds_nothing(stores: Stores) -> None:
    conversation = await stores.conversation()
    await stores.begun(conversation)
    await stores.turns.release(stores.holder)
    assert (await stores.begun(conversation, holder_id=new_id())).fence == 2


async def test_unknown_holder_is_told(stores: Stores) -> None:
    attempt = await stores.turns.begin(stores.wanted(await stores.conversation()), reached=False)
    assert (attempt.status, attempt.holder_alive) == ("begun", False)


async def test_commit_needs_fence_and_turn(stores: Stores) -> None:
    conversation = await stores.conversation()
    begun = await stores.begun(conversation)
    for change in ({"fence": begun.fence + 1}, {"fence": begun.fence - 1}, {"turn_id": new_id()}):
        ending = stores.ending(conversation, begun)
        for name, value in change.items():
            setattr(ending, name, value)
        assert await stores.commit(ending) is None
    assert await stores.commit(stores.ending(conversation, begun)) is not None


async def test_repeated_commit_stores_nothing_and_finds_the_first(stores: Stores) -> None:
    conversation = await stores.conversation()
    begun = await stores.begun(conversation)
    first = await stores.commit(stores.ending(conversation, begun))
    assert await stores.commit(stores.ending(conversation, begun, "changed?")) is None
    assert await stores.turns.find(stores.me, conversation, begun.turn_id) == first
    assert len(await stores.conversations.turns(conversation, 0, 9, 9)) == 1


async def test_commits_at_once_store_one_turn(stores: Stores) -> None:
    conversation = await stores.conversation()
    begun = await stores.begun(conversation)
    stored = await asyncio.gather(*(stores.commit(stores.ending(conversation, begun)) for _ in range(8)))
    assert sum(turn is not None for turn in stored) == 1


async def test_begins_at_once_give_one_lease(stores: Stores) -> None:
    conversation = await stores.conversation()
    await stores.turns.renew(stores.holder)
    attempts = await asyncio.gather(*(stores.turns.begin(stores.wanted(conversation), reached=False) for _ in range(8)))
    assert sorted(attempt.status for attempt in attempts) == ["begun"] + ["busy"] * 7


async def test_hash_chain_runs_over_digests(stores: Stores) -> None:
    conversation = await stores.conversation()
    turns = [await stores.turn(conversation, f"question {n}", f"answer {n}") for n in range(3)]
    await stores.conversations.erase(stores.me, conversation, turns[1].id)
    expected = chain.first_hash(split_conversation_id(conversation)[1])
    for turn in await stores.conversations.turns(conversation, 0, 9, 9):
        assert turn.previous_hash == expected
        digest = chain.turn_digest(turn.id, turn.outcome, turn.question_digest, turn.answer_digest)
        expected = chain.next_hash(expected, turn.seq, digest)
        assert turn.hash == expected


async def test_stored_turn_reads_back_whole(stores: Stores) -> None:
    conversation = await stores.conversation()
    begun = await stores.begun(conversation)
    ending = stores.ending(conversation, begun, "Olá, às três?", "Sim — às três. 🕒")
    ending.answer.model, ending.answer.confidence, ending.answer.escalated = "gemini", 0.25, True
    ending.answer.prompt_tokens, ending.answer.thought_tokens, ending.answer.cost_microusd = 10**12, 7, 10**13
    stored = await stores.commit(ending)
    assert stored is not None
    assert await stores.turns.find(stores.me, conversation, stored.id) == stored
    assert stored.answer == ending.answer


async def test_history_is_whole_turns_newest_first_within_the_budget(stores: Stores) -> None:
    conversation = await stores.conversation()
    for n in range(3):
        await stores.turn(conversation, f"q{n}", "a" * 8)  # ten tokens each
    seen = {}
    for budget in (9, 10, 29, 30):
        begun = await stores.begun(conversation, budget=budget)
        seen[budget] = ([exchange.question for exchange in begun.history], begun.history_cut)
        await stores.turns.abandon(stores.me, conversation, begun.turn_id)
    assert seen == {
        9: ([], True),
        10: (["q2"], True),
        29: (["q1", "q2"], True),
        30: (["q0", "q1", "q2"], False),
    }


async def test_failures_and_erased_turns_are_no_history(stores: Stores) -> None:
    conversation = await stores.conversation()
    await stores.turn(conversation, "kept")
    await stores.failed(conversation, "ANSWER_BLOCKED")
    erased = await stores.turn(conversation, "erased")
    await stores.conversations.erase(stores.me, conversation, erased.id)
    begun = await stores.begun(conversation)
    assert [exchange.question for exchange in begun.history] == ["kept"]
    assert begun.seq == 4


async def test_branch_follows_its_parent_only(stores: Stores) -> None:
    conversation = await stores.conversation()
    first = await stores.turn(conversation, "one")
    second = await stores.turn(conversation, "two")
    edited = await stores.begun(conversation, replaces_id=second.id)
    assert (edited.parent_id, edited.replaced_question, edited.seq) == (first.id, "two", 3)
    assert [exchange.question for exchange in edited.history] == ["one"]
    branch = await stores.commit(stores.ending(conversation, edited, "two, edited"))
    assert branch is not None
    assert branch.parent_id == first.id
    after = await stores.begun(conversation)
    assert [exchange.question for exchange in after.history] == ["one", "two, edited"]
    await stores.turns.abandon(stores.me, conversation, after.turn_id)
    back = await stores.begun(conversation, parent_id=second.id)
    assert [exchange.question for exchange in back.history] == ["one", "two"]
    assert back.replaced_question == ""


async def test_first_turn_can_be_replaced(stores: Stores) -> None:
    conversation = await stores.conversation()
    first = await stores.turn(conversation, "one")
    begun = await stores.begun(conversation, replaces_id=first.id)
    assert (begun.parent_id, begun.history, begun.replaced_question) == ("", [], "one")


async def test_turn_to_follow_must_be_of_this_conversation(stores: Stores) -> None:
    conversation = await stores.conversation()
    elsewhere = await stores.turn(await stores.conversation())
    for field in ("parent_id", "replaces_id"):
        wanted = stores.wanted(conversation, **{field: elsewhere.id})
        assert (await stores.turns.begin(wanted, reached=False)).status == "no_turn"


async def test_conversation_of_somebody_else_is_none(stores: Stores) -> None:
    conversation = await stores.conversation()
    turn = await stores.turn(conversation)
    region, name = split_conversation_id(conversation)
    me = stores.me
    for principal, wanted_id in (
        (Principal(me.tenant_id, new_id()), conversation),
        (Principal(new_id(), me.person_id), conversation),
        (me, f"elsewhere-{name}"),
        (me, f"{region}-{new_id()}"),
    ):
        for other in ({}, {"key": "k", "digest": DIGEST}, {"replaces_id": turn.id}, {"turn_id": turn.id}):
            wanted = stores.wanted(wanted_id, **other)
            wanted.principal = principal
            assert (await stores.turns.begin(wanted, reached=False)).status == "no_conversation"
    assert await stores.turns.find(Principal(me.tenant_id, new_id()), conversation, turn.id) is None


async def test_deleted_conversation_begins_nothing_but_stores_what_was_begun(stores: Stores) -> None:
    conversation = await stores.conversation()
    begun = await stores.begun(conversation)
    await stores.conversations.delete(stores.me, conversation)
    assert (await stores.turns.begin(stores.wanted(conversation), reached=True)).status == "no_conversation"
    assert await stores.commit(stores.ending(conversation, begun)) is not None


async def test_full_conversation_takes_no_turn(stores: Stores) -> None:
    conversation = await stores.conversation()
    for _ in range(MAX_TURNS):
        await stores.turn(conversation)
    wanted = stores.wanted(conversation, key="k", digest=DIGEST)
    assert (await stores.turns.begin(wanted, reached=False)).status == "full"


async def test_abandoned_lease_is_free_and_says_who_waits(stores: Stores) -> None:
    conversation = await stores.conversation()
    begun = await stores.begun(conversation)
    assert await stores.turns.abandon(stores.me, conversation, begun.turn_id) is False
    begun = await stores.begun(conversation)
    await stores.turns.begin(stores.wanted(conversation), reached=False)
    assert await stores.turns.abandon(stores.me, conversation, new_id()) is None
    assert await stores.turns.abandon(stores.me, conversation, begun.turn_id) is True
    assert await stores.commit(stores.ending(conversation, begun)) is None


async def test_abandoning_a_committed_turn_changes_nothing(stores: Stores) -> None:
    conversation = await stores.conversation()
    turn = await stores.turn(conversation, key="k", digest=DIGEST)
    assert await stores.turns.abandon(stores.me, conversation, turn.id) is None
    attempt = await stores.turns.begin(stores.wanted(conversation, key="k", digest=DIGEST), reached=False)
    assert attempt == Attempt("replay", stored_id=turn.id)


async def test_conversation_is_called_after_its_first_question(stores: Stores) -> None:
    conversation = await stores.conversation()
    first = await stores.turn(conversation, "What is a lease?")
    await stores.turn(conversation, "And a fence?")
    found = await stores.conversations.get(stores.me, conversation)
    assert found is not None
    assert (found.title, found.turn_count) == ("What is a lease?", 2)
    await stores.conversations.erase(stores.me, conversation, first.id)
    found = await stores.conversations.get(stores.me, conversation)
    assert found is not None
    assert found.title == ""
