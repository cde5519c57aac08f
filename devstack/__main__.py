"""`make run`: the whole system on this machine, until Ctrl-C.

    FOCUS_PORT       the gateway's port (8080)
    FOCUS_HOME       folder for data, secrets and logs (.focus in the checkout)
    GEMINI_API_KEY   call Gemini, or what FOCUS_LLM_BASE_URL names, and not the emulator

All other FOCUS_… variables reach the services. A process that ends by itself ends the
stack, with a sentence that names its log: a restart in the dark would hide the defect.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from devstack import demo
from devstack.console import StartProgress
from devstack.demo import Demo
from devstack.process import StartError
from devstack.services import OURS, ROOT
from devstack.stack import Plan, Stack

_LOOK_SECONDS = 0.25
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asked to stop."""


def main() -> int:
    """Exit status: 0 after a signal, 1 after a failure, 2 for wrong settings."""
    parser = argparse.ArgumentParser(prog="make run", description="Starts the whole system on this machine.")
    parser.add_argument("--reset", action="store_true", help="clear the data first")
    options = parser.parse_args()
    try:
        plan = _plan(reset=options.reset)
    except ValueError as err:
        print(err, file=sys.stderr)
        return 2
    progress = StartProgress("Starting")
    stack = Stack(plan, progress.report)
    _listen_to_signals(stack)
    try:
        with progress, stack:
            try:
                account = demo.prepare(stack.base_url, stack.home.dev_env)
                progress.close()
                _show(stack, account)
                return _until_one_ends(stack)
            except Stopped:
                print("\nStopping; once more stops at once.", flush=True)
                raise
    except StartError as err:
        print(err, file=sys.stderr)
        return 1
    except Stopped:
        print(f"Stopped; the data stays in {_short(stack.home.folder)}.", flush=True)
        return 0


def _plan(*, reset: bool) -> Plan:
    """Raises ValueError with a sentence."""
    port = os.environ.get("FOCUS_PORT") or "8080"
    if not (port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"FOCUS_PORT is '{port}'; it must be a number from 1 to 65535")
    settings = {name: text for name, text in os.environ.items() if name.startswith(OURS) and text}
    own_provider = not settings.keys().isdisjoint(("GEMINI_API_KEY", "FOCUS_LLM_API_KEY", "FOCUS_LLM_KEYS_DIR"))
    if "FOCUS_LLM_BASE_URL" in settings and not own_provider:
        raise ValueError("FOCUS_LLM_BASE_URL is set and GEMINI_API_KEY is not: set both, or none for the emulator")
    home = Path(os.environ.get("FOCUS_HOME") or ROOT / ".focus")
    return Plan(home, port=int(port), backend=None if own_provider else "local", reset=reset, settings=settings)


def _listen_to_signals(stack: Stack) -> None:
    def at_once(_number: int, _frame: FrameType | None) -> None:
        stack.kill_all()

    def in_order(_number: int, _frame: FrameType | None) -> NoReturn:
        for number in _SIGNALS:
            signal.signal(number, at_once)
        raise Stopped  # and nothing else: a handler may have interrupted a print

    for number in _SIGNALS:
        signal.signal(number, in_order)


def _show(stack: Stack, account: Demo) -> None:
    answers = stack.plan.settings.get("FOCUS_LLM_BASE_URL", "Gemini")
    if stack.emulator:
        answers = "the Gemini emulator with a small local model"
    print(
        f"Focus AI runs at {account.url} (answers come from {answers}).\n\n"
        f"{account.curl}\n\n"
        f"Demo account: {account.email} with password {account.password}\n"
        f"The same is in {_short(stack.home.dev_env)}; logs are in {_short(stack.home.log)}; Ctrl-C stops everything.",
        flush=True,
    )


def _until_one_ends(stack: Stack) -> int:
    while True:
        for process in stack.processes:
            if not process.running:
                print(f"{process.failure()}. Everything else is stopped too.", file=sys.stderr)
                return 1
        time.sleep(_LOOK_SECONDS)


def _short(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


if __name__ == "__main__":
    sys.exit(main())
