"""What a caller sees of the cache, and says to it, over HTTP and through all services."""

from __future__ import annotations

import pytest

from tests.e2e.test_ask import fresh
from tests.harness.emulator import Emulator
from tests.harness.system import Person


def ask(person: Person, question: str, **control: str) -> tuple[str, str | None, str]:
    """X-Cache, Age and the answer."""
    headers = {"Cache-Control": control["control"]} if control else {}
    reply = person.client.post("/v1/ask", json={"question": question}, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply.headers["x-cache"], reply.headers.get("age"), reply.json()["answer"]


def test_a_hit_says_how_old_it_is_and_a_miss_nothing(person: Person) -> None:
    question = fresh()
    assert ask(person, question)[:2] == ("miss", None)
    use, age, _ = ask(person, question)
    assert use == "hit"
    assert age is not None
    assert 0 <= int(age) <= 30


def test_no_cache_generates_anew_for_everybody(person: Person, own: Emulator) -> None:
    question = fresh()
    own.script({"text": "First.", "times": 1}, {"text": "Second."})
    assert ask(person, question) == ("miss", None, "First.")
    assert ask(person, question, control="no-cache") == ("miss", None, "Second.")
    assert ask(person, question)[::2] == ("hit", "Second.")


def test_no_store_keeps_nothing(person: Person) -> None:
    question = fresh()
    reply = person.client.post("/v1/ask", json={"question": question}, headers={"Cache-Control": "no-store"})
    assert (reply.headers["x-cache"], reply.json()["answer_id"]) == ("miss", None)
    assert ask(person, question)[0] == "miss"


def test_only_if_cached_asks_no_model(person: Person, own: Emulator) -> None:
    question = fresh()
    reply = person.client.post("/v1/ask", json={"question": question}, headers={"Cache-Control": "only-if-cached"})
    assert (reply.status_code, reply.json()["reason"]) == (504, "not_cached")
    assert own.stats()["arrivals"] == 0
    ask(person, question)
    assert ask(person, question, control="only-if-cached")[0] == "hit"


def test_max_age_bounds_what_may_answer(person: Person) -> None:
    question = fresh()
    ask(person, question)
    assert ask(person, question, control="max-age=3600")[0] == "hit"
    assert ask(person, question, control="max-age=0")[0] == "miss"


@pytest.mark.parametrize("control", ["max-age=soon", "no-store; max-age=1"])
def test_a_cache_control_that_cannot_be_read_is_refused(person: Person, own: Emulator, control: str) -> None:
    reply = person.client.post("/v1/ask", json={"question": fresh()}, headers={"Cache-Control": control})
    assert (reply.status_code, reply.json()["field"]) == (400, "Cache-Control")
    assert own.stats()["arrivals"] == 0


def test_a_thumbs_down_takes_the_answer_from_everybody(person: Person, own: Emulator) -> None:
    question = fresh()
    told = person.client.post("/v1/ask", json={"question": question}).json()
    said = {"answer_id": told["answer_id"], "verdict": "up"}
    assert person.client.post("/v1/feedback", json=said).json() == {"found": True}
    assert ask(person, question)[0] == "hit"
    for found in (True, False):
        reply = person.client.post("/v1/feedback", json={**said, "verdict": "down"})
        assert (reply.status_code, reply.json()) == (200, {"found": found})
    assert ask(person, question)[0] == "miss"


def test_a_first_turns_answer_takes_feedback_too(person: Person) -> None:
    question = fresh()
    made = person.client.post("/v1/conversations", json={}).json()
    path = f"/v1/conversations/{made['conversation_id']}/turns"
    turn = person.client.post(path, json={"question": question}).json()
    assert person.client.post(path, json={"question": "And then?"}).json()["answer_id"] is None
    said = {"answer_id": turn["answer_id"], "verdict": "down"}
    assert person.client.post("/v1/feedback", json=said).json() == {"found": True}
    assert ask(person, question)[0] == "miss"


def test_nobody_rates_anothers_answers(person: Person, another: Person) -> None:
    question = fresh()
    told = person.client.post("/v1/ask", json={"question": question}).json()
    said = {"answer_id": told["answer_id"], "verdict": "down"}
    reply = another.client.post("/v1/feedback", json=said)
    assert (reply.status_code, reply.json()["field"]) == (400, "answer_id")
    malformed = another.client.post("/v1/feedback", json={**said, "answer_id": "A"})
    assert (malformed.status_code, malformed.json()["detail"]) == (400, reply.json()["detail"])
    assert ask(person, question)[0] == "hit"


def test_a_repeat_is_told_what_the_first_was(person: Person) -> None:
    headers = {"Idempotency-Key": fresh("key")}
    body = {"question": fresh()}
    first = person.client.post("/v1/ask", json=body, headers=headers)
    again = person.client.post("/v1/ask", json=body, headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.json(), again.headers["x-cache"]) == (first.json(), first.headers["x-cache"])
