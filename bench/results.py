"""Results on the screen and, with the machine they were measured on, in `bench/results/`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_FOLDER = _ROOT / "bench" / "results"


def save(name: str, content: Mapping[str, object]) -> Path:
    """Writes `bench/results/<name>-<time>.json` and returns its path."""
    _FOLDER.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    path = _FOLDER / f"{name}-{now:%Y%m%dT%H%M%SZ}.json"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    about = {"benchmark": name, "time": now.isoformat(), "commit": commit.stdout.strip() or None, "machine": machine}
    path.write_text(json.dumps({**about, **content}, indent=1))
    return path


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Prints a table; the first column to the left, figures to the right."""
    widths = [max(len(line[index]) for line in [columns, *rows]) for index in range(len(columns))]
    print(f"\n{title}")
    for line in [columns, *rows]:
        cells = [f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join([f"{line[0]:<{widths[0]}}", *cells]))
