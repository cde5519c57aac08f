"""Alembic's environment: revisions in plain SQL, written out for `services.session.migrate` to run.

Alembic orders the revisions and remembers the newest; the service's own driver runs
them. So there is one driver, and what runs is what `--show` prints.
"""

from alembic import context

context.configure(
    # Named for its quoting alone; nothing connects here.
    dialect_name="postgresql+asyncpg",
    output_buffer=context.config.output_buffer,
    as_sql=True,
    literal_binds=True,
)
context.run_migrations()
