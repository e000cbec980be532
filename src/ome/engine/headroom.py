"""What a user may still do: for each limit the room that it leaves, as the checks of `engine.limits` would find it now."""

from __future__ import annotations

from collections.abc import Mapping

from ome.domain.enums import Side
from ome.domain.ports import SymbolRisk, UserRisk
from ome.domain.positions import QUANTITY_DECIMALS, text_of, units_of_number
from ome.engine.accounts import Accounts, User
from ome.engine.controls import EVERYBODY, Controls
from ome.engine.limits import exposure
from ome.engine.order_book import OrderBook
from ome.engine.reach import collar
from ome.engine.user_limits import NO_LIMITS


def risk_of(user_id: str, books: Mapping[str, OrderBook], accounts: Accounts, controls: Controls) -> UserRisk:
    """Everything about one user, in time that grows with the symbols that it has to do with."""
    user = accounts.user(user_id)
    open_orders = 0 if user is None else user.open_orders
    limits = controls.limits.get(user_id)
    most = None if limits is None else limits.most_open
    symbols = {*(() if user is None else user.accounts), *(() if limits is None else limits.symbols)} & books.keys()
    return UserRisk(
        user_id,
        not controls.kills.isdisjoint({EVERYBODY, (user_id, "")}),
        controls.timer_of(user_id),
        open_orders,
        most,
        None if most is None else max(0, most - open_orders),
        [_symbol_risk(user_id, user, books[symbol], controls) for symbol in sorted(symbols)],
    )


def _symbol_risk(user_id: str, user: User | None, book: OrderBook, controls: Controls) -> SymbolRisk:
    instrument = book.instrument
    symbol, lot = instrument.symbol, instrument.quantities.units
    account = None if user is None else user.accounts.get(symbol)
    theirs = controls.limits.get(user_id)
    limits = NO_LIMITS if theirs is None else theirs.of(symbol)
    band = None if limits.price_collar_percent is None else collar(book, limits.price_collar_percent)
    open_orders = 0 if account is None else account.open_orders

    def room(side: Side) -> str | None:
        if limits.max_position is None:
            return None
        return text_of(units_of_number(limits.max_position) - exposure(account, side, lot), QUANTITY_DECIMALS)

    return SymbolRisk(
        symbol,
        controls.is_killed(user_id, symbol),
        text_of(0 if account is None else account.quantity, QUANTITY_DECIMALS),
        text_of(0 if account is None else account.buying * lot, QUANTITY_DECIMALS),
        text_of(0 if account is None else account.selling * lot, QUANTITY_DECIMALS),
        open_orders,
        limits,
        room(Side.BUY),
        room(Side.SELL),
        None if limits.max_open_orders is None else max(0, limits.max_open_orders - open_orders),
        None if band is None else instrument.prices.number(band.highest),
        None if band is None else instrument.prices.number(band.lowest),
    )
