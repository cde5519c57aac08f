"""Limits per (project, model): what is counted, when it resets, and what a 429 says."""

from datetime import UTC, datetime

import pytest

from devstack.gemini.quota import pacific_midnight_after
from tests.unit.devstack.gemini.caller import JUNIOR, SENIOR, Caller
from tests.unit.devstack.gemini.conftest import Start


class Clock:
    """Time that passes only when the test says so."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


async def limited(start: Start, clock: Clock, kind: str = "sliding", **limit: int) -> Caller:
    return await start(clock, window_seconds=3, window_kind=kind, limits={"*": {"*": limit}})


async def statuses(gemini: Caller, count: int) -> list[int]:
    return [(await gemini.ask("x")).status for _ in range(count)]


async def test_a_429_names_its_quota_and_when_to_come_back(start: Start) -> None:
    clock = Clock(at("2026-11-22 12:00:01"))
    gemini = await limited(start, clock, rpm=2)
    await gemini.ask("x")
    clock.now += 1.25
    await gemini.ask("x")

    answer = await gemini.ask("x")

    assert answer.status == 429
    assert answer.json["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert "Please retry in 1.750000000s." in answer.json["error"]["message"]
    assert answer.details["QuotaFailure"]["violations"] == [
        {
            "quotaMetric": "generativelanguage.googleapis.com/generate_requests_per_model",
            "quotaId": "GenerateRequestsPerMinutePerProjectPerModel",
            "quotaDimensions": {"location": "global", "model": JUNIOR},
            "quotaValue": "2",
        }
    ]
    assert answer.details["Help"]["links"][0]["url"] == "https://ai.google.dev/gemini-api/docs/rate-limits"
    assert answer.details["RetryInfo"]["retryDelay"] == "1.750000000s"


async def test_a_sliding_window_forgets_each_request_after_its_length(start: Start) -> None:
    clock = Clock(at("2026-11-22 12:00:02"))
    gemini = await limited(start, clock, rpm=2)

    assert await statuses(gemini, 3) == [200, 200, 429]
    clock.now += 2.9
    assert await statuses(gemini, 1) == [429]
    clock.now += 0.1
    assert await statuses(gemini, 3) == [200, 200, 429]


async def test_a_fixed_window_begins_anew_at_its_multiple(start: Start) -> None:
    clock = Clock(at("2026-11-22 12:00:02"))
    gemini = await limited(start, clock, "fixed", rpm=2)

    assert await statuses(gemini, 3) == [200, 200, 429]
    clock.now += 1.0
    assert await statuses(gemini, 3) == [200, 200, 429]
    refused = await gemini.ask("x")
    assert refused.details["RetryInfo"]["retryDelay"] == "3.000000000s"


async def test_coming_back_when_told_to_is_early_enough(start: Start) -> None:
    for kind in ("sliding", "fixed"):
        clock = Clock(at("2026-11-22 12:00:01"))
        gemini = await limited(start, clock, kind, rpm=3, tpm=6)
        for _ in range(4):
            refused = await gemini.ask("x" * 16)
            clock.now += 0.25
        clock.now -= 0.25
        assert refused.status == 429
        clock.now += float(refused.details["RetryInfo"]["retryDelay"].rstrip("s"))
        assert (await gemini.ask("x" * 8)).status == 200


async def test_keys_of_a_project_share_its_quota_and_projects_and_models_do_not(start: Start) -> None:
    gemini = await start(limits={"*": {"*": {"rpm": 1}}})

    assert (await gemini.ask("x", key="key-a1")).status == 200
    assert (await gemini.ask("x", key="key-a2")).status == 429
    assert (await gemini.ask("x", key="key-b1")).status == 200
    assert (await gemini.ask("x", key="key-a1", model=SENIOR)).status == 200


async def test_input_tokens_are_limited_and_several_violations_stand_together(start: Start) -> None:
    gemini = await start(limits={"*": {"*": {"rpm": 1, "tpm": 10}}})
    await gemini.ask("x" * 32)

    answer = await gemini.ask("x" * 32)

    ids = [one["quotaId"] for one in answer.details["QuotaFailure"]["violations"]]
    assert ids == [
        "GenerateRequestsPerMinutePerProjectPerModel",
        "GenerateContentPaidTierInputTokensPerModelPerMinute",
    ]


async def test_a_day_ends_at_midnight_pacific_time(start: Start) -> None:
    clock = Clock(at("2026-11-23 07:59:59"))
    gemini = await limited(start, clock, rpd=1)

    assert await statuses(gemini, 2) == [200, 429]
    refused = await gemini.ask("x")
    assert "PerDay" in refused.details["QuotaFailure"]["violations"][0]["quotaId"]
    clock.now += 1
    assert await statuses(gemini, 2) == [200, 429]


@pytest.mark.parametrize(
    ("now", "midnight"),
    [
        ("2026-11-22 12:00", "2026-11-23 08:00"),
        ("2026-07-01 06:59", "2026-07-01 07:00"),
        ("2026-03-08 09:00", "2026-03-09 07:00"),  # 23 hours: summer time begins
        ("2026-11-01 08:00", "2026-11-02 08:00"),  # 25 hours: it ends
    ],
)
def test_summer_time_is_right(now: str, midnight: str) -> None:
    assert pacific_midnight_after(at(now)) == at(midnight)


async def test_the_free_tier_has_its_own_names_and_a_million_tokens_a_day(start: Start) -> None:
    gemini = await start(free_tier=True, limits={"*": {"*": {"rpm": 9}}})

    large = await gemini.ask("x" * 4_000_000)
    answer = await gemini.ask("x")

    assert large.status == 200
    violation = answer.details["QuotaFailure"]["violations"][0]
    assert violation["quotaId"] == "GenerateContentInputTokensPerModelPerDay-FreeTier"
    assert violation["quotaValue"] == "1000000"


async def test_a_spend_cap_rolls(start: Start) -> None:
    clock = Clock(at("2026-11-22 12:00:01"))
    gemini = await start(clock, spend_cap_usd=0.00001, spend_window_seconds=10, prices={JUNIOR: (1.0, 1.0)})

    assert await statuses(gemini, 2) == [200, 429]
    clock.now += 10
    assert await statuses(gemini, 1) == [200]


async def test_limits_change_while_it_runs(gemini: Caller) -> None:
    await gemini.ask("x")

    state = await gemini.control("limits", {"limits": {"a": {"*lite": {"rpm": 1}}}})

    assert state["limits"] == {"a": {"*lite": {"rpm": 1, "tpm": None, "rpd": None, "tpd": None}}}
    assert (await gemini.ask("x")).status == 429
    assert (await gemini.ask("x", key="key-b1")).status == 200


async def test_stats_count_windows_and_peaks_exactly(start: Start) -> None:
    clock = Clock(at("2026-11-22 12:00:02"))
    gemini = await limited(start, clock, rpm=4)
    for step in (0.0, 0.9, 0.2, 0.2, 0.2):
        clock.now += step
        await gemini.ask("x" * 8)

    stats = await gemini.stats(arrivals=True)

    [row] = stats["models"]
    assert (row["arrivals"], row["admitted"], row["statuses"]) == (5, 4, {"200": 4, "429": 1})
    assert row["max_admitted_in_window"] == {
        "sliding_requests": 4,
        "fixed_requests": 2,
        "sliding_input_tokens": 8,
        "fixed_input_tokens": 4,
    }
    assert [(one["arrivals"], one["admitted"], one["refused_429"]) for one in stats["windows"]] == [
        (2, 2, 0),
        (3, 2, 1),
    ]
    assert [one["status"] for one in stats["arrival_list"]] == [200, 200, 200, 200, 429]
    assert stats["arrival_list"][1]["at"] - stats["arrival_list"][0]["at"] == pytest.approx(0.9)


async def test_reset_forgets_counts_and_use(start: Start) -> None:
    gemini = await start(limits={"*": {"*": {"rpm": 1}}})
    await gemini.control("keys", {"remove": ["key-b1"]})
    await statuses(gemini, 2)

    await gemini.control("reset", {})

    assert (await gemini.stats())["arrivals"] == 0
    assert (await gemini.ask("x", key="key-b1")).status == 200
