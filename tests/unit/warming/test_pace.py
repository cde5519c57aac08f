"""Warming takes its share of what is left, and is still while others need it."""

from datetime import UTC, datetime

import pytest

from focus.cache.v1.cache_pb2 import Scope
from focus.chat.v1.chat_pb2 import Mode, Tier
from focus.llm.v1.llm_pb2 import ShowQuotaResponse
from services.warming.pace import Pace, allowance, within
from services.warming.questions import Popular, chosen

Pool = ShowQuotaResponse.Pool
Queue = ShowQuotaResponse.Queue


def quota(*pools: Pool, **rest: object) -> ShowQuotaResponse:
    return ShowQuotaResponse(pools=pools, **rest)  # type: ignore[arg-type]


def test_the_scarcest_model_sets_the_pace() -> None:
    assert allowance(quota(Pool(calls_limit=1000), Pool(calls_limit=100)), 0.1, 60).per_minute == pytest.approx(10)


def test_where_no_limit_is_known_the_setting_counts() -> None:
    assert allowance(quota(Pool()), 0.1, 60).per_minute == 60
    assert allowance(quota(), 0.1, 60).per_minute == 60


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (quota(Pool(calls_limit=100, calls=91)), "minute's quota"),
        (quota(Pool(calls_limit=100, input_tokens=950, input_tokens_limit=1000)), "minute's tokens"),
        (quota(Pool(calls_limit=100, cool_down_ms=5)), "refuses"),
        (quota(Pool(calls_limit=100, day_calls=99, day_calls_limit=100)), "today's quota"),
        (quota(Pool(calls_limit=100), queues=[Queue(tier=Tier.TIER_JUNIOR, interactive=1)]), "others wait"),
        (quota(Pool(calls_limit=100), queues=[Queue(tier=Tier.TIER_SENIOR, batch=1)]), "others wait"),
        (quota(Pool(calls_limit=100), local=True), "cannot be reached"),
    ],
    ids=["minute", "tokens", "cool-down", "day", "interactive", "batch", "store"],
)
def test_nothing_is_taken_while_quota_is_short(told: ShowQuotaResponse, why: str) -> None:
    found = allowance(told, 0.1, 60)
    assert found.per_minute == 0
    assert why in found.why


def test_other_warming_in_the_queue_does_not_stop_it() -> None:
    assert allowance(quota(Pool(calls_limit=100), queues=[Queue(warming=3)]), 0.1, 60).per_minute == 10


def test_a_days_share_is_of_what_the_day_has_left() -> None:
    assert allowance(quota(Pool(calls_limit=100, day_calls=500, day_calls_limit=1500)), 0.1, 60).today == 100


def test_no_minute_holds_more_calls_than_its_pace() -> None:
    now = [0.0]
    pace, asked = Pace(lambda: now[0]), []
    while now[0] < 600:
        wait = pace.wait(30)
        if wait:
            now[0] += wait
            continue
        asked.append(now[0])
        pace.asked(30, 2)
    for start in range(0, 540, 7):
        assert 2 * sum(start <= one < start + 60 for one in asked) <= 30


@pytest.mark.parametrize(
    ("between", "hour", "inside"),
    [
        ("", 12, True),
        ("01:00-05:30", 3, True),
        ("01:00-05:30", 6, False),
        ("22:00-05:00", 23, True),
        ("22:00-05:00", 2, True),
        ("22:00-05:00", 12, False),
    ],
)
def test_hours_may_pass_midnight(between: str, hour: int, inside: bool) -> None:
    assert within(between, datetime(2026, 1, 1, hour, tzinfo=UTC)) is inside


def popular(tenant: str, text: str, count: int) -> Popular:
    one = Popular(count=count)
    one.principal.tenant_id, one.question.text = tenant, text
    one.question.mode, one.scope = Mode.MODE_AUTO, Scope.SCOPE_TENANT
    return one


def test_each_question_comes_once_per_tenant_the_most_asked_first() -> None:
    found = chosen(["Common?", "Often?"], [popular("a", "Rarely?", 1), popular("a", "Often?", 9)], ["a", "b"])
    assert [(one.principal.tenant_id, one.question.text) for one in found] == [
        ("a", "Often?"),
        ("a", "Rarely?"),
        ("a", "Common?"),
        ("b", "Common?"),
        ("b", "Often?"),
    ]
