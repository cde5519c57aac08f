"""Token counts by rule of thumb: Google documents about four characters to a token.

``countTokens``, ``promptTokenCount`` and the input-token quota use this one figure, so that they agree as Google's do.
"""

# What one image, audio clip or file adds; Google charges 258 tokens for an image of up to 384 x 384 pixels.
MEDIA_TOKENS = 258


def estimate(characters: int, media: int = 0) -> int:
    """Tokens of that many characters and media parts; at least 1."""
    return max(1, -(-characters // 4) + media * MEDIA_TOKENS)
