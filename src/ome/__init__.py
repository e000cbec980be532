"""OME: an order matching engine service. Start with `ome.bootstrap`, or read the rooms: `domain`, `engine`, `db`, `api`."""
