"""An upstream whose quota is never felt: where the system itself is measured, not its patience."""

from __future__ import annotations

from pathlib import Path

import yaml

from services.llm.catalogue_file import PACKAGED

# Far above what one machine can ask, on both sides of the wire.
_PER_MINUTE = 1_000_000_000


def without_limits(folder: Path) -> dict[str, str]:
    """Settings for the llm service and the emulator; writes a catalogue into `folder`."""
    catalogue = yaml.safe_load(PACKAGED.read_text())
    catalogue["accounts"] = {"unlimited": {"limits": {"*": {"rpm": _PER_MINUTE}}}}
    catalogue["projects"] = {"*": {"account": "unlimited"}}
    path = folder / "catalogue.yaml"
    path.write_text(yaml.safe_dump(catalogue))
    return {"FOCUS_LLM_CATALOGUE": str(path), "FOCUS_GEMINI_LIMITS": '{"*": {"*": {}}}'}
