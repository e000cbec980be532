"""The core: order books and the one transition function over them. Synchronous, no clock, no randomness, no IO.

Only `runner` and `order_entry` are async: they bring commands in, stamp them, and hand batches to the database.
"""
