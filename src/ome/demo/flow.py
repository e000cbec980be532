"""Replays a file of order flow at a steady pace: for looking at, where `ome replay` goes as fast as it can and verifies.

Rows become batches, some twenty a second. A row about an order of the batch that is being collected sends that batch first.
"""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from pathlib import Path
from typing import Final

import httpx

from ome.client import Client, ClientError, Refused
from ome.client.models import CancelOperation, ModifyOperation, Operation, SideName, SubmitOperation
from ome.demo.runner import DemoError, Say, clean_up, listed
from ome.demo.traders import Listing
from ome.domain.enums import Side
from ome.replay import FlowError
from ome.replay.flow import Op, Row, flow_name, read_rows

RESTING: Final = "demo-flow-maker"
TAKING: Final = "demo-flow-taker"
USERS: Final = (RESTING, TAKING)
BATCHES_PER_SECOND: Final = 20
TICK: Final = Decimal("0.01")
LOT: Final = Decimal(1)


class _Open:
    """An order of the file that rests: its id here, and its total."""

    __slots__ = ("order_id", "side", "total")

    def __init__(self, order_id: str, side: SideName, total: int) -> None:
        self.order_id = order_id
        self.side = side
        self.total = total


class FlowPlayer:
    """Turns rows into operations and keeps which order here is which there."""

    def __init__(self, client: Client, listing: Listing) -> None:
        self._client = client
        self._listing = listing
        self._open: dict[int, _Open] = {}
        self._batch: list[tuple[Operation, int]] = []  # with the file's id of an order that is to rest, else 0
        self._adding: set[int] = set()

    async def play(self, row: Row) -> None:
        """Take a row's operations into the batch."""
        if row.order_id in self._adding:
            await self.send()
        known = self._open.get(row.order_id)
        match row.op:
            case Op.ADD | Op.SEED:
                self._rest(row, "BUY" if row.side is Side.BUY else "SELL")
            case Op.CANCEL | Op.PURGE:
                self._take_back(row.order_id)
            case Op.REDUCE if known is not None:
                known.total -= row.quantity
                if known.total <= 0:
                    self._take_back(row.order_id)
                else:
                    change = ModifyOperation(op="modify", order_id=known.order_id, quantity=known.total * self._listing.lot)
                    self._batch.append((change, 0))
            case Op.REPLACE if known is not None:
                self._take_back(row.order_id)
                self._rest(row, known.side)
            case Op.TAKE:
                self._batch.append((self._order(TAKING, "BUY" if row.side is Side.BUY else "SELL", row, "IOC"), 0))
            case Op.EXECUTE:
                self._batch.append((self._order(TAKING, "SELL" if row.side is Side.BUY else "BUY", row, "IOC"), 0))
            case _:
                pass  # about an order that this replay doesn't know

    @property
    def waiting(self) -> int:
        """Operations that aren't sent yet."""
        return len(self._batch)

    async def send(self) -> None:
        """Send what was collected. Raises ClientError."""
        batch, self._batch = self._batch, []
        self._adding.clear()
        if not batch:
            return
        answer = await self._client.batch([operation for operation, _ in batch])
        for (operation, name), result in zip(batch, answer.results, strict=True):
            order = result.order
            if name and order is not None and order.order_id is not None and order.remaining_quantity:
                total = int(Decimal(str(operation["quantity"])) / self._listing.lot)  # type: ignore[typeddict-item]
                self._open[name] = _Open(order.order_id, "BUY" if order.side == "BUY" else "SELL", total)

    def _rest(self, row: Row, side: SideName) -> None:
        self._batch.append((self._order(RESTING, side, row, "GTC"), row.order_id))
        self._adding.add(row.order_id)

    def _take_back(self, name: int) -> None:
        known = self._open.pop(name, None)
        if known is not None:
            self._batch.append((CancelOperation(op="cancel", order_id=known.order_id), 0))

    def _order(self, user: str, side: SideName, row: Row, time_in_force: str) -> SubmitOperation:
        return SubmitOperation(
            user_id=user,
            symbol=self._listing.symbol,
            side=side,
            quantity=row.quantity * self._listing.lot,
            price=row.price * self._listing.tick,
            time_in_force=time_in_force,  # type: ignore[typeddict-item]
            self_trade_prevention="NONE",
        )


async def replay_flow(
    url: str, *, file: Path, api_key: str | None = None, rate: float = 100.0, say: Say = lambda _: None
) -> None:
    """Replay a file at `rate` rows a second, to its end or until cancelled. Raises DemoError."""
    headers = {"X-API-Key": api_key} if api_key else {}
    symbol = flow_name(file).upper()[:32]
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=10) as operator, Client(url, api_key) as client:
        terms = await listed(operator, Listing(symbol, TICK, LOT, Decimal(1), 0.0, LOT))
        await clean_up(client, USERS)
        say(f"{file.name} as {symbol}, {rate:g} rows a second, at {url}. Ctrl+C stops it.")
        try:
            await _play_all(FlowPlayer(client, terms), file, rate)
        except (ClientError, FlowError) as error:
            raise DemoError(str(error)) from error
        finally:
            await clean_up(client, USERS)


async def _play_all(player: FlowPlayer, file: Path, rate: float) -> None:
    started, at_once = time.monotonic(), max(1, round(rate / BATCHES_PER_SECOND))
    for count, row in enumerate(read_rows(file), 1):
        await player.play(row)
        if player.waiting >= at_once:
            try:
                await player.send()
            except Refused as error:
                raise DemoError(str(error)) from error
            await asyncio.sleep(max(0.0, started + count / rate - time.monotonic()))
    await player.send()
