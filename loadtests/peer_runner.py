"""One matching engine put through a list of steps: `python peer_runner.py ENGINE [--seconds 60] < steps`.

A line of JSON comes out. It is run as a file by the Python of whatever environment has the engine, so it imports nothing but that
one and the standard library. The steps are those of `loadtests.peers`, a line each, in ticks and lots: `A,id,side,price,quantity`
an order that rests, `T,id,side,price,quantity` one that takes what it can at once, `C,id` a cancel (of what may have gone). Each
engine is given them one at a time, in its own words; reading them is not in the time. What takes longer than `--seconds` of
processor time is stopped, and counted up to there: its book would only get larger.

The engines' own answers are made and dropped. Where one has no immediate-or-cancel, what a taker leaves is cancelled. `ome` has
all its features on, makes every event, and every 500 steps takes its changes and makes the state hash as its service does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
import time
from abc import ABC, abstractmethod
from datetime import datetime
from importlib import import_module
from typing import Any, Final

BUY: Final = "B"
LOOK_EVERY: Final = 200
"""Steps between two looks at the time."""
BATCH: Final = 500
START: Final = datetime(2024, 1, 1)  # noqa: DTZ001  a time zone would be refused


class Adapter(ABC):
    """An engine in its own words. `number` is the step's id of an order; a cancel may name one that has gone."""

    @abstractmethod
    def submit(self, number: int, side: str, price: int, quantity: int, *, takes: bool) -> None:
        """A limit order, that rests or takes what it can at once."""

    @abstractmethod
    def cancel(self, number: int) -> None:
        """A cancel."""

    def close(self) -> None:  # noqa: B027  most have nothing to close
        """No more steps come."""


class Ome(Adapter):
    """This project's."""

    def __init__(self) -> None:
        enums, records = import_module("ome.domain.enums"), import_module("ome.domain.records")
        self._commands, self._pack = import_module("ome.domain.commands"), import_module("ome.domain.numbers").pack
        self._sides, self._limit = {BUY: enums.Side.BUY, "S": enums.Side.SELL}, enums.OrderType.LIMIT
        self._rest, self._take = enums.TimeInForce.GTC, enums.TimeInForce.IOC
        self._engine: Any = import_module("ome.engine.engine").Engine()
        self._ids: dict[int, int] = {}
        self._position = 0
        self._apply(self._commands.Configure(records.EngineSettings(keeps_positions=True)))

    def submit(self, number: int, side: str, price: int, quantity: int, *, takes: bool) -> None:
        """See Adapter."""
        self._ids[number] = self._position + 1
        user, time_in_force = ("taker", self._take) if takes else (f"user{number % 500}", self._rest)
        lots, ticks = self._pack(quantity, 0), self._pack(price, 2)
        self._apply(self._commands.NewOrder(user, "DAY", self._sides[side], self._limit, time_in_force, lots, ticks))

    def cancel(self, number: int) -> None:
        """See Adapter."""
        self._apply(self._commands.CancelOrder(self._ids[number], exists=True))

    def _apply(self, command: Any) -> None:
        self._position += 1
        self._engine.apply(self._commands.Stamped(self._position, self._position, command))
        if self._position % BATCH == 0:
            self._engine.take_changes()
            self._engine.state_hash()


class FastLob(Adapter):
    """That of https://pypi.org/project/fastlob."""

    def __init__(self) -> None:
        logging.disable()
        fastlob = import_module("fastlob")
        self._order, self._lob, self._ids = fastlob.OrderParams, fastlob.Orderbook(start=True), dict[int, str]()
        self._sides, self._filled = {BUY: fastlob.OrderSide.BID, "S": fastlob.OrderSide.ASK}, fastlob.ResultType.MARKET

    def submit(self, number: int, side: str, price: int, quantity: int, *, takes: bool) -> None:
        """See Adapter."""
        result = self._lob(self._order(self._sides[side], price, quantity))
        self._ids[number] = result.orderid()
        if takes and result.kind() is not self._filled:
            self._lob.cancel(result.orderid())

    def cancel(self, number: int) -> None:
        """See Adapter."""
        self._lob.cancel(self._ids[number])

    def close(self) -> None:
        """End its thread."""
        self._lob.stop()


class LightMatchingEngine(Adapter):
    """That of https://pypi.org/project/lightmatchingengine."""

    def __init__(self) -> None:
        module = import_module("lightmatchingengine.lightmatchingengine")
        self._engine, self._ids = module.LightMatchingEngine(), dict[int, int]()
        self._sides = {BUY: module.Side.BUY, "S": module.Side.SELL}

    def submit(self, number: int, side: str, price: int, quantity: int, *, takes: bool) -> None:
        """See Adapter."""
        order, _ = self._engine.add_order("DAY", price, quantity, self._sides[side])
        self._ids[number] = order.order_id
        if takes and order.leaves_qty:
            self._engine.cancel_order(order.order_id, "DAY")

    def cancel(self, number: int) -> None:
        """See Adapter."""
        with contextlib.suppress(AssertionError):  # what it says of an order at a price that has gone
            self._engine.cancel_order(self._ids[number], "DAY")


class OrderMatching(Adapter):
    """That of https://pypi.org/project/order-matching."""

    def __init__(self) -> None:
        import_module("loguru").logger.remove()
        side = import_module("order_matching.enums").Side
        self._engine = import_module("order_matching.matching_engine").MatchingEngine(seed=1)
        self._order, self._orders = (
            import_module("order_matching.order").LimitOrder,
            import_module("order_matching.orders").Orders,
        )
        self._sides = {BUY: side.BUY, "S": side.SELL}

    def submit(self, number: int, side: str, price: int, quantity: int, *, takes: bool) -> None:
        """See Adapter."""
        named = {"order_id": str(number), "trader_id": "trader", "timestamp": START}
        order = self._order(side=self._sides[side], price=price, size=quantity, **named)
        self._engine.place(orders=self._orders([order]))
        self._engine.match(timestamp=START)
        if takes and order.size:
            self.cancel(number)

    def cancel(self, number: int) -> None:
        """See Adapter."""
        with contextlib.suppress(ValueError):  # what it says of an order that has gone
            self._engine.cancel_order(str(number))


ENGINES: Final[dict[str, type[Adapter]]] = {
    "ome": Ome,
    "fastlob": FastLob,
    "lightmatchingengine": LightMatchingEngine,
    "order-matching": OrderMatching,
}


def run(name: str, lines: list[str], seconds: float) -> dict[str, Any]:
    """Put one engine through the steps; how many it did, and in how many seconds of processor time."""
    steps = [(kind, int(number), side, int(price), int(quantity)) for kind, number, side, price, quantity in map(_cells, lines)]
    engine = ENGINES[name]()
    submit, cancel, done = engine.submit, engine.cancel, 0
    begun = time.process_time()
    for done, (kind, number, side, price, quantity) in enumerate(steps, start=1):
        if kind == "C":
            cancel(number)
        else:
            submit(number, side, price, quantity, takes=kind == "T")
        if not done % LOOK_EVERY and time.process_time() - begun > seconds:
            break
    spent = time.process_time() - begun
    engine.close()
    return {"engine": name, "steps": done, "seconds": spent}


def _cells(line: str) -> list[str]:
    cells = line.rstrip("\n").split(",")
    return cells if len(cells) > 2 else [*cells, BUY, "0", "0"]


def main() -> None:
    """Read the steps, run them, say what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--seconds", type=float, default=60.0, help="of processor time, at most")
    options = parser.parse_args()
    print(json.dumps(run(options.engine, sys.stdin.readlines(), options.seconds)))


if __name__ == "__main__":
    main()
