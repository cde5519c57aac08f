"""What the cache counts."""

from __future__ import annotations

from prometheus_client import Counter

LOOKUPS = Counter("focus_cache_lookups", "Look-ups by what they found.", ["result"])
SAVED = Counter("focus_cache_saved_microusd", "What the answers found cost to generate, in millionths of a US dollar.")
UNREADABLE = Counter("focus_cache_unreadable", "Values that could not be used, by the reason.", ["why"])
KEPT = Counter("focus_cache_kept", "Answers stored.")
NOT_KEPT = Counter("focus_cache_not_kept", "Answers not stored, by the reason.", ["why"])
