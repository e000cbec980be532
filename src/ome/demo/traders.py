"""What simulated traders do in one symbol: a pure function of the seed, of the answers that they get, and of how time passes.

A fair price walks at random, with a drift that comes and goes and a pull back to where it began. Around it:

- makers keep a ladder of quotes on either side and move those that have come to stand wrong;
- noise traders leave limit orders near the best price and lose patience after a while; some of them are icebergs;
- takers send market and IOC orders of heavy-tailed sizes, at the times of a Poisson process;
- trend followers take with the move of the last seconds, and protect themselves by stops.

Prices are counts of ticks and sizes counts of lots, as whole numbers; they become decimals in `Trading.terms`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from random import Random
from typing import Final, NamedTuple

from ome.client.models import NewOrder, SideName

MAKERS: Final = ("demo-maker-1", "demo-maker-2", "demo-maker-3")
NOISE: Final = "demo-noise"
TAKER: Final = "demo-taker"
TREND: Final = "demo-trend"
USERS: Final = (*MAKERS, NOISE, TAKER, TREND)
"""Every demo trader: nobody else's orders are touched."""

LEVELS: Final = 16
"""Quotes of a maker on each side."""
SLACK: Final = 3
"""Levels that a quote may be too far away before it is taken back."""
SIDES: Final[tuple[tuple[SideName, int], ...]] = (("BUY", -1), ("SELL", 1))
NOISE_ORDERS: Final = 40
STOPS: Final = 4
DRIFT_SECONDS: Final = 20.0
"""How long a drift lasts, about."""
PULL_SECONDS: Final = 600.0
"""How fast the price comes back to where it began."""
TREND_SECONDS: Final = 6.0
"""Over how long trend followers look back."""


class Listing(NamedTuple):
    """A symbol of the demo: its tick and lot, where its price begins, how much it moves in a second (a share of the price), and
    the quantity of a usual order.
    """

    symbol: str
    tick: Decimal
    lot: Decimal
    price: Decimal
    volatility: float
    size: Decimal


LISTINGS: Final = (
    Listing("ACME", Decimal("0.01"), Decimal(1), Decimal("148.20"), 0.00005, Decimal(60)),
    Listing("BTC-USD", Decimal("0.5"), Decimal("0.0001"), Decimal(64_250), 0.00004, Decimal("0.08")),
    Listing("ETH-USD", Decimal("0.05"), Decimal("0.001"), Decimal("3412.5"), 0.00006, Decimal("1.2")),
    Listing("GLOBEX", Decimal("0.01"), Decimal(1), Decimal("57.35"), 0.00007, Decimal(140)),
    Listing("INITECH", Decimal("0.01"), Decimal(1), Decimal("23.08"), 0.00009, Decimal(300)),
    Listing("SOL-USD", Decimal("0.01"), Decimal("0.01"), Decimal("171.40"), 0.00007, Decimal(20)),
)


class Resting(NamedTuple):
    """An order that a demo trader has in the book."""

    order_id: str
    user_id: str
    side: SideName
    ticks: int
    since: float


class Cancel(NamedTuple):
    """An order to take back."""

    order_id: str


class Submit(NamedTuple):
    """An order to send; `ticks` where it rests, for whoever remembers it."""

    order: NewOrder
    ticks: int


Action = Submit | Cancel


class Trading:
    """All demo traders in one symbol."""

    def __init__(self, listing: Listing, seed: int) -> None:
        self.listing = listing
        self._random = Random(f"{seed} {listing.symbol}")  # noqa: S311  a seed is wanted
        self._home = math.log(float(listing.price / listing.tick))
        self._walk = self._home
        self._drift = 0.0
        self._now = 0.0
        self._past: deque[tuple[float, float]] = deque([(0.0, self._walk)])
        self.resting: dict[str, Resting] = {}
        self._ended: deque[str] = deque(maxlen=512)

    @property
    def fair(self) -> float:
        """The fair price in ticks."""
        return math.exp(self._walk)

    def beat(self, seconds: float) -> list[Action]:
        """What they do after so many seconds more."""
        self._move(seconds)
        actions = [*self._quotes(), *self._impatience(), *self._noise(seconds), *self._takes(seconds), *self._trend(seconds)]
        self._random.shuffle(actions)
        # what is taken back goes first: a maker that moves must not meet itself
        return sorted(actions, key=lambda action: isinstance(action, Submit))

    def accepted(self, action: Submit, order_id: str) -> None:
        """An order rests; its end may have been heard of already."""
        if order_id not in self._ended:
            order = action.order
            self.resting[order_id] = Resting(order_id, order["user_id"], order["side"], action.ticks, self._now)

    def ended(self, order_id: str) -> None:
        """An order has left the book."""
        self.resting.pop(order_id, None)
        self._ended.append(order_id)

    def _move(self, seconds: float) -> None:
        draw, volatility = self._random, self.listing.volatility
        self._drift += -self._drift * seconds / DRIFT_SECONDS + draw.gauss(0, volatility * 0.25) * math.sqrt(seconds)
        pull = (self._home - self._walk) * seconds / PULL_SECONDS
        self._walk += pull + self._drift * seconds + draw.gauss(0, volatility) * math.sqrt(seconds)
        self._now += seconds
        self._past.append((self._now, self._walk))
        while self._now - self._past[0][0] > TREND_SECONDS:
            self._past.popleft()

    def _quotes(self) -> Iterator[Action]:
        """Makers quote on a grid of their own, so that a price that moves a little moves few of their orders."""
        for index, user in enumerate(MAKERS):
            step = max(1, round(self.fair * (0.0001 + 0.00007 * index)))
            for side, sign in SIDES:
                mine = [each for each in self.resting.values() if (each.user_id, each.side) == (user, side)]
                first = math.ceil((sign * (self.fair - index) + step * 0.4) / step)
                wanted = {sign * (first + level) * step + index for level in range(LEVELS)}
                furthest = (LEVELS + SLACK) * step
                for order in mine:
                    wanted.discard(order.ticks)
                    if not 0 < sign * (order.ticks - self.fair) <= furthest:
                        yield Cancel(order.order_id)
                for ticks in sorted(wanted):
                    distance = abs(ticks - self.fair) / step
                    yield self._limit(user, side, ticks, self._size(0.6 + distance / 6), post_only=True)

    def _impatience(self) -> Iterator[Action]:
        """Noise traders take back what stands too long or in vain."""
        for order in list(self.resting.values()):
            if order.user_id in {NOISE, TREND} and self._now - order.since > self._random.expovariate(1 / 45) + 3:
                yield Cancel(order.order_id)

    def _noise(self, seconds: float) -> Iterator[Action]:
        standing = sum(1 for each in self.resting.values() if each.user_id == NOISE)
        for _ in range(min(self._arrivals(1.5 * seconds) + (8 if self._now < 1 else 0), NOISE_ORDERS - standing)):
            side: SideName = self._random.choice(("BUY", "SELL"))
            depth = self.fair * self._random.expovariate(1 / 0.0009)
            ticks = round(self.fair + (depth if side == "SELL" else -depth))
            size = self._size(1.0)
            if self._random.random() < 0.12:
                shown = max(self.listing.lot, self._lots(size / 5))
                yield self._limit(NOISE, side, ticks, size * 4, display_quantity=shown)
            else:
                yield self._limit(NOISE, side, ticks, size)

    def _takes(self, seconds: float) -> Iterator[Action]:
        for _ in range(self._arrivals(1.1 * seconds)):
            side: SideName = "BUY" if self._random.random() < self._lean() else "SELL"
            yield self._take(TAKER, side, self._size(0.45))

    def _trend(self, seconds: float) -> Iterator[Action]:
        gone = self._walk - self._past[0][1]
        if abs(gone) > 2.2 * self.listing.volatility and self._random.random() < 0.5 * seconds:
            side: SideName = "BUY" if gone > 0 else "SELL"
            yield self._take(TREND, side, self._size(1.4))
            if sum(1 for each in self.resting.values() if each.user_id == TREND) < STOPS:
                away = self.fair * 0.0012
                ticks = round(self.fair - away if gone > 0 else self.fair + away)
                stop = Decimal(max(ticks, 1)) * self.listing.tick
                out: SideName = "SELL" if gone > 0 else "BUY"
                order = NewOrder(
                    user_id=TREND,
                    symbol=self.listing.symbol,
                    side=out,
                    type="STOP",
                    quantity=self._size(0.8),
                    stop_price=stop,
                    time_in_force="IOC",
                )
                yield Submit(order, ticks)

    def _lean(self) -> float:
        """How likely a taker buys: the more, the more the price rises."""
        return 0.5 + 0.3 * math.tanh(self._drift / self.listing.volatility)

    def _arrivals(self, expected: float) -> int:
        """A Poisson number."""
        limit, product, count = math.exp(-expected), self._random.random(), 0
        while product > limit:
            product *= self._random.random()
            count += 1
        return count

    def _size(self, scale: float) -> Decimal:
        """A heavy-tailed quantity, at least a lot."""
        factor = min(self._random.lognormvariate(-0.3, 0.8) * scale, 12.0)
        return self._lots(self.listing.size * Decimal(factor))

    def _lots(self, quantity: Decimal) -> Decimal:
        lots = max(1, round(quantity / self.listing.lot))
        return lots * self.listing.lot

    def _take(self, user: str, side: SideName, quantity: Decimal) -> Submit:
        order = NewOrder(user_id=user, symbol=self.listing.symbol, side=side, type="MARKET", quantity=quantity)
        if self._random.random() < 0.4:
            reach = self.fair * (1.0006 if side == "BUY" else 0.9994)
            price = Decimal(round(reach)) * self.listing.tick
            order |= NewOrder(
                symbol=self.listing.symbol, side=side, quantity=quantity, type="LIMIT", price=price, time_in_force="IOC"
            )
        return Submit(order, 0)

    def _limit(
        self,
        user: str,
        side: SideName,
        ticks: int,
        quantity: Decimal,
        *,
        post_only: bool = False,
        display_quantity: Decimal | None = None,
    ) -> Submit:
        ticks = max(ticks, 1)
        price = Decimal(ticks) * self.listing.tick
        order = NewOrder(user_id=user, symbol=self.listing.symbol, side=side, quantity=quantity, price=price)
        if post_only:
            order["post_only"] = True
        if display_quantity is not None:
            order["display_quantity"] = display_quantity
        return Submit(order, ticks)
