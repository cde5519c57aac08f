"""The stream of calls and the book in memory, with the crashes that one may wish for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count

from services.common.errors import Unavailable
from services.session.ledger import LOST, Call, Entry, Used


@dataclass
class FakeEvents:
    """See `services.session.ledger.Events`. With `gone` set, nothing answers."""

    entries: dict[str, dict[str, str]] = field(default_factory=dict)
    aside: list[Entry] = field(default_factory=list)
    gone: bool = False
    _numbers: count[int] = field(default_factory=count)

    async def append(self, fields: dict[str, str]) -> None:
        self.entries[f"{next(self._numbers)}-0"] = fields

    async def oldest(self, most: int) -> Sequence[Entry]:
        self._answer()
        return list(self.entries.items())[:most]

    async def remove(self, ids: Sequence[str]) -> None:
        self._answer()
        for name in ids:
            self.entries.pop(name, None)

    async def set_aside(self, entry: Entry) -> None:
        await self.remove([entry[0]])
        self.aside.append(entry)

    def _answer(self) -> None:
        if self.gone:
            raise Unavailable("gone")


@dataclass
class FakeBook:
    """See `services.session.ledger.Book`."""

    calls: dict[str, Call] = field(default_factory=dict)

    async def add(self, calls: Sequence[Call]) -> bool:
        for call in calls:
            before = self.calls.get(call.call_id)
            if before is None or (before.outcome == LOST and call.outcome != LOST):
                self.calls[call.call_id] = call
        return True

    async def used(self, tenant_id: str, begin: datetime, end: datetime) -> Sequence[Used]:
        groups: dict[tuple[object, str, str], list[Call]] = {}
        for call in self.calls.values():
            if call.tenant_id == tenant_id and begin <= call.at < end:
                groups.setdefault((call.at.date(), call.model, call.tier), []).append(call)
        return [
            Used(
                group[0].at.date(),
                group[0].model,
                group[0].tier,
                len(group),
                sum(one.outcome == LOST for one in group),
                sum(one.prompt_tokens for one in group),
                sum(one.cached_tokens for one in group),
                sum(one.output_tokens for one in group),
                sum(one.thought_tokens for one in group),
                sum(one.cost_microusd for one in group),
            )
            for _, group in sorted(groups.items(), key=lambda item: str(item[0]))
        ]
