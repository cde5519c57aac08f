"""The script of the scripted backend: rules, as tests post them to the control plane."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class FunctionCall(BaseModel):
    """A functionCall part."""

    model_config = ConfigDict(extra="forbid")

    name: str
    args: dict[str, Any] = Field(default_factory=dict)


class ScriptedUsage(BaseModel):
    """Token counts that replace the real ones; what is not given stays."""

    model_config = ConfigDict(extra="forbid")

    prompt: int | None = Field(default=None, ge=0)
    cached: int | None = Field(default=None, ge=0)
    candidates: int | None = Field(default=None, ge=0)
    thoughts: int | None = Field(default=None, ge=0)


class Rule(BaseModel):
    """Answers every request whose last user text contains ``match`` and whose model fits.

    ``text`` and ``chunks`` may hold {last}, {first} (user texts, at most 2,000 characters each), {turns} (number of
    contents), {history} (those before the last), {digest} (of all contents), {model} and {calls} (how often this rule
    has answered). Delays are seconds.
    """

    model_config = ConfigDict(extra="forbid")

    match: str = Field(default="", description="regular expression, searched in the last user text")
    model: str = Field(default="*", description="shell wildcard")
    times: int | None = Field(default=None, ge=1, description="answers so often, then the next rule that fits does")

    text: str | None = None
    chunks: list[str] | None = Field(default=None, min_length=1, description="stream pieces; text is their sum")
    chunk_chars: int | None = Field(default=None, ge=1, description="cut prefix and text alike into such pieces")
    thoughts: str | None = Field(default=None, description="thought summary, sent if the caller wants thoughts")
    function_call: FunctionCall | None = None

    confidence: int | list[int] | Literal["random"] | None = Field(
        default=95, description="written if asked for: one figure, a cycle, one drawn from the digest, or never"
    )
    prefix: str | None = Field(default=None, description="written in place of the confidence prefix, as it stands")

    usage: ScriptedUsage = Field(default_factory=ScriptedUsage)
    finish_reason: str = "STOP"
    delay_seconds: float = Field(default=0.0, ge=0)
    chunk_delay_seconds: float = Field(default=0.0, ge=0)

    @field_validator("match")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern


class Script(BaseModel):
    """Rules in order; the first that fits answers. The default rules stand behind them."""

    model_config = ConfigDict(extra="forbid")

    rules: list[Rule] = Field(default_factory=list)


# Behind every script. A test may steer the confidence by writing "confidence=42" into the question.
DEFAULT_RULES = [
    Rule(match=r"(?i)what was my first question", text='Your first question was: "{first}"'),
    Rule(match=r"(?i)what is the capital of brazil", text="The capital of Brazil is Brasilia."),
    Rule(text='Scripted answer {digest} to "{last}" after {history} turns of history.'),
]
