"""What alembic runs: the revisions, over the connection that `ome.db.migrate` hands in, in the transaction that it opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], target_metadata=None)
with context.begin_transaction():
    context.run_migrations()
