"""Seeded random commands that crowd a few price levels, so that queues, crossings and refusals are common."""

from __future__ import annotations

from random import Random
from typing import Any

from ome.domain.commands import (
    AdvanceTime,
    CancelAllAfter,
    CancelOrder,
    CancelOrders,
    Command,
    Configure,
    DefineInstrument,
    ModifyOrder,
    NewOrder,
    SetKill,
    SetLimits,
    Transfer,
)
from ome.domain.enums import MarketState, OrderType, SelfTradePrevention, Side, TimeInForce, TransferKind
from ome.domain.numbers import canonical, pack
from ome.domain.records import EngineSettings, Limits, SpecialTerms

SYMBOLS = ("AAA", "BBB", "CCC")
USERS = ("ann", "bob", "cat", "dan")
MODES = (SelfTradePrevention.CANCEL_NEWEST, *SelfTradePrevention)
GRIDS: dict[str, tuple[int, int, int, int]] = {"AAA": (1, 2, 1, 0), "BBB": (5, 2, 10, 0), "CCC": (25, 4, 1, 3)}
"""By symbol: tick mantissa and decimals, lot mantissa and decimals."""
ASSETS: dict[str, tuple[str, str, int, int]] = {
    "AAA": ("SHARE", "USD", -2, 10),
    "BBB": ("BTC", "USD", 3, 1),
    "CCC": ("ETH", "BTC", -7, -1),
}
"""By symbol: what it is of, what it is paid with (one's goods are another's money), maker and taker fee in basis points."""
LARGEST = pack(10**15 - 1, 0)
"""The largest number that a command can carry."""
SECOND = 1_000_000
PLAIN = (OrderType.LIMIT, OrderType.MARKET)
STATES = (
    (MarketState.OPEN,) * 5 + (MarketState.AUCTION,) * 3 + (MarketState.POST_ONLY, MarketState.CANCEL_ONLY, MarketState.HALTED)
)


def price_of(symbol: str, ticks: int) -> int:
    """A price so many ticks above a thousand ticks, in canonical form."""
    return distance_of(symbol, 1000 + ticks)


def distance_of(symbol: str, ticks: int) -> int:
    """So many ticks, in canonical form."""
    mantissa, decimals, _, _ = GRIDS[symbol]
    return canonical(pack(ticks * mantissa, decimals))


def quantity_of(symbol: str, lots: int) -> int:
    """So many lots, in canonical form."""
    _, _, mantissa, decimals = GRIDS[symbol]
    return canonical(pack(lots * mantissa, decimals))


def off_grid(step_mantissa: int, step_decimals: int) -> int:
    """A number between two steps."""
    return pack(step_mantissa * 10 * 1000 + 1, step_decimals + 1)


class Flow:
    """The commands of one seed; it remembers the ids that its orders will have, `first_position` on.

    `plain` leaves out all but LIMIT and MARKET orders without terms, and whatever changes a market's rules. `funded`: orders are
    paid for, from accounts that are filled and emptied all the time.
    """

    def __init__(
        self,
        random: Random,
        symbols: tuple[str, ...] = SYMBOLS,
        shard_base: int = 0,
        *,
        plain: bool = False,
        funded: bool = False,
    ) -> None:
        self.random = random
        self.symbols = symbols
        self.shard_base = shard_base
        self.plain = plain
        self.funded = funded
        self.ids: list[int] = []
        self.symbol_of: dict[int, str] = {}
        self.type_of: dict[int, OrderType] = {}
        self.closed: list[str] = []
        self.killed: list[tuple[str, str]] = []

    def listing(self) -> list[Command]:
        """The commands that let positions be kept, and list what has other than the default tick and lot."""
        return [
            Configure(EngineSettings(keeps_positions=True)),
            *(
                DefineInstrument(symbol, pack(tick, tick_decimals), pack(lot, lot_decimals))
                for symbol, (tick, tick_decimals, lot, lot_decimals) in GRIDS.items()
                if symbol in self.symbols and symbol != "AAA"
            ),
            *(self.first_funds() if self.funded else ()),
        ]

    def next(self, position: int, time: int) -> Command:
        """The command for this position and time."""
        draw = self.random.random()
        if self.funded and self.random.random() < 0.12:
            return self._of_funds(position)
        if (self.killed and self.random.random() < 0.3) or (self.closed and self.random.random() < 0.06):
            return self._reopening()
        if draw < 0.60 or not self.ids:
            return self._new(position, time)
        if draw < 0.72:
            order_id, exists = self._some_id(position)
            return CancelOrder(order_id, exists)
        if draw < 0.95:
            return self._modify(position, time)
        return self._rare() if self.plain or self.random.random() < 0.5 else self._operators()

    def _reopening(self) -> Command:
        """What was stopped or closed goes on."""
        if self.killed:
            return SetKill(*self.killed.pop(), is_active=False)
        return DefineInstrument(self.closed.pop(), state=MarketState.OPEN)

    def _new(self, position: int, time: int) -> Command:
        random = self.random
        symbol = random.choice(self.symbols)
        order_type = self._type()
        has_limit = order_type in {OrderType.LIMIT, OrderType.STOP_LIMIT}
        terms = None if self.plain else self._terms(symbol, order_type)
        rests = has_limit or (terms is not None and terms.limit_offset is not None)
        tif = random.choices([*TimeInForce][: 4 if self.plain else 5], [60, 12, 12, 16, 8][: 4 if self.plain else 5])[0]
        if not rests:
            tif = TimeInForce.IOC
        self.ids.append(self.shard_base + position)
        self.symbol_of[self.ids[-1]] = symbol
        self.type_of[self.ids[-1]] = order_type
        return NewOrder(
            random.choice(USERS),
            symbol,
            random.choice([Side.BUY, Side.SELL]),
            order_type,
            tif,
            self._quantity(symbol),
            self._price(symbol) if has_limit else None,
            random.choice(MODES),
            f"c{position}" if random.random() < 0.1 else None,
            self._deadline(time) if tif is TimeInForce.GTD else None,
            terms,
        )

    def _type(self) -> OrderType:
        if self.plain:
            return OrderType.MARKET if self.random.random() < 0.1 else OrderType.LIMIT
        drawn: OrderType = self.random.choices([*OrderType], [70, 9, 7, 7, 7])[0]
        return drawn

    def _terms(self, symbol: str, order_type: OrderType) -> SpecialTerms | None:
        """What such an order may ask for; None for most that are plain."""
        random = self.random
        if order_type in PLAIN and random.random() < 0.6:
            return None
        is_limit = order_type in {OrderType.LIMIT, OrderType.STOP_LIMIT}
        trails = order_type is OrderType.TRAILING_STOP
        by_amount = random.random() < 0.6
        return SpecialTerms(
            stop_price=self._price(symbol) if order_type in {OrderType.STOP, OrderType.STOP_LIMIT} else None,
            trail_amount=distance_of(symbol, random.randrange(1, 6)) if trails and by_amount else None,
            trail_percent=self._percent() if trails and not by_amount else None,
            limit_offset=distance_of(symbol, random.randrange(1, 4)) if trails and random.random() < 0.5 else None,
            post_only=is_limit and random.random() < 0.25,
            display_quantity=self._part(symbol) if is_limit and random.random() < 0.5 else None,
            min_quantity=self._part(symbol) if random.random() < 0.2 else None,
            max_slippage_bps=random.choice([0, 5, 20, 50, 20_000]) if not is_limit and random.random() < 0.4 else None,
        )

    def _percent(self) -> int:
        """From a hundredth of a percent, which is less than a tick, to more than there is."""
        return self.random.choice([pack(1, 2), pack(5, 2), pack(1, 1), pack(25, 2), pack(5, 1), pack(123456789, 9), pack(100, 0)])

    def _part(self, symbol: str) -> int:
        """A small quantity; now and then one that is more than the order's, or off the lot."""
        if self.random.random() < 0.03:
            return off_grid(*GRIDS[symbol][2:])
        return quantity_of(symbol, self.random.randrange(1, 8))

    def _modify(self, position: int, time: int) -> Command:
        random = self.random
        order_id, exists = self._some_id(position)
        symbol = self.symbol_of.get(order_id, self.symbols[0])
        special: dict[str, Any] = {}
        if not self.plain:
            special = self._special_change(symbol, self.type_of.get(order_id, OrderType.LIMIT))
        return ModifyOrder(
            order_id,
            exists,
            quantity=self._quantity(symbol) if random.random() < 0.6 else None,
            price=self._price(symbol) if random.random() < 0.4 else None,
            expires_at=self._deadline(time) if random.random() < 0.12 else None,
            expected_version=random.randrange(1, 4) if random.random() < 0.1 else None,
            **special,
        )

    def _special_change(self, symbol: str, order_type: OrderType) -> dict[str, int]:
        """Another stop, trail or slice, mostly on orders that have one."""
        random = self.random
        changes: dict[str, int] = {}
        if random.random() < (0.5 if order_type in {OrderType.STOP, OrderType.STOP_LIMIT} else 0.01):
            changes["stop_price"] = self._price(symbol)
        if random.random() < (0.4 if order_type is OrderType.TRAILING_STOP else 0.01):
            if random.random() < 0.5:
                changes["trail_amount"] = distance_of(symbol, random.randrange(1, 6))
            else:
                changes["trail_percent"] = self._percent()
        if random.random() < 0.12:
            changes["display_quantity"] = self._part(symbol)
        return changes

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

    def _of_funds(self, position: int) -> Command:
        """Mostly deposits and withdrawals, of about what a few orders cost; now and then other fees, or none of it any more."""
        random = self.random
        draw = random.random()
        if draw < 0.05:
            symbol = random.choice(self.symbols)
            return random.choice([self._funding(symbol), DefineInstrument(symbol, base_asset="", quote_asset="")])
        if draw < 0.1:
            maker, taker = (random.choice([-10_000, -3, 0, 1, 10_000]) for _ in range(2))
            return DefineInstrument(random.choice(self.symbols), maker_fee_bps=maker, taker_fee_bps=taker)
        kind = TransferKind.WITHDRAWAL if draw < 0.35 else TransferKind.DEPOSIT
        asset = random.choice(["USD", "USD", "USD", "BTC", "SHARE", "ETH"])
        amount = random.choice([1, 20, 300, 5_000]), random.choice([0, 0, 0, 2, 9])
        return Transfer(kind, random.choice(USERS), asset, canonical(pack(*amount)), f"t{position}")

    def first_funds(self) -> list[Command]:
        """Funds for every symbol, and something of everything for everybody."""
        amounts = {"USD": 2_000, "BTC": 60, "SHARE": 60, "ETH": 1}
        deposits = [
            Transfer(TransferKind.DEPOSIT, user, asset, canonical(pack(amount, 0)), f"first {asset}")
            for user in USERS
            for asset, amount in amounts.items()
        ]
        return [*map(self._funding, self.symbols), *deposits]

    def _funding(self, symbol: str) -> DefineInstrument:
        base, quote, maker_fee, taker_fee = ASSETS[symbol]
        return DefineInstrument(symbol, base_asset=base, quote_asset=quote, maker_fee_bps=maker_fee, taker_fee_bps=taker_fee)

    def _controls(self, symbol: str) -> Command:
        """Limits, a kill or a timer; kills are lifted soon."""
        random = self.random
        user = random.choice(USERS)
        if self.killed and random.random() < 0.7:
            return SetKill(*self.killed.pop(), is_active=False)
        draw = random.random()
        if draw < 0.15:
            self.killed.append(random.choice([("", ""), (user, ""), (user, ""), ("", symbol)]))
            return SetKill(*self.killed[-1], is_active=True)
        if draw < 0.3:
            return CancelAllAfter(user, random.choice([0, 1, 1, 5]))
        return SetLimits(user, random.choice([symbol, symbol, ""]), self._limits(symbol))

    def _limits(self, symbol: str) -> Limits:
        """Such as orders come up against; now and then none."""
        random = self.random

        def maybe(number: int) -> int | None:
            return number if random.random() < 0.4 else None

        return Limits(
            max_order_quantity=maybe(quantity_of(symbol, random.randrange(0, 20))),
            max_order_notional=maybe(pack(random.choice([0, 3, 100, 2000]), 0)),
            max_open_orders=maybe(random.choice([0, 1, 3, 8])),
            max_position=maybe(quantity_of(symbol, random.randrange(0, 60))),
            price_collar_percent=maybe(random.choice([pack(1, 1), pack(35, 2), pack(1, 0), pack(150, 0)])),
        )

    def _rare(self) -> Command:
        random = self.random
        draw = random.random()
        if draw < 0.4:
            return AdvanceTime()
        if draw < 0.6:
            cascade = 100 if self.plain else random.choice([1, 2, 3, 100])
            return Configure(EngineSettings(random.random() < 0.8, random.choice([2, 3, 10_000]), cascade, keeps_positions=True))
        symbol = random.choice((*self.symbols, *self.symbols, "NEW"))
        if draw < 0.8 or symbol == "NEW":
            tick, tick_decimals, lot, lot_decimals = GRIDS.get(symbol, GRIDS["AAA"])
            return DefineInstrument(symbol, pack(tick, tick_decimals), pack(lot, lot_decimals))
        return DefineInstrument(symbol, pack(random.choice([1, 2, 25]), 3))

    def _operators(self) -> Command:
        """What an operator does at run time: a mass cancel, another state, other rules."""
        random = self.random
        draw, symbol = random.random(), random.choice(self.symbols)
        if random.random() < 0.4:
            return self._controls(symbol)
        if draw < 0.12:
            user = random.choice([*USERS, None])
            where = random.choice([symbol, symbol, None])
            return CancelOrders(user, where, random.choice([Side.BUY, Side.SELL, None]), random.choice([1, 2, 5, 1000]))
        if draw < 0.6:
            state = random.choice(STATES)
            if state is not MarketState.OPEN:
                self.closed.append(symbol)
            return DefineInstrument(symbol, state=state)
        percent = random.choice([0, pack(2, 1), pack(35, 2), pack(1, 0), pack(150, 0)])
        most = random.choice([0, 0, quantity_of(symbol, 15)])
        if draw < 0.85:
            return DefineInstrument(
                symbol, price_band_percent=percent, band_halt_s=random.choice([0, 1, 5]), max_order_quantity=most
            )
        close = random.choice([0, 80_000, 80_005, 86_399])
        return DefineInstrument(symbol, state=random.choice([None, *STATES]), session_close_s=close, price_band_percent=percent)
