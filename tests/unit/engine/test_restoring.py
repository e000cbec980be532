"""What a start builds from stored orders, and what it refuses to start from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from factories import a_stop, an_instrument, an_order
from ome.domain.enums import OrderStatus, Side
from ome.domain.errors import InvariantBroken
from ome.domain.instrument import Instrument
from ome.domain.numbers import pack
from ome.domain.records import EngineSettings, EngineState, OrderRecord, SpecialTerms
from ome.engine.accounts import Account, User
from ome.engine.engine import Engine
from ome.engine.order import Order

ICEBERG = SpecialTerms(display_quantity=pack(4, 0), shown_quantity=pack(3, 0))
ORDERS = [
    an_order(1, user_id="ann"),
    an_order(2, user_id="bob", expires_at=10**16),
    an_order(3, user_id="ann", side=Side.SELL, price=pack(15100, 2), terms=ICEBERG),
    a_stop(4, user_id="cat", price=pack(15600, 2)),
]


def state_of(*orders: OrderRecord) -> EngineState:
    """An engine's state with these orders in one symbol."""
    return EngineState(0, 9, 10**15, 0, 9, EngineSettings(), [an_instrument()], list(orders))


@pytest.mark.parametrize("record", ORDERS, ids=lambda record: record.type.name)
def test_a_restored_order_has_every_field_and_pictures_itself(record: OrderRecord) -> None:
    """Nothing is left unset but the account, which opening it gives, and the picture is the one that it came from."""
    order = Order.restored(record, Instrument("AAPL", pack(1, 2), pack(1, 0)))
    fields = {name for name in dir(Order) if not name.startswith("_")} - {"account"}
    assert all(hasattr(order, name) for name in fields)
    assert order.record() == record


def test_the_order_in_which_orders_come_does_not_matter() -> None:
    """DUR6: their places in the queues are those of their priorities."""
    there, back = Engine.restore(state_of(*ORDERS)), Engine.restore(state_of(*reversed(ORDERS)))
    assert there.state_hash() == back.state_hash()
    assert [order.id for order in there.books()[0].orders()] == [order.id for order in back.books()[0].orders()] == [1, 2, 3]
    assert there.next_deadline() == back.next_deadline() == 10**16
    assert there.open_orders == back.open_orders == len(ORDERS)
    there.check_invariants()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"symbol": "NONE"}, "order 1 of NONE can't be restored"),
        ({"price": None}, "order 1 has no price and cannot rest"),
        ({"filled_quantity": pack(1, 0), "filled_value": "much"}, "order 1 of AAPL can't be restored"),
    ],
)
def test_an_order_that_fits_nowhere_is_named(changed: dict[str, Any], sentence: str) -> None:
    """What can't be put into a book is said, with its id, never passed over."""
    with pytest.raises(InvariantBroken, match=sentence):
        Engine.restore(state_of(structs.replace(ORDERS[0], **changed)))


def _lose_from_user(engine: Engine, order: Order) -> None:
    engine._market.accounts._users[order.user_id].leave(order)


def _lose_user(engine: Engine, order: Order) -> None:
    del engine._market.accounts._users[order.user_id]


def _lose_from_orders(engine: Engine, order: Order) -> None:
    del engine._market.orders[order.id]


def _lose_from_book(engine: Engine, order: Order) -> None:
    engine.books()[0].bids.remove(order)


def _give_to_another(engine: Engine, order: Order) -> None:
    zoe = engine._market.accounts._users["zoe"] = User("zoe")
    zoe.first = zoe.last = order
    zoe.accounts["AAPL"] = Account(zoe, "AAPL")
    zoe.open_orders = 1


def _link_wrongly(_: Engine, order: Order) -> None:
    order.earlier = order


def _forget_last(engine: Engine, order: Order) -> None:
    engine._market.accounts._users[order.user_id].last = None


def _fill_without_trade(_: Engine, order: Order) -> None:
    order.filled += 1


def _hide_all(_: Engine, order: Order) -> None:
    order.hidden = order.remaining


def _end(_: Engine, order: Order) -> None:
    order.status = OrderStatus.CANCELLED


def _wait(_: Engine, order: Order) -> None:
    order.status = OrderStatus.PENDING_TRIGGER


def _forget_deadline(engine: Engine, _: Order) -> None:
    engine._market.deadlines.restore([])


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (_lose_from_user, "1 orders of user ann are open, 2 are counted"),
        (_lose_user, "order 1 is open and not among its user's open orders"),
        (_lose_from_orders, "order 1 is in a book and not open"),
        (_lose_from_book, "the open orders are not those in the books"),
        (_give_to_another, "order 1 is held by user zoe, and is another's"),
        (_link_wrongly, "order 1 is linked wrongly among those of user "),
        (_forget_last, "orders of user [a-z]+ are open"),
        (_fill_without_trade, "order 1: 1 filled and 10 open of 10"),
        (_hide_all, "counts 20 in 2, its orders are 10 in 2"),
        (_end, "order 1 is CANCELLED in a book"),
        (_wait, "order 1 is PENDING_TRIGGER in a book"),
        (_forget_deadline, "0 deadlines are watched for 1 orders that have one"),
    ],
)
def test_whatever_contradicts_the_books_is_found(harm: Callable[[Engine, Order], None], sentence: str) -> None:
    """INV1, INV3 to INV5: each kind of damage is found, and said."""
    engine = Engine.restore(state_of(*ORDERS))
    order = engine.open_order(1)
    assert order is not None
    harm(engine, order)
    with pytest.raises(InvariantBroken, match=sentence):
        engine.check_invariants()
