"""Runs the emulator until SIGINT or SIGTERM.

Prints one line ``{"url": ...}`` to stdout when it listens; logs are JSON lines on stderr and never hold a key.
"""

import asyncio
import json
import logging
import signal
import sys
from datetime import UTC, datetime

import uvloop
from pydantic import ValidationError

from devstack.gemini.app import make_backend, serving
from devstack.gemini.emulator import Emulator
from devstack.gemini.settings import Settings


class JsonLines(logging.Formatter):
    """One JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


async def run(settings: Settings) -> None:
    """Serves until a signal comes."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    backend = await asyncio.to_thread(make_backend, settings)
    async with serving(settings, Emulator(settings, backend)) as url:
        print(json.dumps({"url": url}), flush=True)
        logging.getLogger("devstack.gemini").info("listening at %s with the %s backend", url, settings.backend)
        await stop.wait()


def main() -> int:
    """Exit status 0 after a signal, 2 for bad settings, 1 if it cannot listen or load its model."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        settings = Settings()
    except ValidationError as error:
        for one in error.errors(include_url=False, include_input=False):
            print(f"FOCUS_GEMINI_{'.'.join(map(str, one['loc'])).upper()}: {one['msg']}", file=sys.stderr)
        return 2
    try:
        uvloop.run(run(settings))
    except OSError as error:
        print(f"the Gemini emulator cannot run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
