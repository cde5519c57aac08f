"""Reads keys from a directory, such as a mounted Secret.

Each file is one key and is called `<project>.<label>`, for instance `my-project.a`; its whole
text, without surrounding blanks, is the key. A file without a dot is a project with one key.
Hidden files are passed over, and with them the `..data` link that a mounted Secret swaps.
For a Vertex AI project (see the catalogue) the text is a service account's JSON.
"""

from __future__ import annotations

from pathlib import Path

from services.common import logs
from services.llm.keys import Key

log = logs.get(__name__)

_LARGEST = 16 << 10


def read(directory: Path) -> list[Key]:
    """Every key in the directory. A file that is unreadable, empty or no text is passed over, with a warning."""
    keys = []
    for path in sorted(directory.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            with path.open("rb") as file:
                secret = file.read(_LARGEST + 1).decode("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            log.warning("key file cannot be read", file=path.name)
            continue
        # A header can hold neither control characters nor anything beyond ASCII.
        is_json = secret.startswith("{")
        if not secret or len(secret) > _LARGEST or not (is_json or (secret.isascii() and secret.isprintable())):
            log.warning("key file holds no key", file=path.name)
            continue
        project, _, label = path.name.partition(".")
        keys.append(Key(project, label, secret))
    return keys
