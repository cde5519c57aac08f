"""The ledger of what was used, and word left for a holder to stop a turn.

Both only add: the version before writes neither, and reads around them.
"""

from alembic import op

revision = "0003_ledger"
down_revision = "0002_conversations"
branch_labels = None
depends_on = None

_CHANGES = (
    # Turns that the holder is to stop, told with its heartbeat until it says that it has.
    "ALTER TABLE holders ADD COLUMN cancelled uuid[] NOT NULL DEFAULT '{}'",
    # One row for every call to a provider. Ids are text: what was paid for is never left out for
    # the form of an id. No foreign keys: a ledger outlives whom it speaks of.
    """
    CREATE TABLE usage_events (
        call_id text PRIMARY KEY,
        tenant_id text NOT NULL,
        person_id text NOT NULL,
        -- done, failed, or lost: nobody told how it ended, and it is booked as it was estimated.
        outcome text NOT NULL,
        tier text NOT NULL,
        priority text NOT NULL,
        project text NOT NULL,
        model text NOT NULL,
        location text NOT NULL,
        prompt_tokens bigint NOT NULL,
        cached_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        thought_tokens bigint NOT NULL,
        cost_microusd bigint NOT NULL,
        -- When the call ended, by the clock of the quota's store.
        at timestamptz NOT NULL
    )
    """,
    # What has expired is found without looking at all that has not.
    "CREATE INDEX refresh_families_expiry ON refresh_families (expires_at)",
    "CREATE INDEX usage_events_tenant ON usage_events (tenant_id, at)",
)


def upgrade() -> None:
    for statement in _CHANGES:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE usage_events")
    op.execute("DROP INDEX refresh_families_expiry")
    op.execute("ALTER TABLE holders DROP COLUMN cancelled")
