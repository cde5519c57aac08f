"""The canonical form of a question: what two askings of the same words have in common.

Unicode compatibility forms (NFKC), case, white space and closing punctuation are
evened out; meaning never is. Two texts with one canonical form are the same words,
so that one's answer answers the other.
"""

from __future__ import annotations

import unicodedata

# A question mark that opens a question in Spanish comes with one that closes it.
_OPENING = "¿¡"
_CLOSING = " .?!…;:,。？！।؟"


def canonical(text: str) -> str:
    """The text in NFKC, case-folded, single-spaced, without what closes or opens the sentence.

    Never empty for a text that holds a visible character: one of punctuation only is
    kept as it is.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    # Case folding can undo the composition (ΐ, İ): NFKC_Casefold, Unicode 3.13, D147, normalises again.
    folded = " ".join(unicodedata.normalize("NFKC", folded).split())
    stripped = folded.rstrip(_CLOSING).lstrip(_OPENING).strip()
    return stripped or folded
