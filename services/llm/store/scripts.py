"""The quota's Lua scripts, each one atomic step in Valkey."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).with_name("lua")


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and the digest by which the server knows it."""

    text: str
    sha: str


def load(name: str) -> Script:
    """`lua/common.lua` followed by `lua/<name>.lua`."""
    text = (_FOLDER / "common.lua").read_text() + "\n" + (_FOLDER / f"{name}.lua").read_text()
    # The digest is how EVALSHA names a script.
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
