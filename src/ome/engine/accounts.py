"""Whose orders are open and what each user holds of each symbol: kept up as orders come, change, trade and go.

The one place where that is told: `opened`, `resized`, `traded` and `closed` are called for each order's steps, in the order in
which they happen, and by nobody but the engine and its matcher. An order holds its account, so that each step costs a few
additions and no search.

Layout: a `User` for everybody with an open order, a position, or both; in it an `Account` for each symbol likewise. The orders of
a user are a doubly linked list through the orders themselves, in the order in which they were opened. Open sums are in lots and
follow from the open orders, waiting stops included (S5); positions follow from trades, in the units of `domain.positions`, and
count in the state hash. An account that holds nothing is dropped with its last order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from ome.domain.digests import digest
from ome.domain.enums import Side
from ome.domain.errors import InvariantBroken
from ome.domain.positions import Position
from ome.domain.records import PositionRecord

if TYPE_CHECKING:
    from ome.engine.order import Order


_BUY: Final = Side.BUY


class User:
    """One user's open orders, from the first to the last, and accounts, by symbol; `open_orders` is how many orders are open, of
    all symbols.
    """

    __slots__ = ("accounts", "first", "id", "last", "open_orders")

    def __init__(self, user_id: str) -> None:
        self.id = user_id
        self.first: Order | None = None
        self.last: Order | None = None
        self.accounts: dict[str, Account] = {}
        self.open_orders = 0

    def orders(self) -> Iterator[Order]:
        """Those of its open orders that are held here."""
        order = self.first
        while order is not None:
            yield order
            order = order.later

    def leave(self, order: Order) -> None:
        """Hold it no longer."""
        earlier, later = order.earlier, order.later
        if earlier is None:
            self.first = later
        else:
            earlier.later = later
        if later is None:
            self.last = earlier
        else:
            later.earlier = earlier
        order.earlier = order.later = None


class Account(Position):
    """One user's position in one symbol, and the lots that its open orders would buy and sell. `digest` is what the state hash
    counts for the position now, 0 before the first trade.
    """

    __slots__ = ("buying", "digest", "open_orders", "selling", "symbol", "user")

    def __init__(self, user: User, symbol: str) -> None:
        super().__init__()
        self.user = user
        self.symbol = symbol
        self.buying = 0
        self.selling = 0
        self.open_orders = 0
        self.digest = 0


class Accounts:
    """Everybody's. `keeps_positions`: whether trades change positions (`EngineSettings`)."""

    def __init__(self) -> None:
        self.keeps_positions = False
        self._users: dict[str, User] = {}
        self._changed: dict[Account, None] = {}
        self._pictures: dict[tuple[str, str], PositionRecord] = {}

    # What happens to orders

    def opened(self, order: Order) -> None:
        """An order is open from now on, with all that remains of it. All orders of one user share one string for it."""
        user_id, symbol = order.user_id, order.instrument.symbol
        user = self._users.get(user_id)
        if user is None:
            user = self._users[user_id] = User(user_id)
        account = user.accounts.get(symbol)
        if account is None:
            account = user.accounts[symbol] = Account(user, symbol)
        order.account = account
        order.user_id = user.id
        last = order.earlier = user.last  # it joins behind the others; a million do so at a start
        if last is None:
            user.first = order
        else:
            last.later = order
        user.last = order
        user.open_orders += 1
        account.open_orders += 1
        if order.side is _BUY:
            account.buying += order.remaining
        else:
            account.selling += order.remaining

    @staticmethod
    def resized(order: Order, lots: int) -> None:
        """So many lots more remain of an open order, or fewer (below zero), without a trade: a change, or P1."""
        if order.side is _BUY:
            order.account.buying += lots
        else:
            order.account.selling += lots

    def traded(self, buy: Order, sell: Order, lots: int, ticks: int) -> None:
        """Two open orders have traded; where both are of one user, it buys first."""
        bought, sold = buy.account, sell.account
        bought.buying -= lots
        sold.selling -= lots
        if self.keeps_positions:
            instrument = buy.instrument
            quantity, price = lots * instrument.quantities.units, ticks * instrument.prices.units
            bought.fill(quantity, price)
            sold.fill(-quantity, price)
            self._changed[bought] = self._changed[sold] = None

    def closed(self, order: Order, lots: int) -> None:
        """An order has ended; `lots` is what remained of it until then."""
        account = order.account
        if lots:
            self.resized(order, -lots)
        user = account.user
        user.leave(order)
        user.open_orders -= 1
        account.open_orders -= 1
        if not account.open_orders and not account.volume:
            del user.accounts[account.symbol]
            if not user.accounts:
                del self._users[user.id]

    # Positions as a whole

    def put_position(self, record: PositionRecord) -> int:
        """Have a position stand as `record` says; by how much the sum of digests changes. Raises ValueError for bad text."""
        user = self._users.setdefault(record.user_id, User(record.user_id))
        account = user.accounts.setdefault(record.symbol, Account(user, record.symbol))
        account.restore(record)
        before, account.digest = account.digest, digest(record)
        return account.digest - before

    def adopt(self, records: Iterable[PositionRecord]) -> int:
        """`put_position` for each, told in the next `take_pictures`; by how much the sum of digests changes."""
        change = 0
        for record in records:
            change += self.put_position(record)
            self._pictures[record.user_id, record.symbol] = record
        return change

    def count_positions(self, symbol: str) -> int:
        """How many users have a position in a symbol, flat ones included; everybody is looked at."""
        return sum(bool(account.volume) for _, account in self._all() if account.symbol == symbol)

    def take_out(self, symbol: str) -> tuple[list[PositionRecord], int]:
        """Have no positions in a symbol any more, in which nothing is open: what they were, by user, told in the next
        `take_pictures`, and the sum of their digests.
        """
        held = [account for _, account in self._all() if account.symbol == symbol]
        records: list[PositionRecord] = []
        digests = 0
        for account in sorted(held, key=_owner):
            user = account.user
            record = account.record(user.id, symbol)
            self._pictures[user.id, symbol] = record
            records.append(record)
            digests += account.digest
            del user.accounts[symbol]
            if not user.accounts:
                del self._users[user.id]
        return records, digests

    def fold_changes(self) -> int:
        """Picture the positions that have changed; by how much the sum of digests changes."""
        change = 0
        for account in self._changed:
            user_id, symbol = account.user.id, account.symbol
            record = self._pictures[user_id, symbol] = account.record(user_id, symbol)
            now = digest(record)
            change += now - account.digest
            account.digest = now
        self._changed = {}
        return change

    def take_pictures(self) -> list[PositionRecord]:
        """The positions that have changed since the last call, each once, as `fold_changes` has pictured it."""
        pictures, self._pictures = list(self._pictures.values()), {}
        return pictures

    def positions(self) -> list[PositionRecord]:
        """Everybody's, in the order of users and symbols."""
        kept = [(user.id, account.symbol, account) for user, account in self._all() if account.volume]
        return [account.record(user_id, symbol) for user_id, symbol, account in sorted(kept, key=_place)]

    # To look at

    def user(self, user_id: str) -> User | None:
        """A user with an open order or a position."""
        return self._users.get(user_id)

    def holds(self, order: Order) -> bool:
        """Whether an open order is among its user's, and in its account."""
        user = self._users.get(order.user_id)
        if user is None or user.accounts.get(order.instrument.symbol) is not order.account:
            return False
        return any(held is order for held in user.orders())

    def count_open(self, user_ids: Iterable[str]) -> int:
        """How many orders these users have open."""
        return sum(user.open_orders for user_id in user_ids if (user := self._users.get(user_id)) is not None)

    def orders_of(self, user_id: str) -> Iterable[Order]:
        """A user's open orders."""
        user = self._users.get(user_id)
        return () if user is None else user.orders()

    def copy_from(self, other: Accounts, user_ids: Iterable[str]) -> None:
        """Have these users' accounts stand as they do in `other`, of which this holds an excerpt of the orders (dry runs)."""
        for user_id in user_ids:
            theirs = other.user(user_id)
            if theirs is None:
                continue
            user = self._users.setdefault(user_id, User(user_id))
            user.open_orders = theirs.open_orders
            for symbol, account in theirs.accounts.items():
                mine = user.accounts.setdefault(symbol, Account(user, symbol))
                for name in ("quantity", "cost", "realised", "volume", "buying", "selling", "open_orders"):
                    setattr(mine, name, getattr(account, name))

    def check_invariants(self, orders: Mapping[int, Order]) -> None:
        """What is held of open orders is what the orders add up to, and each is its user's and one of `orders`, which are all."""
        held = sum(_check_user(user, orders) for user in self._users.values())
        if held != len(orders):
            missed = next(order.id for order in orders.values() if not self.holds(order))
            raise InvariantBroken(f"order {missed} is open and not among its user's open orders")

    def _all(self) -> Iterator[tuple[User, Account]]:
        return ((user, account) for user in self._users.values() for account in user.accounts.values())


def _check_user(user: User, orders: Mapping[int, Order]) -> int:
    """The part of `check_invariants` that concerns one user: how many orders are held. A start waits for this: every order is
    looked at once, and those of a user lie far apart in memory.
    """
    user_id, held = user.id, 0
    sums = {account: [0, 0, 0] for account in user.accounts.values()}
    before, order = None, user.first
    while order is not None:
        account = order.account
        counted = sums.get(account)
        if counted is None or account.symbol != order.instrument.symbol or order.user_id != user_id:
            raise InvariantBroken(f"order {order.id} is held by user {user_id}, and is another's")
        if orders.get(order.id) is not order:
            raise InvariantBroken(f"order {order.id} is held by user {user_id} and in no book")
        if order.earlier is not before:
            raise InvariantBroken(f"order {order.id} is linked wrongly among those of user {user_id}")
        counted[0 if order.side is _BUY else 1] += order.remaining
        counted[2] += 1
        held += 1
        before, order = order, order.later
    if user.open_orders != held or user.last is not before or not user.accounts:
        raise InvariantBroken(f"{held} orders of user {user_id} are open, {user.open_orders} are counted")
    for symbol, account in user.accounts.items():
        if [account.buying, account.selling, account.open_orders] != sums[account]:
            raise InvariantBroken(f"the open orders of user {user_id} in {symbol} are not what their account says")
    return held


def _owner(account: Account) -> str:
    return account.user.id


def _place(kept: tuple[str, str, Account]) -> tuple[str, str]:
    return kept[:2]
