"""Reads the catalogue's YAML and says of every fault on which line it stands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from services.llm.catalogue import Catalogue, CatalogueFile, CatalogueInvalid

PACKAGED = Path(__file__).with_name("catalogue.yaml")
_LARGEST = 1 << 20


class CatalogueRefused(Exception):
    """The file cannot be used. The message has one line for each fault: `path:line: reason`."""


def read(path: Path) -> Catalogue:
    """The catalogue in the file. Raises CatalogueRefused."""
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError as err:
        raise CatalogueRefused(f"{path}: cannot be read: {err.strerror}") from None
    if len(raw) > _LARGEST:
        raise CatalogueRefused(f"{path}: larger than {_LARGEST} bytes")
    return parse(raw, str(path))


def parse(raw: bytes, name: str) -> Catalogue:
    """The catalogue in the bytes; `name` stands before each fault. Raises CatalogueRefused."""
    try:
        root = yaml.compose(raw, yaml.SafeLoader)
        if root is None:
            raise CatalogueRefused(f"{name}:1: the file is empty")
        _refuse_duplicates(root, name)
        tree = yaml.safe_load(raw)
    except yaml.MarkedYAMLError as err:
        line = err.problem_mark.line + 1 if err.problem_mark is not None else 1
        raise CatalogueRefused(f"{name}:{line}: {err.problem or err.context or 'not YAML'}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise CatalogueRefused(f"{name}:1: not YAML in UTF-8") from None
    try:
        return Catalogue(CatalogueFile.model_validate(tree))
    except ValidationError as err:
        faults: Sequence[tuple[tuple[str | int, ...], str]] = [
            (fault["loc"], fault["msg"].removeprefix("Value error, "))
            for fault in err.errors(include_url=False, include_input=False, include_context=False)
        ]
    except CatalogueInvalid as err:
        faults = err.faults
    raise CatalogueRefused(
        "\n".join(
            f"{name}:{_line(root, where)}: {'.'.join(str(step) for step in where) or 'file'}: {reason}"
            for where, reason in faults
        )
    )


def _line(root: yaml.Node, where: Sequence[str | int]) -> int:
    """The line (from 1) of the deepest node on the path that exists."""
    node = root
    line = 1
    for step in where:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(step):
                    line = key.start_mark.line + 1
                    node = value
                    break
            else:
                break
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _refuse_duplicates(node: yaml.Node, name: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise CatalogueRefused(f"{name}:{key.start_mark.line + 1}: '{key.value}' stands here twice")
                seen.add(key.value)
            _refuse_duplicates(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_duplicates(child, name)
