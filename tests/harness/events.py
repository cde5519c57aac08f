"""Server-sent events of a response, as a client reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its name and its data, which is always a JSON object here."""

    name: str
    data: dict[str, Any]


def stream(client: httpx2.Client, path: str, body: Mapping[str, Any]) -> list[Event]:
    """POSTs with `Accept: text/event-stream` and reads the stream to its end.

    AssertionError unless it is answered 200 with events.
    """
    with client.stream("POST", path, json=dict(body), headers={"Accept": "text/event-stream"}) as reply:
        assert reply.status_code == 200, reply.read()
        assert reply.headers["content-type"].startswith("text/event-stream")
        return list(parse(reply))


def parse(reply: httpx2.Response) -> Iterator[Event]:
    """Events as they arrive; comments are left out."""
    name, data = "", ""
    for line in reply.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data = line.removeprefix("data: ")
        elif not line and data:
            yield Event(name, json.loads(data))
            name, data = "", ""


def text_of(events: list[Event]) -> str:
    """What a reader saw grow: the deltas together."""
    return "".join(event.data["text"] for event in events if event.name == "delta")
