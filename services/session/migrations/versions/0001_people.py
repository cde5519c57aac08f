"""Tenants, people, families of refresh tokens and API keys.

Secrets are stored as digests only: passwords as Argon2id, refresh tokens and API keys
(256 random bits each) as SHA-256. A family of refresh tokens is one row, not a row per
token: it is rotated by one compare-and-swap, revoked by one update, and a client that
refreshes every three minutes for a month leaves no 14,400 rows behind.
"""

from alembic import op

revision = "0001_people"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = (
    """
    CREATE TABLE tenants (
        id uuid PRIMARY KEY DEFAULT uuidv7(),
        name text NOT NULL,
        settings jsonb NOT NULL DEFAULT '{}',
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE people (
        id uuid PRIMARY KEY DEFAULT uuidv7(),
        tenant_id uuid NOT NULL REFERENCES tenants,
        -- As typed, for writing to them; email_key is what two addresses are compared by.
        email text NOT NULL,
        email_key text NOT NULL UNIQUE,
        password_hash text NOT NULL,
        display_name text NOT NULL DEFAULT '',
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX people_tenant ON people (tenant_id)",
    """
    CREATE TABLE refresh_families (
        -- Random, and part of every token of the family: who knows it has held one of them.
        id uuid PRIMARY KEY,
        person_id uuid NOT NULL REFERENCES people ON DELETE CASCADE,
        -- The one token that can be used, and the one that was used for it.
        token_hash bytea NOT NULL,
        parent_hash bytea,
        -- The token is HMAC-SHA-256(parent, salt): who presents the parent again within the
        -- grace window gets the same successor; neither this row nor the parent alone gives it away.
        parent_salt bytea,
        rotated_at timestamptz,
        expires_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        revoked_at timestamptz,
        CHECK ((parent_hash IS NULL) = (parent_salt IS NULL) AND (parent_hash IS NULL) = (rotated_at IS NULL))
    )
    """,
    "CREATE INDEX refresh_families_person ON refresh_families (person_id)",
    """
    CREATE TABLE api_keys (
        id uuid PRIMARY KEY DEFAULT uuidv7(),
        tenant_id uuid NOT NULL REFERENCES tenants,
        person_id uuid NOT NULL REFERENCES people ON DELETE CASCADE,
        key_hash bytea NOT NULL UNIQUE,
        label text NOT NULL DEFAULT '',
        created_at timestamptz NOT NULL DEFAULT now(),
        revoked_at timestamptz,
        last_used_at timestamptz
    )
    """,
    "CREATE INDEX api_keys_person ON api_keys (person_id)",
)


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE api_keys, refresh_families, people, tenants")
