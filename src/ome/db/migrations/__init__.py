"""The schema's revisions, carried out by alembic at start; see `ome.db.migrate`."""
