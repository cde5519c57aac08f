"""`python -m services.llm`: the llm service."""

from services.common import lifecycle, settings
from services.llm.app import running
from services.llm.settings import Settings


def main() -> None:
    """Runs until SIGTERM or SIGINT."""
    given = settings.load(Settings)
    lifecycle.run("llm", given, lambda: running(given))


if __name__ == "__main__":
    main()
