"""Parts of our own system stop and come back; what was stored stays."""

import time

from devstack.process import wait_until_ready
from devstack.stack import Stack
from tests.e2e.test_ask import fresh
from tests.e2e.test_conversation import begin
from tests.harness.system import Person


def wait_until_served(person: Person) -> None:
    """The gateway's connection to a service that was away comes back within two seconds."""
    until = time.monotonic() + 10
    while person.client.get("/v1/conversations").status_code != 200:
        assert time.monotonic() < until, "the session service runs and is not reached"
        time.sleep(0.05)


def test_a_conversation_outlives_a_restart_of_everything(stack: Stack, person: Person) -> None:
    conversation = begin(person)
    path = f"/v1/conversations/{conversation}/turns"
    person.client.post(path, json={"question": "My name is Ada."})
    for replicas in stack.services.values():
        for one in replicas:
            one.process.stop()
    for store in (stack.postgres, stack.valkey_limits, stack.valkey_cache):
        store.process.stop()
        wait_until_ready([store.start()], timeout=60)
    wait_until_ready([one.start() for replicas in stack.services.values() for one in replicas], timeout=60)
    reply = person.client.post(path, json={"question": "What was my first question?"})
    assert reply.status_code == 200, reply.text
    assert "My name is Ada." in reply.json()["answer"]


def test_without_the_cache_questions_are_answered(stack: Stack, person: Person) -> None:
    stack.valkey_cache.process.kill()
    try:
        question = fresh()
        for _ in range(2):
            reply = person.client.post("/v1/ask", json={"question": question})
            assert reply.status_code == 200, reply.text
            assert reply.json()["answer"]
    finally:
        wait_until_ready([stack.valkey_cache.start()], timeout=30)


def test_without_the_cache_service_questions_are_answered(stack: Stack, person: Person) -> None:
    stack.caches[0].process.kill()
    try:
        reply = person.client.post("/v1/ask", json={"question": fresh()})
        assert (reply.status_code, reply.headers["x-cache"]) == (200, "miss")
    finally:
        stack.caches[0].restart()


def test_without_the_database_conversations_say_so_and_asks_are_answered(stack: Stack, person: Person) -> None:
    conversation = begin(person)
    stack.postgres.process.kill()
    try:
        reply = person.client.post(f"/v1/conversations/{conversation}/turns", json={"question": "Are you there?"})
        assert reply.status_code == 503, reply.text
        assert reply.json()["reason"] == "store_unavailable"
        assert int(reply.headers["retry-after"]) >= 1
        assert person.client.post("/v1/ask", json={"question": fresh()}).status_code == 200
    finally:
        wait_until_ready([stack.postgres.start()], timeout=60)
    reply = person.client.post(f"/v1/conversations/{conversation}/turns", json={"question": "And now?"})
    assert reply.status_code == 200, reply.text


def test_without_the_session_service_asks_are_answered(stack: Stack, person: Person) -> None:
    stack.sessions[0].process.kill()
    try:
        assert person.client.post("/v1/ask", json={"question": fresh()}).status_code == 200
        assert person.client.get("/v1/conversations").status_code == 503
    finally:
        stack.sessions[0].restart()
        wait_until_served(person)


def test_a_killed_gateway_leaves_a_conversation_free(stack: Stack, person: Person) -> None:
    conversation = begin(person)
    stack.gateways[0].process.kill()
    stack.gateways[0].restart()
    reply = person.client.post(f"/v1/conversations/{conversation}/turns", json={"question": "Are you there?"})
    assert reply.status_code == 200, reply.text
