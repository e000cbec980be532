"""What is derived from committed batches and kept beside them: candles, snapshots of books and of the engine; and the past that
can be read from these: a book as it was at a sequence or at a time.

Nothing here is needed to recover or to trade. Whatever is missing or behind is caught up with.
"""
