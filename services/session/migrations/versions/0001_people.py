"""Tenants, people, refresh tokens and API keys.

Secrets are stored as digests only: passwords as Argon2id, refresh tokens and API keys
(256 random bits each) as SHA-256. A family of refresh tokens is revoked by one row, so
that a token born while its family is being revoked is revoked as well.
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
        id uuid PRIMARY KEY DEFAULT uuidv7(),
        person_id uuid NOT NULL REFERENCES people ON DELETE CASCADE,
        created_at timestamptz NOT NULL DEFAULT now(),
        revoked_at timestamptz
    )
    """,
    "CREATE INDEX refresh_families_person ON refresh_families (person_id)",
    """
    CREATE TABLE refresh_tokens (
        token_hash bytea PRIMARY KEY,
        family_id uuid NOT NULL REFERENCES refresh_families ON DELETE CASCADE,
        -- UNIQUE: a token has one successor, whatever the code above believes.
        parent_hash bytea UNIQUE,
        -- Set with used_at. The successor is HMAC-SHA-256(token, salt): whoever presents the
        -- token again within the grace window gets the same one, and neither this table alone
        -- nor an old token alone gives it away.
        successor_salt bytea,
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        used_at timestamptz,
        CHECK (used_at IS NOT NULL OR successor_salt IS NULL)
    )
    """,
    "CREATE INDEX refresh_tokens_family ON refresh_tokens (family_id)",
    "CREATE INDEX refresh_tokens_expiry ON refresh_tokens (expires_at)",
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
    op.execute("DROP TABLE api_keys, refresh_tokens, refresh_families, people, tenants")
