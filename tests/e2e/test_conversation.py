"""Conversations over HTTP: turns see what was said before, and belong to one person."""

import re
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.emulator import Emulator
from tests.harness.events import stream, text_of
from tests.harness.system import Person


def begin(person: Person) -> str:
    """A new conversation's id."""
    reply = person.client.post("/v1/conversations", json={})
    assert reply.status_code == 201, reply.text
    return str(reply.json()["conversation_id"])


def test_a_conversation_names_its_region_and_where_it_lies(person: Person) -> None:
    reply = person.client.post("/v1/conversations", json={"title": "Capitals"})
    made = reply.json()
    assert re.fullmatch(r"[a-z0-9-]+-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", made["conversation_id"])
    assert reply.headers["location"] == f"/v1/conversations/{made['conversation_id']}"
    assert (made["title"], made["turn_count"]) == ("Capitals", 0)


def test_a_second_turn_sees_the_first(person: Person) -> None:
    """Whatever the model: what was said before is part of what it is asked."""
    path = f"/v1/conversations/{begin(person)}/turns"
    question = "Remember the number eleven and the colour green."
    first = person.client.post(path, json={"question": question}).json()
    second = person.client.post(path, json={"question": "And now?"}).json()
    assert (first["seq"], second["seq"]) == (1, 2)
    assert second["parent_turn_id"] == first["turn_id"]
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"]
    assert second["cache"] == "bypass"


def test_the_model_is_given_the_turns_in_order(person: Person, own: Emulator) -> None:
    path = f"/v1/conversations/{begin(person)}/turns"
    person.client.post(path, json={"question": "My name is Ada."})
    reply = person.client.post(path, json={"question": "What was my first question?"})
    assert reply.json()["answer"] == 'Your first question was: "My name is Ada."'


def test_a_turn_streams_and_ends_with_what_is_stored(person: Person) -> None:
    conversation = begin(person)
    events = stream(person.client, f"/v1/conversations/{conversation}/turns", {"question": "What is a lease?"})
    done = events[-1]
    assert done.name == "done"
    assert done.data["answer"] == text_of(events)
    stored = person.client.get(f"/v1/conversations/{conversation}").json()["turns"]
    assert len(stored) == 1
    assert {name: done.data[name] for name in stored[0]} == stored[0]


def test_reading_gives_the_turns_oldest_first_in_pages(person: Person) -> None:
    conversation = begin(person)
    for number in range(5):
        person.client.post(f"/v1/conversations/{conversation}/turns", json={"question": f"Question {number}?"})
    seen: list[int] = []
    query = {"limit": "2"}
    while True:
        page = person.client.get(f"/v1/conversations/{conversation}", params=query).json()
        assert page["turn_count"] == 5
        seen += [turn["seq"] for turn in page["turns"]]
        if page["next_cursor"] is None:
            break
        query = {"limit": "2", "cursor": page["next_cursor"]}
    assert seen == [1, 2, 3, 4, 5]


def test_the_list_shows_the_newest_activity_first_in_pages(person: Person) -> None:
    made = [begin(person) for _ in range(3)]
    person.client.post(f"/v1/conversations/{made[0]}/turns", json={"question": "Hello?"})
    listed: list[str] = []
    cursor = ""
    while True:
        page = person.client.get("/v1/conversations", params={"limit": "2", **({"cursor": cursor} if cursor else {})})
        listed += [one["conversation_id"] for one in page.json()["conversations"]]
        cursor = page.json()["next_cursor"] or ""
        if not cursor:
            break
    assert listed == [made[0], made[2], made[1]]


def test_the_first_question_becomes_the_title(person: Person) -> None:
    conversation = begin(person)
    person.client.post(f"/v1/conversations/{conversation}/turns", json={"question": "Why is the sky blue?"})
    assert "sky" in person.client.get(f"/v1/conversations/{conversation}").json()["title"]


def test_turns_sent_at_once_are_answered_one_after_the_other(person: Person) -> None:
    conversation = begin(person)

    def turn(number: int) -> int:
        reply = person.client.post(f"/v1/conversations/{conversation}/turns", json={"question": f"Number {number}?"})
        assert reply.status_code == 200, reply.text
        return int(reply.json()["seq"])

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(turn, range(6))) == [1, 2, 3, 4, 5, 6]
    stored = person.client.get(f"/v1/conversations/{conversation}").json()["turns"]
    assert [turn["parent_turn_id"] for turn in stored[1:]] == [turn["turn_id"] for turn in stored[:-1]]


def test_a_failed_turn_is_kept_as_a_failure_and_the_next_one_goes_on(person: Person, own: Emulator) -> None:
    conversation = begin(person)
    path = f"/v1/conversations/{conversation}/turns"
    own.faults({"effect": {"status": 503}})
    failed = person.client.post(path, json={"question": "Is anybody there?"})
    assert (failed.status_code, failed.json()["reason"]) == (503, "provider_unavailable")
    own.faults()
    assert person.client.post(path, json={"question": "And now?"}).status_code == 200
    outcomes = [turn["outcome"] for turn in person.client.get(f"/v1/conversations/{conversation}").json()["turns"]]
    assert outcomes == ["failure", "answer"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/conversations/{id}"),
        ("POST", "/v1/conversations/{id}/turns"),
        ("PATCH", "/v1/conversations/{id}"),
        ("DELETE", "/v1/conversations/{id}"),
    ],
)
def test_anothers_conversation_and_one_that_never_was_are_the_same_404(
    person: Person, another: Person, method: str, path: str
) -> None:
    """Nothing but the request id may differ, or existence could be told."""
    theirs = begin(another)
    nobodys = f"{theirs[:-36]}{uuid.uuid4()}"
    body = {"POST": {"question": "Mine?"}, "PATCH": {"title": "Mine"}}.get(method)
    seen = []
    for conversation in (theirs, nobodys):
        reply = person.client.request(method, path.replace("{id}", conversation), json=body)
        problem = reply.json()
        problem.pop("request_id")
        # The turn's id is made anew for every request.
        headers = sorted(name for name in reply.headers if name not in {"date", "x-request-id"})
        seen.append((reply.status_code, problem, headers))
    assert seen[0] == seen[1]
    assert (seen[0][0], seen[0][1]["reason"]) == (404, "conversation_not_found")
    assert another.client.get(f"/v1/conversations/{theirs}").json()["turn_count"] == 0


def test_one_person_does_not_see_anothers_in_the_list(person: Person, another: Person) -> None:
    begin(another)
    assert person.client.get("/v1/conversations").json()["conversations"] == []
