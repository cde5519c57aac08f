"""The small rules: what a 429 means, when a circuit opens, which key is next, when a day ends."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llm import catalogue_file, refusals, retries
from services.llm.catalogue_file import CatalogueRefused
from services.llm.circuits import Circuits, State
from services.llm.keys import Key, KeyRing
from services.llm.pressure import Pressure
from services.llm.prompt import Message, Prompt, Text
from services.llm.providers.port import Endpoint, QuotaRefused, Usage, Violation
from services.llm.quota import Windows, midnights
from services.llm.tokens import Estimator
from tests.integration.llm.load import catalogue

MINUTE = Violation("GenerateRequestsPerMinutePerProjectPerModel-FreeTier")
DAY = Violation("GenerateRequestsPerDayPerProjectPerModel-FreeTier")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("violations", "advised", "scope", "least", "most"),
    [
        ([MINUTE], 26.0, "minute", 26, 27),
        ([MINUTE], 86400.0, "minute", 1, 61),
        ([MINUTE], None, "minute", 1, 61),
        ([MINUTE], 0.0, "minute", 0.5, 61),
        ([DAY], 26.0, "day", 5000, 5000),
        ([MINUTE, DAY], 26.0, "day", 5000, 5000),
        ([], None, "spend", 1, 600),
        ([], 86400.0, "spend", 1, 600),
        ([Violation("SomethingNew")], None, "unknown", 0.5, 61),
        ([Violation("SomethingNew")], 86400.0, "unknown", 0.5, 61),
    ],
)
def test_the_quotas_id_decides_and_the_advice_is_bounded(
    violations: list[Violation], advised: float | None, scope: str, least: float, most: float
) -> None:
    cool = refusals.classify(QuotaRefused(violations, advised), Windows(), 5000, known_limits=True)
    assert cool.scope == scope
    assert least <= cool.seconds <= most
    assert cool.whole_project == (scope == "spend")


def test_a_circuit_opens_probes_once_and_closes() -> None:
    clock = Clock()
    circuits = Circuits(clock, failures=3, seconds=2)
    for _ in range(3):
        assert circuits.allows("p", "m")
        circuits.failed("p", "m")
    assert circuits.state("p", "m") is State.OPEN
    assert not circuits.allows("p", "m")
    assert circuits.allows("q", "m")
    clock.now += 2.1
    assert circuits.allows("p", "m")
    circuits.begin("p", "m")
    assert not circuits.allows("p", "m")
    circuits.failed("p", "m")
    clock.now += 2.1
    assert not circuits.allows("p", "m")
    clock.now += 2.1
    circuits.begin("p", "m")
    circuits.succeeded("p", "m")
    assert circuits.state("p", "m") is State.CLOSED


def test_keys_take_turns_and_refused_ones_are_passed_over_until_their_time_is_up() -> None:
    clock = Clock()
    ring = KeyRing([Key("p", label, f"secret-{label}") for label in "abc"], clock)
    assert [key.label for _ in range(4) if (key := ring.take("p"))] == ["a", "b", "c", "a"]
    ring.refuse({Key("p", "b", "secret-b").fingerprint: 10})
    assert [key.label for _ in range(3) if (key := ring.take("p"))] == ["c", "a", "c"]
    clock.now += 11
    assert "b" in [key.label for _ in range(3) if (key := ring.take("p"))]
    assert ring.take("unknown") is None


def test_a_key_shows_itself_nowhere() -> None:
    key = Key("p", "a", "secret-text")
    assert "secret-text" not in repr(key) + str(key) + key.fingerprint


@pytest.mark.parametrize(
    ("at", "hours"),
    [
        (datetime(2026, 7, 1, 12, tzinfo=UTC), 24),
        # Daylight saving time begins on 8 March and ends on 1 November 2026.
        (datetime(2026, 3, 8, 18, tzinfo=UTC), 23),
        (datetime(2026, 11, 1, 18, tzinfo=UTC), 25),
    ],
)
def test_a_day_ends_at_midnight_pacific_time(at: datetime, hours: int) -> None:
    before, last, following = midnights(at.timestamp())
    assert before < last <= at.timestamp() * 1000 < following
    assert following - last == hours * 3_600_000
    assert datetime.fromtimestamp(last / 1000, UTC).hour == (7 if at.month in (7, 11) else 8)


@given(st.integers(1, 20), st.floats(0, 1, exclude_max=True))
def test_jitter_is_full_and_bounded(attempt: int, draw: float) -> None:
    assert 0 <= retries.full_jitter(attempt, draw=lambda: draw) <= 2.0


def test_estimates_learn_an_upper_bound() -> None:
    """After a few hundred calls about one in twenty has more tokens than were reserved."""
    estimator = Estimator()
    below = 0
    for number in range(1200):
        prompt = Prompt([Message("user", [Text("x" * (100 + number % 400))])])
        real = int(prompt.characters * (0.2 + 0.1 * ((number * 7919) % 100) / 100)) + 8
        if number >= 600:
            below += estimator.input_tokens("m", prompt) < real
        estimator.learn("m", prompt, Usage(real, 0, 50))
    assert below / 600 < 0.12
    assert 0.25 < estimator.input_tokens("m", Prompt([Message("user", [Text("x" * 1000)])])) / 1000 < 0.35


def test_streams_gather_their_pieces_only_while_the_loop_is_late() -> None:
    pressure = Pressure()
    assert pressure.hold == 0
    for _ in range(20):
        pressure.saw(0.5)
    assert pressure.hold == 0.1
    for _ in range(50):
        pressure.saw(0.0)
    assert pressure.hold == 0


GOOD = catalogue("{rpm: 600}")


@pytest.mark.parametrize(
    ("wrong", "instead", "reason"),
    [
        ("rpm: 600", "rpm: -1", "greater than 0"),
        ("rpm: 600", "rmp: 600", "Extra inputs"),
        ("tier: senior", "tier: seniour", "'junior' or 'senior'"),
        ("account: paid", "account: gold", "no account tier 'gold'"),
        ("senior: [gemini-3.1-pro-preview]", "senior: [gemini-9]", "'gemini-9' is not under models"),
        ("from: 2026-01-01, input: 2000000", "from: 2026-01-01, input: a lot", "valid integer"),
        ("output_tokens: 65536", "output_tokens: 65536\n    output_tokens: 1", "stands here twice"),
        ("version: 1", "version: 2", "Input should be 1"),
    ],
)
def test_a_bad_catalogue_is_refused_with_the_line(wrong: str, instead: str, reason: str) -> None:
    text = GOOD.replace(wrong, instead)
    with pytest.raises(CatalogueRefused) as caught:
        catalogue_file.parse(text.encode(), "c.yaml")
    told = str(caught.value).splitlines()
    assert any(reason in fault for fault in told)
    name, line, *_ = told[0].split(":")
    assert name == "c.yaml"
    key = instead.replace("{", "").split("\n")[-1].split(":")[0].split("[")[0].split(",")[-1].strip()
    assert key in text.splitlines()[int(line) - 1]


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe\x00", b"a: [", b"- 1", b"&a [*a, *a]", b"x" * (1 << 10)])
def test_what_is_no_catalogue_is_refused_in_a_sentence(raw: bytes) -> None:
    with pytest.raises(CatalogueRefused):
        catalogue_file.parse(raw, "c.yaml")


def test_the_packaged_catalogue_holds_the_plans_figures() -> None:
    found = catalogue_file.read(catalogue_file.PACKAGED)
    assert found.limits(Endpoint("any", "gemini-3.5-flash-lite")).rpm == 1500
    assert found.limits(Endpoint("any", "gemini-3.1-pro-preview")).rpm == 360
    assert found.order("junior")[0].name == "gemini-3.5-flash-lite"
