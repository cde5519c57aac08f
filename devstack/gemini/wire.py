"""From a request's body to an Ask: what Google checks beyond types, and the estimate of its tokens."""

from typing import Any

from devstack.gemini import protojson, tokens
from devstack.gemini.ask import Ask, Turn
from devstack.gemini.catalogue import INPUT_TOKEN_LIMIT, OUTPUT_TOKEN_LIMIT
from devstack.gemini.errors import invalid_argument

MAX_BODY_BYTES = 20 * 1024 * 1024
ROLES = {"user", "model", "function", "tool"}

# field -> (lowest, highest) of generationConfig; both ends are allowed.
RANGES = {
    "temperature": (0.0, 2.0),
    "topP": (0.0, 1.0),
    "candidateCount": (1, 8),
    "maxOutputTokens": (1, OUTPUT_TOKEN_LIMIT),
    "presencePenalty": (-2.0, 2.0),
    "frequencyPenalty": (-2.0, 2.0),
}


def read_generate(model: str, body: bytes) -> Ask:
    """The Ask of a generateContent body. Raises ApiError 400 for whatever Google would refuse."""
    return _ask(model, protojson.read("GenerateContentRequest", protojson.parse(body)))


def read_count(model: str, body: bytes) -> int:
    """The tokens of a countTokens body. Raises ApiError 400."""
    tree = protojson.read("CountTokensRequest", protojson.parse(body))
    inner = tree.get("generateContentRequest")
    if inner is not None and tree.get("contents"):
        raise invalid_argument("* CountTokensRequest: contents and generate_content_request are mutually exclusive.\n")
    return _ask(model, inner if inner is not None else {"contents": tree.get("contents", [])}).prompt_tokens


def _ask(model: str, tree: dict[str, Any]) -> Ask:
    contents = tree.get("contents")
    if not contents:
        raise invalid_argument("* GenerateContentRequest.contents: contents is not specified\n")
    characters = 0
    media = 0
    turns = []
    for index, content in enumerate(contents):
        role = content.get("role") or "user"
        if role not in ROLES:
            raise invalid_argument("Please use a valid role: user, model.")
        parts = content.get("parts")
        if not parts:
            raise invalid_argument(
                f"* GenerateContentRequest.contents[{index}].parts: contents.parts must not be empty.\n"
            )
        text, one_media, other = _read_parts(parts, f"contents[{index}]")
        turns.append(Turn("user" if role in ("function", "tool") else role, text))
        characters += len(text) + other
        media += one_media
    system = ""
    instruction = tree.get("systemInstruction")
    if instruction:
        system, one_media, other = _read_parts(instruction.get("parts") or [], "system_instruction")
        characters += len(system) + other
        media += one_media
    config = tree.get("generationConfig") or {}
    if config:
        _check_config(model, config)
    declared = [one for tool in tree.get("tools", ()) for one in tool.get("functionDeclarations", ())]
    characters += sum(len(str(one)) for one in declared)
    prompt_tokens = tokens.estimate(characters, media)
    if prompt_tokens > INPUT_TOKEN_LIMIT:
        raise invalid_argument(
            f"The input token count ({prompt_tokens}) exceeds the maximum number of tokens allowed "
            f"({INPUT_TOKEN_LIMIT})."
        )
    return Ask(model, turns, system, config, [one.get("name", "") for one in declared], prompt_tokens)


def _read_parts(parts: list[dict[str, Any]], path: str) -> tuple[str, int, int]:
    """Joined text, number of media parts, and characters of everything else that counts."""
    if len(parts) == 1 and len(parts[0]) == 1 and "text" in parts[0]:
        return parts[0]["text"], 0, 0
    texts = []
    media = 0
    other = 0
    for index, part in enumerate(parts):
        if not part:
            raise invalid_argument(
                f"* GenerateContentRequest.{path}.parts[{index}].data: required oneof field 'data' must have one "
                "initialized field\n"
            )
        if "text" in part:
            texts.append(part["text"])
        elif "inlineData" in part or "fileData" in part:
            media += 1
        else:
            other += len(str(part))
    return "".join(texts), media, other


def _check_config(model: str, config: dict[str, Any]) -> None:
    for name, (lowest, highest) in RANGES.items():
        value = config.get(name)
        if value is not None and not lowest <= value <= highest:
            raise invalid_argument(
                f"* GenerateContentRequest.generation_config.{name}: {name} must be in the range "
                f"[{lowest}, {highest}].\n"
            )
    if config.get("responseLogprobs") or config.get("logprobs"):
        raise invalid_argument(f"Logprobs is not enabled for models/{model}")
    mime = config.get("responseMimeType")
    if mime is not None and mime not in ("text/plain", "application/json", "text/x.enum"):
        raise invalid_argument(
            "* GenerateContentRequest.generation_config.response_mime_type: allowed mimetypes are `text/plain`, "
            "`application/json`, `application/xml`, `application/yaml` and `text/x.enum`.\n"
        )
    schema = config.get("responseSchema") or config.get("responseJsonSchema")
    if schema and mime not in ("application/json", "text/x.enum"):
        raise invalid_argument(
            "* GenerateContentRequest.generation_config.response_schema: only allowed when response_mime_type is "
            "`application/json`.\n"
        )
    if len(config.get("stopSequences") or ()) > 5:
        raise invalid_argument("The number of stop_sequences must be at most 5.")
