"""What is computed of a turn before it is stored, tickets, cursors, the hash chain."""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import FocusError, InvalidRequest, NotFound
from services.session import chain, cursors, identifiers, tickets
from services.session.model import Answer, Ending, Outcome, Principal, Wanted
from services.session.outcomes import is_retriable
from services.session.tickets import Ticket
from services.session.turns import estimated_tokens, storable, title_of
from tests.contract.session.stores import new_id, somebody
from tests.unit.session.turns.house import House


def ending(house: House, question: str, answer: str = "") -> Ending:
    return Ending(house.me, house.conversation, new_id(), 1, question, Outcome.ANSWER, Answer(text=answer))


async def test_question_is_limited_in_length(house: House) -> None:
    for question, reason in (("", "INVALID_ARGUMENT"), ("x" * 100_001, "QUESTION_TOO_LONG")):
        with pytest.raises(InvalidRequest) as err:
            await house.turns.commit(ending(house, question))
        assert err.value.reason_name == reason


async def test_answer_is_cut_rather_than_refused(house: House) -> None:
    begun = await house.begun()
    end = ending(house, "Why?", "x" * 1_000_001)
    end.turn_id, end.fence = begun.turn_id, begun.fence
    assert len((await house.turns.commit(end)).answer.text) == 1_000_000


def test_nul_is_replaced_since_the_store_cannot_keep_it() -> None:
    assert storable("a\0b") == "a\ufffdb"


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("Why?", "Why?"),
        ("  two\n lines ", "two lines"),
        ("word " * 40, " ".join(["word"] * 16) + "…"),
        ("x" * 200, "x" * 79 + "…"),
        (" \n ", "…"),
    ],
)
def test_title_is_the_beginning_of_the_question(question: str, title: str) -> None:
    assert title_of(question) == title


@given(st.text(max_size=500))
def test_title_fits(question: str) -> None:
    assert 1 <= len(title_of(question)) <= 80


def test_size_grows_with_bytes() -> None:
    assert estimated_tokens("", "") > 0
    assert estimated_tokens("ação" * 100, "") > estimated_tokens("acao" * 100, "")


def test_failures_of_the_moment_are_retriable() -> None:
    assert is_retriable("QUOTA_EXHAUSTED")
    assert is_retriable("PROVIDER_UNAVAILABLE")
    assert not is_retriable("ANSWER_BLOCKED")
    assert not is_retriable("PROVIDER_REJECTED")
    assert not is_retriable("")


# Fixed: the names of tests are made of it.
NAME = "0a205055-12de-40b5-bc95-94244022081c"
WANTED = Wanted(somebody(), f"local-{new_id()}", new_id(), new_id(), new_id(), "", "clé", b"d" * 32, 5)


def test_ticket_carries_what_it_is_for() -> None:
    ticket = Ticket(WANTED, 1_795_000_000_000_000)
    assert tickets.decode(ticket.encode(), WANTED.principal, WANTED.conversation_id) == ticket


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.hex()))
def test_forged_ticket_is_unknown(text: str) -> None:
    with pytest.raises(NotFound) as err:
        tickets.decode(text, Principal(new_id(), new_id()), WANTED.conversation_id)
    assert err.value.reason_name == "TICKET_UNKNOWN"


def test_cursor_leads_back_to_its_place() -> None:
    at = datetime(2026, 11, 22, 12, 30, 0, 123456, tzinfo=UTC)
    token = cursors.encode("list", at, "x", 7)
    assert cursors.decode("list", token, datetime, str, int) == [at, "x", 7]


@given(st.text(max_size=60))
def test_forged_cursor_is_invalid(text: str) -> None:
    with pytest.raises(FocusError) as err:
        cursors.decode("list", text, int)
    assert err.value.reason_name == "CURSOR_INVALID"


@pytest.mark.parametrize("token", [cursors.encode("other", 7), cursors.encode("list", "7"), cursors.encode("list", -1)])
def test_cursor_of_another_list_or_kind_is_invalid(token: str) -> None:
    with pytest.raises(FocusError) as err:
        cursors.decode("list", token, int)
    assert err.value.reason_name == "CURSOR_INVALID"


@pytest.mark.parametrize(("wanted", "size"), [(0, 50), (1, 1), (200, 200)])
def test_page_size(wanted: int, size: int) -> None:
    assert cursors.page_size(wanted, default=50, most=200) == size


@pytest.mark.parametrize("wanted", [-1, 201])
def test_page_size_out_of_range(wanted: int) -> None:
    with pytest.raises(InvalidRequest):
        cursors.page_size(wanted, default=50, most=200)


def test_hash_is_the_documented_formula() -> None:
    turn, previous = str(uuid.uuid4()), b"p" * 32
    question, answer = hashlib.sha256(b"q").digest(), hashlib.sha256(b"").digest()
    digest = hashlib.sha256(uuid.UUID(turn).bytes + b"\x01" + question + answer).digest()
    assert chain.turn_digest(turn, Outcome.ANSWER, chain.text_digest("q"), chain.text_digest("")) == digest
    expected = hashlib.sha256(previous + (7).to_bytes(8, "big") + digest).digest()
    assert chain.next_hash(previous, 7, digest) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "local",
        NAME,
        f"local-{NAME}\n",
        f"LOCAL-{NAME}",
        f"local-{NAME.upper()}",
        f"local-{NAME}x",
        f"-{NAME}",
        "local-" + "0" * 36,
    ],
)
def test_what_is_no_conversation_id_is_not_found(text: str) -> None:
    with pytest.raises(NotFound):
        identifiers.split_conversation_id(text)


def test_region_may_have_hyphens() -> None:
    name = new_id()
    assert identifiers.split_conversation_id(f"eu-west-1-{name}") == ("eu-west-1", name)
