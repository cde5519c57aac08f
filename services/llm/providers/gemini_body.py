"""A prompt as the body of Gemini's generateContent (REST v1beta)."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from services.llm.prompt import Media, Part, Prompt, Text, Tool, ToolCall


def render(prompt: Prompt) -> bytes:
    """The request's body; JSON in JSON (schemas, arguments) is embedded as it stands."""
    body: dict[str, Any] = {
        "contents": [
            {"role": message.role, "parts": [_part(part) for part in message.parts]} for message in prompt.messages
        ]
    }
    if prompt.system_instruction:
        body["systemInstruction"] = {"parts": [{"text": prompt.system_instruction}]}
    if prompt.cache_name:
        body["cachedContent"] = prompt.cache_name
    config = _config(prompt)
    if config:
        body["generationConfig"] = config
    if prompt.tools:
        body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in prompt.tools]}]
    if prompt.safety_settings:
        body["safetySettings"] = [
            {"category": setting.category, "threshold": setting.threshold} for setting in prompt.safety_settings
        ]
    return orjson.dumps(body)


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"text": part.text}
    if isinstance(part, Media):
        return {"inlineData": {"mimeType": part.mime_type, "data": base64.b64encode(part.data).decode()}}
    if isinstance(part, ToolCall):
        call: dict[str, Any] = {"name": part.name, "args": orjson.Fragment(part.arguments or "{}")}
        if part.call_id:
            call["id"] = part.call_id
        rendered: dict[str, Any] = {"functionCall": call}
        if part.signature:
            rendered["thoughtSignature"] = base64.b64encode(part.signature).decode()
        return rendered
    result: dict[str, Any] = {"name": part.name, "response": orjson.Fragment(part.result or "{}")}
    if part.call_id:
        result["id"] = part.call_id
    return {"functionResponse": result}


def _config(prompt: Prompt) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if prompt.max_output_tokens:
        config["maxOutputTokens"] = prompt.max_output_tokens
    if prompt.temperature is not None:
        config["temperature"] = prompt.temperature
    if prompt.thinking_budget is not None:
        config["thinkingConfig"] = {"thinkingBudget": prompt.thinking_budget}
    if prompt.response_schema:
        config["responseMimeType"] = "application/json"
        config["responseJsonSchema"] = orjson.Fragment(prompt.response_schema)
    return config


def _declaration(tool: Tool) -> dict[str, Any]:
    declaration: dict[str, Any] = {"name": tool.name, "description": tool.description}
    if tool.parameters:
        declaration["parametersJsonSchema"] = orjson.Fragment(tool.parameters)
    return declaration
