"""Gemini's answers are read however they are split, and nothing in them is trusted."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from focus.chat.v1.chat_pb2 import FinishReason
from services.llm.providers import gemini_reply, port
from services.llm.providers.port import Usage

EVENTS = [b'{"a": 1}', '{"b": "é"}'.encode(), b"{}"]
STREAM = b": hello\r\nevent: x\r\ndata: " + b"\r\n\r\ndata:".join(EVENTS) + b"\r\n\r\n"


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_are_the_same_at_every_split(cuts: list[int]) -> None:
    reader = gemini_reply.EventReader()
    edges = [0, *sorted(cuts), len(STREAM)]
    found = [event for a, b in itertools.pairwise(edges) for event in reader.feed(STREAM[a:b])]
    assert found == EVENTS


def test_a_last_event_without_its_blank_line_counts() -> None:
    reader = gemini_reply.EventReader()
    assert list(reader.feed(b"data: {}\n")) == []
    assert list(reader.finish()) == [b"{}"]


def test_an_error_page_is_no_stream() -> None:
    with pytest.raises(port.StreamBroken):
        list(gemini_reply.EventReader().feed(b"<html>\n"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "candidates",
                        "content",
                        "parts",
                        "text",
                        "usageMetadata",
                        "promptTokenCount",
                        "finishReason",
                        "functionCall",
                        "name",
                        "args",
                        "promptFeedback",
                        "blockReason",
                        "thoughtSignature",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
def test_whatever_the_provider_says_is_read_or_refused(tree: Any) -> None:
    if isinstance(tree, dict):
        chunk = gemini_reply.chunk(tree)
        assert isinstance(chunk.text, str)
        assert chunk.usage is None or chunk.usage.cached <= chunk.usage.prompt


def test_thoughts_are_counted_but_not_shown() -> None:
    chunk = gemini_reply.chunk(
        {
            "candidates": [{"content": {"parts": [{"text": "hm", "thought": True}, {"text": "Yes."}]}}],
            "usageMetadata": {
                "promptTokenCount": 10,
                "cachedContentTokenCount": 4,
                "candidatesTokenCount": 2,
                "thoughtsTokenCount": 3,
            },
        }
    )
    assert chunk.text == "Yes."
    assert chunk.usage == Usage(10, 4, 2, 3)


@pytest.mark.parametrize("reason", sorted(gemini_reply.FINISH_REASONS))
def test_every_known_finish_reason_has_an_outcome(reason: str) -> None:
    chunk = gemini_reply.chunk({"candidates": [{"finishReason": reason}]})
    assert chunk.finish_reason not in (None, FinishReason.FINISH_REASON_UNSPECIFIED)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"details": [{"reason": "API_KEY_INVALID"}]}, port.KeyRefused),
        (400, {"message": "bad"}, port.RequestRefused),
        (403, {}, port.KeyRefused),
        (404, {}, port.ModelUnknown),
        (429, {}, port.QuotaRefused),
        (500, {}, port.Overloaded),
        (503, {}, port.Overloaded),
        (0, {"code": 503}, port.Overloaded),
        (302, {}, port.Overloaded),
    ],
)
def test_errors_are_told_apart(status: int, error: dict[str, Any], kind: type[Exception]) -> None:
    assert type(gemini_reply.error(status, {"error": error})) is kind


def test_a_429_is_read_with_its_quotas_and_its_advice() -> None:
    details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "XPerMinuteY"}]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "45.837906927s"},
    ]
    refused = gemini_reply.error(429, json.loads(json.dumps({"error": {"details": details}})))
    assert isinstance(refused, port.QuotaRefused)
    assert [violation.quota_id for violation in refused.violations] == ["XPerMinuteY"]
    assert refused.retry_delay == pytest.approx(45.837906927)


def test_no_error_repeats_the_providers_words() -> None:
    for status in (400, 403, 404, 429, 500):
        told = gemini_reply.error(status, {"error": {"message": "secret AIza123", "details": []}})
        assert "secret" not in str(told)
