"""Public views folded from committed events, in memory: depth, ticker, 24-hour statistics. They live on the event loop."""
