"""The specification, executable: a slow and obvious engine that says what every command must lead to.

One list of resting orders and one of waiting stops, scanned from end to end for each question; every price and quantity an
integer count of 10**-9, so that nothing is ever rounded but where a rule says so; no ticks, no levels, no indexes, no shared
code with `ome.engine`. Where the rule book is read in one of several possible ways, the twin is that reading, and says so where
it does. Not meant for more than a few thousand orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor

from ome.domain.commands import (
    Admit,
    AdvanceTime,
    CancelOrder,
    CancelOrders,
    Configure,
    DefineInstrument,
    ModifyOrder,
    NewOrder,
    Release,
    Stamped,
    Transfer,
)
from ome.domain.enums import MarketState, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce, TransferKind
from ome.domain.ids import make_id
from ome.domain.reasons import Reason
from ome.domain.records import EngineSettings
from reference.auction import Indication, call_price
from reference.funds import OUTSIDE, WHOLE, Accounts, cost_of_sweeping, hold_of, is_priced_later
from reference.holdings import Fill
from reference.pictures import DEFAULT_LOT, DEFAULT_TICK, OPEN, Level, Market, Order, Outcome, Trade, exact, too_large
from reference.risk import Risk

STOPS = (OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP)
RESTING = (TimeInForce.GTC, TimeInForce.GTD, TimeInForce.DAY)
AT_ONCE = (TimeInForce.IOC, TimeInForce.FOK)
EXPIRY_CHUNK = 500
"""How many orders one AdvanceTime ends (I2)."""
MICROSECONDS, DAY_US = 10**6, 86_400 * 10**6
WHOLE_PERCENT = 100 * 10**9
CLOSED = {MarketState.HALTED: Reason.MARKET_HALTED, MarketState.CANCEL_ONLY: Reason.MARKET_CANCEL_ONLY}


Check = tuple[bool, Reason]
"""Whether something is wrong, and what that would be."""


def first_failing(checks: Sequence[Check]) -> Reason | None:
    """The reason of the first check that fails."""
    return next((reason for fails, reason in checks if fails), None)


class Twin:
    """The whole engine of one shard, naively."""

    def __init__(self, shard: int = 0) -> None:
        self.shard = shard
        self.settings = EngineSettings()
        self.markets: dict[str, Market] = {}
        self.orders: dict[int, Order] = {}
        self.resting: list[Order] = []
        self.waiting: list[Order] = []
        self.accounts = Accounts()
        self.position = self.time = self.trade_count = self.turns = 0
        self.out = Outcome()
        self.touched: set[tuple[str, Side, int]] = set()
        self.stirred: set[str] = set()
        """Symbols whose orders or state changed: in an auction, what it would give is told anew."""
        self.changed: set[int] = set()
        self.fills: list[Fill] = []
        self.risk = Risk(self)

    def apply(self, stamped: Stamped) -> Outcome:
        """Carry out one command: deadlines first (T5), halts that are over, the command, then the stops that are due (S1), and
        at the end what the public is told of each book touched (D1).
        """
        self.position, self.time = stamped.position, stamped.time
        self.out, self.touched, self.stirred, self.changed = Outcome(), set(), set(), set()
        self.pass_deadlines(EXPIRY_CHUNK if isinstance(stamped.command, AdvanceTime) else None)
        match stamped.command:
            case NewOrder() as command:
                self.new_order(command)
            case ModifyOrder() as command:
                self.modify(command)
            case CancelOrder() as command:
                found = self.find(command)
                if found is not None:
                    self.end(found, "cancelled", OrderStatus.CANCELLED, Reason.CANCELLED_BY_USER)
            case CancelOrders() as command:
                self.cancel_orders(command)
            case DefineInstrument() as command:
                self.define(command)
            case Transfer() as command:
                self.transfer(command)
            case Configure(settings):
                self.settings = settings
            case AdvanceTime():
                self.risk.sweep(EXPIRY_CHUNK)
            case _ as command:
                assert not isinstance(command, Release | Admit), "one engine has nobody to give to"
                self.risk.take(command, EXPIRY_CHUNK)
        self.run_stops()
        self.close_books()
        return self.out

    def pass_deadlines(self, most: int | None) -> None:
        """What time alone does: orders expire, the soonest first and at most so many; halts end, the soonest first (T5, H2)."""
        due = [o for o in (*self.resting, *self.waiting) if o.expires_at is not None and o.expires_at <= self.time]
        expiring = sorted(due, key=lambda order: (order.expires_at, order.id))[:most]
        for order in expiring:
            self.end(order, "expired", OrderStatus.EXPIRED, Reason.EXPIRED)
        self.risk.ring(None if most is None else most - len(expiring))
        over = [(m.halted_until, symbol) for symbol, m in self.markets.items() if m.halted_until is not None]
        for until, symbol in sorted(over):
            if until <= self.time:
                self.set_state(symbol, MarketState.OPEN, None)
                self.say_market(symbol)

    def close_books(self) -> None:
        """Every level that was touched, and what each auction that was stirred would give now (D1, H3)."""
        for symbol in {symbol for symbol, _, _ in self.touched}:
            levels = sorted(self.level(*key) for key in self.touched if key[0] == symbol)
            self.out.books[symbol] = (self.next_sequence(symbol), levels)
        for symbol in self.stirred:
            if self.markets[symbol].state is MarketState.AUCTION:
                found = self.indication(symbol)
                self.out.auctions[symbol] = (self.next_sequence(symbol), found)

    # -- what is asked of the book -----------------------------------------------------------------------------------------

    def queue(self, symbol: str, side: Side) -> list[Order]:
        """The resting orders of one side in the order in which they trade: price, then time (M1)."""
        orders = [order for order in self.resting if order.asked.symbol == symbol and order.asked.side is side]
        sign = -1 if side is Side.BUY else 1
        return sorted(orders, key=lambda order: (sign * (order.price or 0), order.turn))

    def level(self, symbol: str, side: Side, price: int) -> Level:
        """A level's total of what is shown (T6): quantity 0 when it is gone (M4)."""
        orders = [order for order in self.queue(symbol, side) if order.price == price]
        return side, price, sum(order.shown for order in orders), len(orders)

    def against(self, taker: Order, limit: int | None) -> list[Order]:
        """The orders that a taker may trade with up to a limit, in order (M2)."""
        buys = taker.asked.side is Side.BUY
        makers = self.queue(taker.asked.symbol, Side.SELL if buys else Side.BUY)
        if limit is None:
            return makers
        return [o for o in makers if o.price is not None and (o.price <= limit if buys else o.price >= limit)]

    def would_take(self, order: Order, price: int | None) -> bool:
        """Whether it would trade, or meet an own order, at once (T4)."""
        return price is not None and bool(self.against(order, price))

    def is_own(self, taker: Order, maker: Order) -> bool:
        """Whether the two must not trade (P1); the taker's mode decides."""
        mode = taker.asked.self_trade_prevention
        return mode is not SelfTradePrevention.NONE and taker.asked.user_id == maker.asked.user_id

    def reachable_quantity(self, taker: Order, limit: int | None) -> int:
        """How much it could fill at once, self-trade prevention counted in (T2, T7).

        CANCEL_OLDEST passes own orders over; with the other modes the first own order ends the count, and of the icebergs before
        it at its price only what they show is reached: their next slices stand behind it.
        """
        total, passes = 0, taker.asked.self_trade_prevention is SelfTradePrevention.CANCEL_OLDEST
        makers = self.against(taker, limit)
        owned = {maker.price for maker in makers if self.is_own(taker, maker)}
        for maker in makers:
            if not self.is_own(taker, maker):
                total += maker.shown if maker.price in owned and not passes else maker.left
            elif not passes:
                break
        return total

    def last(self, symbol: str) -> int | None:
        """The last price; after a change of tick, one between two ticks counts as the lower, one without room as none."""
        market = self.markets[symbol]
        price = None if market.last is None else market.last[0] // market.tick * market.tick
        return None if price is None or too_large(price, market.tick) else price

    def reference(self, symbol: str) -> Fraction | int | None:
        """What bands and collars are around: last, else mid, else nothing (H2)."""
        bids, asks = self.queue(symbol, Side.BUY), self.queue(symbol, Side.SELL)
        last = self.last(symbol)
        return Fraction((bids[0].price or 0) + (asks[0].price or 0), 2) if last is None and bids and asks else last

    def band(self, symbol: str) -> tuple[int, int] | None:
        """The lowest and the highest price that may trade, around last, else mid; None for no bound (H2)."""
        market, reference = self.markets[symbol], self.reference(symbol)
        if market.band_percent is None or reference is None:
            return None
        share, tick = Fraction(market.band_percent, 100 * 10**9), market.tick
        return max(tick, ceil(reference * (1 - share) / tick) * tick), floor(reference * (1 + share) / tick) * tick

    def next_deadline(self) -> int | None:
        """When something becomes due without a command: at once where stops that are due have not fired yet (S3)."""
        if any(order.is_due and self.markets[order.asked.symbol].state is MarketState.OPEN for order in self.waiting):
            return self.time
        if self.risk.next_to_sweep() is not None:
            return self.time
        moments = [order.expires_at for order in (*self.resting, *self.waiting)]
        moments += [market.halted_until for market in self.markets.values()]
        moments += [until for until, _ in self.risk.timers()]
        return min((moment for moment in moments if moment is not None), default=None)

    def limit_of(self, order: Order) -> tuple[int | None, Reason | None]:
        """How far it may trade now, and why what a bound leaves over is cancelled: price, slippage (T3) or band (H2)."""
        symbol, buys, tick = order.asked.symbol, order.asked.side is Side.BUY, self.markets[order.asked.symbol].tick
        bounds: list[tuple[int, Reason | None]] = [] if order.price is None else [(order.price, None)]
        best = self.against(order, None)
        if order.max_slippage_bps is not None and best:
            price, share = best[0].price or 0, Fraction(order.max_slippage_bps, 10_000)
            worst = floor(price * (1 + share) / tick) if buys else ceil(price * max(Fraction(0), 1 - share) / tick)
            bounds.append((worst * tick, Reason.SLIPPAGE_BOUND))
        band = self.band(symbol)
        if band is not None:
            bounds.append((band[1] if buys else band[0], Reason.PRICE_BAND_REACHED))
        collar = self.risk.collar(order.asked.user_id, symbol)
        if collar is not None:
            bounds.append((collar[1] if buys else collar[0], Reason.PRICE_COLLAR_REACHED))
        if not bounds:
            return None, None
        return (min if buys else max)(bounds, key=lambda bound: bound[0])

    def indication(self, symbol: str) -> Indication | None:
        """What an uncross would give now (H3)."""
        bids, asks = ([(order.price or 0, order.left) for order in self.queue(symbol, side)] for side in Side)
        return call_price(bids, asks, self.markets[symbol].tick, self.last(symbol))

    # -- new orders --------------------------------------------------------------------------------------------------------

    def new_order(self, asked: NewOrder) -> None:
        """Accept an order and let it trade or wait, or refuse it; a refused one lists no symbol."""
        order = Order(make_id(self.shard, self.position), asked, self.time)
        self.orders[order.id] = order
        refusal = self.why_not_new(order)
        if refusal is not None:
            self.say(order, "rejected", OrderStatus.REJECTED, refusal)
            return
        symbol = asked.symbol
        if symbol not in self.markets:
            self.markets[symbol] = Market(DEFAULT_TICK, DEFAULT_LOT, self.time)
            self.say_market(symbol)
        if asked.time_in_force is TimeInForce.DAY:
            close = self.markets[symbol].session_close_s * MICROSECONDS
            order.expires_at = close + DAY_US * ((self.time - close) // DAY_US + 1)
        if asked.type in STOPS:
            if order.trails:
                self.trail(order, self.last(symbol))
            self.waiting.append(order)
            self.say(order, "accepted", OrderStatus.PENDING_TRIGGER)
        else:
            self.say(order, "accepted")
            self.enter(order)

    def why_not_new(self, order: Order) -> Reason | None:
        """The first check that fails, in the order of R1: kill, listing, state, tick, lot, size, band, deadline, taking."""
        asked, market = order.asked, self.markets.get(order.asked.symbol)
        checks = [
            (self.risk.is_killed(asked.user_id, asked.symbol), Reason.KILL_SWITCH),
            (market is None and not self.settings.auto_list, Reason.UNKNOWN_SYMBOL),
            (market is None and len(self.markets) >= self.settings.max_symbols, Reason.TOO_MANY_SYMBOLS),
            self.check_state(order, market),
            *self.check_numbers(order, market),
            (self.is_above_maximum(order.quantity, market), Reason.QUANTITY_ABOVE_MAXIMUM),
            ((order.display or 0) > order.quantity, Reason.DISPLAY_ABOVE_QUANTITY),
            (order.is_cut_too_small, Reason.DISPLAY_TOO_SMALL),
            ((order.min_quantity or 0) > order.quantity, Reason.MIN_ABOVE_QUANTITY),
            ((order.trail_percent or 0) >= WHOLE_PERCENT, Reason.TRAIL_TOO_LARGE),
            (self.is_outside_band(asked.symbol, order.price), Reason.PRICE_OUTSIDE_BAND),
            (asked.expires_at is not None and asked.expires_at <= self.time, Reason.EXPIRES_AT_IN_PAST),
            self.check_taking(order, order.price, enters=asked.type not in STOPS),
        ]
        if first_failing(checks) is None:
            checks += self.risk.checks(order)
        refusal = first_failing(checks)
        if refusal is None and market is not None and not is_priced_later(order) and not self.can_pay(order):
            return Reason.INSUFFICIENT_FUNDS
        return refusal

    def check_state(self, order: Order, market: Market | None) -> Check:
        """What the symbol takes now (H1, H3): a stop may wait in POST_ONLY and AUCTION, a minimum can't be filled in either."""
        state = MarketState.OPEN if market is None else market.state
        if state in CLOSED:
            return True, CLOSED[state]
        is_market, has_minimum = order.asked.type is OrderType.MARKET, order.min_quantity is not None
        at_once = is_market or has_minimum or order.asked.time_in_force in AT_ONCE
        waits = order.asked.type in STOPS
        if state is MarketState.POST_ONLY:
            return at_once and not waits, Reason.MARKET_POST_ONLY
        return state is MarketState.AUCTION and (at_once or order.post_only) and not waits, Reason.MARKET_IN_AUCTION

    @staticmethod
    def check_numbers(order: Order, market: Market | None) -> list[Check]:
        """Whole ticks, whole lots, and room for both (M5, N1)."""
        tick, lot = (market.tick, market.lot) if market else (DEFAULT_TICK, DEFAULT_LOT)
        told = () if order.trails else (order.stop,)  # where a trail stands is the engine's own
        prices = [p for p in (order.price, *told, order.trail_amount, order.limit_offset) if p is not None]
        quantities = [q for q in (order.quantity, order.display, order.min_quantity) if q is not None]
        return [
            (any(price % tick for price in prices), Reason.PRICE_OFF_TICK),
            (any(quantity % lot for quantity in quantities), Reason.QUANTITY_OFF_LOT),
            (any(too_large(price, tick) for price in prices), Reason.PRICE_TOO_LARGE),
            (any(too_large(quantity, lot) for quantity in quantities), Reason.QUANTITY_TOO_LARGE),
        ]

    @staticmethod
    def is_above_maximum(quantity: int, market: Market | None) -> bool:
        """Whether it is more than the instrument takes (R1)."""
        return market is not None and market.maximum is not None and quantity > market.maximum

    def is_outside_band(self, symbol: str, price: int | None) -> bool:
        """Whether a limit price is one that may not trade (H2)."""
        band = self.band(symbol) if symbol in self.markets else None
        return price is not None and band is not None and not band[0] <= price <= band[1]

    def check_taking(self, order: Order, price: int | None, *, enters: bool) -> Check:
        """No part of a post-only order, nor of any order while the symbol takes only those, may take (T4, A4, H1)."""
        market = self.markets.get(order.asked.symbol)
        state = MarketState.OPEN if market is None else market.state
        reason = Reason.POST_ONLY_WOULD_TAKE if order.post_only else Reason.MARKET_POST_ONLY
        forbidden = order.post_only or state is MarketState.POST_ONLY
        return enters and forbidden and state is not MarketState.AUCTION and self.would_take(order, price), reason

    # -- funds -------------------------------------------------------------------------------------------------------------

    def available(self, user: str, asset: str) -> int:
        """What a user has and no open order holds."""
        return self.accounts.available(user, asset, self.markets, (*self.resting, *self.waiting))

    def can_pay(self, order: Order) -> bool:
        """Whether there is what an order needs that is in no queue: to hold, or, without a price, to spend at once (F1)."""
        market = self.markets[order.asked.symbol]
        hold = hold_of(market, order)
        if hold is None:
            return True
        needed = hold.amount
        if order.asked.side is Side.BUY and order.price is None:
            others = [maker for maker in self.against(order, self.limit_of(order)[0]) if not self.is_own(order, maker)]
            needed = cost_of_sweeping(market, order, others)
        return needed <= self.available(order.asked.user_id, hold.asset)

    def can_pay_more(self, order: Order, changed: Order) -> bool:
        """Whether there is what a change needs beyond what the order holds; one that needs no more is always fine (F1)."""
        market = self.markets[order.asked.symbol]
        before, after = hold_of(market, order), hold_of(market, changed)
        if before is None or after is None or after.amount <= before.amount:
            return True
        return after.amount - before.amount <= self.available(order.asked.user_id, after.asset)

    def transfer(self, command: Transfer) -> None:
        """Money comes in or goes out; never more than is available (F2)."""
        user, asset, amount = command.user_id, command.asset, exact(command.amount) * WHOLE
        is_deposit = command.transfer_kind is TransferKind.DEPOSIT
        if not is_deposit and amount > self.available(user, asset):
            self.out.refused = (None, Reason.INSUFFICIENT_FUNDS)
            self.out.story.append(("refused", 0))
            return
        self.accounts.move(asset, OUTSIDE, user, amount if is_deposit else -amount)
        number = make_id(self.shard, self.position)
        self.out.story.append(("transferred", number))
        self.out.transfers.append((number, command.transfer_kind, user, asset, exact(command.amount)))

    # -- in the market -----------------------------------------------------------------------------------------------------

    def enter(self, order: Order) -> None:
        """A new order, or a stop that has fired, comes to the market: all, or a minimum, at once if it asks for that (T2, T7)."""
        if self.markets[order.asked.symbol].state is MarketState.AUCTION:
            self.rest(order)
            return
        reachable = self.reachable_quantity(order, self.limit_of(order)[0])
        if order.asked.time_in_force is TimeInForce.FOK and reachable < order.quantity:
            self.end(order, "cancelled", OrderStatus.CANCELLED, Reason.FOK_UNFILLABLE)
        elif order.min_quantity is not None and reachable < order.min_quantity:
            self.end(order, "cancelled", OrderStatus.CANCELLED, Reason.MIN_QUANTITY_UNFILLABLE)
        else:
            self.take(order)

    def take(self, taker: Order) -> None:
        """Trade as far as its limit goes, then rest or end as it asks (T1, T3, P1, H2)."""
        limit, bound = self.limit_of(taker)
        filled_before, is_ended = taker.filled, False
        while taker.left and not is_ended and (makers := self.against(taker, limit)):
            if self.is_own(taker, makers[0]):
                is_ended = self.prevent(taker, makers[0])
            else:
                self.trade(makers[0], taker, min(taker.left, makers[0].shown), makers[0].price or 0, taker.asked.side)
        if taker.filled > filled_before:
            is_full = not taker.left and not is_ended
            self.say(taker, "filled", OrderStatus.FILLED if is_full else OrderStatus.PARTIALLY_FILLED)
            if is_full:
                return
        if is_ended:
            self.end(taker, "cancelled", OrderStatus.CANCELLED, Reason.SELF_TRADE_PREVENTED)
        elif bound is not None and self.against(taker, taker.price):
            self.end(taker, "cancelled", OrderStatus.CANCELLED, bound)
            if bound is Reason.PRICE_BAND_REACHED:
                self.halt(taker.asked.symbol)
        elif taker.price is not None and taker.asked.time_in_force in RESTING:
            self.rest(taker)
        elif taker.price is not None:
            self.end(taker, "cancelled", OrderStatus.CANCELLED, Reason.IOC_REMAINDER)
        else:
            reason = Reason.MARKET_REMAINDER if taker.filled else Reason.NO_LIQUIDITY
            self.end(taker, "cancelled", OrderStatus.CANCELLED, reason)

    def rest(self, order: Order) -> None:
        """Join the back of the level, an iceberg with its first slice (T6)."""
        self.turns += 1
        order.turn = self.turns
        order.show_slice()
        self.resting.append(order)
        self.touch(order)

    def trade(self, maker: Order, taker: Order, quantity: int, price: int, taker_side: Side | None) -> None:
        """One trade: at the maker's price (M1), or at the auction's, which has no taker's side (H3)."""
        symbol = maker.asked.symbol
        for order in (maker, taker):
            shown_before = order.shown
            order.filled += quantity
            order.filled_value += price * quantity
            self.note(order)
            order.status = OrderStatus.PARTIALLY_FILLED if order.left else OrderStatus.FILLED
            if taker_side is None:
                self.settle_in_auction(order, shown_before)
        if taker_side is not None:
            self.touch(maker)
            self.next_slice(maker)
        if self.settings.keeps_positions:
            buyer, seller = sorted((maker, taker), key=lambda order: order.asked.side)
            self.fills.append(Fill(symbol, buyer.asked.user_id, seller.asked.user_id, quantity, price))
        self.trade_count += 1
        market = self.markets[symbol]
        self.accounts.trade(market, maker, taker, price, quantity)
        market.last = (price, quantity, self.time)
        market.traded.append(price)
        number = make_id(self.shard, self.trade_count)
        self.out.story.append(("traded", number))
        self.out.trades.append(
            Trade(number, symbol, price, quantity, maker.id, taker.id, taker_side, self.time, self.next_sequence(symbol),
                  maker.filled, maker.left)
        )  # fmt: skip

    def next_slice(self, maker: Order) -> None:
        """After it has lost some: out when nothing is left, to the back of the level when its slice is used up (T6)."""
        if not maker.left:
            self.resting.remove(maker)
        elif not maker.shown:
            self.turns += 1
            maker.turn = self.turns
            maker.show_slice()

    def prevent(self, taker: Order, maker: Order) -> bool:
        """Keep two orders of one user from trading, as the taker's mode has it; whether that ends the taker (P1, P2)."""
        quantity, mode = min(taker.left, maker.shown), taker.asked.self_trade_prevention
        self.say_prevented(maker, taker, maker.price or 0, quantity)
        if mode is SelfTradePrevention.DECREMENT:
            self.touch(maker)
            for order in (taker, maker):
                order.prevented += quantity
                self.note(order)
            if maker.left:
                self.next_slice(maker)
        if mode in {SelfTradePrevention.CANCEL_OLDEST, SelfTradePrevention.CANCEL_BOTH} or not maker.left:
            self.end(maker, "cancelled", OrderStatus.CANCELLED, Reason.SELF_TRADE_PREVENTED)
        return mode in {SelfTradePrevention.CANCEL_NEWEST, SelfTradePrevention.CANCEL_BOTH} or not taker.left

    def halt(self, symbol: str) -> None:
        """A taker was stopped by the band: the symbol halts, where the instrument says for how long (H2)."""
        market = self.markets[symbol]
        if market.band_halt_s:
            self.set_state(symbol, MarketState.HALTED, self.time + market.band_halt_s * MICROSECONDS)
            self.say_market(symbol)

    # -- the call auction --------------------------------------------------------------------------------------------------

    def uncross(self, symbol: str) -> None:
        """Trade at the auction's price, buyers and sellers in price-time order, the older of two the maker (H3).

        Where prevention has taken orders out the book can still be crossed, at another price: then that one trades too.
        """
        takers: dict[int, Order] = {}
        while (found := self.indication(symbol)) is not None:
            while True:
                bid, ask = (next(iter(self.queue(symbol, side)), None) for side in Side)
                if bid is None or ask is None or (bid.price or 0) < found.price or (ask.price or 0) > found.price:
                    break
                maker, taker = sorted((bid, ask), key=lambda order: order.id)
                if self.is_own(taker, maker):
                    self.prevent_in_auction(taker, maker, found.price)
                else:
                    self.trade(maker, taker, min(maker.left, taker.left), found.price, None)
                    takers[taker.id] = taker
        for taker in takers.values():
            if taker.status is not OrderStatus.CANCELLED:
                self.say(taker, "filled")

    def settle_in_auction(self, order: Order, shown_before: int) -> None:
        """Icebergs count in full and keep their place: what was shown goes first, then a new slice is shown."""
        order.hidden = min(order.hidden, order.left)
        if order.left and not order.shown:
            order.show_slice()
        if order.shown != shown_before:
            self.touch(order)
        if not order.left:
            self.resting.remove(order)

    def prevent_in_auction(self, taker: Order, maker: Order, price: int) -> None:
        """P1 in an auction: the mode of the younger order decides."""
        quantity, mode = min(taker.left, maker.left), taker.asked.self_trade_prevention
        self.say_prevented(maker, taker, price, quantity)
        ends = {
            SelfTradePrevention.CANCEL_NEWEST: [taker],
            SelfTradePrevention.CANCEL_OLDEST: [maker],
            SelfTradePrevention.CANCEL_BOTH: [maker, taker],
        }.get(mode)
        if ends is None:
            for order in (taker, maker):
                shown_before = order.shown
                order.prevented += quantity
                self.note(order)
                if order.left:
                    self.settle_in_auction(order, shown_before)
            ends = [order for order in (maker, taker) if not order.left]
        for order in ends:
            self.end(order, "cancelled", OrderStatus.CANCELLED, Reason.SELF_TRADE_PREVENTED)

    # -- stops -------------------------------------------------------------------------------------------------------------

    def trail(self, order: Order, last: int | None) -> None:
        """Let a trailing stop see a last price: it follows the best, never further away than was asked for (S6, N1)."""
        best = max if order.asked.side is Side.SELL else min
        if last is not None:
            order.extreme = last if order.extreme is None else best(order.extreme, last)
        if order.extreme is None:
            return
        tick = self.markets[order.asked.symbol].tick
        distance = order.trail_amount
        if distance is None:
            distance = order.extreme * (order.trail_percent or 0) // (100 * 10**9) // tick * tick
        order.stop = max(0, order.extreme - distance) if order.asked.side is Side.SELL else order.extreme + distance

    def look_at_stops(self) -> None:
        """Trails follow what has traded since the last look; what last has reached is due, for good (S1, S2)."""
        for symbol, market in self.markets.items():
            last = self.last(symbol)
            for order in self.waiting:
                if order.asked.symbol != symbol or order.is_due or last is None:
                    continue
                before = (order.stop, order.extreme)
                for price in market.traded if order.trails else ():
                    self.trail(order, price)
                if order.stop is not None:
                    order.is_due = last >= order.stop if order.asked.side is Side.BUY else last <= order.stop
                if order.is_due or (order.stop, order.extreme) != before:
                    self.changed.add(order.id)
            market.traded = []

    def run_stops(self) -> None:
        """Fire what is due in open markets, the one accepted first, until nothing is, or as many as may at once (S3)."""
        for _ in range(self.settings.max_cascade):
            self.look_at_stops()
            due = [o for o in self.waiting if o.is_due and self.markets[o.asked.symbol].state is MarketState.OPEN]
            if not due:
                return
            self.fire(min(due, key=lambda order: order.id))
        self.look_at_stops()

    def fire(self, order: Order) -> None:
        """Become a MARKET or LIMIT order with new time priority (S4); with an offset, a limit that far from the trigger (S6)."""
        if self.risk.is_killed(order.asked.user_id, order.asked.symbol):
            self.end(order, "cancelled", OrderStatus.CANCELLED, Reason.CANCELLED_BY_KILL_SWITCH)
            return
        self.waiting.remove(order)
        order.is_due, order.triggered_at = False, self.time
        if order.limit_offset is not None:
            sign = 1 if order.asked.side is Side.BUY else -1
            order.price = max(self.markets[order.asked.symbol].tick, (order.stop or 0) + sign * order.limit_offset)
        self.say(order, "triggered", OrderStatus.PENDING)
        if not self.can_pay(order):
            self.end(order, "cancelled", OrderStatus.CANCELLED, Reason.INSUFFICIENT_FUNDS)
        elif order.post_only and self.would_take(order, order.price):
            self.end(order, "cancelled", OrderStatus.CANCELLED, Reason.POST_ONLY_WOULD_TAKE)
        else:
            self.enter(order)

    # -- modify ------------------------------------------------------------------------------------------------------------

    def modify(self, change: ModifyOrder) -> None:
        """Check everything, then change (A6)."""
        order = self.find(change)
        if order is None:
            return
        changed = order.with_change(change)
        if changed.trails:
            self.trail(changed, None)
        refusal = self.why_not_modify(order, change, changed)
        if refusal is not None:
            self.out.refused = (order.id, refusal)
            self.out.story.append(("refused", order.id))
            return
        if order.status is OrderStatus.PENDING_TRIGGER:
            order.take_change(changed)
            self.say(order, "modified")
        elif changed.price == order.price and order.filled + order.prevented < changed.quantity <= order.quantity:
            self.reduce(order, changed)
        else:
            self.requeue(order, changed)

    def reduce(self, order: Order, changed: Order) -> None:
        """Lower or equal, at the same price: the place is kept, and an iceberg's slice but for what is cut off (A1, A3)."""
        shown, left = order.shown, order.left
        order.take_change(changed)
        order.hidden = order.left - min(shown, order.left, order.display or order.left)
        if order.shown != shown:
            self.touch(order)
        if order.left != left:
            self.stirred.add(order.asked.symbol)
        self.say(order, "modified")

    def requeue(self, order: Order, changed: Order) -> None:
        """Out of the queue; over when nothing is left of it (A5), else to the back, trading where it crosses (A2, A4)."""
        self.touch(order)
        self.resting.remove(order)
        order.take_change(changed)
        order.hidden = 0
        if not order.left:
            self.end(order, "cancelled", OrderStatus.CANCELLED, Reason.REDUCED_TO_FILLED)
            return
        self.say(order, "modified")
        if self.markets[order.asked.symbol].state is MarketState.AUCTION:
            self.rest(order)
        else:
            self.take(order)

    def why_not_modify(self, order: Order, change: ModifyOrder, changed: Order) -> Reason | None:
        """The first check that fails: version, fields, then in the order of R1, with A5 among the sizes."""
        market = self.markets[order.asked.symbol]
        is_waiting = order.status is OrderStatus.PENDING_TRIGGER
        grows = changed.quantity > order.quantity or changed.quantity % market.lot != 0  # what is off the lot keeps no place
        moves = not is_waiting and (changed.price != order.price or grows)
        lowers = self.risk.only_lowers(order, change, changed, market.lot)
        shows, prices, dates = (x is not None for x in (change.display_quantity, change.price, change.expires_at))
        checks = [
            (change.expected_version not in {None, order.version}, Reason.VERSION_CONFLICT),
            (not order.has_fields_of(change), Reason.FIELD_NOT_APPLICABLE),
            (not lowers and self.risk.is_killed(order.asked.user_id, order.asked.symbol), Reason.KILL_SWITCH),
            (moves and market.state in CLOSED, CLOSED.get(market.state, Reason.MARKET_HALTED)),
            *self.check_numbers(changed, market),
            (changed.quantity < order.filled + order.prevented, Reason.QUANTITY_BELOW_FILLED),
            (grows and self.is_above_maximum(changed.quantity, market), Reason.QUANTITY_ABOVE_MAXIMUM),
            ((shows or grows) and (changed.display or 0) > changed.quantity, Reason.DISPLAY_ABOVE_QUANTITY),
            ((shows or grows) and changed.is_cut_too_small, Reason.DISPLAY_TOO_SMALL),
            (is_waiting and (changed.min_quantity or 0) > changed.quantity, Reason.MIN_ABOVE_QUANTITY),
            ((changed.trail_percent or 0) >= WHOLE_PERCENT, Reason.TRAIL_TOO_LARGE),
            (prices and self.is_outside_band(order.asked.symbol, changed.price), Reason.PRICE_OUTSIDE_BAND),
            (dates and (change.expires_at or 0) <= self.time, Reason.EXPIRES_AT_IN_PAST),
            self.check_taking(order, changed.price, enters=moves),
        ]
        if first_failing(checks) is None and not lowers:
            checks += self.risk.checks(changed, order)
        refusal = first_failing(checks)
        return Reason.INSUFFICIENT_FUNDS if refusal is None and not self.can_pay_more(order, changed) else refusal

    # -- the other commands ------------------------------------------------------------------------------------------------

    def cancel_orders(self, command: CancelOrders) -> None:
        """Cancel what is named in the order of acceptance, waiting stops included, at most so many (I2)."""
        named = [
            order
            for order in (*self.resting, *self.waiting)
            if command.user_id in {None, order.asked.user_id}
            and command.symbol in {None, order.asked.symbol}
            and command.side in {None, order.asked.side}
        ]
        for order in sorted(named, key=lambda order: order.id)[: command.limit]:
            self.end(order, "cancelled", OrderStatus.CANCELLED, Reason.CANCELLED_BY_USER)

    def define(self, definition: DefineInstrument) -> None:
        """List a symbol or change one; tick and lot stay what they are while an order counts in them (M5)."""
        symbol, market = definition.symbol, self.markets.get(definition.symbol)
        old_tick, old_lot = (market.tick, market.lot) if market else (DEFAULT_TICK, DEFAULT_LOT)
        tick = old_tick if definition.tick_size is None else exact(definition.tick_size)
        lot = old_lot if definition.lot_size is None else exact(definition.lot_size)
        in_use = any(order.asked.symbol == symbol for order in (*self.resting, *self.waiting))
        refusal = None
        if market is None and len(self.markets) >= self.settings.max_symbols:
            refusal = Reason.TOO_MANY_SYMBOLS
        elif market is not None and in_use:
            is_other = (tick, lot) != (old_tick, old_lot) or market.funding_with(definition) != market.rules()[-4:]
            refusal = Reason.INSTRUMENT_IN_USE if is_other else None
        if refusal is not None:
            self.out.refused = (None, refusal)
            self.out.story.append(("refused", 0))
            return
        if market is None:
            market = self.markets[symbol] = Market(tick, lot, self.time)
        market.tick, market.lot = tick, lot
        market.take_rules(definition)
        if definition.state is not None:
            self.set_state(symbol, definition.state, None)
        self.say_market(symbol)

    def set_state(self, symbol: str, state: MarketState, until: int | None) -> None:
        """Take other orders from now on; leaving AUCTION uncrosses first (H1, H3)."""
        market = self.markets[symbol]
        if market.state is MarketState.AUCTION and state is not MarketState.AUCTION:
            self.uncross(symbol)
        market.state, market.halted_until = state, until
        self.stirred.add(symbol)

    # -- what is told ------------------------------------------------------------------------------------------------------

    def find(self, command: ModifyOrder | CancelOrder) -> Order | None:
        """The open order that a command names, or None, refused (M3)."""
        order = self.orders.get(command.order_id)
        if order is not None and order.status in OPEN:
            return order
        self.out.refused = (command.order_id, Reason.ORDER_NOT_OPEN if command.exists else Reason.ORDER_NOT_FOUND)
        self.out.story.append(("refused", command.order_id))
        return None

    def end(self, order: Order, event: str, status: OrderStatus, reason: Reason) -> None:
        """Take what is left of an order out, wherever it is."""
        if order in self.resting:
            self.touch(order)
            self.resting.remove(order)
        if order in self.waiting:
            self.waiting.remove(order)
        order.hidden = 0
        self.say(order, event, status, reason)

    def note(self, order: Order) -> None:
        """Something about it changed just now."""
        order.updated_at = self.time
        self.changed.add(order.id)

    def say(self, order: Order, event: str, status: OrderStatus | None = None, reason: Reason | None = None) -> None:
        """Tell of an order, in its new status."""
        order.status = order.status if status is None else status
        order.reason = reason
        self.note(order)
        self.out.story.append((event, order.id))
        self.out.orders.append((event, order.picture()))

    def say_prevented(self, maker: Order, taker: Order, price: int, quantity: int) -> None:
        """Tell of what did not trade (P2)."""
        self.out.story.append(("prevented", maker.id))
        self.out.prevented.append((maker.id, taker.id, price, quantity))

    def say_market(self, symbol: str) -> None:
        """Tell of a symbol."""
        market = self.markets[symbol]
        sequence = self.next_sequence(symbol)
        self.out.story.append(("market", sequence))
        self.out.markets.append((symbol, sequence, market.rules()))

    def next_sequence(self, symbol: str) -> int:
        """The next number of all that is public about a symbol (D1)."""
        self.markets[symbol].sequence += 1
        return self.markets[symbol].sequence

    def touch(self, order: Order) -> None:
        """Note that a resting order's level is no longer what it was."""
        if order.price is not None and order in self.resting:
            self.touched.add((order.asked.symbol, order.asked.side, order.price))
            self.stirred.add(order.asked.symbol)
