"""The questions that readers ask, as SQL: made by SQLAlchemy from the schema, once for each shape (which filters are there).

A `Query` is asked with values by name; which index each one uses is tested.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, Literal

from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    CompoundSelect,
    Dialect,
    FromClause,
    Integer,
    Select,
    SmallInteger,
    Text,
    and_,
    bindparam,
    func,
    literal_column,
    select,
    true,
    union,
    union_all,
)

from ome.db.schema import (
    OPEN,
    audit,
    event_batches,
    event_orders,
    event_users,
    stored_balances,
    stored_controls,
    stored_instruments,
    stored_orders,
    stored_positions,
    stored_trades,
    stored_transfers,
    symbol_moves,
)
from ome.domain.enums import LAST_OPEN, OrderStatus, Side, Switch
from ome.domain.keys import KEY_ACTIONS

_RESTING: Final = (OPEN, stored_orders.c.status < literal_column(str(int(OrderStatus.PENDING_TRIGGER)), SmallInteger))
"""The orders that stand in a book: the open ones but for stops that wait."""


class Query(Struct, frozen=True):
    """A statement's text with the names of its parameters in order, and values for those that aren't asked with."""

    sql: str
    names: tuple[str, ...]
    constants: dict[str, Any]

    def parameters(self, values: dict[str, Any]) -> list[Any]:
        """The values in the order of the placeholders."""
        return [values[name] if name in values else self.constants[name] for name in self.names]


@cache
def order(dialect: Dialect, *, user: bool = False) -> Query:
    """The order `id`, of `user_id`."""
    query = select(stored_orders).where(stored_orders.c.id == _big("id"))
    return _query(dialect, query.where(stored_orders.c.user_id == _text("user_id")) if user else query)


@cache
def positions_of_user(dialect: Dialect) -> Query:
    """The positions of `user_id`, by symbol."""
    columns = list(stored_positions.c)[:-1]
    return _query(
        dialect, select(*columns).where(stored_positions.c.user_id == _text("user_id")).order_by(stored_positions.c.symbol)
    )


@cache
def controls(dialect: Dialect, *, user: bool) -> Query:
    """The controls of a `kind` that are in force, of `user_id`, by user and symbol."""
    table = stored_controls.c
    on = table.switch == literal_column(str(int(Switch.ON)), SmallInteger)
    query = select(*list(table)[:-1]).where(table.kind == bindparam("kind", type_=SmallInteger), on)
    if user:
        query = query.where(table.user_id == _text("user_id"))
    return _query(dialect, query.order_by(table.user_id, table.symbol))


@cache
def orders_by_client_id(dialect: Dialect, *, symbol: bool) -> Query:
    """The orders with `user_id` and `client_order_id`, and `symbol`."""
    table = stored_orders.c
    query = select(stored_orders).where(table.user_id == _text("user_id"), table.client_order_id == _text("client_order_id"))
    return _query(dialect, query.where(table.symbol == _text("symbol")) if symbol else query)


@cache
def orders_of_user(dialect: Dialect, *, symbol: bool, statuses: frozenset[OrderStatus]) -> Query:
    """At most `limit` orders of `user_id`, newest first, with an id from `low` on and below `before`, of a `symbol`, with one of
    `statuses`.
    """
    table = stored_orders.c
    query = select(stored_orders).where(table.user_id == _text("user_id"), table.id >= _big("low"))
    query = _page(query, table.id, before=True)
    if symbol:
        query = query.where(table.symbol == _text("symbol"))
    if statuses:
        query = query.where(table.status.in_([literal_column(str(int(status)), SmallInteger) for status in sorted(statuses)]))
        if max(statuses) <= LAST_OPEN:
            query = query.where(OPEN)
    return _query(dialect, query)


@cache
def newest_order(dialect: Dialect) -> Query:
    """The highest id of an order from `low` on and below `end`, or NULL."""
    identity = stored_orders.c.id
    return _query(dialect, select(func.max(identity)).where(identity >= _big("low"), identity < _big("end")))


@cache
def order_from(dialect: Dialect) -> Query:
    """The id and the time of the first order with an id from `start` on and below `end`."""
    table = stored_orders.c
    query = select(table.id, table.created_at).where(table.id >= _big("start"), table.id < _big("end")).order_by(table.id)
    return _query(dialect, query.limit(literal_column("1", Integer)))


@cache
def open_orders(dialect: Dialect) -> Query:
    """The sequence of `symbol` beside each of the orders that rest in the best `levels` of a side, in any order; beside nothing
    where none does. It reads those levels alone: prices are compared as the numbers they are stored as, since all open orders
    of a symbol have the decimals of its tick, which stays while any is open.
    """
    resting = union_all(_of_best_levels(Side.BUY), _of_best_levels(Side.SELL)).subquery("resting")
    query = (
        select(stored_instruments.c.sequence, resting)
        .select_from(stored_instruments.outerjoin(resting, true()))
        .where(stored_instruments.c.symbol == _text("symbol"))
    )
    return _query(dialect, query)


def _of_best_levels(side: Side) -> Select[Any]:
    """The orders of `symbol` that rest in the best `levels` of a side."""
    table = stored_orders.c
    mine = (table.symbol == _text("symbol"), table.side == literal_column(str(int(side)), SmallInteger), *_RESTING)
    ranked = table.price.desc() if side is Side.BUY else table.price
    best = select(table.price).distinct().where(*mine).order_by(ranked).limit(bindparam("levels", type_=Integer)).subquery()
    if side is Side.BUY:
        reached = table.price >= select(func.min(best.c.price)).scalar_subquery()
    else:
        reached = table.price <= select(func.max(best.c.price)).scalar_subquery()
    return select(stored_orders).where(*mine, reached)


@cache
def queue_ahead(dialect: Dialect) -> Query:
    """The resting orders of `symbol` on `side` at `price` with a priority below `priority`: (how many, remaining quantity,
    terms), those that are alike in both counted together.
    """
    table = stored_orders.c
    alike = (table.remaining_quantity, table.terms)
    query = (
        select(func.count(), *alike)
        .where(table.symbol == _text("symbol"), table.side == bindparam("side", type_=SmallInteger), *_RESTING)
        .where(table.price == _big("price"), table.priority < _big("priority"))
        .group_by(*alike)
    )
    return _query(dialect, query)


@cache
def balances_of_user(dialect: Dialect) -> Query:
    """What `user_id` has of each asset, by its name: user, asset, total, reserved."""
    table = stored_balances.c
    query = select(*list(table)[:-1]).where(table.user_id == _text("user_id"), table.shard == bindparam("shard", type_=Integer))
    return _query(dialect, query.order_by(table.asset))


@cache
def transfer(dialect: Dialect) -> Query:
    """The transfer of `user_id` with `client_transfer_id`."""
    table = stored_transfers.c
    mine = (table.user_id == _text("user_id"), table.client_transfer_id == _text("client_transfer_id"))
    return _query(dialect, select(stored_transfers).where(*mine))


@cache
def trades(dialect: Dialect, *, before: bool, symbol: bool) -> Query:
    """At most `limit` trades, newest first, with an id below `before`, of a `symbol`."""
    query = _page(select(stored_trades), stored_trades.c.id, before=before)
    return _query(dialect, query.where(stored_trades.c.symbol == _text("symbol")) if symbol else query)


@cache
def trades_from(dialect: Dialect) -> Query:
    """At most `limit` trades, oldest first, with an id from `start` on and below `end`."""
    table = stored_trades.c
    query = select(stored_trades).where(table.id >= _big("start"), table.id < _big("end")).order_by(table.id)
    return _query(dialect, query.limit(bindparam("limit", type_=Integer)))


@cache
def trades_between(dialect: Dialect, *, symbol: bool = False) -> Query:
    """At most `limit` trades, newest first, with an id from `low` on and below `before`, of all symbols or of a `symbol`."""
    query = _page(select(stored_trades), stored_trades.c.id, before=True).where(stored_trades.c.id >= _big("low"))
    return _query(dialect, query.where(stored_trades.c.symbol == _text("symbol")) if symbol else query)


@cache
def shards_of(dialect: Dialect) -> Query:
    """The shards that a `symbol` has left or was given to."""
    table = symbol_moves.c
    mine = table.symbol == _text("symbol")
    return _query(dialect, union(select(table.shard).where(mine), select(table.target).where(mine)))


@cache
def batch_end(dialect: Dialect) -> Query:
    """The last position of the batch of `shard` that holds `position`, or NULL."""
    table = event_batches.c
    end = select(func.min(table.last_position)).where(table.shard == _shard(), table.last_position >= _big("position"))
    return _query(dialect, end)


@cache
def events(dialect: Dialect) -> Query:
    """The events of the batch of `shard` that ends at `last`."""
    table = event_batches.c
    return _query(dialect, select(table.events).where(table.shard == _shard(), table.last_position == _big("last")))


@cache
def batches_with(dialect: Dialect, what: Literal["order", "user's trade"], *, before: bool) -> Query:
    """At most `limit` (end, events) of batches, newest first, that end below `before`: with an event of `order_id` after the
    batch that it came in with, or with a trade of `user_id`.
    """
    index: FromClause
    if what == "order":
        index, last = event_orders, event_orders.c.last_position
        mine = event_orders.c.order_id == _big("order_id")
    else:
        index, last = event_users, event_users.c.last_position
        traded = event_users.c.traded == literal_column("1", SmallInteger)
        mine = and_(event_users.c.user_id == _text("user_id"), event_users.c.shard == _shard(), traded)
    batch = and_(event_batches.c.shard == _shard(), event_batches.c.last_position == last)
    query = select(last, event_batches.c.events).select_from(index.join(event_batches, batch)).where(mine)
    return _query(dialect, _page(query, last, before=before))


@cache
def batches_of_user(dialect: Dialect) -> Query:
    """At most `limit` (end, events) of batches of `shard`, oldest first, that end at `since` or later: with an event of
    `user_id`.
    """
    last = event_users.c.last_position
    batch = and_(event_batches.c.shard == _shard(), event_batches.c.last_position == last)
    query = (
        select(last, event_batches.c.events)
        .select_from(event_users.join(event_batches, batch))
        .where(event_users.c.user_id == _text("user_id"), event_users.c.shard == _shard(), last >= _big("since"))
        .order_by(last)
        .limit(bindparam("limit", type_=Integer))
    )
    return _query(dialect, query)


@cache
def batches_of_order(dialect: Dialect) -> Query:
    """At most `limit` (end, events) of batches of `shard`, oldest first, that end at `since` or later: with an event of
    `order_id` after the batch that it came in with.
    """
    last = event_orders.c.last_position
    batch = and_(event_batches.c.shard == _shard(), event_batches.c.last_position == last)
    query = (
        select(last, event_batches.c.events)
        .select_from(event_orders.join(event_batches, batch))
        .where(event_orders.c.order_id == _big("order_id"), last >= _big("since"))
        .order_by(last)
        .limit(bindparam("limit", type_=Integer))
    )
    return _query(dialect, query)


@cache
def places_elsewhere(dialect: Dialect, *, newest: bool) -> Query:
    """The places, from `low` on and below `high`, of the batches of other shards than its id's that have an event of `order_id`:
    see `statements.batch_place`. They are few: each is of a time when its symbol had been moved.
    """
    place = event_orders.c.last_position
    query = select(place).where(event_orders.c.order_id == _big("order_id"), place >= _big("low"), place < _big("high"))
    return _query(dialect, query.order_by(place.desc() if newest else place))


@cache
def audit_entries(dialect: Dialect, *, before: bool, action: bool) -> Query:
    """At most `limit` entries of `shard`'s audit, newest first, with a position below `before`, of an `action`."""
    query = select(audit).where(audit.c.shard == _shard())
    return _query(
        dialect, _page(query.where(audit.c.action == _text("action")) if action else query, audit.c.position, before=before)
    )


@cache
def key_entries(dialect: Dialect) -> Query:
    """Every entry about keys, oldest first; there are as few as there were keys."""
    actions = [literal_column(f"'{action}'", Text) for action in KEY_ACTIONS]
    query = select(audit).where(audit.c.shard == _shard(), audit.c.action.in_(actions))
    return _query(dialect, query.order_by(audit.c.position))


def _page(query: Select[Any], identity: ColumnElement[int], *, before: bool) -> Select[Any]:
    if before:
        query = query.where(identity < _big("before"))
    return query.order_by(identity.desc()).limit(bindparam("limit", type_=Integer))


def _query(dialect: Dialect, query: Select[Any] | CompoundSelect[Any]) -> Query:
    compiled: Any = query.compile(dialect=dialect)  # an SQLCompiler, whose attributes these are
    return Query(str(compiled), tuple(compiled.positiontup), dict(compiled.params))


def _big(name: str) -> BindParameter[int]:
    return bindparam(name, type_=BigInteger)


def _text(name: str) -> BindParameter[str]:
    return bindparam(name, type_=Text)


def _shard() -> BindParameter[int]:
    return bindparam("shard", type_=Integer)
