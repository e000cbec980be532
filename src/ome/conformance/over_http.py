"""A venue over HTTP: the rule book played against a running service, as a client would.

Each scenario gets symbols and users of its own, with a random prefix, so that the rule book can be played again and again against
the same server, beside whatever else it does; nothing but these is touched.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import httpx

from ome.conformance.language import (
    Allow,
    Cancel,
    CancelAfter,
    CancelAll,
    Change,
    Fill,
    Kill,
    Listing,
    Scenario,
    Settings,
    Submit,
    Transfer,
)
from ome.conformance.venue import (
    Answer,
    Holding,
    Indicated,
    Mismatch,
    OrderView,
)
from ome.domain.clock import format_time, now_us

CAN = frozenset({"service", "auto listing"})
"""What a server can do that lists a symbol with its first order, as by default."""
SHOWN_CHARACTERS = 400
"""How much of an answer `last_answer` holds."""
Json = dict[str, Any]


class OverHttp:
    """One scenario's market at a service; `last_answer` is what came last, in words.

    With `lists` the symbols are listed before the first order, for a service that does not do so by itself.
    """

    can = CAN

    def __init__(self, client: httpx.Client, scenario: Scenario, *, lists: bool = False) -> None:
        self.client = client
        self.prefix = secrets.token_hex(5).upper()
        self.last_answer = ""
        self._reads_history = "P2" in scenario.rules
        self._to_list = {step.action.symbol for step in scenario.steps if isinstance(step.action, Submit)} if lists else set()

    def submit(self, order: Submit) -> Answer:
        """POST /orders."""
        self._list_symbols()
        return self._answer("POST", "/orders", self._order_body(order))

    def _list_symbols(self) -> None:
        while self._to_list:
            self.list_symbol(Listing(self._to_list.pop(), tick="0.01", lot="1"))

    def _order_body(self, order: Submit) -> Json:
        body: Json = {
            "user_id": self.prefix + order.user,
            "symbol": self.prefix + order.symbol,
            "side": order.side,
            "type": order.type,
            "quantity": order.quantity,
            "price": order.price,
            "stop_price": order.stop_price,
            "trail_amount": order.trail_amount,
            "trail_percent": order.trail_percent,
            "limit_offset": order.limit_offset,
            "time_in_force": order.time_in_force,
            "display_quantity": order.display_quantity,
            "min_quantity": order.min_quantity,
            "max_slippage_bps": order.max_slippage_bps,
            "client_order_id": order.client_order_id,
        }
        if order.post_only:
            body["post_only"] = True
        if order.prevention != "CANCEL_NEWEST":
            body["self_trade_prevention"] = order.prevention
        return _given(body) | _deadline(order.deadline_s)

    def modify(self, order_id: str, change: Change) -> Answer:
        """PUT /orders/{order_id}."""
        return self._answer("PUT", f"/orders/{order_id}", self._change_body(change))

    @staticmethod
    def _change_body(change: Change) -> Json:
        body: Json = {
            "quantity": change.quantity,
            "price": change.price,
            "stop_price": change.stop_price,
            "trail_amount": change.trail_amount,
            "trail_percent": change.trail_percent,
            "display_quantity": change.display_quantity,
            "expected_version": change.version,
        }
        return _given(body) | _deadline(change.deadline_s)

    def cancel(self, order_id: str) -> Answer:
        """DELETE /orders/{order_id}."""
        return self._answer("DELETE", f"/orders/{order_id}")

    def cancel_all(self, command: CancelAll) -> list[str]:
        """DELETE /orders?user_id=&symbol=&side=."""
        query = {"user_id": command.user, "symbol": command.symbol, "side": command.side}
        asked = "&".join(
            f"{name}={value if name == 'side' else self.prefix + value}" for name, value in query.items() if value is not None
        )
        status, answer = self._call("DELETE", f"/orders?{asked}")
        _must_be(200, status)
        ended: list[str] = answer["order_ids"]
        if answer["cancelled"] != len(ended):
            raise Mismatch("cancelled", str(len(ended)), str(answer["cancelled"]))
        return ended

    def batch(self, actions: Sequence[tuple[Submit | Change | Cancel, str]]) -> list[Answer]:
        """POST /orders/batch."""
        self._list_symbols()
        operations = [self._operation(action, order_id) for action, order_id in actions]
        status, answer = self._call("POST", "/orders/batch", {"orders": operations})
        _must_be(200, status)
        return [
            self._read(result["status"], result.get("order") or result["problem"], is_new=operation["op"] == "submit")
            for operation, result in zip(operations, answer["results"], strict=True)
        ]

    def _operation(self, action: Submit | Change | Cancel, order_id: str) -> Json:
        match action:
            case Submit():
                return {"op": "submit"} | self._order_body(action)
            case Change():
                return {"op": "modify", "order_id": order_id} | self._change_body(action)
            case Cancel():
                return {"op": "cancel", "order_id": order_id}

    def list_symbol(self, listing: Listing) -> Answer:
        """PUT /instruments/{symbol}."""
        body: Json = {
            "tick_size": listing.tick,
            "lot_size": listing.lot,
            "max_order_quantity": listing.maximum,
            "price_band_percent": listing.band_percent,
            "band_halt_seconds": listing.band_halt_s,
            "session_close": listing.session_close,
            "state": listing.state,
            "base_asset": self._asset(listing.base_asset),
            "quote_asset": self._asset(listing.quote_asset),
            "maker_fee_bps": listing.maker_fee_bps,
            "taker_fee_bps": listing.taker_fee_bps,
        }
        self._to_list.discard(listing.symbol)
        status, answer = self._call("PUT", f"/instruments/{self.prefix}{listing.symbol}", _given(body))
        return Answer(refused=answer["code"] if status >= 400 else None)

    def _asset(self, name: str | None) -> str | None:
        """An asset of this scenario's own; no name stays none."""
        return self.prefix + name if name else name

    def transfer(self, transfer: Transfer, client_transfer_id: str) -> Answer:
        """POST /admin/deposits, POST /admin/withdrawals."""
        body = {
            "user_id": self.prefix + transfer.user,
            "asset": self._asset(transfer.asset),
            "amount": transfer.amount,
            "client_transfer_id": client_transfer_id,
        }
        status, answer = self._call("POST", "/admin/deposits" if transfer.is_deposit else "/admin/withdrawals", body)
        if status >= 400:
            return Answer(refused=answer["code"])
        _must_be(201, status)
        return Answer(replayed=answer["replayed"])

    def balance(self, user: str, asset: str) -> tuple[Decimal, Decimal]:
        """GET /users/{user_id}/balances."""
        status, answer = self._call("GET", f"/users/{self.prefix}{user}/balances")
        _must_be(200, status)
        found = [row for row in answer["balances"] if row["asset"] == self._asset(asset)]
        for row in found:
            if Decimal(row["reserved"]) + Decimal(row["available"]) != Decimal(row["total"]):
                raise Mismatch("balance", "reserved and available to be the total", str(row))
        return (Decimal(found[0]["total"]), Decimal(found[0]["reserved"])) if found else (Decimal(0), Decimal(0))

    def allow(self, limits: Allow) -> None:
        """PUT /users/{user_id}/limits."""
        body: Json = {
            "symbol": None if limits.symbol is None else self.prefix + limits.symbol,
            "max_order_quantity": limits.quantity,
            "max_order_notional": limits.notional,
            "max_open_orders": limits.open_orders,
            "max_position": limits.position,
            "price_collar_percent": limits.collar_percent,
        }
        status, _ = self._call("PUT", f"/users/{self.prefix}{limits.user}/limits", _given(body))
        _must_be(200, status)

    def kill(self, kill: Kill) -> None:
        """PUT /admin/kill."""
        scope, name = ("user", kill.user) if kill.user is not None else ("symbol", kill.symbol)
        if name is None:
            raise NotImplementedError("others are there")
        status, _ = self._call("PUT", "/admin/kill", {"scope": scope, "id": self.prefix + name, "active": kill.active})
        _must_be(200, status)

    def cancel_after(self, timer: CancelAfter) -> None:
        """POST /users/{user_id}/cancel_all_after."""
        status, _ = self._call("POST", f"/users/{self.prefix}{timer.user}/cancel_all_after", {"seconds": timer.seconds})
        _must_be(200, status)

    def holding(self, user: str, symbol: str) -> Holding:
        """GET /users/{user_id}/positions."""
        status, answer = self._call("GET", f"/users/{self.prefix}{user}/positions")
        _must_be(200, status)
        for held in answer["positions"]:
            if held["symbol"] == self.prefix + symbol:
                average = None if held["average_price"] is None else Decimal(held["average_price"])
                return Holding(Decimal(held["quantity"]), average, Decimal(held["realised_profit"]))
        return Holding(Decimal(0), None, Decimal(0))

    def configure(self, settings: Settings) -> None:
        """A service takes its settings from its environment."""
        raise NotImplementedError(str(settings))

    def let_pass(self, seconds: int) -> None:
        """A service's clock is the wall's."""
        raise NotImplementedError(str(seconds))

    def order(self, order_id: str) -> OrderView:
        """GET /orders/{order_id}."""
        status, answer = self._call("GET", f"/orders/{order_id}")
        _must_be(200, status)
        return _order_view(answer)

    def book(self, symbol: str) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        """GET /market/{symbol}/depth."""
        depth = self._depth(symbol)
        return _levels(depth["bids"]), _levels(depth["asks"])

    def queue(self, symbol: str, price: Decimal) -> list[tuple[str, Decimal]]:
        """GET /market/{symbol}/depth?detail=orders."""
        depth = self._depth(symbol, detail="orders")
        levels = [level for level in depth["bids"] + depth["asks"] if Decimal(level["price"]) == price]
        return [(row["order_id"], Decimal(row["quantity"])) for level in levels for row in level["queue"]]

    def last(self, symbol: str) -> Decimal | None:
        """GET /market/{symbol}."""
        status, answer = self._call("GET", f"/market/{self.prefix}{symbol}")
        return Decimal(answer["last_price"]) if status == 200 and answer["last_price"] is not None else None

    def tape(self, symbol: str) -> list[tuple[Fill, str]]:
        """GET /trades."""
        status, answer = self._call("GET", f"/trades?symbol={self.prefix}{symbol}&limit=1000")
        rows = reversed(answer["trades"]) if status == 200 else ()
        return [(_fill(trade), _taker(trade)) for trade in rows]

    def state(self, symbol: str) -> str:
        """GET /market/{symbol}."""
        _, answer = self._call("GET", f"/market/{self.prefix}{symbol}")
        state: str = answer["state"]
        return state

    def auction(self, symbol: str) -> Indicated | None:
        """GET /market/{symbol}/auction."""
        _, answer = self._call("GET", f"/market/{self.prefix}{symbol}/auction")
        if answer["indicative_price"] is None:
            return None
        sign = -1 if answer["imbalance_side"] == "SELL" else 1
        volume, price, imbalance = (Decimal(answer[name]) for name in ("indicative_volume", "indicative_price", "imbalance"))
        return Indicated(volume, price, sign * imbalance)

    def _depth(self, symbol: str, detail: str = "") -> Json:
        """The depth of a symbol; an unlisted one has an empty book."""
        query = "levels=1000" + (f"&detail={detail}" if detail else "")
        status, answer = self._call("GET", f"/market/{self.prefix}{symbol}/depth?{query}")
        return answer if status == 200 else {"bids": [], "asks": []}

    def _answer(self, method: str, path: str, body: Json | None = None) -> Answer:
        status, answer = self._call(method, path, body)
        return self._read(status, answer, is_new=method == "POST")

    def _read(self, status: int, answer: Json, *, is_new: bool) -> Answer:
        """What an order's answer, or a problem, says."""
        replayed = answer.get("replayed", False)
        if status >= 400:
            if is_new and "order_id" in answer:  # taken down as REJECTED
                order_id = answer["order_id"]
                return Answer(None, order_id, self.order(order_id), prevented=None, replayed=replayed)
            return Answer(refused=answer["code"], prevented=None)
        trades = tuple(_fill(trade) for trade in answer.get("executed_trades", []))
        prevented = self._prevented(answer["order_id"]) if self._reads_history else None
        return Answer(None, answer["order_id"], _order_view(answer), trades, prevented, replayed)

    def _prevented(self, order_id: str) -> tuple[Fill, ...]:
        """What the command that made an order's last version kept it from, as taker: GET /orders/{order_id}/history."""
        status, history = self._call("GET", f"/orders/{order_id}/history?limit=1000")
        _must_be(200, status)
        position = history["versions"][-1]["position"]
        return tuple(
            Fill(Decimal(event["prevented_quantity"]), Decimal(event["prevented_price"]), event["other_order_id"])
            for event in history["events"]
            if event["type"] == "SELF_TRADE_PREVENTED" and event["role"] == "TAKER" and event["position"] == position
        )

    def _call(self, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
        response = self.client.request(method, path, json=body)
        self.last_answer = f"{method} {path} -> {response.status_code} {response.text[:SHOWN_CHARACTERS]}"
        if response.status_code >= 500:
            raise Mismatch("answer", "no error of the server's", str(response.status_code))
        answer: Json = response.json()
        return response.status_code, answer


def _must_be(expected: int, status: int) -> None:
    if status != expected:
        raise Mismatch("HTTP status", str(expected), str(status))


def _deadline(seconds: int | None) -> Json:
    return {} if seconds is None else {"expires_at": format_time(now_us() + seconds * 1_000_000)}


def _given(body: Json) -> Json:
    return {name: value for name, value in body.items() if value is not None}


def _fill(trade: Json) -> Fill:
    return Fill(Decimal(trade["quantity"]), Decimal(trade["price"]), trade["maker_order_id"])


def _taker(trade: Json) -> str:
    buyer, seller, maker = trade["buy_order_id"], trade["sell_order_id"], trade["maker_order_id"]
    taker: str = buyer if maker == seller else seller
    return taker


def _order_view(order: Json) -> OrderView:
    numbers = {name: None if order.get(name) is None else Decimal(order[name]) for name in ("price", "stop_price")}
    return OrderView(
        order["status"],
        order["reason"],
        Decimal(order["filled_quantity"]),
        Decimal(order["remaining_quantity"]),
        order["version"],
        numbers["price"],
        numbers["stop_price"],
        Decimal(order.get("prevented_quantity") or 0),
    )


def _levels(levels: list[Json]) -> list[tuple[Decimal, Decimal]]:
    return [(Decimal(level["quantity"]), Decimal(level["price"])) for level in levels]
