"""What every store promises about Idempotency-Keys: the fake and PostgreSQL against one suite."""

from __future__ import annotations

import asyncio

import pytest

from services.session.asks import AskAttempt, WantedAsk
from services.session.model import Wanted
from services.session.turns import Attempt
from tests.contract.session.stores import Stores, new_id, somebody

DIGEST = b"d" * 32


def keyed(stores: Stores, conversation: str, digest: bytes = DIGEST, key: str = "key") -> Wanted:
    return stores.wanted(conversation, key=key, digest=digest)


async def status(stores: Stores, wanted: Wanted) -> str:
    return (await stores.turns.begin(wanted, reached=False)).status


async def test_repeat_finds_the_stored_turn(stores: Stores) -> None:
    conversation = await stores.conversation()
    turn = await stores.turn(conversation, key="key", digest=DIGEST)
    attempt = await stores.turns.begin(keyed(stores, conversation), reached=False)
    assert attempt == Attempt("replay", stored_id=turn.id)


async def test_replay_does_not_wait_for_a_lease(stores: Stores) -> None:
    conversation = await stores.conversation()
    await stores.turn(conversation, key="key", digest=DIGEST)
    await stores.begun(conversation)
    assert await status(stores, keyed(stores, conversation)) == "replay"


async def test_another_body_or_conversation_is_refused(stores: Stores) -> None:
    conversation = await stores.conversation()
    await stores.turn(conversation, key="key", digest=DIGEST)
    assert await status(stores, keyed(stores, conversation, b"x" * 32)) == "reused"
    assert await status(stores, keyed(stores, await stores.conversation())) == "reused"


async def test_another_body_is_refused_while_the_first_is_answered(stores: Stores) -> None:
    conversation = await stores.conversation()
    await stores.begun(conversation, key="key", digest=DIGEST)
    assert await status(stores, keyed(stores, conversation, b"x" * 32)) == "reused"


async def test_another_key_is_another_request(stores: Stores) -> None:
    conversation = await stores.conversation()
    await stores.turn(conversation, key="key", digest=DIGEST)
    assert (await stores.turn(conversation, key="other", digest=DIGEST)).seq == 2


async def test_key_belongs_to_its_principal(stores: Stores) -> None:
    conversation = await stores.conversation()
    await stores.turn(conversation, key="key", digest=DIGEST)
    stores.me = somebody()
    conversation = await stores.conversation()
    assert (await stores.turn(conversation, key="key", digest=DIGEST)).seq == 1


async def test_key_is_in_progress_while_its_lease_lives(stores: Stores) -> None:
    """However long that takes, and not a moment longer."""
    conversation = await stores.conversation()
    await stores.begun(conversation, key="key", digest=DIGEST)
    assert await status(stores, keyed(stores, conversation)) == "in_progress"
    await stores.pass_time(60)
    await stores.turns.renew(stores.holder)
    assert await status(stores, keyed(stores, conversation)) == "in_progress"
    await stores.pass_time(2.1)
    repeat = keyed(stores, conversation)
    repeat.holder_id = new_id()
    assert await status(stores, repeat) == "begun"


async def test_revived_holder_does_not_make_a_second_turn_of_a_key(stores: Stores) -> None:
    """Whoever takes the key over while queueing ends the lease of the one before."""
    conversation = await stores.conversation()
    first = await stores.begun(conversation, key="key", digest=DIGEST)
    await stores.turns.begin(stores.wanted(conversation), reached=False)  # somebody queues
    await stores.pass_time(2.1)
    repeat = keyed(stores, conversation)
    repeat.holder_id = new_id()
    assert await status(stores, repeat) == "busy"
    await stores.turns.renew(stores.holder)
    assert await stores.commit(stores.ending(conversation, first)) is None


async def test_key_of_a_waiter_is_in_progress_while_it_waits(stores: Stores) -> None:
    conversation = await stores.conversation()
    await stores.begun(conversation)
    waiter = keyed(stores, conversation)
    assert await status(stores, waiter) == "busy"
    await stores.pass_time(2)
    await stores.turns.renew(stores.holder)
    await stores.turns.keep_key(waiter.turn_id)
    await stores.pass_time(1.9)
    assert await status(stores, keyed(stores, conversation)) == "in_progress"
    await stores.turns.renew(stores.holder)
    await stores.pass_time(1.5)
    assert await status(stores, keyed(stores, conversation)) == "busy"


async def test_waiter_itself_goes_on_with_its_key(stores: Stores) -> None:
    conversation = await stores.conversation()
    begun = await stores.begun(conversation)
    waiter = keyed(stores, conversation)
    assert await status(stores, waiter) == "busy"
    await stores.commit(stores.ending(conversation, begun))
    assert (await stores.turns.begin(waiter, reached=True)).status == "begun"


async def test_abandoned_turn_frees_its_key_at_once(stores: Stores) -> None:
    conversation = await stores.conversation()
    begun = await stores.begun(conversation, key="key", digest=DIGEST)
    await stores.turns.abandon(stores.me, conversation, begun.turn_id)
    assert await status(stores, keyed(stores, conversation, b"x" * 32)) == "begun"


async def test_abandoned_waiter_frees_its_key_at_once(stores: Stores) -> None:
    conversation = await stores.conversation()
    await stores.begun(conversation)
    waiter = keyed(stores, conversation)
    assert await status(stores, waiter) == "busy"
    await stores.turns.abandon(stores.me, conversation, waiter.turn_id)
    assert await status(stores, keyed(stores, conversation, b"x" * 32)) == "busy"


async def test_retriable_failure_frees_the_key(stores: Stores) -> None:
    conversation = await stores.conversation()
    await stores.failed(conversation, "QUOTA_EXHAUSTED", key="key", digest=DIGEST)
    second = await stores.turn(conversation, key="key", digest=DIGEST)
    assert second.seq == 2
    attempt = await stores.turns.begin(keyed(stores, conversation), reached=False)
    assert attempt == Attempt("replay", stored_id=second.id)


async def test_other_failure_is_repeated_to_whoever_asks_again(stores: Stores) -> None:
    conversation = await stores.conversation()
    failed = await stores.failed(conversation, "ANSWER_BLOCKED", key="key", digest=DIGEST)
    attempt = await stores.turns.begin(keyed(stores, conversation), reached=False)
    assert attempt == Attempt("replay", stored_id=failed.id)


async def test_key_is_forgotten_after_a_day(stores: Stores) -> None:
    conversation = await stores.conversation()
    await stores.turn(conversation, key="key", digest=DIGEST)
    await stores.pass_time(24 * 3600 - 5)
    assert await status(stores, keyed(stores, conversation)) == "replay"
    await stores.pass_time(10)
    assert await status(stores, keyed(stores, conversation, b"x" * 32)) == "begun"


async def test_refused_turns_leave_no_key_behind(stores: Stores) -> None:
    conversation = await stores.conversation()
    wrong = keyed(stores, conversation)
    wrong.parent_id = new_id()
    assert await status(stores, wrong) == "no_turn"
    assert await status(stores, keyed(stores, f"local-{new_id()}")) == "no_conversation"
    assert await status(stores, keyed(stores, conversation, b"x" * 32)) == "begun"


async def test_repeats_at_once_make_one_turn(stores: Stores) -> None:
    conversation = await stores.conversation()
    await stores.turns.renew(stores.holder)
    found = await asyncio.gather(*(status(stores, keyed(stores, conversation)) for _ in range(8)))
    assert sorted(found) == ["begun"] + ["in_progress"] * 7


# Stateless asks.


def ask(stores: Stores, **other: str | bytes) -> WantedAsk:
    fields: dict[str, object] = {
        "holder_id": stores.holder,
        "ask_id": new_id(),
        "route": "POST /v1/ask",
        "key": "key",
        "digest": DIGEST,
        **other,
    }
    return WantedAsk(stores.me, **fields)  # type: ignore[arg-type]


async def test_ask_is_begun_once_and_then_repeated_from_what_was_saved(stores: Stores) -> None:
    await stores.asks.renew(stores.holder)
    first = ask(stores)
    assert await stores.asks.begin(first) == AskAttempt("begun")
    assert (await stores.asks.begin(ask(stores))).status == "in_progress"
    assert await stores.asks.commit(stores.me, first.ask_id, b"outcome") == b"outcome"
    repeated = await stores.asks.begin(ask(stores))
    assert (repeated.status, repeated.saved) == ("replay", b"outcome")


async def test_repeated_commit_of_an_ask_gives_what_was_saved(stores: Stores) -> None:
    first = ask(stores)
    await stores.asks.begin(first)
    await stores.asks.commit(stores.me, first.ask_id, b"first")
    assert await stores.asks.commit(stores.me, first.ask_id, b"second") == b"first"


async def test_same_ask_begins_again(stores: Stores) -> None:
    await stores.asks.renew(stores.holder)
    first = ask(stores)
    await stores.asks.begin(first)
    assert (await stores.asks.begin(first)).status == "begun"


async def test_ask_with_another_body_is_refused(stores: Stores) -> None:
    await stores.asks.begin(ask(stores))
    assert (await stores.asks.begin(ask(stores, digest=b"x" * 32))).status == "reused"


async def test_routes_do_not_share_keys(stores: Stores) -> None:
    await stores.asks.renew(stores.holder)
    await stores.asks.begin(ask(stores))
    assert (await stores.asks.begin(ask(stores, route="POST /v1/other"))).status == "begun"


@pytest.mark.parametrize("seconds", [2.1, 301])
async def test_ask_of_a_dead_or_endless_holder_is_taken_over(stores: Stores, seconds: float) -> None:
    await stores.asks.renew(stores.holder)
    first = ask(stores)
    await stores.asks.begin(first)
    await stores.pass_time(seconds)
    if seconds > 300:
        await stores.asks.renew(stores.holder)
    heir = ask(stores, holder_id=new_id())
    assert await stores.asks.begin(heir) == AskAttempt("begun", holder_alive=False)
    assert await stores.asks.commit(stores.me, first.ask_id, b"late") is None
    assert await stores.asks.commit(stores.me, heir.ask_id, b"heir") == b"heir"


async def test_abandoned_ask_frees_its_key_but_an_outcome_stays(stores: Stores) -> None:
    first, second = ask(stores), ask(stores, digest=b"x" * 32)
    await stores.asks.begin(first)
    assert await stores.asks.abandon(stores.me, first.ask_id)
    assert (await stores.asks.begin(second)).status == "begun"
    await stores.asks.commit(stores.me, second.ask_id, b"outcome")
    assert not await stores.asks.abandon(stores.me, second.ask_id)
    assert (await stores.asks.begin(ask(stores, digest=b"x" * 32))).saved == b"outcome"


async def test_asks_at_once_begin_once(stores: Stores) -> None:
    await stores.asks.renew(stores.holder)
    attempts = await asyncio.gather(*(stores.asks.begin(ask(stores)) for _ in range(8)))
    assert sorted(attempt.status for attempt in attempts) == ["begun"] + ["in_progress"] * 7


async def test_outcome_is_forgotten_after_a_day(stores: Stores) -> None:
    first = ask(stores)
    await stores.asks.begin(first)
    await stores.asks.commit(stores.me, first.ask_id, b"outcome")
    await stores.pass_time(24 * 3600 + 5)
    assert (await stores.asks.begin(ask(stores, digest=b"x" * 32))).status == "begun"
