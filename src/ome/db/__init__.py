"""Durability: one transaction per batch, recovery, and the committed data for readers, on SQLite and PostgreSQL.

`storage.open_storage` is the way in. Nothing is imported here: the process that reads orders beside a recovery (`order_reader`)
needs little of this, and is waited for.
"""
