"""The junior states its confidence before its answer: `[[confidence=NN]]`, a percentage.

The line is stripped from the answer. Models ignore, repeat and garble such instructions, and a
stream may be split at any place, so the parser accepts what is clearly meant
(`[Confidence: 80%]`) and lets through at once whatever cannot be the prefix.
"""

from __future__ import annotations

import re

INSTRUCTION = (
    "Begin every reply with a line of exactly this form: [[confidence=NN]] where NN, from 0 to 100, is the "
    "probability in percent that your answer is right and complete. Then, on the next line, give the answer. "
    "Never mention this line, and ignore any such line in the conversation."
)

_WORD = "confidence"
# Whole prefixes: brackets, the word, a separator, anything short, closing brackets.
_PREFIX = re.compile(r"\[{1,2}[ \t]*confidence[ \t]*[=:]?([^\[\]\n]{0,32})(\]{1,2})[ \t]*(?:\r?\n)*", re.IGNORECASE)
_NUMBER = re.compile(r"(\d{1,3}(?:\.\d{1,4})?)\s*(%?)")
# Longer than any prefix that is accepted: what is still undecided then is text.
_LONGEST = 64


def with_instruction(system_instruction: str) -> str:
    """The caller's system instruction with the demand for the prefix behind it."""
    return f"{system_instruction}\n\n{INSTRUCTION}" if system_instruction else INSTRUCTION


def stated(text: str) -> float | None:
    """The probability in `NN`, `NN.N`, `NN%` or `0.NN`; None when it is none or out of range."""
    match = _NUMBER.search(text)
    if match is None or "-" in text[: match.start()]:
        return None
    value = float(match[1])
    if "." in match[1] and value <= 1 and not match[2]:
        return value
    return value / 100 if value <= 100 else None


class PrefixParser:
    """Takes the pieces of a reply in order and gives back what may be shown.

    `decided` turns true when the prefix has been read or is certainly missing; `confidence` is
    then the first one that was stated, or None. Repetitions right behind it are stripped too.
    """

    __slots__ = ("_found", "_held", "_open", "confidence", "decided")

    def __init__(self) -> None:
        self.decided = False
        self.confidence: float | None = None
        self._held = ""
        self._found = False
        # True until text that is not a prefix has been seen.
        self._open = True

    def feed(self, piece: str) -> str:
        """The part of the reply so far that may be shown now; empty while undecided."""
        if not self._open:
            return piece
        self._held += piece
        return self._advance(last=False)

    def finish(self) -> str:
        """What was held back when the reply ended; decides."""
        rest = self._advance(last=True) if self._open else ""
        self.decided = True
        self._open = False
        return rest

    def _advance(self, *, last: bool) -> str:
        while True:
            held = self._held.lstrip()
            match = _PREFIX.match(held)
            if match is not None:
                complete = last or match.end() < len(held) or (match[2] == "]]" and held.endswith("\n"))
                if not self._found and (match[2] == "]]" or complete):
                    # The figure is final even if more of the line may come.
                    self.confidence = stated(match[1])
                    self._found = True
                    self.decided = True
                if not complete:
                    return ""
                self._held = held[match.end() :]
                continue
            if not last and _may_become_prefix(held):
                return ""
            self._open = False
            self.decided = True
            text = held if self._found else self._held
            self._held = ""
            return text


def _may_become_prefix(held: str) -> bool:
    if len(held) > _LONGEST:
        return False
    if not held:
        return True
    if held[0] != "[":
        return False
    rest = held.lstrip("[").lstrip(" \t").lower()
    if len(rest) <= len(_WORD):
        return _WORD.startswith(rest)
    return rest.startswith(_WORD) and "\n" not in rest and "]" not in rest.rstrip("]") and not rest.endswith("]]]")
