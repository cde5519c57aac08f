"""Estimates of a call's tokens, learned from what earlier calls really used.

Input tokens are reserved by an upper quantile of tokens per character, so that the real count is
seldom above the reservation; the quantile is followed by stochastic approximation (Robbins and
Monro, 1951), one step a call.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.llm.prompt import Prompt
from services.llm.providers.port import Usage

QUANTILE = 0.95
_STEP = 0.04
_FIRST_RATIO = 0.4
# What Google counts for an image of usual size, and a little for the frame of every request.
_MEDIA = 258
_FRAME = 8
_SMOOTHING = 0.05
_FIRST_OUTPUT = 400.0


@dataclass(slots=True)
class _Model:
    ratio: float = _FIRST_RATIO
    output: float = _FIRST_OUTPUT


class Estimator:
    """One for the process; each model has its own figures."""

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}

    def input_tokens(self, model: str, prompt: Prompt) -> int:
        """Tokens of the prompt, seldom too few."""
        ratio = self._models.setdefault(model, _Model()).ratio
        return int(prompt.characters * ratio) + _MEDIA * prompt.media + _FRAME

    def output_tokens(self, model: str, prompt: Prompt) -> int:
        """Tokens of the answer, on average; never above what was asked for."""
        mean = self._models.setdefault(model, _Model()).output
        return int(min(mean, prompt.max_output_tokens or mean))

    def learn(self, model: str, prompt: Prompt, usage: Usage) -> None:
        """Takes one call's real usage in."""
        state = self._models.setdefault(model, _Model())
        characters = prompt.characters
        if characters >= 16 and usage.prompt > 0 and not prompt.cache_name:
            ratio = max(0.0, usage.prompt - _MEDIA * prompt.media - _FRAME) / characters
            step = _STEP * max(state.ratio, 0.01)
            state.ratio += step * QUANTILE if ratio > state.ratio else -step * (1 - QUANTILE)
            state.ratio = min(max(state.ratio, 0.02), 4.0)
        output = usage.output + usage.thoughts
        if output:
            state.output += _SMOOTHING * (output - state.output)
