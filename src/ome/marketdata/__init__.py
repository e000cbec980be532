"""Public views folded from committed events: depth, ticker and 24-hour statistics. In memory, read and written on the event loop."""
