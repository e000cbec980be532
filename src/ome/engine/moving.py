"""A symbol leaves for another shard, or comes from one, with all that belongs to it, as it stands (`domain.moves`).

What leaves is gone from this engine as if it had never been there; what comes is as it was there: the same orders with the same
places in their queues, the same stops, positions, limits and last price, and a sequence that goes on. New orders get places
behind all that came. What isn't a symbol's stays with the shard, and holds for what comes: its kill switches over all symbols
stop it at once, and a dead-man timer that would have come on the way has come (I3, R1).
"""

from __future__ import annotations

from ome.domain.commands import Admit, Release
from ome.domain.digests import digest
from ome.domain.events import CommandRefused, SymbolAdmitted, SymbolReleased
from ome.domain.moves import MOST_MOVED, STATE_FORMAT, MoveRecord, SymbolState, decode_state, encode_state, hash_of_state
from ome.domain.ports import OpenOrders
from ome.domain.reasons import Reason
from ome.engine.market import Market
from ome.engine.order import Order
from ome.engine.order_book import OrderBook
from ome.engine.restoring import restore_orders
from ome.engine.stop_firing import run_stops
from ome.engine.withdrawals import Withdrawals


def why_it_stays(market: Market, symbol: str) -> str:
    """Why a symbol can't be given to another shard now, in words; "" where it can."""
    book = market.books.get(symbol)
    if book is None:
        return f"{symbol} isn't listed here"
    if any(book.rules.funding[:2]):
        return f"{symbol} trades against balances, and these are one shard's: take its assets away first, or leave it where it is"
    open_orders, positions = book.open_orders, market.accounts.count_positions(symbol)
    if max(open_orders, positions) > MOST_MOVED:
        return f"{symbol} has {open_orders} open orders and {positions} positions: up to {MOST_MOVED} of each can be moved"
    return ""


def release(market: Market, command: Release) -> None:
    """Give a symbol away, or refuse to and leave everything as it was."""
    if why_it_stays(market, command.symbol):
        unknown = command.symbol not in market.books
        market.events.append(CommandRefused(None, Reason.UNKNOWN_SYMBOL if unknown else Reason.INSTRUMENT_IN_USE))
        return
    if market.stirred_books:  # by a deadline or the end of a halt that came with this command
        run_stops(market)
    market.close_books()
    book = market.books[command.symbol]
    data = encode_state(_taken_out(market, book))
    place = (market.shard, market.position, command.symbol, command.target, market.time)
    market.moves.append(MoveRecord(*place, hash_of_state(data), data))
    market.events.append(SymbolReleased(command.symbol, command.target))


def _taken_out(market: Market, book: OrderBook) -> SymbolState:
    """The state of a symbol, none of which is the market's any more. What it changed before is pictured first."""
    market.fold_changes()
    symbol = book.instrument.symbol
    instrument = book.record()
    market.picture_instrument(instrument)
    orders = sorted((*book.orders(), *book.stops), key=_priority)
    users = sorted({order.user_id for order in orders})
    timers = [(user_id, until) for user_id in users if (until := market.controls.timer_of(user_id)) is not None]
    for order in orders:
        market.digest_sum -= order.digest
        market.forget(order, order.remaining)
    positions, digests = market.accounts.take_out(symbol)
    market.digest_sum -= digests + book.digest
    del market.books[symbol]
    market.halts.pop(symbol, None)
    market.stirred_books.pop(symbol, None)
    controls = market.controls.take_out(symbol, market.time)
    pictures = [order.record() for order in orders]
    return SymbolState(STATE_FORMAT, market.time, market.priority_count, instrument, pictures, positions, controls, timers)


def _priority(order: Order) -> int:
    return order.priority


def admit(market: Market, withdrawals: Withdrawals, command: Admit) -> None:
    """Take a symbol in; one that is here already is refused, and nothing changes."""
    state = decode_state(command.state)
    symbol = command.symbol
    if symbol in market.books:
        market.events.append(CommandRefused(None, Reason.INSTRUMENT_IN_USE))
        return
    market.priority_count = max(market.priority_count, state.priority_count)
    book = _put_in(market, state)
    market.controls.take_in(state.controls)
    place = (command.shard, command.position, symbol, market.shard, state.time, hash_of_state(command.state))
    market.moves.append(MoveRecord(*place, None, market.position))
    depth = book.depth(market.time)
    market.events.append(SymbolAdmitted(book.record(), command.shard, market.time, depth.bids, depth.asks))
    market.touch(book)
    market.stirred_books[symbol] = book
    missed = command.missed
    if missed is None:
        missed = [user for user, until in state.timers if until <= market.time and market.controls.timer_of(user) is None]
    withdrawals.take_over(book, missed, market.time)


def _put_in(market: Market, state: SymbolState) -> OrderBook:
    instrument = state.instrument
    symbol = instrument.symbol
    book = market.books[symbol] = OrderBook.restored(instrument)
    if instrument.rules.halted_until is not None:
        market.halts[symbol] = instrument.rules.halted_until
    market.digest_sum += market.accounts.adopt(state.positions)
    waiting: list[Order] = []
    restore_orders(market, OpenOrders(state.orders, list(map(digest, state.orders))), waiting)
    for order in waiting:
        book.stops.add(order)
    for order in (*book.orders(), *waiting):
        market.deadlines.add(order)
    return book
