"""Mistakes that people make in matching engines, each as a replacement of a few lines of ours.

`old` must stand exactly once in its file below `src/ome`: one that has gone is an error, never a mistake that was passed over.
"""

from __future__ import annotations

from typing import NamedTuple


class Mistake(NamedTuple):
    """What a person got wrong, and how it looks in `file`."""

    what: str
    file: str
    old: str
    new: str


MATCHING, ENGINE, ADMISSION = "engine/matching.py", "engine/engine.py", "engine/admission.py"
SUBMITTING, MODIFYING, TRADING = "engine/submitting.py", "engine/modifying.py", "engine/trading.py"
INSTRUMENTS, FIRING, MARKET = "engine/instruments.py", "engine/stop_firing.py", "engine/market.py"
RESTORING = "engine/restoring.py"
AUCTION, STOPS, SPECIAL = "engine/auction.py", "engine/stop_book.py", "engine/special.py"
BOOK, BOUNDS, ORDER = "engine/order_book.py", "engine/price_bounds.py", "engine/order.py"
FUNDS, LEDGER, AMOUNTS = "engine/funds.py", "engine/ledger.py", "domain/amounts.py"
CONTROLS, LIMITS, WITHDRAWALS = "engine/controls.py", "engine/limits.py", "engine/withdrawals.py"
ACCOUNTS, POSITIONS, REACH = "engine/accounts.py", "domain/positions.py", "engine/reach.py"

MISTAKES = [
    # Price, time and the book
    Mistake("the last to come is the first served", MATCHING, "maker = level.head\n", "maker = level.tail\n"),
    Mistake(
        "trades print at the taker's price",
        MATCHING,
        "events.append(self._trade(book, taker, maker, level.price, position, time))",
        "events.append(self._trade(book, taker, maker, limit or level.price, position, time))",
    ),
    Mistake(
        "equal prices do not trade",
        MATCHING,
        "            level = side.best\n"
        "            if level is None or (limit is not None and (level.price > limit if buys else level.price < limit)):",
        "            level = side.best\n"
        "            if level is None or (limit is not None and (level.price >= limit if buys else level.price <= limit)):",
    ),
    Mistake(
        "a taker goes one tick beyond its limit",
        MATCHING,
        "            level = side.best\n"
        "            if level is None or (limit is not None and (level.price > limit if buys else level.price < limit)):",
        "            level = side.best\n"
        "            if level is None or (limit is not None and (level.price > limit + 1 if buys else level.price < limit - 1)):",
    ),
    Mistake(
        "the best level is the last that was made",
        "engine/book_side.py",
        "if best is None or (price > best.price if self._best_index else price < best.price):",
        "if True:",
    ),
    Mistake(
        "an emptied level stays",
        "engine/book_side.py",
        "            if level is self.best:\n                self._find_best()\n            elif self._emptied",
        "            if self._emptied",
    ),
    Mistake(
        "an order that leaves the middle of a queue takes those behind with it",
        "engine/price_level.py",
        "            before.next = after\n",
        "            before.next = None\n",
    ),
    Mistake(
        "what a taker leaves over is forgotten",
        TRADING,
        "    elif time_in_force.rests(order):\n        market.rest(book, order)",
        "    elif time_in_force.rests(order) and not order.filled:\n        market.rest(book, order)",
    ),
    Mistake("trade ids begin anew", MATCHING, "self.trade_count += 1", "self.trade_count = max(1, self.trade_count)"),
    Mistake("the last price is not kept", BOOK, "self.last_ticks = price\n", "self.last_ticks = self.last_ticks or price\n"),
    # Time in force
    Mistake(
        "IOC rests",
        "engine/time_in_force.py",
        "_RESTING: Final = frozenset({TimeInForce.GTC,",
        "_RESTING: Final = frozenset({TimeInForce.IOC, TimeInForce.GTC,",
    ),
    Mistake(
        "FOK fills in part",
        "engine/time_in_force.py",
        "return order.time_in_force is _FOK",
        "return order.time_in_force is _FOK and order.quantity < 0",
    ),
    Mistake(
        "FOK counts what lies beyond its limit",
        MATCHING,
        "            break\n        if mode in _ENDS_TAKER",
        "            pass\n        if mode in _ENDS_TAKER",
    ),
    Mistake(
        "FOK counts own orders",
        MATCHING,
        "if mode in _ENDS_TAKER and any(maker.user_id == user_id for maker in level):",
        "if False:",
    ),
    Mistake(
        "FOK counts slices that stand behind an own order",
        MATCHING,
        "                found += maker.shown\n",
        "                found += maker.remaining\n",
    ),
    Mistake(
        "FOK does not see what is hidden",
        MATCHING,
        "                found += maker.remaining\n",
        "                found += maker.shown\n",
    ),
    Mistake(
        "an order lives until after its deadline",
        "engine/expiry.py",
        "if not self._orders or self._orders.peekitem(0)[0][0] > time:",
        "if not self._orders or self._orders.peekitem(0)[0][0] >= time:",
    ),
    Mistake(
        "deadlines are swept after the command",
        ENGINE,
        "            resume_due(market)\n        self._carry_out(command)\n",
        "            resume_due(market)\n        late, market.events = market.events, []\n        self._carry_out(command)\n"
        "        events[:] = [*market.events, *late]\n        market.events = events\n",
    ),
    Mistake(
        "a DAY order at the close lives another minute",
        "engine/time_in_force.py",
        "(_DAY_US if close <= into_day else 0)",
        "(_DAY_US if close <= into_day else 60 * MICROSECONDS)",
    ),
    # Modify
    Mistake(
        "a smaller order loses its place",
        MODIFYING,
        "elif change.price == order.price and change.quantity <= order.quantity:",
        "elif change.price == order.price and change.quantity == order.quantity:",
    ),
    Mistake(
        "a larger order keeps its place",
        MODIFYING,
        "elif change.price == order.price and change.quantity <= order.quantity:",
        "elif change.price == order.price:",
    ),
    Mistake(
        "the new quantity counts without what is filled",
        MODIFYING,
        "order.remaining = change.quantity - order.filled - order.prevented",
        "order.remaining = change.quantity",
    ),
    Mistake("a change does not make a version", MODIFYING, "order.version += 1", "order.version += 0"),
    Mistake(
        "the expected version is not looked at",
        ADMISSION,
        "if command.expected_version is not None and command.expected_version != order.version:",
        "if False:",
    ),
    Mistake(
        "a total below what is filled is taken",
        ADMISSION,
        "    used = order.filled + order.prevented\n    if quantity < used:",
        "    used = order.filled + order.prevented\n    if quantity < 0:",
    ),
    Mistake(
        "a changed order that crosses does not trade",
        MODIFYING,
        "    if book.state is MarketState.AUCTION:\n        market.rest(book, order)\n    else:\n"
        "        match_and_settle(market, book, order, *market.limit_of(book, order))",
        "    market.rest(book, order)",
    ),
    Mistake(
        "the old deadline still counts after a change",
        MODIFYING,
        "        market.deadlines.drop(order)\n        order.expires_at = change.expires_at",
        "        order.expires_at = change.expires_at",
    ),
    # Positions
    Mistake("a seller's position does not fall", ACCOUNTS, "sold.fill(-quantity, price)", "sold.fill(quantity, price)"),
    Mistake("closing realises nothing", POSITIONS, "self.realised -= bought * price + released", "self.realised -= 0"),
    Mistake(
        "a position that goes through zero keeps its old cost",
        POSITIONS,
        "            self.quantity = quantity + bought\n            self.cost = self.quantity * price\n",
        "            self.quantity = quantity + bought\n",
    ),
    Mistake(
        "what an order lost to prevention still counts as open",
        MATCHING,
        "                order.prevent(lots, time)\n                self._accounts.resized(order, -lots)\n"
        "            book.resized",
        "                order.prevent(lots, time)\n            book.resized",
    ),
    # Limits, kills, timers
    Mistake(
        "a limit is passed at its boundary", LIMITS, "if reached > units_of_number(limits.max_position):", "if reached >= 0:"
    ),
    Mistake(
        "open orders are not counted in the worst case",
        LIMITS,
        "return account.quantity + account.buying * lot",
        "return account.quantity + 0 * lot",
    ),
    Mistake("what a filled order had open still counts", ACCOUNTS, "        bought.buying -= lots\n", ""),
    Mistake(
        "changes are not held to limits",
        MODIFYING,
        "if order.user_id in market.controls.limits and not only_lowers(",
        "if False and not only_lowers(",
    ),
    Mistake(
        "the collar is for sells what it is for buys",
        LIMITS,
        "if price > worst if side is _BUY else price < worst:",
        "if price > worst:",
    ),
    Mistake(
        "the notional is made of the best price",
        LIMITS,
        "        worst = level.price\n",
        "        worst = worst or level.price\n",
    ),
    Mistake(
        "orders that can't rest count as open",
        LIMITS,
        "if ask.is_new and (waits or ask.time_in_force not in _AT_ONCE):",
        "if ask.is_new:",
    ),
    Mistake(
        "the kill switch takes new orders",
        SUBMITTING,
        "if controls.kills and controls.is_killed(command.user_id, command.symbol):",
        "if False:",
    ),
    Mistake(
        "a kill leaves what is open",
        ENGINE,
        "set_kill(command, time))\n                self._withdrawals.sweep(EXPIRY_CHUNK)\n",
        "set_kill(command, time))\n",
    ),
    Mistake("a kill of a symbol stops nobody", CONTROLS, ' or ("", symbol) in kills', ""),
    Mistake(
        "a timer that was said again counts from the first time",
        CONTROLS,
        "        before = self._active.pop(key, None)\n",
        "        before = self._active.pop(key, None)\n"
        "        if before is not None and before.until is not None and record.until is not None:\n            record = before\n",
    ),
    Mistake(
        "a timer goes on after it has cancelled all",
        WITHDRAWALS,
        "            ended.append(ControlChanged(self._controls.disarm(user_id, time)))\n",
        "            break\n",
    ),
    # Post-only, icebergs, minimum, slippage
    Mistake(
        "post-only may take at an equal price",
        MATCHING,
        "return best is not None and (best.price <= price if side is Side.BUY else best.price >= price)",
        "return best is not None and (best.price < price if side is Side.BUY else best.price > price)",
    ),
    Mistake(
        "a post-only order may be moved to where it takes",
        ADMISSION,
        "    if requeues:\n        _check_post_only(book, order.side, price, special)\n",
        "",
    ),
    Mistake(
        "an iceberg keeps its place for the next slice",
        MATCHING,
        "            book.remove(maker)\n            maker.priority = self._venue.next_priority()\n"
        "            maker.show_slice()\n            book.add(maker)",
        "            shown, hidden = maker.shown, maker.hidden\n            maker.show_slice()\n"
        "            book.resized(maker, shown, hidden)",
    ),
    Mistake(
        "the book shows all of an iceberg", ORDER, "self.hidden = max(0, self.remaining - special.display)", "self.hidden = 0"
    ),
    Mistake(
        "an iceberg may show more than it has",
        ADMISSION,
        "    if special.display > quantity:",
        "    if special.display > quantity * 2:",
    ),
    Mistake(
        "a larger slice is shown at once, in front of those behind",
        MODIFYING,
        "        now_shown = min(now_shown, order.special.display)",
        "        now_shown = min(order.remaining, order.special.display)",
    ),
    Mistake(
        "a minimum is met by less",
        TRADING,
        "wanted = max(wanted, special.min_quantity)",
        "wanted = max(wanted, special.min_quantity - 1)",
    ),
    Mistake(
        "a buyer's slippage is rounded up",
        BOUNDS,
        "return best * (BASIS_POINTS + max_slippage_bps) // BASIS_POINTS",
        "return -(-best * (BASIS_POINTS + max_slippage_bps) // BASIS_POINTS)",
    ),
    Mistake(
        "slippage is not bounded",
        REACH,
        "if special is not None and special.max_slippage_bps is not None and (best := book.opposite(side).best) is not None:",
        "if False:",
    ),
    # Stops
    Mistake(
        "a buy stop fires only above its price",
        STOPS,
        "while self._buys and self._buys.peekitem(0)[0][0] <= last:",
        "while self._buys and self._buys.peekitem(0)[0][0] < last:",
    ),
    Mistake(
        "stops are on the wrong side",
        STOPS,
        "return self._buys if order.side is Side.BUY else self._sells",
        "return self._sells if order.side is Side.BUY else self._buys",
    ),
    Mistake(
        "a stop that is through at entry waits",
        FIRING,
        "    market.deadlines.add(order)\n    market.stirred_books[book.instrument.symbol] = book\n"
        "    market.events.append(OrderAccepted(order.record()))",
        "    market.deadlines.add(order)\n    market.events.append(OrderAccepted(order.record()))",
    ),
    Mistake(
        "of due stops the last that came fires first",
        FIRING,
        "_fire(market, book, book.stops.due.peekitem(0)[1])",
        "_fire(market, book, book.stops.due.peekitem(-1)[1])",
    ),
    Mistake("a cascade has no bound", FIRING, "        left -= 1\n", "        left -= 0\n"),
    Mistake(
        "a fired stop has the priority of its entry",
        FIRING,
        "    order.status = OrderStatus.PENDING\n    order.priority = market.next_priority()\n",
        "    order.status = OrderStatus.PENDING\n",
    ),
    Mistake(
        "what sets a stop off is not written down", FIRING, "special.triggered_at = market.time", "special.triggered_at = None"
    ),
    Mistake(
        "a trail goes back with the price",
        SPECIAL,
        "if extreme is not None and (last <= extreme if side is Side.SELL else last >= extreme):",
        "if extreme is not None and last == extreme:",
    ),
    Mistake(
        "a trail is on the wrong side",
        SPECIAL,
        "return max(0, self.extreme - distance) if side is Side.SELL else self.extreme + distance",
        "return max(0, self.extreme - distance) if side is Side.BUY else self.extreme + distance",
    ),
    Mistake(
        "a changed trail begins anew",
        ADMISSION,
        "        changed.stop = changed.trailed(order.side)",
        "        changed.extreme = changed.stop = None",
    ),
    Mistake(
        "a trail forgets its extreme in a restart",
        SPECIAL,
        "special.extreme = ticks(terms.trail_extreme)",
        "special.extreme = None",
    ),
    Mistake("what is due is forgotten in a restart", SPECIAL, "special.is_due = terms.is_due", "special.is_due = False"),
    Mistake(
        "an iceberg's slice is filled up in a restart",
        ORDER,
        "order.hidden = order.remaining - terms.shown_quantity // lot",
        "order.show_slice()",
    ),
    # Self-trade prevention
    Mistake(
        "one user's orders trade with each other",
        MATCHING,
        "            if maker.user_id == taker.user_id and taker.self_trade_prevention is not _UNPREVENTED:\n"
        "                if self._prevent(",
        "            if False:\n                if self._prevent(",
    ),
    Mistake(
        "the maker's mode decides",
        MATCHING,
        "        events.append(_prevented(book, taker, maker, price, lots))\n        mode = taker.self_trade_prevention\n"
        "        if mode is",
        "        events.append(_prevented(book, taker, maker, price, lots))\n        mode = maker.self_trade_prevention\n"
        "        if mode is",
    ),
    Mistake(
        "cancelling both leaves the new one",
        MATCHING,
        "        return mode is SelfTradePrevention.CANCEL_BOTH",
        "        return mode is SelfTradePrevention.DECREMENT",
    ),
    Mistake(
        "only the taker is decremented",
        MATCHING,
        "            for order in (taker, maker):\n                self._funds",
        "            for order in (taker,):\n                self._funds",
    ),
    Mistake(
        "what was prevented is not told",
        MATCHING,
        "        lots = min(taker.remaining, maker.shown)\n        events.append(_prevented(book, taker, maker, price, lots))\n",
        "        lots = min(taker.remaining, maker.shown)\n",
    ),
    # The market's state, bands and auctions
    Mistake(
        "a halted symbol takes orders",
        ADMISSION,
        "    if state in _STATE_REASONS:\n",
        "    if state is MarketState.CANCEL_ONLY:\n",
    ),
    Mistake(
        "POST_ONLY lets orders take",
        ADMISSION,
        "not (asked or book.state is MarketState.POST_ONLY)",
        "not asked",
    ),
    Mistake(
        "stops fire in a halt",
        BOOK,
        "return bool(self.stops.due) and self.state is MarketState.OPEN",
        "return bool(self.stops.due)",
    ),
    Mistake("a limit price outside the band is taken", ADMISSION, "not band.holds(price)", "band.lowest > band.highest"),
    Mistake("a taker goes through the band", REACH, "bounds.append((band.worst(side), _PRICE_BAND_REACHED))", "pass"),
    Mistake("nobody ends a halt", INSTRUMENTS, "        if until <= market.time:\n", "        if until < 0:\n"),
    Mistake(
        "an auction is left without an uncross",
        INSTRUMENTS,
        "if book.state is MarketState.AUCTION and state is not MarketState.AUCTION:",
        "if book.state is MarketState.AUCTION and state is MarketState.AUCTION:",
    ),
    Mistake(
        "an auction matches at once",
        TRADING,
        "    if book.state is _AUCTION:\n        market.rest(book, order)\n        return\n",
        "",
    ),
    Mistake(
        "an auction does not look at the imbalance",
        AUCTION,
        "tied = [candidate for candidate in tied if abs(candidate.imbalance) == least]",
        "tied = list(tied)",
    ),
    Mistake(
        "a surplus of buyers lowers an auction's price",
        AUCTION,
        "        return max(tied)\n",
        "        return min(tied)\n",
    ),
    Mistake(
        "the younger order is the maker in an auction",
        AUCTION,
        "if one.id > other.id else (other, one)",
        "if one.id < other.id else (other, one)",
    ),
    Mistake(
        "an auction does not count what is hidden",
        AUCTION,
        "bids = [(level.price, level.quantity + level.hidden)",
        "bids = [(level.price, level.quantity)",
    ),
    # Numbers, ids, cancels, restarts
    Mistake("a price off the tick is rounded", "domain/instrument.py", "return OFF_GRID if rest else count", "return count"),
    Mistake(
        "a cancelled order stays in the book",
        MARKET,
        "        if order.level is not None:\n            book.remove(order)\n",
        "        if order.level is not None and order.filled:\n            book.remove(order)\n",
    ),
    Mistake(
        "a mass cancel goes by price, not by acceptance",
        WITHDRAWALS,
        "    return order.acceptance\n",
        "    return order.price or 0, order.id\n",
    ),
    Mistake(
        "a mass cancel leaves the waiting stops",
        WITHDRAWALS,
        "return () if book is None else chain(book.orders(), book.stops)",
        "return () if book is None else chain(book.orders())",
    ),
    Mistake(
        "every order is restored at the back of its queue",
        RESTORING,
        "sorted(state.orders, key=lambda order: order.priority)",
        "sorted(state.orders, key=lambda order: -order.id)",
    ),
    Mistake(
        "the tick changes under open orders",
        INSTRUMENTS,
        "if (is_redefined or is_refunded) and not book.is_empty:",
        "if is_refunded and not book.is_empty:",
    ),
    # Funds
    Mistake(
        "fees change under open orders",
        INSTRUMENTS,
        "if (is_redefined or is_refunded) and not book.is_empty:",
        "if is_redefined and not book.is_empty:",
    ),
    Mistake(
        "a fee is rounded down",
        AMOUNTS,
        "return -(-value * fee_bps // BASIS_POINTS)",
        "return value * fee_bps // BASIS_POINTS",
    ),
    Mistake(
        "maker and taker pay each other's fee",
        FUNDS,
        "fee_of(value, terms.maker_fee_bps), fee_of(value, terms.taker_fee_bps)",
        "fee_of(value, terms.taker_fee_bps), fee_of(value, terms.maker_fee_bps)",
    ),
    Mistake(
        "a buy holds its price without a fee",
        FUNDS,
        "return value + max(0, fee_of(value, max(self.maker_fee_bps, self.taker_fee_bps)))",
        "return value",
    ),
    Mistake(
        "a buy holds the taker's fee, whatever the maker's is",
        FUNDS,
        "fee_of(value, max(self.maker_fee_bps, self.taker_fee_bps))",
        "fee_of(value, self.taker_fee_bps)",
    ),
    Mistake(
        "a rebate makes an order cheaper to hold",
        FUNDS,
        "value + max(0, fee_of(value, max(self.maker_fee_bps, self.taker_fee_bps)))",
        "value + fee_of(value, max(self.maker_fee_bps, self.taker_fee_bps))",
    ),
    Mistake(
        "a sell is not paid for by what it sells",
        FUNDS,
        "            return lots * self.lot\n",
        "            return 0\n",
    ),
    Mistake(
        "what a better price spares stays held",
        FUNDS,
        "terms.held(Side.BUY, buyer.price, lots), value, buyer_fee",
        "0 if buyer.price is None else value + max(0, buyer_fee), value, buyer_fee",
    ),
    Mistake(
        "what has ended holds on",
        MARKET,
        "            self.funds.reduced(order, order.remaining)\n",
        "            self.funds.reduced(order, 0)\n",
    ),
    Mistake(
        "a raised order holds no more than before",
        FUNDS,
        "        elif not self._ledger.reserve(order.user_id, asset, more):\n",
        "        elif more < 0:\n",
    ),
    Mistake(
        "a change that needs less gives nothing back",
        FUNDS,
        "            self._ledger.release(order.user_id, asset, -more)\n",
        "            pass\n",
    ),
    Mistake(
        "a market buy takes what it can't pay for",
        FUNDS,
        "return most <= self._ledger.available(order.user_id, asset)",
        "return most <= 2 * self._ledger.available(order.user_id, asset)",
    ),
    Mistake(
        "a market buy needs what lies beyond its bound",
        FUNDS,
        "        if limit is not None and level.price > limit:\n            break\n",
        "",
    ),
    Mistake(
        "a market buy needs what its own orders would cost",
        FUNDS,
        "if not (passes_own and maker.user_id == taker.user_id):",
        "if maker.remaining:",
    ),
    Mistake(
        "a market buy does not see what is hidden",
        FUNDS,
        "lots = min(left, maker.remaining)",
        "lots = min(left, maker.shown)",
    ),
    Mistake("a fired stop need not pay", FIRING, "if not market.funds.fire(", "if False and not market.funds.fire("),
    Mistake(
        "a fired stop limit holds twice",
        FUNDS,
        "order.side is Side.SELL or order.type is OrderType.STOP_LIMIT:",
        "order.side is Side.SELL:",
    ),
    Mistake(
        "what is held can be withdrawn",
        LEDGER,
        "amount > account.available:\n            return False\n        self._credit",
        "amount > account.total:\n            return False\n        self._credit",
    ),
    Mistake(
        "the last cent can't be held",
        LEDGER,
        "amount > account.available:\n            return False\n        account.reserved",
        "amount >= account.available:\n            return False\n        account.reserved",
    ),
    Mistake(
        "rebates come out of nowhere",
        LEDGER,
        "fees += buyer.fee + seller.fee",
        "fees += max(0, buyer.fee) + max(0, seller.fee)",
    ),
    Mistake("a deposit comes out of nowhere", LEDGER, "self._venue_of(asset).external -= amount\n", "self._venue_of(asset)\n"),
    Mistake(
        "after a restart nothing is held",
        LEDGER,
        "atoms_of_text(record.total), atoms_of_text(record.reserved)",
        "atoms_of_text(record.total), 0",
    ),
]
