"""What is warmed: common questions from a file, and what tenants ask most."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from focus.cache.v1.cache_pb2 import ListPopularResponse, Question, Scope
from focus.chat.v1.chat_pb2 import Mode, Principal

Popular = ListPopularResponse.Popular


def read(path: Path) -> list[str]:
    """The questions of a file: UTF-8, one a line; empty lines and those that begin with # are left out.

    Raises SystemExit with a sentence when it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise SystemExit(f"the questions in {path} cannot be read: {err}") from None
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def chosen(common: Iterable[str], popular: Iterable[Popular], tenants: Iterable[str]) -> list[Popular]:
    """Each question once per tenant; the most asked first, then the common ones in the file's order."""
    popular = list(popular)
    wanted = list(tenants) or list(dict.fromkeys(one.principal.tenant_id for one in popular))
    listed = [
        Popular(
            principal=Principal(tenant_id=tenant),
            question=Question(text=text, mode=Mode.MODE_AUTO),
            scope=Scope.SCOPE_TENANT,
        )
        for tenant in wanted
        for text in common
    ]
    seen: set[tuple[str, bytes]] = set()
    unique = []
    for one in [*sorted(popular, key=lambda one: -one.count), *listed]:
        mark = (one.principal.tenant_id, one.question.SerializeToString(deterministic=True))
        if mark not in seen:
            seen.add(mark)
            unique.append(one)
    return unique
