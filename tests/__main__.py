"""`make test`: unit, contract, integration, end-to-end tests and the short forms of those that break things.

python -m tests                         all of them
python -m tests --chaos                 the long forms (`make test-chaos`)
python -m tests tests/unit -k tokens    pytest's own arguments
python -m tests --base-url URL          the end-to-end tests against a deployed system
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
_ALL = ("unit", "contract", "integration", "e2e", "chaos")
# More processes would only share the servers' cores.
_MOST_WORKERS = 4


def arguments(given: list[str], cores: int) -> list[str]:
    """What to give to pytest."""
    rest = [one for one in given if one != "--chaos"]
    long = "--chaos" in given
    deployed = any(one == "--base-url" or one.startswith("--base-url=") for one in rest)
    chosen: list[str] = []
    if not any((_ROOT / one.partition("::")[0]).exists() for one in rest if not one.startswith("-")):
        folders = ("chaos",) if long else ("e2e",) if deployed else _ALL
        chosen = [str(_ROOT / "tests" / folder) for folder in folders if (_ROOT / "tests" / folder).is_dir()]
    if long:
        # One at a time, so that each has the machine; and none is hurried.
        return ["--long", "--timeout=3600", *rest, *chosen]
    if deployed or any(one.startswith(("-n", "--numprocesses", "--pdb")) for one in rest):
        return [*rest, *chosen]
    return ["-n", str(max(1, min(cores, _MOST_WORKERS))), "--dist", "loadscope", *rest, *chosen]


if __name__ == "__main__":
    os.chdir(_ROOT)
    sys.exit(pytest.main(arguments(sys.argv[1:], os.cpu_count() or 1)))
