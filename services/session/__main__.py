"""`python -m services.session`: people, tokens, conversations and turns."""

from services.common import lifecycle, settings
from services.session.app import app
from services.session.settings import SessionSettings


def main() -> None:
    """Reads the settings and serves until a signal."""
    chosen = settings.load(SessionSettings)
    lifecycle.run("session", chosen, lambda: app(chosen))


if __name__ == "__main__":
    main()
