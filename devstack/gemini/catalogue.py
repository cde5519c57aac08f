"""The models that exist, and what ``models.list`` and ``models.get`` say of them."""

from typing import Any

INPUT_TOKEN_LIMIT = 1_048_576
OUTPUT_TOKEN_LIMIT = 65_536


def is_junior(model: str) -> bool:
    """True for the cheap tier: every Flash-Lite model."""
    return "lite" in model


def describe(model: str) -> dict[str, Any]:
    """The resource ``models/{model}`` as Google lists it."""
    words = model.removeprefix("gemini-").split("-")
    return {
        "name": f"models/{model}",
        "version": words[0],
        "displayName": "Gemini " + " ".join(word.capitalize() for word in words),
        "description": "Emulated model of the Focus AI development stack",
        "inputTokenLimit": INPUT_TOKEN_LIMIT,
        "outputTokenLimit": OUTPUT_TOKEN_LIMIT,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
        "temperature": 1,
        "topP": 0.95,
        "topK": 64,
        "maxTemperature": 2,
        "thinking": True,
    }
