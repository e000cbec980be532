"""A venue over HTTP: the rule book played against a running service, as a client would.

`python -m scenarios.over_http URL [API_KEY]`, from the folder `tests`, plays every scenario that needs neither a clock that can
be moved nor other settings; each has symbols and users of its own, so that it can be played again and again.
"""

from __future__ import annotations

import secrets
import sys
from decimal import Decimal
from itertools import count
from typing import Any

import httpx

from ome.domain.clock import format_time, now_us
from scenarios.language import Change, Fill, Listing, Settings, Submit, read_rule_book
from scenarios.venue import Answer, OrderView, needs, play

CAN = frozenset({"service"})
_venues = count(1)
Json = dict[str, Any]


class OverHttp:
    """One scenario's market at a service."""

    can = CAN

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.prefix = f"{secrets.token_hex(3)}{next(_venues)}".upper()

    def submit(self, order: Submit) -> Answer:
        """POST /orders."""
        body: Json = {
            "user_id": self.prefix + order.user,
            "symbol": self.prefix + order.symbol,
            "side": order.side,
            "type": "MARKET" if order.price is None else "LIMIT",
            "quantity": order.quantity,
        }
        if order.price is not None:
            body |= {"price": order.price, "time_in_force": order.time_in_force}
        if order.meeting_own:
            body["self_trade_prevention"] = "NONE"
        if order.client_order_id is not None:
            body["client_order_id"] = order.client_order_id
        return self._answer("POST", "/orders", body | _deadline(order.deadline_s))

    def modify(self, order_id: str, change: Change) -> Answer:
        """PUT /orders/{order_id}."""
        fields = {"quantity": change.quantity, "price": change.price, "expected_version": change.version}
        body = {name: value for name, value in fields.items() if value is not None}
        return self._answer("PUT", f"/orders/{order_id}", body | _deadline(change.deadline_s))

    def cancel(self, order_id: str) -> Answer:
        """DELETE /orders/{order_id}."""
        return self._answer("DELETE", f"/orders/{order_id}")

    def list_symbol(self, listing: Listing) -> Answer:
        """PUT /instruments/{symbol}."""
        fields = {"tick_size": listing.tick, "lot_size": listing.lot}
        body = {name: value for name, value in fields.items() if value is not None}
        status, answer = self._call("PUT", f"/instruments/{self.prefix}{listing.symbol}", body)
        return Answer(refused=answer["code"] if status >= 400 else None)

    def configure(self, settings: Settings) -> None:
        """A service takes its settings from its environment."""
        raise NotImplementedError(str(settings))

    def let_pass(self, seconds: int) -> None:
        """A service's clock is the wall's."""
        raise NotImplementedError(str(seconds))

    def order(self, order_id: str) -> OrderView:
        """GET /orders/{order_id}."""
        status, answer = self._call("GET", f"/orders/{order_id}")
        assert status == 200, answer
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

    def _depth(self, symbol: str, detail: str = "") -> Json:
        """The depth of a symbol; an unlisted one has an empty book."""
        query = "levels=1000" + (f"&detail={detail}" if detail else "")
        status, answer = self._call("GET", f"/market/{self.prefix}{symbol}/depth?{query}")
        return answer if status == 200 else {"bids": [], "asks": []}

    def _answer(self, method: str, path: str, body: Json | None = None) -> Answer:
        status, answer = self._call(method, path, body)
        replayed = answer.get("replayed", False)
        if status >= 400:
            if method == "POST" and "order_id" in answer:  # taken down as REJECTED
                order_id = answer["order_id"]
                return Answer(None, order_id, self.order(order_id), prevented=None, replayed=replayed)
            return Answer(refused=answer["code"], prevented=None)
        trades = tuple(
            Fill(Decimal(trade["quantity"]), Decimal(trade["price"]), trade["maker_order_id"])
            for trade in answer.get("executed_trades", [])
        )
        return Answer(None, answer["order_id"], _order_view(answer), trades, None, replayed)

    def _call(self, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
        response = self.client.request(method, path, json=body)
        assert response.status_code < 500, f"{method} {path}: {response.status_code} {response.text}"
        answer: Json = response.json()
        return response.status_code, answer


def _deadline(seconds: int | None) -> Json:
    return {} if seconds is None else {"expires_at": format_time(now_us() + seconds * 1_000_000)}


def _order_view(order: Json) -> OrderView:
    filled, left = Decimal(order["filled_quantity"]), Decimal(order["remaining_quantity"])
    return OrderView(order["status"], order["reason"], filled, left, order["version"])


def _levels(levels: list[Json]) -> list[tuple[Decimal, Decimal]]:
    return [(Decimal(level["quantity"]), Decimal(level["price"])) for level in levels]


def main(url: str, api_key: str | None = None) -> int:
    """Play everything that can be played; the exit status is 1 where something came out otherwise."""
    failed = 0
    scenarios = [scenario for scenario in read_rule_book() if needs(scenario) <= CAN]
    with httpx.Client(base_url=url, headers={"X-API-Key": api_key} if api_key else {}) as client:
        for scenario in scenarios:
            try:
                play(scenario, OverHttp(client))
            except AssertionError as error:
                failed += 1
                sys.stdout.write(f"{error}\n")
    sys.stdout.write(f"{len(scenarios) - failed} of {len(scenarios)} scenarios came out as written\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
