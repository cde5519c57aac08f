"""`python -m services.warming`: warms the cache once and ends. Exit status 1 if any question failed."""

import sys

import uvloop

from services.common import logs, settings
from services.warming.app import app
from services.warming.settings import WarmingSettings

if __name__ == "__main__":
    loaded = settings.load(WarmingSettings)
    logs.configure("warming", loaded.log_level)
    try:
        outcome = uvloop.run(app(loaded))
    except KeyboardInterrupt:
        sys.exit(130)
    told = ", ".join(f"{count} {what}" for what, count in sorted(outcome.items()))
    sys.stderr.write(f"warmed: {told or 'nothing to do'}\n")
    sys.exit(1 if outcome["failed"] else 0)
