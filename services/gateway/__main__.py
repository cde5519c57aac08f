"""`python -m services.gateway`: the REST edge."""

from __future__ import annotations

import logging

from services.common import lifecycle, settings
from services.gateway.app import gateway
from services.gateway.settings import GatewaySettings


def main() -> None:
    loaded = settings.load(GatewaySettings)
    # Its lines about starting and stopping are ours already.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    lifecycle.run("gateway", loaded, lambda: gateway(loaded))


if __name__ == "__main__":
    main()
