"""Symbols: listed by an operator or by their first order, defined anew, halted for a time, opened, uncrossed (H1-H3)."""

from __future__ import annotations

from typing import Final

from msgspec import structs

from ome.domain.commands import DefineInstrument
from ome.domain.enums import MarketState, OrderStatus
from ome.domain.events import CommandRefused, InstrumentChanged, OrderFilled
from ome.domain.instrument import DEFAULT_LOT_SIZE, DEFAULT_TICK_SIZE, Instrument
from ome.domain.numbers import pack
from ome.domain.reasons import Reason
from ome.engine.instrument_rules import changed_rules
from ome.engine.market import Market
from ome.engine.order_book import OrderBook
from ome.engine.refusal import Refusal

_FILLED: Final = frozenset({OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED})


def define_instrument(market: Market, command: DefineInstrument) -> None:
    """List a symbol, or change what it trades in, its rules and its state; all of it or nothing."""
    book = market.books.get(command.symbol)
    try:
        if book is None:
            _check_room_for_symbol(market)
            tick, lot = command.tick_size or DEFAULT_TICK_SIZE, command.lot_size or DEFAULT_LOT_SIZE
            book = market.books[command.symbol] = OrderBook(Instrument(command.symbol, tick, lot), market.time)
        else:
            _redefine(book, command)
    except Refusal as refusal:
        market.events.append(CommandRefused(None, refusal.reason, refusal.limit))
        return
    book.rules = changed_rules(book.rules, command)
    market.funds.define(book)
    if command.state is not None:
        set_state(market, book, command.state, None)
    tell_instrument(market, book)


def _redefine(book: OrderBook, command: DefineInstrument) -> None:
    old = book.instrument
    tick, lot = command.tick_size or old.tick_size, command.lot_size or old.lot_size
    is_redefined = (tick, lot) != (old.tick_size, old.lot_size)
    is_refunded = changed_rules(book.rules, command).funding != book.rules.funding
    if (is_redefined or is_refunded) and not book.is_empty:
        raise Refusal(Reason.INSTRUMENT_IN_USE)
    if is_redefined:
        book.redefine(Instrument(command.symbol, tick, lot))


def unlisted_book(market: Market, symbol: str) -> OrderBook:
    """The book that an unlisted symbol's first order would list; it is not listed yet. Raises Refusal."""
    if not market.settings.auto_list:
        raise Refusal(Reason.UNKNOWN_SYMBOL)
    _check_room_for_symbol(market)
    return OrderBook(Instrument(symbol, DEFAULT_TICK_SIZE, DEFAULT_LOT_SIZE), market.time)


def list_symbol(market: Market, book: OrderBook) -> None:
    """List a symbol whose first order has been accepted."""
    market.books[book.instrument.symbol] = book
    tell_instrument(market, book)


def _check_room_for_symbol(market: Market) -> None:
    if len(market.books) >= market.settings.max_symbols:
        raise Refusal(Reason.TOO_MANY_SYMBOLS, pack(market.settings.max_symbols, 0))


def set_state(market: Market, book: OrderBook, state: MarketState, until: int | None) -> None:
    """Let the symbol take other orders from now on; leaving an auction uncrosses first (H1, H3). `until` ends a halt."""
    symbol = book.instrument.symbol
    if book.state is MarketState.AUCTION and state is not MarketState.AUCTION:
        takers = market.matcher.uncross(book, market.position, market.time, market.events)
        market.events.extend(OrderFilled(order.record()) for order in takers if order.status in _FILLED)
        market.touch(book)
    book.state = state
    book.rules = structs.replace(book.rules, halted_until=until)
    market.halts.pop(symbol, None)
    if until is not None:
        market.halts[symbol] = until
    market.stirred_books[symbol] = market.touched_books[symbol] = book


def resume_due(market: Market) -> None:
    """Open the symbols whose halt is over (H2)."""
    for until, symbol in sorted((until, symbol) for symbol, until in market.halts.items()):
        if until <= market.time:
            book = market.books[symbol]
            set_state(market, book, MarketState.OPEN, None)
            tell_instrument(market, book)


def tell_instrument(market: Market, book: OrderBook) -> None:
    """Tell the public what the symbol is now."""
    book.next_sequence()
    market.instrument_changed(book)
    market.events.append(InstrumentChanged(book.record()))
