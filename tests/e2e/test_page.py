"""The chat page in a real browser: what a person sees who signs up and asks."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.e2e.browser import Browser, browser, missing
from tests.harness.emulator import Emulator

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")

ENTER = "\ue007"
ENDED = (
    "document.querySelectorAll('.turn').length >= arguments[0] && "
    "['answered', 'failed', 'stopped'].includes([...document.querySelectorAll('.turn')].at(-1).dataset.phase)"
)


@pytest.fixture(scope="module")
def window(base_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser in which a new person has signed up on the page."""
    with browser(tmp_path_factory.mktemp("browser") / "profile", base_url) as opened:
        opened.open(f"{base_url}/")
        opened.click(".segments button:nth-child(2)")
        opened.type("input[name=name]", "Ana")
        opened.type("input[name=email]", f"page-{secrets.token_hex(8)}@example.com")
        opened.type("input[name=password]", secrets.token_urlsafe(16))
        opened.click("form button.primary")
        opened.wait("document.querySelector('#question')")
        yield opened


@pytest.fixture
def page(window: Browser, base_url: str) -> Iterator[Browser]:
    """The page where a new conversation begins; no script and no policy may have complained at the end."""
    window.open(f"{base_url}/#/")
    window.reload()
    window.complaints()
    yield window
    assert window.complaints() == []


def ask(page: Browser, question: str, turn: int) -> str:
    """Asks and gives the facts under the answer, which is the page's turn with this number."""
    page.type("#question", question + ENTER)
    page.wait(ENDED, turn)
    assert page.run("return [...document.querySelectorAll('.turn')].at(-1).dataset.phase") == "answered"
    return page.texts(".turn .facts")[-1]


def test_an_answer_shows_its_tier_and_the_repeat_says_that_it_comes_from_the_cache(page: Browser) -> None:
    page.click("a[href='#/one']")
    question = f"What is the capital of Brazil? ({secrets.token_hex(4)})"
    first = ask(page, question, 1)
    assert "Junior" in first or "Senior" in first
    assert "From cache" not in first
    second = ask(page, question, 2)
    assert "From cache" in second
    answers = page.texts(".turn .markdown")
    assert answers[0]
    assert answers[0] == answers[1]


def test_a_conversation_is_listed_and_there_after_a_reload(page: Browser) -> None:
    mark = secrets.token_hex(4)
    ask(page, f"What is the capital of Brazil? ({mark})", 1)
    ask(page, "And of Peru?", 2)
    page.wait("[...document.querySelectorAll('.sidebar .title')].some(e => e.innerText.includes(arguments[0]))", mark)
    before = page.texts(".turn .markdown")
    page.reload()
    page.wait("document.querySelectorAll('.turn').length === 2")
    assert page.texts(".turn .markdown") == before
    assert page.texts(".turn .question") == [f"What is the capital of Brazil? ({mark})", "And of Peru?"]


def test_a_deleted_conversation_can_be_brought_back(page: Browser) -> None:
    mark = secrets.token_hex(4)
    ask(page, f"Hello {mark}", 1)
    listed = "[...document.querySelectorAll('.sidebar .title')].some(e => e.innerText.includes(arguments[0]))"
    page.wait(listed, mark)
    page.click(".menu > button")
    page.click(".menu [role=menuitem]:last-child")
    page.wait(f"!{listed}", mark)
    page.click(".toast .small")
    page.wait(listed, mark)


@pytest.mark.usefixtures("stack")
class TestScripted:
    """What needs a provider that does as it is told."""

    def test_a_doubtful_question_is_told_to_go_to_the_senior(self, page: Browser, own: Emulator) -> None:
        own.script(
            {"match": "Doubtful", "model": "*lite*", "confidence": 5, "text": "No idea."},
            {"match": "Doubtful", "confidence": 97, "text": "Certainly **so**."},
        )
        facts = ask(page, f"Doubtful {secrets.token_hex(4)}", 1)
        assert "Senior" in facts
        assert "Escalated" in facts
        assert page.texts(".turn .markdown strong") == ["so"]
        assert page.texts(".turn .escalation")

    def test_an_answer_shows_while_it_is_written_and_stops_when_asked(self, page: Browser, own: Emulator) -> None:
        chunks = [f"piece {number} " for number in range(600)]
        own.script({"match": "Endless", "chunks": chunks, "chunk_delay_seconds": 0.05, "confidence": 97})
        page.type("#question", f"Endless {secrets.token_hex(4)}{ENTER}")
        page.wait("document.querySelector('.turn[data-phase=answering] .markdown')?.innerText.includes('piece 3')")
        page.click(".composer button")
        page.wait("document.querySelector('.turn[data-phase=stopped]')")
        shown = page.texts(".turn .markdown")
        page.reload()
        page.wait("document.querySelector('.turn[data-phase=stopped] .markdown')")
        assert page.texts(".turn .markdown") == shown
        assert "piece 599" not in shown[0]

    def test_an_answer_is_text_and_never_markup(self, page: Browser, own: Emulator) -> None:
        hostile = "<img src=x onerror=\"document.title='owned'\"> [x](javascript:alert(1)) <script>1</script>"
        own.script({"match": "Hostile", "text": hostile, "confidence": 97})
        ask(page, f"Hostile {secrets.token_hex(4)}", 1)
        assert page.texts(".turn .markdown") == [hostile]
        assert page.run("return document.querySelectorAll('.markdown :is(img, script, a)').length") == 0


def test_a_withheld_answer_is_told_as_such(window: Browser, base_url: str, own: Emulator) -> None:
    """Not with `page`: the browser itself notes a failed request on its console."""
    own.script({"match": "Refused", "finish_reason": "SAFETY", "text": "", "confidence": None})
    window.open(f"{base_url}/#/one")
    window.reload()
    window.type("#question", f"Refused {secrets.token_hex(4)}{ENTER}")
    window.wait(ENDED, 1)
    told = window.texts(".turn .problem")
    assert len(told) == 1
    assert "withheld" in told[0]


def test_a_problem_is_told_in_plain_words_with_its_request_id(window: Browser, base_url: str, own: Emulator) -> None:
    """Not with `page`: the browser itself notes a failed request on its console."""
    # Not a refused key: that one would stay out of use for minutes, for all the tests that follow.
    own.faults({"effect": {"status": 503}})
    window.open(f"{base_url}/#/one")
    window.reload()
    window.type("#question", f"Unanswered {secrets.token_hex(4)}{ENTER}")
    window.wait(ENDED, 1)
    told = window.texts(".turn .problem")
    assert len(told) == 1
    assert "provider_unavailable" not in told[0]
    assert "Try again" in told[0]
    assert window.texts(".turn .request-id code")[0]
