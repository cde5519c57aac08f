"""What the cache counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

# result: hit, stale, following, miss, bypass (no-cache), time_dependent
LOOKUPS = Counter("focus_cache_lookups", "Look-ups by what they found.", ["result"])
# kind: hit, stale, coalesced
SAVED = Counter(
    "focus_cache_saved_microusd",
    "What answers that were not paid for again had cost, in millionths of a US dollar.",
    ["kind"],
)
# Found once: a child costs several times its increment to look up.
HITS, STALE_HITS = LOOKUPS.labels("hit"), LOOKUPS.labels("stale")
HITS_SAVED, STALE_HITS_SAVED = SAVED.labels("hit"), SAVED.labels("stale")
UNREADABLE = Counter("focus_cache_unreadable", "Values that could not be used, by the reason.", ["why"])
PURGED = Counter("focus_cache_purged", "Values found that a purge had marked.")
KEPT = Counter("focus_cache_kept", "Answers stored, by how they came about.", ["origin"])
NOT_KEPT = Counter("focus_cache_not_kept", "Answers not stored, by the reason.", ["why"])
UNAVAILABLE = Counter("focus_cache_store_unavailable", "Calls that the store in Valkey did not carry out.", ["call"])
STORE_UP = Gauge("focus_cache_store_up", "1 while Valkey answers in time.")
MARKS_AGE = Gauge("focus_cache_marks_age_seconds", "How long ago purge marks were read.")
# Waiting for another's fill is no work: scaling leaves these calls out.
FOLLOWERS = Gauge("focus_cache_followers", "Followers of fills being served.")
FLIGHTS = Gauge("focus_cache_flights", "Fills that somebody here follows.")
TAKEOVERS = Counter("focus_cache_takeovers", "Fills begun anew because their filler was gone.")
REFRESHES = Counter("focus_cache_refresh_leases", "Refreshes handed out.")
