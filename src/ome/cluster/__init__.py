"""Past one process: gateways in front of engines that each own some symbols, over NATS, with PostgreSQL as the truth.

What a gateway needs to stand where an engine's order entry would (`gateway_entry`, `gateway_bus`), what an engine needs to be
asked over NATS (`shard_server`), and what both speak (`subjects`, `wire`). The database's commit is the only durability point.
"""
