"""How sure the local model is, as a whole number 0..100, from the probabilities of its own tokens.

The figure is the probability of the least likely token in the answer's first sentence, the very first token left out
(it chooses a wording, not a fact), raised to ``SPREAD`` so that a threshold of about 60 divides well.

Measured on 64 short questions (20 capitals, science, history, arithmetic, word problems, nonsense; an answer is right
if it holds the expected word): the junior answers 36 rightly, AUROC of the figure 0.84; a threshold of 60 escalates 31
of the 64, 22 of the 28 wrong ones among them. Known capitals get 63 (Brazil) to 94 (Japan), those it gets wrong 38 to
54, 4817 times 3926 gets 35, an invented constant 26. The senior answers 38 rightly, AUROC 0.87 with its agreement mixed
in. What was tried and is worse: the mean over the tokens (0.81), the margin to the second token (0.68), and asking the
model "Is this answer correct?" (0.34, worse than chance, for it says yes to nearly everything).
Reusing a cached prompt changes the last digits of the arithmetic, so the same question may vary by a few points.
"""

import math
import re
from collections.abc import Sequence

from devstack.gemini.engine import Token

SPREAD = 0.5
# Enough for the sentence that holds the answer; a longer one is judged by its beginning.
OPENING_TOKENS = 32

_SENTENCE_END = re.compile(r"[.!?][\"')]*\s|\n")


def opening_is_whole(tokens: Sequence[Token]) -> bool:
    """True when the first sentence is there, or so much of it that waiting for the rest is not worth it."""
    if len(tokens) >= OPENING_TOKENS or (tokens and tokens[-1].finish is not None):
        return True
    return _SENTENCE_END.search("".join(token.text for token in tokens).lstrip()) is not None


def of_tokens(tokens: Sequence[Token]) -> int:
    """The confidence of an opening; 0 for an empty answer."""
    judged = [token.logprob for token in tokens[1:] if token.text] or [token.logprob for token in tokens if token.text]
    if not judged:
        return 0
    return round(100 * math.exp(SPREAD * min(judged)))
