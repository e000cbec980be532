"""Symbols move between shards under load: nothing is lost, nothing is done twice, every queue is kept, whoever is killed."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from clusters import Cluster, running_cluster
from moving import OPERATOR, Load, check, move, order
from ome.domain.ids import SHARD_STEP
from ome.domain.shards import highest
from ome.verification import verify
from postgres import execute, with_database
from servers import until

SYMBOL = next(f"MOVE{number}" for number in range(100) if highest(f"MOVE{number}", 2) == 0)


@pytest.fixture(scope="module")
def cluster(postgres_server: str) -> Iterator[Cluster]:
    """One for all tests here: each has symbols and users of its own."""
    name = f"ome_{uuid.uuid4().hex}"
    asyncio.run(execute(postgres_server, f"CREATE DATABASE {name}"))
    with running_cluster(with_database(postgres_server, name), API_KEY=OPERATOR["X-API-Key"], LEASE_SEC="1.5") as cluster:
        yield cluster
    asyncio.run(execute(postgres_server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@pytest.fixture
def clients(cluster: Cluster) -> Iterator[list[httpx.Client]]:
    """A client of each gateway."""
    with (
        httpx.Client(base_url=cluster.urls[0], timeout=30, headers=OPERATOR) as one,
        httpx.Client(base_url=cluster.urls[1], timeout=30, headers=OPERATOR) as other,
    ):
        yield [one, other]


def book(client: httpx.Client, symbol: str) -> list[str]:
    """The ids of a symbol's orders, bids then asks, in the order of their queues."""
    shown = client.get(f"/market/{symbol}/depth", params={"detail": "orders"}).json()
    return [each["order_id"] for level in (*shown["bids"], *shown["asks"]) for each in level["queue"]]


def test_a_symbol_moves_with_all_that_is_open_in_it(cluster: Cluster, clients: list[httpx.Client]) -> None:
    """Its queue, its sequence, limits, positions; orders of the first shard are found, changed and cancelled by their ids."""
    one, other = clients
    made = [one.post("/orders", json=order(f"u{number}", SYMBOL, client_order_id=f"c{number}")).json() for number in range(4)]
    assert one.post("/orders", json=order("seller", SYMBOL, side="SELL", quantity=7)).status_code == 201
    before = one.get(f"/market/{SYMBOL}/depth").json()
    moved = move(cluster, SYMBOL, 1)
    assert moved.exit_code == 0, moved.output
    ids = [each["order_id"] for each in made]
    newest = other.post("/orders", json=order("late", SYMBOL)).json()
    assert int(newest["order_id"]) // SHARD_STEP == 1
    after = other.get(f"/market/{SYMBOL}/depth").json()
    assert after["sequence"] > before["sequence"]
    assert [(each["price"], each["orders"]) for each in after["bids"]] == [("10.00", 4)]
    assert book(other, SYMBOL) == [*ids[1:], newest["order_id"]]
    assert one.get(f"/orders/{ids[2]}").json()["status"] == "PENDING"
    assert other.put(f"/orders/{ids[2]}", json={"quantity": 4}).json()["quantity"] == "4"
    again = other.post("/orders", json=order("u3", SYMBOL, client_order_id="c3"))
    assert (again.status_code, again.json()["order_id"], again.json()["replayed"]) == (201, ids[3], True)
    filled = one.post("/orders", json=order("seller", SYMBOL, side="SELL", quantity=3)).json()
    assert filled["status"] == "FILLED"
    assert other.get(f"/orders/{ids[1]}").json()["status"] == "FILLED"
    types = [each["type"] for each in one.get(f"/orders/{ids[1]}/history").json()["events"]]
    assert types[0] == "ACCEPTED"
    assert types == ["ACCEPTED", "FILLED", "FILLED"]
    assert one.delete(f"/orders/{ids[3]}").json()["status"] == "CANCELLED"
    assert one.delete(f"/orders/{ids[3]}").status_code == 409
    gone = other.delete("/orders", params={"user_id": "u2"}).json()["order_ids"]
    assert gone == [ids[2]]
    assert move(cluster, SYMBOL, 0).exit_code == 0
    assert one.post("/orders", json=order("back", SYMBOL, price="9.00")).status_code == 201
    report = verify(cluster.database_url)
    assert report.ok, report.problems()


def test_orders_are_reached_without_the_engine_that_their_ids_name(cluster: Cluster, clients: list[httpx.Client]) -> None:
    """The shard that a symbol has left is dead: its orders are seen, changed and cancelled at once, by both gateways."""
    one, other = clients
    symbol = next(f"LEFT{number}" for number in range(100) if highest(f"LEFT{number}", 2) == 0)
    ids = [one.post("/orders", json=order(f"u{number}", symbol)).json()["order_id"] for number in range(4)]
    assert move(cluster, symbol, 1).exit_code == 0
    assert one.get(f"/market/{symbol}/depth").json()["bids"] != []
    assert other.delete(f"/orders/{ids[3]}").status_code == 200
    cluster.engines[0].kill()
    assert one.get(f"/orders/{ids[0]}").json()["status"] == "PENDING"
    assert other.put(f"/orders/{ids[0]}", json={"quantity": 4}).json()["quantity"] == "4"
    assert one.delete(f"/orders/{ids[1]}").json()["status"] == "CANCELLED"
    assert one.delete(f"/orders/{ids[1]}").status_code == 409
    both = [{"op": "cancel", "order_id": each} for each in (ids[0], ids[2])]
    results = other.post("/orders/batch", json={"orders": both}).json()["results"]
    assert [each["status"] for each in results] == [200, 200]
    assert book(one, symbol) == []
    cluster.engines[0].spawn()
    cluster.wait()


def test_a_symbol_moves_there_and_back_under_load(cluster: Cluster, clients: list[httpx.Client]) -> None:
    """Some hundred orders and cancels on their way meanwhile, the giving engine killed right after it gave: every one of them is
    answered, and carried out once.
    """
    symbol = next(f"LOAD{number}" for number in range(100) if highest(f"LOAD{number}", 2) == 0)
    load = Load(cluster.urls, symbol, clients=4, most=1000)
    until(lambda: len(load.accepted) > 40)
    assert move(cluster, symbol, 1).exit_code == 0
    shard = 1
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move, cluster, symbol, 0)
        cluster.engines[shard].kill()
        moving.result(timeout=60)
    cluster.engines[shard].spawn()
    cluster.wait()
    until(lambda: move(cluster, symbol, 0).exit_code == 0)
    enough = len(load.accepted) + 20
    until(lambda: len(load.accepted) > enough)
    load.ended()
    check(cluster, clients[0], load)


@pytest.mark.long
def test_many_moves_and_kills(cluster: Cluster, clients: list[httpx.Client]) -> None:
    """Two symbols go to and fro under load while engines are killed at any moment, in transit too."""
    symbols = ["FROA", "FROB"]
    loads = [Load(cluster.urls, symbol, clients=3, most=100_000) for symbol in symbols]
    dice = random.Random(7)
    until(lambda: all(len(load.accepted) > 20 for load in loads))
    moves = 0
    with ThreadPoolExecutor(1) as pool:  # the runner of commands is one thread's at a time
        for round_number in range(30):
            moving = [pool.submit(move, cluster, symbol, (round_number + place) % 2) for place, symbol in enumerate(symbols)]
            if round_number % 3 == 2:
                victim = cluster.engines[dice.randrange(2)]
                loads[0].stop.wait(dice.random() * 0.2)
                victim.kill()
                victim.spawn()
                cluster.wait()
            moves += sum(each.result(timeout=60).exit_code == 0 for each in moving)
    for load in loads:
        load.ended()
    assert moves > 20
    for load in loads:
        check(cluster, clients[0], load)


class Listener:
    """A WebSocket that hears a symbol and its user's own orders, and trades, to be cancelled once it is closed."""

    def __init__(self, socket: ClientConnection, symbol: str, user_id: str) -> None:
        self.symbol, self.user_id = symbol, user_id
        self.answers: dict[int, dict[str, Any]] = {}
        self.heard: dict[str, list[dict[str, Any]]] = {"depth": [], "trades": [], "orders": []}
        self._count = 0
        self.socket = socket
        for channel in ("depth", "trades"):
            assert self.ask(op="subscribe", channel=channel, symbol=symbol)["status"] == 200
        assert self.ask(op="subscribe", channel="orders", user_id=user_id)["status"] == 200
        assert self.ask(op="cancel_on_disconnect", enabled=True)["status"] == 200

    def ask(self, **message: Any) -> dict[str, Any]:
        """An answer. Raises ConnectionClosed where the connection was."""
        self._count += 1
        self.socket.send(json.dumps(message | {"id": self._count}))
        while self._count not in self.answers:
            self._hear()
        return self.answers[self._count]

    def hear_until(self, channel: str, sequence: int) -> None:
        """Hear a channel up to a sequence. Raises ConnectionClosed, and TimeoutError where that doesn't come."""
        while not self.heard[channel] or self.heard[channel][-1]["sequence"] < sequence:
            self._hear()

    def _hear(self) -> None:
        message = json.loads(self.socket.recv(timeout=10))
        if "id" in message:
            self.answers[message["id"]] = message
        elif message.get("channel") in self.heard:
            self.heard[message["channel"]].append(message)


def trade_with(listeners: list[Listener]) -> None:
    """A new bid of each listener at 9.00, and a trade of one lot between them at 10.00."""
    for listener in listeners:
        answer = listener.ask(op="submit", **order(listener.user_id, listener.symbol, quantity=1, price="9.00"))
        assert answer["status"] == 201
    buyer, seller = listeners
    for listener, side in ((buyer, "BUY"), (seller, "SELL")):
        fields = order(listener.user_id, listener.symbol, side=side, quantity=1)
        assert listener.ask(op="submit", **fields)["status"] == 201


def notice_no_move(cluster: Cluster, clients: list[httpx.Client], listeners: list[Listener]) -> None:
    """Trade on shard 0, on shard 1 and on shard 0, and look at what was heard and is shown."""
    symbol = listeners[0].symbol
    trade_with(listeners)
    for shard in (1, 0):
        assert move(cluster, symbol, shard).exit_code == 0
        trade_with(listeners)
    shown = [client.get(f"/market/{symbol}/depth").json() for client in clients]
    levels = [(level["price"], level["quantity"], level["orders"]) for level in shown[0]["bids"]]
    assert levels == [("9.00", "6", 6), ("8.00", "5", 1)]
    for listener in listeners:
        listener.hear_until("depth", shown[0]["sequence"])
        depth, trades = listener.heard["depth"], listener.heard["trades"]
        assert [each["type"] for each in depth] == ["snapshot"] + ["update"] * (len(depth) - 1)
        assert [each["previous_sequence"] for each in depth[1:]] == [each["sequence"] for each in depth[:-1]]
        assert len(trades) == 3
        assert [each["previous_sequence"] for each in trades[1:]] == [each["sequence"] for each in trades[:-1]]
        assert {each["type"] for each in listener.heard["orders"]}.isdisjoint({"CANCELLED", "EXPIRED"})
    assert shown[0] == shown[1]
    for path in ("", "/candles?interval=1d"):
        one, other = (client.get(f"/market/{symbol}{path}").json() for client in clients)
        assert one == other, path
        [day] = one.get("candles", [one])
        assert day["volume"] == "3"
    tapes = [client.get("/trades", params={"symbol": symbol}).json()["trades"] for client in clients]
    assert tapes[0] == tapes[1]
    assert sorted(each["sequence"] for each in tapes[0]) == [each["sequence"] for each in listeners[0].heard["trades"]]


def test_whoever_listens_notices_no_move(cluster: Cluster, clients: list[httpx.Client]) -> None:
    """There and back: every connection stays, nothing is cancelled, sequences go on without a gap or a repetition, and afterwards
    each gateway shows the same book, tape, ticker and candles: those of what was done.
    """
    symbol = next(f"HEAR{number}" for number in range(100) if highest(f"HEAR{number}", 2) == 0)
    first = clients[0].post("/orders", json=order("first", symbol, price="8.00"))
    assert first.status_code == 201, first.text
    with ExitStack() as stack:
        urls = [url.replace("http", "ws") + "/ws" for url in cluster.urls]
        sockets = [stack.enter_context(connect(url, additional_headers=OPERATOR)) for url in urls]
        users = zip(sockets, ("ann", "bob"), strict=True)
        notice_no_move(cluster, clients, [Listener(socket, symbol, user_id) for socket, user_id in users])
