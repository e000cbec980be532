"""No question reads through a big table: each one's plan is looked at, on SQLite as the planner without statistics has it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from factories import an_instrument, resting_batch, trading_batch
from ome.db import queries, statements
from ome.db.queries import Query
from ome.db.statements import POSTGRESQL, SQLITE
from ome.db.storage import Storage, open_storage
from ome.domain.enums import OrderStatus

STILL_OPEN = frozenset({OrderStatus.PENDING, OrderStatus.PARTIALLY_FILLED})
ENDED = frozenset({OrderStatus.FILLED})

PLANS: list[tuple[Query, list[str]]] = [
    (queries.order(SQLITE), ["SEARCH stored_orders USING INTEGER PRIMARY KEY (rowid=?)"]),
    (
        queries.orders_by_client_id(SQLITE, symbol=False),
        ["SEARCH stored_orders USING INDEX uq_orders_client_id (user_id=? AND client_order_id=?)"],
    ),
    (
        queries.orders_by_client_id(SQLITE, symbol=True),
        ["SEARCH stored_orders USING INDEX uq_orders_client_id (user_id=? AND client_order_id=? AND symbol=?)"],
    ),
    (
        queries.orders_of_user(SQLITE, symbol=True, statuses=ENDED),
        ["SEARCH stored_orders USING INDEX ix_orders_user (user_id=? AND id>? AND id<?)"],
    ),
    (
        queries.orders_of_user(SQLITE, symbol=False, statuses=frozenset()),
        ["SEARCH stored_orders USING INDEX ix_orders_user (user_id=? AND id>? AND id<?)"],
    ),
    (
        queries.orders_of_user(SQLITE, symbol=False, statuses=STILL_OPEN),
        ["SEARCH stored_orders USING INDEX ix_orders_open_user (user_id=? AND id>? AND id<?)"],
    ),
    (
        queries.orders_of_user(SQLITE, symbol=True, statuses=STILL_OPEN),
        ["SEARCH stored_orders USING INDEX ix_orders_open_user (user_id=? AND id>? AND id<?)"],
    ),
    (queries.newest_order(SQLITE), ["SEARCH stored_orders USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]),
    (queries.order_from(SQLITE), ["SEARCH stored_orders USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]),
    (
        queries.open_orders(SQLITE),
        [
            *("MATERIALIZE resting", "COMPOUND QUERY", "LEFT-MOST SUBQUERY"),
            "SEARCH stored_orders USING INDEX ix_orders_open_level (symbol=? AND side=? AND price>?)",
            *("SCALAR SUBQUERY", "CO-ROUTINE"),
            "SEARCH stored_orders USING INDEX ix_orders_open_level (symbol=? AND side=?)",
            *("SEARCH", "UNION ALL"),
            "SEARCH stored_orders USING INDEX ix_orders_open_level (symbol=? AND side=? AND price<?)",
            *("SCALAR SUBQUERY", "CO-ROUTINE"),
            "SEARCH stored_orders USING INDEX ix_orders_open_level (symbol=? AND side=?)",
            "SEARCH",
            "SEARCH stored_instruments USING INDEX sqlite_autoindex_stored_instruments_1 (symbol=?)",
            "SCAN resting LEFT-JOIN",
        ],
    ),
    (
        queries.queue_ahead(SQLITE),
        [
            "SEARCH stored_orders USING INDEX ix_orders_open_level (symbol=? AND side=? AND price=? AND priority<?)",
            "USE TEMP B-TREE FOR GROUP BY",
        ],
    ),
    (queries.trades(SQLITE, before=True, symbol=True), ["SEARCH stored_trades USING INDEX ix_trades_symbol (symbol=? AND id<?)"]),
    (queries.trades(SQLITE, before=True, symbol=False), ["SEARCH stored_trades USING INTEGER PRIMARY KEY (rowid<?)"]),
    (queries.trades_from(SQLITE), ["SEARCH stored_trades USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]),
    (queries.trades_between(SQLITE), ["SEARCH stored_trades USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]),
    (
        queries.batch_end(SQLITE),
        ["SEARCH event_batches USING COVERING INDEX sqlite_autoindex_event_batches_1 (shard=? AND last_position>?)"],
    ),
    (
        queries.events(SQLITE),
        ["SEARCH event_batches USING INDEX sqlite_autoindex_event_batches_1 (shard=? AND last_position=?)"],
    ),
    (
        queries.batches_with(SQLITE, "order", before=True),
        [
            "SEARCH event_orders USING PRIMARY KEY (order_id=? AND last_position<?)",
            "SEARCH event_batches USING INDEX sqlite_autoindex_event_batches_1 (shard=? AND last_position=?)",
        ],
    ),
    (
        queries.batches_of_order(SQLITE),
        [
            "SEARCH event_orders USING PRIMARY KEY (order_id=? AND last_position>?)",
            "SEARCH event_batches USING INDEX sqlite_autoindex_event_batches_1 (shard=? AND last_position=?)",
        ],
    ),
    (
        queries.batches_with(SQLITE, "user's trade", before=True),
        [
            "SEARCH event_users USING PRIMARY KEY (user_id=? AND shard=? AND last_position<?)",
            "SEARCH event_batches USING INDEX sqlite_autoindex_event_batches_1 (shard=? AND last_position=?)",
        ],
    ),
    (
        queries.batches_of_user(SQLITE),
        [
            "SEARCH event_users USING PRIMARY KEY (user_id=? AND shard=? AND last_position>?)",
            "SEARCH event_batches USING INDEX sqlite_autoindex_event_batches_1 (shard=? AND last_position=?)",
        ],
    ),
]


async def plan(storage: Storage, sql: str, names: int) -> list[str]:
    """What SQLite does for a statement, one line for each table and sort."""
    rows = await storage.reads._reader.fetch(f"EXPLAIN QUERY PLAN {sql}", [None] * names)
    return [str(row[3]) for row in rows]


async def test_every_question_uses_its_index(tmp_path: Path) -> None:
    """Searches by the index that is meant; what was found is never sorted, and only those who stand in a queue are grouped."""
    storage = open_storage(f"sqlite:///{tmp_path}/orders.db")
    await storage.repository.start()
    try:
        for query, expected in PLANS:
            found = await plan(storage, query.sql, len(query.names))
            assert len(found) == len(expected), found
            for line, start in zip(found, expected, strict=True):
                assert line.startswith(start), query.sql
    finally:
        await storage.close()


async def test_recovery_reads_the_open_orders_alone(tmp_path: Path) -> None:
    """By a partial index, level by level without a sort; trades and events by the end of theirs, the journal by its last row."""
    storage = open_storage(f"sqlite:///{tmp_path}/orders.db")
    await storage.repository.start()
    loads = statements.loads(SQLITE)
    try:
        assert await plan(storage, loads.open_orders, 2) == ["SCAN stored_orders USING INDEX ix_orders_open_user"]
        assert await plan(storage, loads.open_orders_by_level, 2) == ["SCAN stored_orders USING INDEX ix_orders_open_level"]
        assert await plan(storage, loads.open_order_count, 2) == ["SCAN stored_orders USING INDEX ix_orders_open_user"]
        assert await plan(storage, loads.last_trade, 2) == [
            "SEARCH stored_trades USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"
        ]
        assert (await plan(storage, loads.event_batches, 1))[0].startswith("SEARCH event_batches USING COVERING INDEX")
        assert await plan(storage, loads.journal, 1) == ["SEARCH journal USING INDEX sqlite_autoindex_journal_1 (shard=?)"]
    finally:
        await storage.close()


@pytest.mark.parametrize("analysed", [False, True])
async def test_postgresql_reads_through_no_big_table(postgres_url: str, analysed: bool) -> None:
    """With some thousands of rows, statistics or none, no plan has a sequential scan of a table that grows."""
    storage = open_storage(postgres_url)
    await storage.repository.start()
    try:
        await _fill(storage)
        if analysed:
            await storage.reads._reader.fetch("ANALYZE", ())
        for question, values in _QUESTIONS:
            rows = await storage.reads._reader.fetch(f"EXPLAIN {question.sql}", question.parameters(values))
            text = "\n".join(str(row[0]) for row in rows)
            assert "Seq Scan on stored_orders" not in text, text
            assert "Seq Scan on stored_trades" not in text, text
            assert "Seq Scan on event" not in text, text
    finally:
        await storage.close()


async def _fill(storage: Storage) -> None:
    await storage.repository.commit(replace(resting_batch(1, 4000), instruments=[an_instrument(f"S{n}") for n in range(9)]))
    for number in range(1, 1201):
        batch = trading_batch(3999 + 2 * number, number, symbol=f"S{number % 9}")
        await storage.repository.commit(replace(batch, touched_order_ids=[number, number + 1]))


_VALUES = {
    "user_id": "user-3",
    "client_order_id": "x",
    "symbol": "S3",
    "id": 77,
    "order_id": 77,
    "shard": 0,
    "position": 77,
    "last": 4000,
    "side": 0,
    "price": 150502,
    "priority": 1000,
}
_PAGE = {"levels": 3, "start": 900, "end": 999, "before": 999, "low": 0, "limit": 10}
_QUESTIONS: list[tuple[Query, dict[str, object]]] = [
    (question, {**_VALUES, **_PAGE})
    for question in (
        queries.order(POSTGRESQL),
        queries.orders_by_client_id(POSTGRESQL, symbol=False),
        queries.orders_of_user(POSTGRESQL, symbol=True, statuses=ENDED),
        queries.orders_of_user(POSTGRESQL, symbol=False, statuses=STILL_OPEN),
        queries.newest_order(POSTGRESQL),
        queries.order_from(POSTGRESQL),
        queries.open_orders(POSTGRESQL),
        queries.queue_ahead(POSTGRESQL),
        queries.trades(POSTGRESQL, before=True, symbol=True),
        queries.trades(POSTGRESQL, before=False, symbol=False),
        queries.trades_between(POSTGRESQL),
        queries.trades_from(POSTGRESQL),
        queries.batch_end(POSTGRESQL),
        queries.events(POSTGRESQL),
        queries.batches_with(POSTGRESQL, "order", before=True),
        queries.batches_of_order(POSTGRESQL),
        queries.batches_with(POSTGRESQL, "user's trade", before=True),
    )
]
