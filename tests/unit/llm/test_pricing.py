"""Money is integer micro-dollars, and nothing is charged twice."""

from __future__ import annotations

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from services.llm import catalogue_file, pricing
from services.llm.pricing import Price, Rates
from services.llm.providers.port import Usage

PRO = Price(
    date(2026, 1, 1),
    Rates(2_000_000, 12_000_000, 200_000),
    long_context_above=200_000,
    long_context=Rates(4_000_000, 18_000_000, 400_000),
)


def test_cached_tokens_are_charged_once_at_their_own_price() -> None:
    assert PRO.cost(Usage(prompt=1000, cached=400)) == 600 * 2 + 80


def test_thoughts_are_charged_as_output() -> None:
    assert PRO.cost(Usage(output=10, thoughts=90)) == PRO.cost(Usage(output=100)) == 1200


def test_above_200k_input_tokens_the_whole_call_costs_more() -> None:
    assert PRO.cost(Usage(prompt=200_000, output=1)) == 400_012
    assert PRO.cost(Usage(prompt=200_001, output=1)) == 800_022


def test_batch_costs_half() -> None:
    usage = Usage(prompt=1000, output=1000)
    assert PRO.cost(usage, batch=True) * 2 == PRO.cost(usage)


def test_the_price_in_force_follows_the_day() -> None:
    prices = catalogue_file.read(catalogue_file.PACKAGED).models["gemini-3.8-flash"].prices
    assert pricing.in_force(prices, date(2026, 12, 31)).rates.input == 750_000
    assert pricing.in_force(prices, date(2027, 1, 1)).rates.input == 1_500_000


def test_the_plans_day_costs_7_40_usd() -> None:
    """20,000 questions, 70 % at 0.0001 USD and 30 % at 0.001 USD."""
    junior = Price(date(2026, 1, 1), Rates(0, 0, 0), call=100)
    senior = Price(date(2026, 1, 1), Rates(0, 0, 0), call=1000)
    usage = Usage(prompt=50, output=200)
    assert 14_000 * junior.cost(usage) + 6_000 * senior.cost(usage) == 7_400_000


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_caching_never_makes_a_call_dearer(prompt: int, cached: int, output: int) -> None:
    assert PRO.cost(Usage(prompt, min(cached, prompt), output)) <= PRO.cost(Usage(prompt, 0, output))
