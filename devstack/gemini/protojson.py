"""Reads a JSON body as protobuf's JSON mapping does, and refuses what does not fit with Google's words.

``read`` returns the same tree with camelCase names, repeated fields always as lists. All misfits of one body are
reported together, as Google reports them.
"""

import json
from typing import Any

from devstack.gemini.errors import ApiError, bad_fields
from devstack.gemini.fields import MESSAGES, PACKAGE, SCALARS, Field, Message

MAX_DEPTH = 100

Misfits = list[tuple[str, str]]


def parse(body: bytes) -> dict[str, Any]:
    """The body as a JSON object. Raises ApiError 400 if it is none, or nested deeper than the parser can go."""
    try:
        tree = json.loads(body) if body else {}
    except UnicodeDecodeError:
        raise bad_fields([("", "Invalid JSON payload received. The payload is not valid UTF-8.")]) from None
    except json.JSONDecodeError as error:
        context = error.doc.splitlines()[error.lineno - 1][:80] if error.doc.splitlines() else ""
        text = f"Invalid JSON payload received. {_reason(error)}\n{context}\n{' ' * min(error.colno - 1, 80)}^"
        raise bad_fields([("", text)]) from None
    except RecursionError:
        raise _too_deep() from None
    if not isinstance(tree, dict):
        raise bad_fields([("", 'Invalid JSON payload received. Unknown name "": Root element must be a message.')])
    return tree


def read(message: str, tree: dict[str, Any]) -> dict[str, Any]:
    """The tree in camelCase. Raises ApiError 400 naming every unknown name and every value of a wrong type."""
    misfits: Misfits = []
    known = _read_message(MESSAGES[message], tree, "", misfits, 0)
    if misfits:
        raise bad_fields(misfits)
    return known


def _reason(error: json.JSONDecodeError) -> str:
    return "Unexpected end of string." if error.pos >= len(error.doc.rstrip()) else "Unexpected token."


def _too_deep() -> ApiError:
    return bad_fields([("", "Invalid JSON payload received. Message too deep. Max recursion depth reached.")])


def _read_message(message: Message, tree: dict[str, Any], path: str, misfits: Misfits, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise _too_deep()
    fields = message.fields
    known: dict[str, Any] = {}
    for name, value in tree.items():
        field = fields.get(name)
        if field is None:
            where = f" at '{path}'" if path else ""
            text = f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.'
            misfits.append((path, text))
        elif value is None:
            continue  # null stands for "not set" in protobuf's JSON mapping
        elif field.kind == "string" and not field.repeated and isinstance(value, str):
            known[field.name] = value  # the commonest case, without building its path
        else:
            inner = f"{path}.{field.proto_name}" if path else field.proto_name
            known[field.name] = _read_field(field, value, inner, misfits, depth)
    return known


def _read_field(field: Field, value: Any, path: str, misfits: Misfits, depth: int) -> Any:
    if field.repeated:
        if not isinstance(value, list):
            value = [value]
        return [_read_value(field, one, f"{path}[{index}]", misfits, depth) for index, one in enumerate(value)]
    if field.mapped:
        if not isinstance(value, dict):
            misfits.append((path, f"Invalid value at '{path}' (Map), {json.dumps(value)}"))
            return {}
        return {
            name: _read_value(field, one, f"{path}[{index}].value", misfits, depth)
            for index, (name, one) in enumerate(value.items())
        }
    return _read_value(field, value, path, misfits, depth)


def _read_value(field: Field, value: Any, path: str, misfits: Misfits, depth: int) -> Any:
    kind = field.kind
    if kind == "any":
        return value
    message = MESSAGES.get(kind)
    if message is not None:
        if isinstance(value, dict):
            if kind == "Content" and _is_plain_content(value):
                return value
            return _read_message(message, value, path, misfits, depth + 1)
        misfits.append((path, f"Invalid value at '{path}' ({PACKAGE}.{kind}), {json.dumps(value)}"))
        return {}
    scalar = _read_scalar(kind, value)
    if scalar is None:
        named = SCALARS.get(kind, f"{PACKAGE}.{field.name[0].upper()}{field.name[1:]}")
        misfits.append((path, f"Invalid value at '{path}' ({named}), {json.dumps(value)}"))
    return scalar


def _is_plain_content(content: dict[str, Any]) -> bool:
    """True for a role and texts and nothing else: long histories consist of these, and need no translation."""
    if content.keys() != {"role", "parts"} or not isinstance(content["role"], str):
        return False
    parts = content["parts"]
    return isinstance(parts, list) and all(
        isinstance(part, dict) and len(part) == 1 and isinstance(part.get("text"), str) for part in parts
    )


def _read_scalar(kind: str, value: Any) -> Any:
    """The value, converted where the mapping allows it (numbers may come as strings); None if it does not fit."""
    if kind == "string":
        return value if isinstance(value, str) else None
    if kind == "bool":
        return value if isinstance(value, bool) else None
    if kind == "enum":
        return value if isinstance(value, str | int) and not isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if kind == "int":
        return int(number) if number.is_integer() and abs(number) < 2**31 else None
    return number
