"""What the llm service measures, for Prometheus. No label ever holds a key, a tenant or a text."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

CALLS = Counter("focus_llm_calls", "Calls to the provider, by how they ended.", ["project", "model", "outcome"])
TOKENS = Counter("focus_llm_tokens", "Tokens used.", ["model", "kind"])
COST = Counter("focus_llm_cost_microusd", "Cost in millionths of a US dollar.", ["model"])
REFUSALS = Counter("focus_llm_refusals", "429s of the provider, by the limit they name.", ["project", "model", "scope"])
RETRIES = Counter("focus_llm_retries", "Calls that were tried again.", ["model"])
STALE = Counter("focus_llm_stale_grants", "Grants that could not be sent in time and were given back.")
OVERSHOOTS = Counter("focus_llm_estimate_overshoots", "Calls with more input tokens than were reserved.", ["model"])
TURNED_AWAY = Counter("focus_llm_turned_away", "Questions told to come again, for they would not make their deadline.")
QUARANTINED = Counter("focus_llm_keys_quarantined", "Keys that the provider refused.", ["project"])
WAITING = Gauge("focus_llm_waiting", "Calls of this process that wait for quota.", ["tier"])
LOCAL = Gauge("focus_llm_local_quota", "1 while the quota's store is gone and this process lives on its share.")
WAIT_SECONDS = Histogram(
    "focus_llm_wait_seconds",
    "How long calls waited for quota.",
    ["tier"],
    buckets=(0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 20, 40, 80),
)
FIRST_TOKEN_SECONDS = Histogram(
    "focus_llm_first_token_seconds",
    "From sending a call to its first piece.",
    ["model"],
    buckets=(0.005, 0.02, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 30),
)
ESCALATIONS = Counter("focus_llm_escalations", "Questions that the junior gave up to the senior.")
