"""The request's Cache-Control: RFC 9111 section 5.2.1, read strictly."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from focus.cache.v1 import cache_pb2
from services.common.errors import InvalidRequest
from services.gateway import cache_control

Control = cache_pb2.CacheControl


def request(*lines: str) -> Request:
    headers = [(b"cache-control", line.encode("latin-1")) for line in lines]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers, "query_string": b""})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", Control()),
        (" , ,\t", Control()),
        ("no-cache", Control(no_cache=True)),
        ("No-Store", Control(no_store=True)),
        ("only-if-cached", Control(only_if_cached=True)),
        ("max-age=0", Control(max_age_seconds=0)),
        ("max-age=60", Control(max_age_seconds=60)),
        ('max-age="60"', Control(max_age_seconds=60)),
        ("max-age=0060", Control(max_age_seconds=60)),
        ("max-age=99999999999999999999", Control(max_age_seconds=2**31)),
        ("max-age=9, max-age=5,max-age=7", Control(max_age_seconds=5)),
        (" no-store ,, max-age=1 ", Control(no_store=True, max_age_seconds=1)),
        # Theirs, which means nothing here.
        ("no-transform, max-stale, max-stale=3, min-fresh=5", Control()),
        ('community="a,b\\"no-store"', Control()),
        ("x-no-cache, no-cached", Control()),
    ],
)
def test_directives_are_understood(line: str, expected: cache_pb2.CacheControl) -> None:
    assert cache_control.of(request(line)) == expected


def test_lines_are_one_list_and_none_is_none() -> None:
    assert cache_control.of(request("no-store", "max-age=1")) == Control(no_store=True, max_age_seconds=1)
    assert cache_control.of(request()) == Control()


@pytest.mark.parametrize(
    "line",
    [
        "max-age",
        "max-age=",
        "max-age=-1",
        "max-age=1.5",
        "max-age=1s",
        "max-age=٣".encode().decode("latin-1"),
        "max-age = 1",
        "no-cache=x",
        "only-if-cached=1",
        'no-store="',
        'a="unclosed, no-store',
        "no store",
        "no-store;max-age=1",
        "=1",
        "a\x7fb",
    ],
)
def test_what_does_not_follow_the_grammar_is_refused(line: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        cache_control.of(request(line))
    assert caught.value.metadata["field"] == "Cache-Control"


@pytest.mark.parametrize("line", [" " * 60_000 + ";", ", " * 30_000 + ";", 'a="' + "\\a" * 30_000, "a" * 60_000 + " ="])
@pytest.mark.timeout(5)
def test_a_hostile_field_costs_no_more_than_a_long_one(line: str) -> None:
    with pytest.raises(InvalidRequest):
        cache_control.of(request(line))


def test_an_answer_says_where_it_is_from_and_a_stored_one_its_age() -> None:
    assert cache_control.told("hit", 0) == [(b"x-cache", b"hit"), (b"age", b"0")]
    assert cache_control.told("coalesced", None) == [(b"x-cache", b"coalesced")]
