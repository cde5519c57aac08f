"""Clients, session processes and stores are stopped, killed, cut off and wiped, and every promise holds.

The long form is that of the house: 8 clients, 5,000 turns over 40 conversations.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from devstack.valkey import Valkey
from tests.chaos.turns import history
from tests.chaos.turns.cluster import Cluster
from tests.chaos.turns.conftest import Start
from tests.chaos.turns.history import Tally
from tests.chaos.turns.nemesis import Nemesis
from tests.chaos.turns.stored import verdict

_MOST_SECONDS = {False: 60.0, True: 1800.0}


async def test_nothing_acknowledged_is_lost_doubled_or_out_of_order(
    start: Start, database_url: str, valkey: Valkey, long_form: bool
) -> None:
    clients, turns, number = (8, 5000, 40) if long_form else (4, 300, 16)
    async with start() as cluster:
        conversations = await cluster.conversations(number)
        for _ in range(clients):
            cluster.start_client(conversations)
        nemesis = Nemesis(cluster, database_url, valkey, lambda: cluster.start_client(conversations))
        tally = Tally(cluster.history)
        started = time.monotonic()
        async with nemesis.disturbing():
            # No fault may be missing, nor what the fence is there for: a holder that came too late.
            while tally.count("ack") < turns or tally.count("lost") < 1 or nemesis.spared:
                assert time.monotonic() - started < _MOST_SECONDS[long_form], (tally.count("ack"), nemesis.spared)
                await asyncio.sleep(0.1)
        disturbed = time.monotonic() - started
        await _every_conversation_goes_on(cluster, conversations, tally)
        await cluster.stop_clients()
        events = list(history.read(cluster.history))
        found, stored = await verdict(database_url, events)
    assert found == []
    kinds = Counter(event.kind for event in events)
    repeats = sum(
        n - 1 for n in Counter(event.key for event in events if event.kind == "invoke" and event.key).values()
    )
    print(
        f"\n{kinds['invoke']} turns asked ({repeats} repeats of a key), {kinds['ack']} acknowledged, {stored} stored,"
        f" {kinds['lost']} refused by the fence, {kinds['unknown']} unknown, in {disturbed:.0f} s with"
        f" {dict(sorted(nemesis.counts().items()))}"
    )
    assert repeats > 0


async def test_control_without_the_fence_a_violation_is_found(start: Start, database_url: str, valkey: Valkey) -> None:
    """The same clients, the same checker; a paused holder is enough."""
    async with start(weakened="unfenced", sessions=2) as cluster:
        conversations = await cluster.conversations(4)
        for _ in range(2):
            cluster.start_client(conversations, keyed=0.0)
        nemesis = Nemesis(cluster, database_url, valkey, lambda: None)
        tally = Tally(cluster.history)
        found: list[str] = []
        for _ in range(5):
            await tally.reach("ack", tally.count("ack") + 20)
            await nemesis.pause_client()
            # What the paused one was about to commit is committed now.
            await asyncio.sleep(0.5)
            found, _ = await verdict(database_url, history.read(cluster.history))
            if found:
                break
        await cluster.stop_clients()
        found, _ = await verdict(database_url, history.read(cluster.history))
    print(f"\nfound without the fence: {len(found)} violations, the first: {found[:1]}")
    assert found


async def _every_conversation_goes_on(cluster: Cluster, conversations: list[str], tally: Tally) -> None:
    """When nothing is disturbed any more, nobody is stuck."""
    tally.count("ack")
    since = time.monotonic()
    waiting = set(conversations)
    while waiting:
        assert time.monotonic() - since < 30, f"no turn is acknowledged any more in {waiting}"
        await asyncio.sleep(0.2)
        for event in history.read(cluster.history):
            if event.kind == "ack" and event.at > since:
                waiting.discard(event.conversation)
