"""The one closed table of codes: why a request, an order or a command was refused, or an order was cancelled.

Every error body, every order's `reason` and the table in the docs come from here; nothing else is ever answered. Numbers are
stored and never change their meaning; they run in the order of the checks (rule R1), a hundred to each stage. `advice` says
what would be right; `{limit}` in it is the bound that was missed, where the engine gives one.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple


class Reason(IntEnum):
    """Every code there is; its lower-case name is what clients see."""

    # 100: reading the request
    MALFORMED_JSON = 100
    BODY_TOO_LARGE = 101
    HEADERS_TOO_LARGE = 102
    NOT_JSON = 103
    INVALID_REQUEST = 104
    NOT_SUPPORTED = 105
    ROUTE_NOT_FOUND = 106
    METHOD_NOT_ALLOWED = 107
    MALFORMED_REQUEST = 108
    REQUEST_TIMEOUT = 109
    WEBSOCKET_NEEDED = 115
    TOO_MANY_SUBSCRIPTIONS = 116
    # 200: who asks
    UNAUTHORIZED = 200
    INSUFFICIENT_SCOPE = 201
    NOT_YOUR_USER = 202
    ORIGIN_NOT_ALLOWED = 210
    HOST_NOT_TRUSTED = 211
    # 300: the service's state
    OVERLOADED = 300
    NOT_ACCEPTING = 301
    OUTCOME_UNKNOWN = 302
    INTERNAL_ERROR = 303
    TOO_MANY_CONNECTIONS = 304
    TOO_LATE = 305
    PENDING = 306
    DRAINING = 307
    STORAGE_LOW = 308
    RATE_LIMITED = 350
    # 400: what is named
    ORDER_NOT_FOUND = 400
    ORDER_NOT_OPEN = 401
    VERSION_CONFLICT = 402
    CLIENT_ORDER_ID_CONFLICT = 403
    SYMBOL_NOT_FOUND = 404
    UNKNOWN_SYMBOL = 405
    TOO_MANY_SYMBOLS = 406
    INSTRUMENT_IN_USE = 407
    NOT_IN_AUCTION = 408
    KEY_NOT_FOUND = 409
    SNAPSHOT_NOT_FOUND = 410
    SEQUENCE_NOT_REACHED = 411
    SEQUENCE_EVICTED = 412
    KEY_ENDED = 413
    CLIENT_TRANSFER_ID_CONFLICT = 420
    # 440: the kill switch
    KILL_SWITCH = 440
    # 450: the market's state
    MARKET_HALTED = 450
    MARKET_CANCEL_ONLY = 451
    MARKET_POST_ONLY = 452
    MARKET_IN_AUCTION = 453
    # 500: tick, lot and size
    PRICE_OFF_TICK = 500
    QUANTITY_OFF_LOT = 501
    PRICE_TOO_LARGE = 502
    QUANTITY_TOO_LARGE = 503
    QUANTITY_BELOW_FILLED = 504
    FIELD_NOT_APPLICABLE = 505
    QUANTITY_ABOVE_MAXIMUM = 506
    DISPLAY_ABOVE_QUANTITY = 507
    MIN_ABOVE_QUANTITY = 508
    TRAIL_TOO_LARGE = 509
    DISPLAY_TOO_SMALL = 510
    # 550: price bounds
    PRICE_OUTSIDE_BAND = 550
    # 600: time
    EXPIRES_AT_IN_PAST = 600
    # 650: what it would do
    POST_ONLY_WOULD_TAKE = 650
    # 660: what the user may, in the order of the checks
    PRICE_OUTSIDE_COLLAR = 660
    TOO_MANY_OPEN_ORDERS = 661
    ORDER_QUANTITY_LIMIT = 662
    ORDER_NOTIONAL_LIMIT = 663
    POSITION_LIMIT = 664
    # 700: what it would need
    INSUFFICIENT_FUNDS = 700
    SYMBOL_AWAY_FROM_FUNDS = 701
    # 900: why an accepted order ended
    CANCELLED_BY_USER = 900
    IOC_REMAINDER = 901
    FOK_UNFILLABLE = 902
    NO_LIQUIDITY = 903
    MARKET_REMAINDER = 904
    SELF_TRADE_PREVENTED = 905
    REDUCED_TO_FILLED = 906
    EXPIRED = 907
    MIN_QUANTITY_UNFILLABLE = 908
    SLIPPAGE_BOUND = 909
    PRICE_BAND_REACHED = 910
    PRICE_COLLAR_REACHED = 911
    CANCELLED_BY_KILL_SWITCH = 912
    CANCEL_ALL_AFTER = 913

    @property
    def code(self) -> str:
        """The stable code that clients see."""
        return self.name.lower()


class ReasonInfo(NamedTuple):
    """What goes with a reason: the HTTP status it is answered with, the rule it comes from ("" if none) and words."""

    status: int
    rule: str
    title: str
    advice: str


TABLE: Final[dict[Reason, ReasonInfo]] = {
    Reason.MALFORMED_JSON: ReasonInfo(400, "", "The body is not readable JSON", "Send one JSON object in UTF-8."),
    Reason.BODY_TOO_LARGE: ReasonInfo(413, "", "The body is too large", "Send at most {limit} bytes."),
    Reason.HEADERS_TOO_LARGE: ReasonInfo(431, "", "The headers are too large", "Send shorter headers or a shorter path."),
    Reason.NOT_JSON: ReasonInfo(415, "", "The body is not declared as JSON", "Send the header Content-Type: application/json."),
    Reason.INVALID_REQUEST: ReasonInfo(422, "", "Some fields are not as they should be", "Mend the fields listed in `errors`."),
    Reason.NOT_SUPPORTED: ReasonInfo(422, "", "This is not built yet", "Leave it out; see the release notes for what is built."),
    Reason.ROUTE_NOT_FOUND: ReasonInfo(404, "", "There is nothing at this path", "See /docs for every route."),
    Reason.METHOD_NOT_ALLOWED: ReasonInfo(405, "", "This path does not take this method", "See the Allow header, and /docs."),
    Reason.MALFORMED_REQUEST: ReasonInfo(
        400, "", "This is not HTTP as it should be", "Send one method, path, Content-Length or well-formed chunks; see RFC 9112."
    ),
    Reason.REQUEST_TIMEOUT: ReasonInfo(
        408, "", "The request did not come to its end in time", "Send head and body without a pause; nothing was executed."
    ),
    Reason.WEBSOCKET_NEEDED: ReasonInfo(
        426, "", "This path speaks WebSocket", "Connect with a WebSocket client: ws://HOST/ws; see /docs."
    ),
    Reason.TOO_MANY_SUBSCRIPTIONS: ReasonInfo(
        422, "", "The connection has too many subscriptions", "At most {limit}; unsubscribe, or open another connection."
    ),
    Reason.UNAUTHORIZED: ReasonInfo(401, "", "A valid API key is needed", "Send the key in the header X-API-Key."),
    Reason.INSUFFICIENT_SCOPE: ReasonInfo(
        403, "", "The key may not do this", "Use a key whose scopes include it; an operator makes keys."
    ),
    Reason.NOT_YOUR_USER: ReasonInfo(403, "", "The key belongs to another user", "Leave user_id out, or give the key's own."),
    Reason.ORIGIN_NOT_ALLOWED: ReasonInfo(
        403, "", "Pages of this origin may not connect", "Open the page from the service itself; ALLOWED_ORIGINS allows others."
    ),
    Reason.HOST_NOT_TRUSTED: ReasonInfo(
        421,
        "",
        "The service isn't known by this name",
        "Use localhost or an IP address; TRUSTED_HOSTS allows other names, and a key makes the name not matter.",
    ),
    Reason.OVERLOADED: ReasonInfo(
        503, "", "More is asked of the service than it can do", "Nothing was executed; try again after Retry-After seconds."
    ),
    Reason.NOT_ACCEPTING: ReasonInfo(
        503, "", "The engine is not taking commands now", "Nothing was executed; try again after Retry-After seconds."
    ),
    Reason.OUTCOME_UNKNOWN: ReasonInfo(
        504,
        "",
        "The outcome is not known yet",
        "Ask for the order by its client_order_id, or send the same request again with it.",
    ),
    Reason.INTERNAL_ERROR: ReasonInfo(500, "", "The service failed", "Report it with the request id; it is in the log."),
    Reason.TOO_MANY_CONNECTIONS: ReasonInfo(
        503, "", "There are too many connections", "Use those that you have; try again after Retry-After seconds."
    ),
    Reason.TOO_LATE: ReasonInfo(
        422, "", "Its turn came after valid_for_ms", "Nothing was executed; decide anew, or allow it more time."
    ),
    Reason.PENDING: ReasonInfo(
        503, "", "A request with this client_order_id is still being worked on", "Ask again after Retry-After seconds."
    ),
    Reason.DRAINING: ReasonInfo(
        503, "", "The service is stopping", "Nothing was executed; try again, on a new connection, after Retry-After seconds."
    ),
    Reason.STORAGE_LOW: ReasonInfo(
        503, "", "The disk is almost full", "Nothing was executed; cancels are taken, orders again once there is space."
    ),
    Reason.RATE_LIMITED: ReasonInfo(
        429, "", "Messages come too fast", "At most {limit} a second; nothing was executed, send it again later."
    ),
    Reason.ORDER_NOT_FOUND: ReasonInfo(404, "M3", "There is no such order", "Check the order id."),
    Reason.ORDER_NOT_OPEN: ReasonInfo(409, "M3", "The order is no longer open", "It has ended; nothing can be changed about it."),
    Reason.VERSION_CONFLICT: ReasonInfo(
        409, "A7", "The order has another version", "It has version {limit}; read it again and decide anew."
    ),
    Reason.CLIENT_ORDER_ID_CONFLICT: ReasonInfo(
        409, "I1", "This client_order_id belongs to another order", "Take a new one; it is unique per user and symbol, for ever."
    ),
    Reason.SYMBOL_NOT_FOUND: ReasonInfo(404, "", "This symbol is not listed", "GET /instruments lists those that are."),
    Reason.UNKNOWN_SYMBOL: ReasonInfo(
        422, "M6", "This symbol is not listed", "An operator lists it with PUT /instruments/SYMBOL."
    ),
    Reason.TOO_MANY_SYMBOLS: ReasonInfo(422, "M6", "No more symbols can be listed", "At most {limit} can; MAX_SYMBOLS sets it."),
    Reason.INSTRUMENT_IN_USE: ReasonInfo(
        409, "M5", "The instrument has open orders", "Its tick and lot can change only while it has none; cancel them first."
    ),
    Reason.NOT_IN_AUCTION: ReasonInfo(
        409, "H3", "The symbol is not in an auction", "GET /market/SYMBOL tells its state, and its prices while it is open."
    ),
    Reason.KEY_NOT_FOUND: ReasonInfo(404, "", "There is no such key", "GET /keys lists every key by its id."),
    Reason.SNAPSHOT_NOT_FOUND: ReasonInfo(
        404, "", "There is no such snapshot", "The list of the symbol's snapshots has every id."
    ),
    Reason.SEQUENCE_NOT_REACHED: ReasonInfo(
        404, "D1", "This has not come yet", "Ask for a sequence up to the one that the market is at, or for a time up to now."
    ),
    Reason.SEQUENCE_EVICTED: ReasonInfo(
        410, "D6", "This is no longer kept", "Ask for something later; the operator has set how long this is kept."
    ),
    Reason.KEY_ENDED: ReasonInfo(409, "", "The key has ended", "It was revoked or has expired; make a new one."),
    Reason.CLIENT_TRANSFER_ID_CONFLICT: ReasonInfo(
        409, "F2", "This client_transfer_id belongs to another transfer", "Take a new one; it is unique per user, for ever."
    ),
    Reason.KILL_SWITCH: ReasonInfo(
        422, "R1", "The kill switch is on", "Only cancels, and changes that only lower a quantity, are taken now."
    ),
    Reason.MARKET_HALTED: ReasonInfo(422, "H1", "The symbol is halted", "Only cancels are taken now."),
    Reason.MARKET_CANCEL_ONLY: ReasonInfo(422, "H1", "The symbol takes cancels only", "Wait until it is open again."),
    Reason.MARKET_POST_ONLY: ReasonInfo(
        422, "H1", "The symbol takes only orders that rest", "Send a LIMIT order that does not cross, GTC, GTD or DAY."
    ),
    Reason.MARKET_IN_AUCTION: ReasonInfo(
        422, "H3", "The symbol is in an auction", "IOC, FOK, MARKET and post-only are not taken; send a plain LIMIT order."
    ),
    Reason.PRICE_OFF_TICK: ReasonInfo(
        422, "M5", "The price is not a whole number of ticks", "A tick is {limit}; prices are never rounded."
    ),
    Reason.QUANTITY_OFF_LOT: ReasonInfo(
        422, "M5", "The quantity is not a whole number of lots", "A lot is {limit}; quantities are never rounded."
    ),
    Reason.PRICE_TOO_LARGE: ReasonInfo(422, "N1", "The price is too large for this tick", "At most {limit} fits."),
    Reason.QUANTITY_TOO_LARGE: ReasonInfo(422, "N1", "The quantity is too large for this lot", "At most {limit} fits."),
    Reason.QUANTITY_BELOW_FILLED: ReasonInfo(
        422, "A5", "The new total is below what is filled", "{limit} is filled; the quantity is the new total, that included."
    ),
    Reason.FIELD_NOT_APPLICABLE: ReasonInfo(
        422, "A3", "The order has no such field to change", "Change only what the order was given when it was submitted."
    ),
    Reason.QUANTITY_ABOVE_MAXIMUM: ReasonInfo(422, "R1", "The quantity is above the maximum", "At most {limit} per order."),
    Reason.DISPLAY_ABOVE_QUANTITY: ReasonInfo(
        422, "T6", "The display quantity is above the quantity", "Show at most the whole {limit}."
    ),
    Reason.MIN_ABOVE_QUANTITY: ReasonInfo(422, "T7", "The minimum is above the quantity", "Ask for at most the whole {limit}."),
    Reason.TRAIL_TOO_LARGE: ReasonInfo(422, "S6", "The trail is the whole price or more", "Trail by less than {limit} percent."),
    Reason.DISPLAY_TOO_SMALL: ReasonInfo(
        422, "T6", "The iceberg would have too many slices", "Show at least {limit}: a thousandth of the quantity."
    ),
    Reason.PRICE_OUTSIDE_BAND: ReasonInfo(422, "H2", "The price is outside the price band", "The band ends at {limit}."),
    Reason.EXPIRES_AT_IN_PAST: ReasonInfo(422, "T5", "The deadline has passed", "Give an expires_at in the future."),
    Reason.POST_ONLY_WOULD_TAKE: ReasonInfo(
        422, "T4", "It would take liquidity", "The best price on the other side is {limit}; stay behind it, or drop post_only."
    ),
    Reason.PRICE_OUTSIDE_COLLAR: ReasonInfo(
        422, "R1", "The price is outside the user's price collar", "The collar ends at {limit}."
    ),
    Reason.TOO_MANY_OPEN_ORDERS: ReasonInfo(
        422, "R1", "The user has too many open orders", "At most {limit}; cancel some first."
    ),
    Reason.ORDER_QUANTITY_LIMIT: ReasonInfo(
        422, "R1", "The quantity is above the user's limit for an order", "At most {limit} per order."
    ),
    Reason.ORDER_NOTIONAL_LIMIT: ReasonInfo(
        422, "R1", "Price times quantity is above the user's limit for an order", "At most {limit} per order."
    ),
    Reason.POSITION_LIMIT: ReasonInfo(
        422, "R2", "It could take the position beyond the user's limit", "Position and open orders together: at most {limit}."
    ),
    Reason.INSUFFICIENT_FUNDS: ReasonInfo(
        422,
        "F1",
        "The account has not enough",
        "{limit} is available; ask for less, cancel other orders, or have more deposited.",
    ),
    Reason.SYMBOL_AWAY_FROM_FUNDS: ReasonInfo(
        409,
        "F1",
        "The symbol is on another shard than the money",
        "Symbols that trade against balances are on shard 0: list it with its assets before its first order comes.",
    ),
    Reason.CANCELLED_BY_USER: ReasonInfo(200, "M3", "Cancelled on request", "Nothing to do."),
    Reason.IOC_REMAINDER: ReasonInfo(200, "T1", "Nothing more could be filled at once", "IOC never rests; use GTC to wait."),
    Reason.FOK_UNFILLABLE: ReasonInfo(
        200, "T2", "The whole quantity could not be filled at once", "Lower the quantity, or use IOC for a part."
    ),
    Reason.NO_LIQUIDITY: ReasonInfo(200, "T3", "There was nothing to trade with", "Use a LIMIT order to wait for somebody."),
    Reason.MARKET_REMAINDER: ReasonInfo(200, "T3", "The book was used up", "MARKET never rests; use a LIMIT order to wait."),
    Reason.SELF_TRADE_PREVENTED: ReasonInfo(
        200, "P1", "It would have traded with an order of the same user", "Cancel the other order, or choose another mode."
    ),
    Reason.REDUCED_TO_FILLED: ReasonInfo(200, "A5", "Its total was lowered to what was filled", "Nothing to do."),
    Reason.EXPIRED: ReasonInfo(200, "T5", "Its deadline passed", "Nothing to do."),
    Reason.MIN_QUANTITY_UNFILLABLE: ReasonInfo(
        200, "T7", "Its minimum could not be filled at once", "Lower min_quantity, or leave it out to wait."
    ),
    Reason.SLIPPAGE_BOUND: ReasonInfo(200, "T3", "Its slippage bound was reached", "Allow more slippage, or use a LIMIT order."),
    Reason.PRICE_BAND_REACHED: ReasonInfo(
        200, "H2", "The edge of the price band was reached", "Wait until the price has settled."
    ),
    Reason.PRICE_COLLAR_REACHED: ReasonInfo(
        200, "R1", "The edge of the user's price collar was reached", "Wait until the price has settled."
    ),
    Reason.CANCELLED_BY_KILL_SWITCH: ReasonInfo(
        200, "R1", "The kill switch was set", "Nothing is taken until an operator lifts it."
    ),
    Reason.CANCEL_ALL_AFTER: ReasonInfo(
        200, "I3", "The user's cancel_all_after ran out", "Send cancel_all_after again before its time is over."
    ),
}
