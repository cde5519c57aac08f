"""`python -m services.gateway`: the REST edge."""

from __future__ import annotations

import logging

from services.common import lifecycle, settings
from services.gateway.app import gateway
from services.gateway.settings import GatewaySettings


def main() -> None:
    loaded = settings.load(GatewaySettings)
    # Starting and stopping are told already, and any client can cause its warnings.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    lifecycle.run("gateway", loaded, lambda: gateway(loaded))


if __name__ == "__main__":
    main()
