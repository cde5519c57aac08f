"""Conversations, turns, leases, Idempotency-Keys, share links; the functions that begin and give up turns.

Why functions: a begin must first update (and wait for whoever holds the row), then read what
that one wrote. PL/pgSQL takes a new snapshot for every statement, so the second one sees it; a
single statement with a CTE was seen to return the history from before the wait.
"""

from alembic import op

revision = "0002_conversations"
down_revision = "0001_people"
branch_labels = None
depends_on = None

_TABLES = (
    # Unlogged: a heartbeat writes no WAL. After a crash nobody holds a lease; the fence stays.
    """
    CREATE UNLOGGED TABLE holders (
        id uuid PRIMARY KEY,
        expires_at timestamptz NOT NULL
    ) WITH (fillfactor = 50)
    """,
    # No foreign key to tenants or people: a principal comes from a token that was verified
    # without this database, perhaps in another region. person_id is the nil UUID for nobody.
    """
    CREATE TABLE conversations (
        id uuid PRIMARY KEY DEFAULT uuidv7(),
        region text NOT NULL,
        tenant_id uuid NOT NULL,
        person_id uuid NOT NULL,
        title text NOT NULL DEFAULT '',
        -- The turn whose question became the title; NULL: a person wrote it.
        titled_by bigint,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        active_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        deleted_at timestamptz,
        next_seq bigint NOT NULL DEFAULT 1,
        last_hash bytea NOT NULL,
        fence bigint NOT NULL DEFAULT 0,
        lease_turn uuid,
        lease_holder uuid,
        lease_parent bigint,
        leased_at timestamptz,
        -- Somebody waits: until then nobody begins who has not waited.
        queued_until timestamptz
    ) WITH (fillfactor = 80)
    """,
    """
    CREATE INDEX conversations_by_activity ON conversations (tenant_id, person_id, active_at DESC, id DESC)
    WHERE deleted_at IS NULL
    """,
    "CREATE INDEX conversations_deleted ON conversations (deleted_at) WHERE deleted_at IS NOT NULL",
    """
    CREATE TABLE turns (
        conversation_id uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
        seq bigint NOT NULL,
        id uuid NOT NULL,
        -- The turn that it follows; 0 and NULL: none.
        parent_seq bigint NOT NULL,
        parent_id uuid,
        fence bigint NOT NULL,
        question text NOT NULL,
        answer text NOT NULL,
        outcome smallint NOT NULL,
        failure_reason text NOT NULL,
        failure_message text NOT NULL,
        -- A repeat with the same Idempotency-Key is a new turn.
        retriable boolean NOT NULL,
        tier smallint NOT NULL,
        model text NOT NULL,
        confidence double precision NOT NULL,
        finish_reason smallint NOT NULL,
        escalated boolean NOT NULL,
        prompt_tokens bigint NOT NULL,
        cached_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        thought_tokens bigint NOT NULL,
        cost_microusd bigint NOT NULL,
        -- Estimated size as history; 0: no history is made of it.
        history_tokens integer NOT NULL,
        question_digest bytea NOT NULL,
        answer_digest bytea NOT NULL,
        previous_hash bytea NOT NULL,
        hash bytea NOT NULL,
        created_at timestamptz NOT NULL,
        erased_at timestamptz,
        -- NULL: not indexed yet.
        search tsvector,
        PRIMARY KEY (conversation_id, seq),
        UNIQUE (conversation_id, id)
    )
    """,
    "CREATE INDEX turns_to_index ON turns (conversation_id, seq) WHERE search IS NULL",
    "CREATE INDEX turns_search ON turns USING gin (search)",
    """
    CREATE TABLE idempotency_keys (
        tenant_id uuid NOT NULL,
        person_id uuid NOT NULL,
        route text NOT NULL,
        key text NOT NULL,
        digest bytea NOT NULL,
        -- The turn or ask that has the key now.
        attempt_id uuid NOT NULL,
        -- NULL for stateless asks.
        conversation_id uuid,
        holder_id uuid NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        -- While its turn is in a queue; renewed by the waiter.
        waiting_until timestamptz,
        -- Outcome of an ask; that of a turn is the turn itself.
        saved bytea,
        PRIMARY KEY (tenant_id, person_id, route, key)
    )
    """,
    "CREATE INDEX idempotency_keys_attempt ON idempotency_keys (attempt_id)",
    "CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at)",
    # The order of waiters while Valkey is gone.
    """
    CREATE UNLOGGED TABLE turn_queue (
        conversation_id uuid NOT NULL,
        turn_id uuid NOT NULL,
        arrived_us bigint NOT NULL,
        alive_until timestamptz NOT NULL,
        PRIMARY KEY (conversation_id, turn_id)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE shares (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        secret_hash bytea NOT NULL UNIQUE,
        conversation_id uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
        last_seq bigint NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    "CREATE INDEX shares_conversation ON shares (conversation_id)",
)

# PL/pgSQL and VOLATILE on purpose: called while an UPDATE re-checks a row that it has waited
# for, it sees the holders of now, not those of when the UPDATE began.
_HOLDER_LIVES = """
CREATE FUNCTION holder_lives(p_holder uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM holders WHERE id = p_holder AND expires_at > clock_timestamp());
END $$
"""

# Takes an Idempotency-Key for a turn: '' if the turn may go on, 'reused', 'in_progress', or
# 'replay' with the turn that was stored.
_CLAIM_KEY = """
CREATE FUNCTION claim_turn_key(
    p_conversation uuid, p_tenant uuid, p_person uuid, p_holder uuid, p_turn uuid, p_key text, p_digest bytea,
    p_waiting interval, p_max_lease interval, p_key_life interval, OUT status text, OUT stored uuid
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    k idempotency_keys;
    t record;
BEGIN
    status := '';
    LOOP
        INSERT INTO idempotency_keys
            (tenant_id, person_id, route, key, digest, attempt_id, conversation_id, holder_id, waiting_until)
        VALUES (p_tenant, p_person, 'turns', p_key, p_digest, p_turn, p_conversation, p_holder,
                clock_timestamp() + p_waiting)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            RETURN;
        END IF;
        SELECT * INTO k FROM idempotency_keys
        WHERE tenant_id = p_tenant AND person_id = p_person AND route = 'turns' AND key = p_key FOR UPDATE;
        EXIT WHEN FOUND;  -- swept away in between otherwise
    END LOOP;
    IF k.created_at > clock_timestamp() - p_key_life THEN
        IF k.digest <> p_digest OR k.conversation_id <> p_conversation THEN
            status := 'reused';
            RETURN;
        END IF;
        IF k.attempt_id <> p_turn THEN
            SELECT id, retriable INTO t FROM turns WHERE conversation_id = p_conversation AND id = k.attempt_id;
            IF NOT FOUND THEN
                IF holder_lives(k.holder_id) AND (k.waiting_until > clock_timestamp() OR EXISTS (
                    SELECT FROM conversations WHERE id = p_conversation AND lease_turn = k.attempt_id
                    AND leased_at > clock_timestamp() - p_max_lease
                )) THEN
                    status := 'in_progress';
                    RETURN;
                END IF;
                -- From here on the earlier attempt can commit no more. It may just have done so.
                UPDATE conversations SET fence = fence + 1, lease_turn = NULL, lease_holder = NULL, leased_at = NULL
                WHERE id = p_conversation AND lease_turn = k.attempt_id;
                SELECT id, retriable INTO t FROM turns WHERE conversation_id = p_conversation AND id = k.attempt_id;
            END IF;
            IF FOUND AND NOT t.retriable THEN
                status := 'replay';
                stored := t.id;
                RETURN;
            END IF;
        END IF;
    END IF;
    UPDATE idempotency_keys
    SET digest = p_digest, attempt_id = p_turn, conversation_id = p_conversation, holder_id = p_holder,
        waiting_until = clock_timestamp() + p_waiting,
        created_at = CASE WHEN attempt_id = p_turn THEN created_at ELSE clock_timestamp() END
    WHERE tenant_id = p_tenant AND person_id = p_person AND route = 'turns' AND key = p_key;
END $$
"""

# status: begun, busy (and marked as queued for), replay, reused, in_progress, no_conversation, no_turn, full.
_BEGIN_TURN = """
CREATE FUNCTION begin_turn(
    p_conversation uuid, p_region text, p_tenant uuid, p_person uuid, p_holder uuid, p_turn uuid,
    p_parent uuid, p_replaces uuid, p_key text, p_digest bytea, p_budget integer, p_reached boolean,
    p_max_history integer, p_max_turns bigint, p_queue_mark interval, p_max_lease interval, p_key_life interval,
    OUT status text, OUT fence bigint, OUT seq bigint, OUT parent uuid, OUT questions text[], OUT answers text[],
    OUT cut boolean, OUT replaced_question text, OUT stored uuid, OUT holder_alive boolean, OUT busy_ms integer,
    OUT marked timestamptz
) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_parent bigint;
    v_done boolean;
    v_next bigint;
    v_missing boolean := false;
BEGIN
    -- What a crash may lose here is repaired by the fence; the commit's flush makes it durable.
    PERFORM set_config('synchronous_commit', 'off', true);
    IF p_parent IS NOT NULL OR p_replaces IS NOT NULL THEN
        SELECT CASE WHEN p_replaces IS NULL THEN t.seq ELSE t.parent_seq END,
               CASE WHEN p_replaces IS NOT NULL THEN t.question END
        INTO v_parent, replaced_question
        FROM turns t WHERE t.conversation_id = p_conversation AND t.id = COALESCE(p_replaces, p_parent);
        v_missing := NOT FOUND;
    END IF;
    IF p_key IS NOT NULL AND NOT v_missing AND EXISTS (
        SELECT FROM conversations c WHERE c.id = p_conversation AND c.region = p_region
        AND c.tenant_id = p_tenant AND c.person_id = p_person AND c.deleted_at IS NULL
    ) THEN
        SELECT k.status, k.stored INTO status, stored FROM claim_turn_key(
            p_conversation, p_tenant, p_person, p_holder, p_turn, p_key, p_digest,
            p_queue_mark, p_max_lease, p_key_life) k;
        IF status <> '' THEN
            RETURN;
        END IF;
    END IF;

    UPDATE conversations c
    SET fence = c.fence + CASE WHEN c.lease_turn = p_turn AND c.lease_holder = p_holder THEN 0 ELSE 1 END,
        lease_turn = p_turn,
        lease_holder = p_holder,
        lease_parent = COALESCE(v_parent, c.next_seq - 1),
        leased_at = clock_timestamp(),
        queued_until = CASE WHEN p_reached THEN clock_timestamp() + p_queue_mark ELSE c.queued_until END
    WHERE c.id = p_conversation AND c.region = p_region AND c.tenant_id = p_tenant AND c.person_id = p_person
        AND c.deleted_at IS NULL AND c.next_seq <= p_max_turns AND NOT v_missing
        AND (
            (c.lease_turn = p_turn AND c.lease_holder = p_holder)
            OR (
                (p_reached OR c.queued_until IS NULL OR c.queued_until < clock_timestamp())
                AND (c.lease_turn IS NULL OR c.leased_at < clock_timestamp() - p_max_lease
                     OR NOT holder_lives(c.lease_holder))
            )
        )
    RETURNING c.fence, c.next_seq, c.lease_parent, c.queued_until INTO fence, seq, v_parent, marked;

    IF FOUND THEN
        WITH RECURSIVE said AS (
            SELECT t.seq, t.id, t.parent_seq, t.question, t.answer, t.history_tokens > 0 AS usable,
                   t.history_tokens::bigint AS used, (t.history_tokens > 0)::int AS kept, 1 AS steps
            FROM turns t WHERE t.conversation_id = p_conversation AND t.seq = v_parent
            UNION ALL
            SELECT t.seq, t.id, t.parent_seq, t.question, t.answer, t.history_tokens > 0,
                   s.used + t.history_tokens, s.kept + (t.history_tokens > 0)::int, s.steps + 1
            FROM said s JOIN turns t ON t.conversation_id = p_conversation AND t.seq = s.parent_seq
            WHERE s.used <= p_budget AND s.kept <= p_max_history AND s.steps < 4 * p_max_history
        )
        SELECT array_agg(s.question ORDER BY s.seq) FILTER (WHERE s.usable AND s.used <= p_budget
                                                            AND s.kept <= p_max_history),
               array_agg(s.answer ORDER BY s.seq) FILTER (WHERE s.usable AND s.used <= p_budget
                                                          AND s.kept <= p_max_history),
               COALESCE(bool_or(s.used > p_budget OR s.kept > p_max_history
                                OR (s.steps >= 4 * p_max_history AND s.parent_seq > 0)), false),
               max(s.id::text) FILTER (WHERE s.seq = v_parent)::uuid,
               EXISTS (SELECT FROM turns t WHERE t.conversation_id = p_conversation AND t.id = p_turn),
               EXISTS (SELECT FROM holders h WHERE h.id = p_holder AND h.expires_at > clock_timestamp())
        INTO questions, answers, cut, parent, v_done, holder_alive
        FROM said s;
        IF v_done THEN
            UPDATE conversations c SET lease_turn = NULL, lease_holder = NULL, leased_at = NULL
            WHERE c.id = p_conversation AND c.lease_turn = p_turn;
            status := 'replay';
            stored := p_turn;
            RETURN;
        END IF;
        status := 'begun';
        RETURN;
    END IF;

    SELECT c.next_seq,
           EXISTS (SELECT FROM turns t WHERE t.conversation_id = p_conversation AND t.id = p_turn),
           (SELECT ceil(extract(epoch FROM h.expires_at - clock_timestamp()) * 1000)::int
            FROM holders h WHERE h.id = c.lease_holder)
    INTO v_next, v_done, busy_ms
    FROM conversations c
    WHERE c.id = p_conversation AND c.region = p_region AND c.tenant_id = p_tenant AND c.person_id = p_person
        AND c.deleted_at IS NULL;
    status := CASE
        WHEN NOT FOUND THEN 'no_conversation'
        WHEN v_done THEN 'replay'
        WHEN v_missing THEN 'no_turn'
        WHEN v_next > p_max_turns THEN 'full'
        ELSE 'busy'
    END;
    IF status = 'busy' THEN
        UPDATE conversations c SET queued_until = clock_timestamp() + p_queue_mark WHERE c.id = p_conversation;
    ELSIF status = 'replay' THEN
        stored := p_turn;
    ELSIF p_key IS NOT NULL THEN
        DELETE FROM idempotency_keys k WHERE k.attempt_id = p_turn AND k.tenant_id = p_tenant
            AND k.person_id = p_person;
    END IF;
END $$
"""

# queued: whether somebody waits for the lease that was freed; NULL: there was no lease.
_ABANDON_TURN = """
CREATE FUNCTION abandon_turn(p_conversation uuid, p_tenant uuid, p_person uuid, p_turn uuid, OUT queued boolean)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    -- Key before conversation, as everywhere: two orders would be a deadlock.
    PERFORM FROM idempotency_keys WHERE attempt_id = p_turn FOR UPDATE;
    -- Waits for a commit of the same turn, so that the statement after it knows of that.
    UPDATE conversations SET lease_turn = NULL, lease_holder = NULL, leased_at = NULL
    WHERE id = p_conversation AND tenant_id = p_tenant AND person_id = p_person AND lease_turn = p_turn
    RETURNING COALESCE(queued_until > clock_timestamp(), false) INTO queued;
    DELETE FROM idempotency_keys
    WHERE attempt_id = p_turn AND tenant_id = p_tenant AND person_id = p_person
        AND NOT EXISTS (SELECT FROM turns WHERE conversation_id = p_conversation AND id = p_turn);
END $$
"""

# status: begun, replay, reused, in_progress.
_BEGIN_ASK = """
CREATE FUNCTION begin_ask(
    p_tenant uuid, p_person uuid, p_route text, p_key text, p_digest bytea, p_holder uuid, p_ask uuid,
    p_max_lease interval, p_key_life interval, OUT status text, OUT saved bytea, OUT holder_alive boolean
) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    k idempotency_keys;
BEGIN
    status := 'begun';
    LOOP
        INSERT INTO idempotency_keys (tenant_id, person_id, route, key, digest, attempt_id, holder_id)
        VALUES (p_tenant, p_person, p_route, p_key, p_digest, p_ask, p_holder)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            holder_alive := holder_lives(p_holder);
            RETURN;
        END IF;
        SELECT * INTO k FROM idempotency_keys i
        WHERE i.tenant_id = p_tenant AND i.person_id = p_person AND i.route = p_route AND i.key = p_key FOR UPDATE;
        EXIT WHEN FOUND;
    END LOOP;
    IF k.created_at > clock_timestamp() - p_key_life THEN
        IF k.digest <> p_digest THEN
            status := 'reused';
        ELSIF k.saved IS NOT NULL THEN
            status := 'replay';
            saved := k.saved;
        ELSIF k.attempt_id <> p_ask AND holder_lives(k.holder_id)
              AND k.created_at > clock_timestamp() - p_max_lease THEN
            status := 'in_progress';
        END IF;
    END IF;
    IF status = 'begun' THEN
        UPDATE idempotency_keys i
        SET digest = p_digest, attempt_id = p_ask, holder_id = p_holder, saved = NULL, created_at = clock_timestamp()
        WHERE i.tenant_id = p_tenant AND i.person_id = p_person AND i.route = p_route AND i.key = p_key;
        holder_alive := holder_lives(p_holder);
    END IF;
END $$
"""

# An accent left out, in the text or in the query, is no difference; and where it is not left
# out, both languages' stemmers see it. (The Portuguese one takes "ação" and "ações" for two
# words, therefore the plural is folded too.) The owner is a word of the vector, so that one index
# answers "whose" and "what" together, whatever everybody else has written.
_SEARCH = (
    r"""
    CREATE FUNCTION fold_words(p_text text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN regexp_replace(
        regexp_replace(normalize(p_text, NFD), '[\u0300-\u036f]', '', 'g'), '[oa]es\M', 'ao', 'gi')
    """,
    """
    CREATE FUNCTION turn_vector(p_tenant uuid, p_person uuid, p_text text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN to_tsvector('portuguese', p_text) || to_tsvector('english', p_text)
        || to_tsvector('portuguese', fold_words(p_text))
        || array_to_tsvector(ARRAY['owner/' || p_tenant::text || '/' || p_person::text])
    """,
    # NULL where nothing is left to look for.
    """
    CREATE FUNCTION turn_query(p_tenant uuid, p_person uuid, p_text text) RETURNS tsquery
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
    DECLARE
        words tsquery := websearch_to_tsquery('portuguese', p_text) || websearch_to_tsquery('english', p_text)
            || websearch_to_tsquery('portuguese', fold_words(p_text));
    BEGIN
        IF numnode(words) = 0 THEN
            RETURN NULL;
        END IF;
        RETURN words && quote_literal('owner/' || p_tenant::text || '/' || p_person::text)::tsquery;
    END $$
    """,
)


def upgrade() -> None:
    for statement in (*_TABLES, _HOLDER_LIVES, _CLAIM_KEY, _BEGIN_TURN, _ABANDON_TURN, _BEGIN_ASK, *_SEARCH):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE shares, turn_queue, idempotency_keys, turns, conversations, holders")
    for name in (
        *("holder_lives", "claim_turn_key", "begin_turn", "abandon_turn", "begin_ask"),
        *("turn_query", "turn_vector", "fold_words"),
    ):
        op.execute(f"DROP FUNCTION {name}")
