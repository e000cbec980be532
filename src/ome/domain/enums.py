"""The closed sets of words in commands, events and records. Numbers are stored; names are what clients see."""

from enum import IntEnum


class Side(IntEnum):
    """Which side of the book an order belongs to."""

    BUY = 0
    SELL = 1


class OrderType(IntEnum):
    """How an order is priced, and whether it waits for a price first."""

    LIMIT = 0
    MARKET = 1
    STOP = 2
    STOP_LIMIT = 3
    TRAILING_STOP = 4


class TimeInForce(IntEnum):
    """How long an order stays (rules T1-T5)."""

    GTC = 0
    IOC = 1
    FOK = 2
    GTD = 3
    DAY = 4


class SelfTradePrevention(IntEnum):
    """What happens when an order would trade with one of its own user's; the taker's mode decides (rule P1)."""

    CANCEL_NEWEST = 0
    CANCEL_OLDEST = 1
    CANCEL_BOTH = 2
    DECREMENT = 3
    NONE = 4


class OrderStatus(IntEnum):
    """Where an order is in its life; the open ones come first, so that `status <= LAST_OPEN` finds them."""

    PENDING = 0
    PARTIALLY_FILLED = 1
    PENDING_TRIGGER = 2
    FILLED = 3
    CANCELLED = 4
    EXPIRED = 5
    REJECTED = 6


LAST_OPEN = OrderStatus.PENDING_TRIGGER


class ControlKind(IntEnum):
    """What an operator, or a user, has laid down for orders to come."""

    LIMITS = 0
    """Of a user, in a symbol or in every one."""
    KILL = 1
    """Of a user, of a symbol, or of all: nothing is taken, and what is open is cancelled."""
    TIMER = 2
    """Of a user: when all of its orders are cancelled unless it says something before."""


class Switch(IntEnum):
    """Whether a control is in force."""

    OFF = 0
    ON = 1


class MarketState(IntEnum):
    """What a symbol takes (rule H1)."""

    OPEN = 0
    POST_ONLY = 1
    CANCEL_ONLY = 2
    HALTED = 3
    AUCTION = 4


class TransferKind(IntEnum):
    """Which way a transfer between a user's account and the world outside goes."""

    DEPOSIT = 0
    WITHDRAWAL = 1
