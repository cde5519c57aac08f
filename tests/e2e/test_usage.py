"""What a question cost is on its tenant's bill, and on nobody else's."""

import time
from typing import Any

from tests.harness.system import Person


def report(person: Person) -> dict[str, Any]:
    reply = person.client.get("/v1/usage")
    assert reply.status_code == 200, reply.text
    told: dict[str, Any] = reply.json()
    return told


def calls(told: dict[str, Any]) -> int:
    return sum(one["calls"] for one in told["used"])


def test_the_bill_is_the_sum_of_the_answers(person: Person, another: Person) -> None:
    assert report(person)["used"] == []
    replies = [
        person.client.post("/v1/ask", json={"question": f"What is {number} + {number}?", "mode": mode})
        for number, mode in ((1, "junior"), (2, "junior"), (3, "senior"))
    ]
    assert [reply.status_code for reply in replies] == [200, 200, 200]
    asked = [reply.json() for reply in replies]
    until = time.monotonic() + 20
    while calls(told := report(person)) < 3:
        assert time.monotonic() < until, "the calls were not booked"
        time.sleep(0.1)
    assert {one["tier"]: one["calls"] for one in told["used"]} == {"junior": 2, "senior": 1}
    assert told["cost_microusd"] == sum(one["cost_microusd"] for one in asked) > 0
    assert sum(one["cost_microusd"] for one in told["used"]) == told["cost_microusd"]
    tokens = sum(one["usage"]["prompt_tokens"] for one in told["used"])
    assert tokens == sum(one["usage"]["prompt_tokens"] for one in asked)
    assert report(another)["used"] == []
