"""`make bench`: runs a benchmark by name, `ask` without one.

    python -m bench [NAME] [its options; --help tells them]

A benchmark is a module of this package with `main(arguments: list[str]) -> int`.
"""

from __future__ import annotations

import importlib
import sys

NAMES = {
    "ask": "questions over HTTP: cached, uncached, and turns of a conversation",
    "turns": "the order and safety of turns: cost, statements, growth, forty waiters",
    "cache": "look-ups in the cache service, beside the bare parts",
    "llm": "calls of the llm service beside their bare parts; streams; the quota's scripts",
}


def main(arguments: list[str]) -> int:
    """Exit status of the benchmark; 2 if there is none of that name."""
    name, rest = (arguments[0], arguments[1:]) if arguments and not arguments[0].startswith("-") else ("ask", arguments)
    if name not in NAMES:
        print(f"There is no benchmark '{name}'. There are:", file=sys.stderr)
        for known, what in NAMES.items():
            print(f"  {known:<10} {what}", file=sys.stderr)
        return 2
    status: int = importlib.import_module(f"bench.{name}").main(rest)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
