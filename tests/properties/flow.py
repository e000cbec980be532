"""Seeded random commands that crowd a few price levels, so that queues, crossings and refusals are common."""

from __future__ import annotations

from random import Random

from ome.domain.commands import AdvanceTime, CancelOrder, Command, Configure, DefineInstrument, ModifyOrder, NewOrder
from ome.domain.enums import OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.numbers import canonical, pack
from ome.domain.records import EngineSettings

SYMBOLS = ("AAA", "BBB", "CCC")
USERS = ("ann", "bob", "cat", "dan")
MODES = (SelfTradePrevention.CANCEL_NEWEST,) * 3 + (SelfTradePrevention.NONE,)
GRIDS: dict[str, tuple[int, int, int, int]] = {"AAA": (1, 2, 1, 0), "BBB": (5, 2, 10, 0), "CCC": (25, 4, 1, 3)}
"""By symbol: tick mantissa and decimals, lot mantissa and decimals."""
LARGEST = pack(10**15 - 1, 0)
"""The largest number that a command can carry."""
SECOND = 1_000_000


def price_of(symbol: str, ticks: int) -> int:
    """A price so many ticks above a thousand ticks, in canonical form."""
    mantissa, decimals, _, _ = GRIDS[symbol]
    return canonical(pack((1000 + ticks) * mantissa, decimals))


def quantity_of(symbol: str, lots: int) -> int:
    """So many lots, in canonical form."""
    _, _, mantissa, decimals = GRIDS[symbol]
    return canonical(pack(lots * mantissa, decimals))


def off_grid(step_mantissa: int, step_decimals: int) -> int:
    """A number between two steps."""
    return pack(step_mantissa * 10 * 1000 + 1, step_decimals + 1)


class Flow:
    """The commands of one seed; it remembers the ids that its orders will have, `first_position` on."""

    def __init__(self, random: Random, symbols: tuple[str, ...] = SYMBOLS, shard_base: int = 0) -> None:
        self.random = random
        self.symbols = symbols
        self.shard_base = shard_base
        self.ids: list[int] = []
        self.symbol_of: dict[int, str] = {}

    def listing(self) -> list[Command]:
        """The commands that list what has other than the default tick and lot."""
        return [
            DefineInstrument(symbol, pack(tick, tick_decimals), pack(lot, lot_decimals))
            for symbol, (tick, tick_decimals, lot, lot_decimals) in GRIDS.items()
            if symbol in self.symbols and symbol != "AAA"
        ]

    def next(self, position: int, time: int) -> Command:
        """The command for this position and time."""
        draw = self.random.random()
        if draw < 0.58 or not self.ids:
            return self._new(position, time)
        if draw < 0.74:
            order_id, exists = self._some_id(position)
            return CancelOrder(order_id, exists)
        if draw < 0.96:
            return self._modify(position, time)
        return self._rare()

    def _new(self, position: int, time: int) -> Command:
        random = self.random
        symbol = random.choice(self.symbols)
        order_type = OrderType.MARKET if random.random() < 0.1 else OrderType.LIMIT
        tif = random.choices([*TimeInForce][:4], [60, 12, 12, 16])[0]
        if order_type is OrderType.MARKET:
            tif = TimeInForce.IOC
        self.ids.append(self.shard_base + position)
        self.symbol_of[self.ids[-1]] = symbol
        return NewOrder(
            random.choice(USERS),
            symbol,
            random.choice([Side.BUY, Side.SELL]),
            order_type,
            tif,
            self._quantity(symbol),
            self._price(symbol) if order_type is OrderType.LIMIT else None,
            random.choice(MODES),
            f"c{position}" if random.random() < 0.1 else None,
            self._deadline(time) if tif is TimeInForce.GTD else None,
        )

    def _modify(self, position: int, time: int) -> Command:
        random = self.random
        order_id, exists = self._some_id(position)
        symbol = self.symbol_of.get(order_id, self.symbols[0])
        return ModifyOrder(
            order_id,
            exists,
            quantity=self._quantity(symbol) if random.random() < 0.6 else None,
            price=self._price(symbol) if random.random() < 0.4 else None,
            expires_at=self._deadline(time) if random.random() < 0.15 else None,
            expected_version=random.randrange(1, 4) if random.random() < 0.1 else None,
        )

    def _some_id(self, position: int) -> tuple[int, bool]:
        """Mostly a recent order's, sometimes an old one's, seldom nobody's."""
        draw = self.random.random()
        if draw < 0.03:
            return self.shard_base + position + 1000, False
        if draw < 0.2:
            return self.random.choice(self.ids), True
        return self.random.choice(self.ids[-40:]), True

    def _price(self, symbol: str) -> int:
        draw = self.random.random()
        if draw < 0.01:
            return off_grid(*GRIDS[symbol][:2])
        if draw < 0.02:
            return LARGEST
        return price_of(symbol, self.random.randrange(-5, 6))

    def _quantity(self, symbol: str) -> int:
        draw = self.random.random()
        if draw < 0.01:
            return off_grid(*GRIDS[symbol][2:])
        if draw < 0.02:
            return LARGEST
        return quantity_of(symbol, self.random.randrange(1, 21))

    def _deadline(self, time: int) -> int:
        return time + self.random.choice([-SECOND, 0, 1, SECOND, 5 * SECOND, 60 * SECOND])

    def _rare(self) -> Command:
        random = self.random
        draw = random.random()
        if draw < 0.4:
            return AdvanceTime()
        if draw < 0.6:
            return Configure(EngineSettings(random.random() < 0.8, random.choice([2, 3, 10_000])))
        symbol = random.choice((*self.symbols, *self.symbols, "NEW"))
        if draw < 0.8 or symbol == "NEW":
            tick, tick_decimals, lot, lot_decimals = GRIDS.get(symbol, GRIDS["AAA"])
            return DefineInstrument(symbol, pack(tick, tick_decimals), pack(lot, lot_decimals))
        return DefineInstrument(symbol, pack(random.choice([1, 2, 25]), 3))
