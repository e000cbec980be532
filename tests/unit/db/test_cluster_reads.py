"""What a gateway reads of all shards together, from shards in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from msgspec import structs

from factories import a_trade, an_order
from ome.db.cluster_reads import ClusterReads
from ome.domain.enums import ControlKind, Side, Switch
from ome.domain.ids import SHARD_STEP, make_id
from ome.domain.ports import Page
from ome.domain.records import AuditEntry, ControlRecord, OrderRecord, TradeRecord


class Shard:
    """The trades of one, newest first where they are asked for by pages, and what was asked of it."""

    def __init__(self, shard: int, count: int) -> None:
        buy, sell = an_order(1), an_order(2, side=Side.SELL)
        numbers = [shard * SHARD_STEP + number for number in range(1, count + 1)]
        self.all = [a_trade(number, buy, sell, taker=Side.BUY) for number in numbers]
        self.orders = [an_order(number) for number in numbers]
        self.asked: list[Page] = []
        self.others: list[Shard] = []

    async def trades(self, page: Page, **_: Any) -> list[TradeRecord]:
        """As a page of one user's."""
        self.asked.append(page)
        return [trade for trade in reversed(self.all) if page.before_id is None or trade.id < page.before_id][: page.limit]

    async def audit(self, page: Page, action: str | None) -> list[AuditEntry]:
        """One entry for each trade."""
        assert action == "kill"
        positions = [trade.id % SHARD_STEP for trade in reversed(self.all)]
        shard = self.all[0].id // SHARD_STEP if self.all else 0
        found = [AuditEntry(shard, each, 0, "operator", action, "", "{}") for each in positions]
        return [entry for entry in found if page.before_id is None or entry.position < page.before_id][: page.limit]

    async def shards_of(self, symbol: str) -> list[int]:
        """Of one that was on all three."""
        return [0, 1, 2] if symbol == "MOVED" else []

    async def trades_made(self, before: int | None, limit: int, _symbol: str | None = None) -> list[TradeRecord]:
        """See StoredReads."""
        return [trade for trade in reversed(self.all) if before is None or trade.id < before][:limit]

    async def end_before_sequence(self, _: str, sequence: int) -> int:
        """See StoredReads."""
        return max((trade.id + 1 for trade in self.all if trade.sequence < sequence), default=0)

    async def first_trade_since(self, moment_us: int) -> int:
        """See StoredReads."""
        return max((trade.id + 1 for trade in self.all if trade.executed_at < moment_us), default=0)

    async def order(self, order_id: int) -> OrderRecord | None:
        """Of any shard."""
        return next((order for shard in self.others for order in shard.orders if order.id == order_id), None)

    async def orders_of_user(self, _: str, page: Page, **_of: Any) -> list[OrderRecord]:
        """See StoredReads."""
        return [order for order in reversed(self.orders) if page.before_id is None or order.id < page.before_id][: page.limit]

    async def first_order_since(self, moment_us: int) -> int:
        """See StoredReads."""
        return max((order.id + 1 for order in self.orders if order.created_at < moment_us), default=0)

    async def trades_since(self, _moment_us: int) -> AsyncIterator[list[TradeRecord]]:
        """All of them, in one piece; none where there are none."""
        if self.all:
            yield self.all

    async def controls(self, kind: ControlKind, _user_id: str | None = None) -> list[ControlRecord]:
        """One control of each of two symbols, and an older one, as another shard has it."""
        return [ControlRecord(kind, "ann", symbol, Switch.ON, moment) for symbol, moment in (("X", 2), ("Y", 1), ("X", 1))]


@pytest.fixture
async def reads() -> AsyncIterator[tuple[ClusterReads, list[Shard]]]:
    """Of three shards with two, no and three trades."""
    cluster = ClusterReads("postgresql://ome@127.0.0.1:1/ome", shards=3, pool_size=1)
    shards = [Shard(shard, count) for shard, count in enumerate((2, 0, 3))]
    cluster.of_shard = shards  # type: ignore[assignment]
    cluster._any = shards[0]  # type: ignore[assignment]
    shards[0].others = shards
    yield cluster, shards
    await cluster.close()


TIMES: Final = ((5, 20), (), (5, 10, 20))
"""When the trades and orders of each shard were made; of those of one moment the higher id counts as the newer."""
NEWEST_FIRST: Final = [(2, 3), (0, 2), (2, 2), (2, 1), (0, 1)]
"""Shard and number of each."""


@pytest.mark.parametrize("user_id", ["ann", None])
@pytest.mark.parametrize("limit", [1, 2, 3, 10])
async def test_trades_of_several_shards_are_newest_first(
    reads: tuple[ClusterReads, list[Shard]], limit: int, user_id: str | None
) -> None:
    """A user's, and everybody's: page by page each trade once, whichever shard made it (D5)."""
    cluster, shards = reads
    for shard, times in zip(shards, TIMES, strict=True):
        shard.all = [structs.replace(trade, executed_at=time) for trade, time in zip(shard.all, times, strict=True)]
    found: list[int] = []
    while page := await cluster.trades(Page(found[-1] if found else None, limit), user_id=user_id):
        found += [trade.id for trade in page]
    assert [divmod(trade_id, SHARD_STEP) for trade_id in found] == NEWEST_FIRST
    assert await cluster.trades(Page(7 * SHARD_STEP, limit), user_id=user_id) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
async def test_orders_of_several_shards_are_newest_first(reads: tuple[ClusterReads, list[Shard]], limit: int) -> None:
    """The same, of a user's orders."""
    cluster, shards = reads
    for shard, times in zip(shards, TIMES, strict=True):
        shard.orders = [structs.replace(order, created_at=time) for order, time in zip(shard.orders, times, strict=True)]
    found: list[int] = []
    while page := await cluster.orders_of_user("ann", Page(found[-1] if found else None, limit)):
        found += [order.id for order in page]
    assert [divmod(order_id, SHARD_STEP) for order_id in found] == NEWEST_FIRST
    assert await cluster.orders_of_user("ann", Page(7 * SHARD_STEP, limit)) == []


async def test_the_audit_goes_on_from_shard_to_shard(reads: tuple[ClusterReads, list[Shard]]) -> None:
    """What operators did while shard 0 was away is in those of others: every entry once, page by page."""
    cluster, shards = reads
    found: list[int] = []
    while page := await cluster.audit(Page(found[-1] if found else None, 2), "kill"):
        found += [make_id(entry.shard, entry.position) for entry in page]
    assert found == [trade.id for shard in reversed(shards) for trade in reversed(shard.all)]


@pytest.mark.parametrize(("order_id", "shard"), [(1, 0), (2 * SHARD_STEP + 1, 2), (9 * SHARD_STEP, 0)])
async def test_an_orders_trades_are_its_shards(reads: tuple[ClusterReads, list[Shard]], order_id: int, shard: int) -> None:
    """Its id says which; one of a shard that there isn't is the first one's to know nothing of."""
    cluster, shards = reads
    await cluster.trades(Page(None, 2), order_id=order_id)
    assert [number for number, each in enumerate(shards) if each.asked] == [shard]


async def test_all_trades_since_a_moment_come_shard_after_shard(reads: tuple[ClusterReads, list[Shard]]) -> None:
    """None is left out, and a shard without any gives no piece."""
    cluster, shards = reads
    assert [piece async for piece in cluster.trades_since(0)] == [shards[0].all, shards[2].all]


async def test_of_controls_the_newest_counts(reads: tuple[ClusterReads, list[Shard]]) -> None:
    """One for each user and symbol: shards are told of each at their own moments."""
    cluster, _ = reads
    found = await cluster.controls(ControlKind.KILL)
    assert [(control.symbol, control.changed_at) for control in found] == [("X", 2), ("Y", 1)]


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
async def test_the_tape_of_a_symbol_that_was_moved_is_in_the_order_of_its_sequence(
    reads: tuple[ClusterReads, list[Shard]], limit: int
) -> None:
    """Page by page every trade once, newest first, whichever shard made it (D5)."""
    cluster, shards = reads
    shards[0].all = [structs.replace(trade, sequence=sequence) for trade, sequence in zip(shards[0].all, (3, 9), strict=True)]
    shards[2].all = [structs.replace(trade, sequence=sequence) for trade, sequence in zip(shards[2].all, (4, 5, 8), strict=True)]
    found: list[int] = []
    before = None
    while page := await cluster.trades(Page(before, limit), symbol="MOVED"):
        found += [trade.sequence for trade in page]
        before = page[-1].id
    assert found == [9, 8, 5, 4, 3]
    assert await cluster.trades(Page(7 * SHARD_STEP, limit), symbol="MOVED") == []
    assert [len(shard.asked) for shard in shards] == [0, 0, 0]
