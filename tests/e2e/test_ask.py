"""A question that stands alone, over HTTP, through all services."""

import secrets
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.harness.emulator import Emulator
from tests.harness.events import stream, text_of
from tests.harness.system import Person


def fresh(text: str = "What is the capital of Brazil?") -> str:
    """A question that nobody has asked before."""
    return f"{text} ({secrets.token_hex(8)})"


def test_an_answer_says_who_gave_it_how_sure_and_what_it_cost(person: Person) -> None:
    reply = person.client.post("/v1/ask", json={"question": fresh()})
    assert reply.status_code == 200, reply.text
    told = reply.json()
    assert told["answer"].strip()
    assert told["tier"] in {"junior", "senior"}
    assert told["model"].startswith("gemini-")
    assert 0 <= told["confidence"] <= 1
    assert told["finish_reason"] == "stop"
    assert told["usage"]["prompt_tokens"] > 0
    assert told["usage"]["output_tokens"] > 0
    assert told["cost_microusd"] > 0
    assert told["cache"] == reply.headers["x-cache"] == "miss"


def test_asked_again_the_same_answer_comes_from_the_cache_for_nothing(person: Person) -> None:
    question = fresh()
    first = person.client.post("/v1/ask", json={"question": question})
    again = person.client.post("/v1/ask", json={"question": question})
    assert again.status_code == 200
    assert again.headers["x-cache"] == "hit"
    assert again.json() == {**first.json(), "cache": "hit", "cost_microusd": 0, "usage": again.json()["usage"]}
    assert set(again.json()["usage"].values()) == {0}


def test_another_tenant_never_gets_a_cached_answer(person: Person, another: Person) -> None:
    question = fresh()
    person.client.post("/v1/ask", json={"question": question})
    assert another.client.post("/v1/ask", json={"question": question}).headers["x-cache"] == "miss"
    assert another.client.post("/v1/ask", json={"question": question}).headers["x-cache"] == "hit"


def test_the_words_decide_not_their_case_space_or_closing_mark(person: Person) -> None:
    word = secrets.token_hex(8)
    person.client.post("/v1/ask", json={"question": f"What is {word}?"})
    assert person.client.post("/v1/ask", json={"question": f"  what IS  {word} "}).headers["x-cache"] == "hit"


def test_an_api_key_asks_as_a_token_does(visitor: httpx2.Client, api_key: str) -> None:
    bearer = {"Authorization": f"Bearer {api_key}"}
    reply = visitor.post("/v1/ask", json={"question": fresh()}, headers=bearer)
    assert reply.status_code == 200, reply.text
    assert reply.json()["answer"]


def test_a_stream_shows_the_answer_piece_by_piece_and_ends_with_the_whole(person: Person) -> None:
    question = fresh()
    events = stream(person.client, "/v1/ask", {"question": question})
    assert [event.name for event in events if event.name in {"done", "error"}] == ["done"]
    done = events[-1].data
    assert done["answer"] == text_of(events) != ""
    assert done["cache"] == "miss"
    again = stream(person.client, "/v1/ask", {"question": question})
    assert (again[-1].data["cache"], text_of(again)) == ("hit", done["answer"])


def test_pieces_arrive_while_the_model_still_writes(person: Person, own: Emulator) -> None:
    """The first piece is there though the upstream holds back the rest."""
    own.script({"match": "slowly", "chunks": ["First. ", "Second."]})
    own.faults({"effect": {"hang_after_chunks": 2}})
    body = {"question": fresh("Tell me slowly")}
    with person.client.stream("POST", "/v1/ask", json=body, headers={"Accept": "text/event-stream"}) as reply:
        lines = reply.iter_lines()
        assert any("First" in line for line in lines)


def test_an_unsure_junior_gives_way_to_the_senior(person: Person, own: Emulator) -> None:
    own.script({"model": "*lite*", "confidence": 10, "text": "Maybe."}, {"model": "*pro*", "text": "Surely."})
    events = stream(person.client, "/v1/ask", {"question": fresh()})
    names = [event.name for event in events]
    assert names.index("escalated") < names.index("delta")
    done = events[-1].data
    assert (done["answer"], done["tier"], done["escalated"]) == ("Surely.", "senior", True)


@pytest.mark.parametrize("tier", ["junior", "senior"])
def test_a_tier_that_is_asked_for_answers(person: Person, tier: str) -> None:
    reply = person.client.post("/v1/ask", json={"question": fresh(), "mode": tier})
    assert (reply.status_code, reply.json()["tier"]) == (200, tier)


def test_the_confidence_prefix_never_reaches_a_reader(person: Person) -> None:
    events = stream(person.client, "/v1/ask", {"question": fresh()})
    assert "[[" not in text_of(events)
    assert "confidence=" not in text_of(events)


def test_a_failing_provider_is_a_problem_before_the_first_piece(person: Person, own: Emulator) -> None:
    own.faults({"effect": {"status": 503}})
    reply = person.client.post("/v1/ask", json={"question": fresh()}, headers={"Accept": "text/event-stream"})
    assert reply.status_code == 503
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["reason"] == "provider_unavailable"


def test_many_ask_at_once_and_each_gets_the_answer_to_its_own(person: Person, own: Emulator) -> None:
    own.script({"text": 'You said "{last}".'})
    words = [secrets.token_hex(6) for _ in range(40)]

    def ask(word: str) -> str:
        return str(person.client.post("/v1/ask", json={"question": f"Say {word}"}).json()["answer"])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, words))
    assert answers == [f'You said "Say {word}".' for word in words]
