"""JSON-schema output: Google's Schema turned into JSON Schema, and the place of ``confidence`` in an answer."""

import json
from typing import Any

Schema = dict[str, Any]

CONFIDENCE = "confidence"

# What stands in for a schema when JSON is wanted without one.
FREE_OBJECT: Schema = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


class TextObject:
    """A JSON object whose only free property is one text, so that it can be streamed around it."""

    def __init__(self, schema: Schema, name: str) -> None:
        order = property_order(schema)
        self._name = name
        self._confidence_first = CONFIDENCE in order and order.index(CONFIDENCE) < order.index(name)
        self._confidence_last = CONFIDENCE in order and not self._confidence_first

    @classmethod
    def of(cls, schema: Schema | None) -> "TextObject | None":
        """For a schema of one plain string and perhaps a confidence; None for any other."""
        if schema is None:
            schema = FREE_OBJECT
        properties = schema.get("properties") or {}
        free = [name for name in properties if name != CONFIDENCE]
        if len(free) != 1:
            return None
        one = properties[free[0]]
        plain = str(one.get("type", "")).lower() == "string" and not one.get("enum") and not one.get("pattern")
        return cls(schema, free[0]) if plain else None

    def begin(self, confidence: int) -> str:
        """Everything before the text."""
        head = f"{json.dumps(CONFIDENCE)}: {confidence}, " if self._confidence_first else ""
        return f'{{{head}{json.dumps(self._name, ensure_ascii=False)}: "'

    def end(self, confidence: int) -> str:
        """Everything after the text."""
        tail = f", {json.dumps(CONFIDENCE)}: {confidence}" if self._confidence_last else ""
        return f'"{tail}}}'


def json_schema(schema: Schema) -> Schema:
    """The schema with lower-case types and no Google-only fields; JSON Schema passes unchanged."""
    converted: Schema = {}
    for name, value in schema.items():
        if name == "type" and isinstance(value, str):
            converted[name] = value.lower()
        elif name in ("items", "additionalProperties") and isinstance(value, dict):
            converted[name] = json_schema(value)
        elif name in ("anyOf", "prefixItems") and isinstance(value, list):
            converted[name] = [json_schema(one) for one in value]
        elif name == "properties" and isinstance(value, dict):
            converted[name] = {key: json_schema(value[key]) for key in property_order(schema)}
        elif name not in ("propertyOrdering", "nullable", "example"):
            converted[name] = value
    if schema.get("nullable") and "type" in converted:
        converted["type"] = [converted["type"], "null"]
    return converted


def property_order(schema: Schema) -> list[str]:
    """Names of the properties in the order in which an answer holds them."""
    names = list(schema.get("properties") or {})
    wanted = [name for name in schema.get("propertyOrdering") or [] if name in names]
    return wanted + [name for name in names if name not in wanted]


def has_confidence(schema: Schema) -> bool:
    """True when the answer has a top-level property ``confidence``."""
    return CONFIDENCE in (schema.get("properties") or {})


def without_confidence(schema: Schema) -> Schema:
    """The schema of everything but the confidence, which the emulator fills in itself."""
    reduced = dict(schema)
    reduced["properties"] = {name: one for name, one in schema["properties"].items() if name != CONFIDENCE}
    for name in ("required", "propertyOrdering"):
        if name in schema:
            reduced[name] = [one for one in schema[name] if one != CONFIDENCE]
    return reduced


def with_confidence(schema: Schema, answer: str, confidence: int) -> str:
    """Puts the figure where the schema's order wants it; text that is no JSON object is returned as it is."""
    try:
        tree = json.loads(answer)
    except ValueError:
        return answer
    if not isinstance(tree, dict):
        return answer
    order = property_order(schema)
    filled: dict[str, Any] = {}
    for name in order:
        if name == CONFIDENCE:
            filled[name] = confidence
        elif name in tree:
            filled[name] = tree.pop(name)
    return json.dumps({**filled, **tree}, ensure_ascii=False)


def instance(schema: Schema, text: str, confidence: int | None) -> Any:
    """A small value that fits the schema: strings are ``text``, numbers their minimum or 0, lists have one element."""
    if schema.get("enum"):
        return schema["enum"][0]
    if schema.get("anyOf"):
        return instance(schema["anyOf"][0], text, confidence)
    kind = schema.get("type", "")
    match (kind[0] if isinstance(kind, list) else str(kind)).lower():
        case "object":
            return {
                name: confidence
                if name == CONFIDENCE and confidence is not None
                else instance(schema["properties"][name], text, None)
                for name in property_order(schema)
            }
        case "array":
            return [instance(schema.get("items") or {}, text, None)] * max(1, int(schema.get("minItems") or 1))
        case "integer":
            return int(schema.get("minimum") or 0)
        case "number":
            return float(schema.get("minimum") or 0)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return text
