"""Two gateways and two shards: what clients see is what they see of one process, and the journals make what is stored."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result
from websockets.sync.client import ClientConnection, connect

from cluster_load import Listener, break_nats, check_ledgers, check_listener, check_market_data, trade_on, traders
from clusters import Cluster, Gateway, running_cluster
from nats_server import running_nats
from ome.cli import app
from ome.cluster import placing
from ome.conformance import play_rule_book, read_rule_book, select
from ome.domain.clock import MICROSECONDS, now_us, parse_time
from ome.domain.ids import SHARD_STEP
from ome.domain.shards import highest
from ome.replay import generate, replay_file
from ome.verification import verify
from postgres import execute, with_database
from servers import free_port, is_well, until

ON = [next(f"SYM{number}" for number in range(100) if highest(f"SYM{number}", 2) == shard) for shard in (0, 1)]
"""A symbol of each shard."""
OTHERWISE = {
    "open orders are counted with waiting stops, in all symbols and in one",
}
"""The scenario that doesn't hold here: a limit over all symbols is kept by each shard for itself. See docs/design.md."""
CLIENT_WAIT_S = 3
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "4"))
OPERATOR = {"X-API-Key": "operators-key"}
ACROSS = ["funds", "mass_cancel", "kill_switch", "client_order_ids", "batches"]
"""Files of the rule book about what isn't one symbol's own affair."""


def order(user_id: str, shard: int, **fields: Any) -> dict[str, Any]:
    """The body of an order in a shard's symbol."""
    return {"user_id": user_id, "symbol": ON[shard], "side": "BUY", "quantity": 5, "price": "10.00"} | fields


@pytest.fixture(scope="module")
def cluster(postgres_server: str) -> Iterator[Cluster]:
    """One for all tests here: each has users of its own."""
    name = f"ome_{uuid.uuid4().hex}"
    asyncio.run(execute(postgres_server, f"CREATE DATABASE {name}"))
    url, key, wait = with_database(postgres_server, name), OPERATOR["X-API-Key"], str(CLIENT_WAIT_S)
    with running_cluster(url, API_KEY=key, LEASE_SEC="2", CLIENT_WAIT_SEC=wait) as cluster:
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


def play(cluster: Cluster, files: list[str]) -> None:
    """Play scenarios of the rule book, every other one at the other gateway, and compare tables and journals."""
    scenarios = [each for each in select(read_rule_book(), (), files) if each.title not in OTHERWISE]
    for number, url in enumerate(cluster.urls):
        report = play_rule_book(scenarios[number::2], url, OPERATOR["X-API-Key"])
        assert report.ok, [result for result in report.results if result.outcome == "failed"]
    assert verify(cluster.database_url).ok


def test_what_spans_symbols_goes_by_the_rule_book(cluster: Cluster) -> None:
    """Money, mass cancels, kill switches, client ids and batches, with symbols on both shards."""
    play(cluster, ACROSS)


@pytest.mark.long
def test_the_whole_rule_book_is_as_in_one_process(cluster: Cluster) -> None:
    """Every scenario that a server can play."""
    play(cluster, [])


async def test_order_flow_comes_out_as_it_does_of_one_process(cluster: Cluster, tmp_path: Path) -> None:
    """M1, A1, A2, T1: flows at either gateway, on a shard each, at the same time: every fill, book and tape is as expected."""
    flows = [generate(tmp_path / f"{shard}.csv", rows=200, seed=shard).path for shard in (0, 1)]
    symbols = [next(f"FLOW{n}" for n in range(100) if highest(f"FLOW{n}", 2) == shard) for shard in (0, 1)]
    key = OPERATOR["X-API-Key"]
    places = zip(flows, symbols, cluster.urls, strict=True)
    reports = await asyncio.gather(*(replay_file(path, symbol=name, url=url, api_key=key) for path, name, url in places))
    for report in reports:
        assert report.disagreements == []
        assert report.checkpoints_agreed == report.checkpoints >= 5
        assert report.trades > 0
    assert (await asyncio.to_thread(verify, cluster.database_url)).ok


def test_a_limit_over_all_symbols_is_each_shards_own(clients: list[httpx.Client]) -> None:
    """R1, as docs/design.md bounds it: as many open orders on each shard and never one more, at most shards times the limit."""
    one, other = clients
    assert one.put("/users/lim/limits", json={"max_open_orders": 2}).status_code == 200
    for shard in (0, 1):
        answers = [(one, other)[number % 2].post("/orders", json=order("lim", shard)) for number in range(3)]
        assert [answer.status_code for answer in answers] == [201, 201, 422], [answer.text for answer in answers]
        assert answers[2].json()["code"] == "too_many_open_orders"
    risk = other.get("/users/lim/risk").json()
    assert (risk["open_orders"], risk["open_orders_left"]) == (4, 0)
    made = one.get("/orders", params={"user_id": "lim", "symbol": ON[1]}).json()["orders"]
    gone = next(each["order_id"] for each in made if each["status"] == "PENDING")
    assert other.delete(f"/orders/{gone}").status_code == 200
    assert one.post("/orders", json=order("lim", 0)).status_code == 422
    assert one.post("/orders", json=order("lim", 1)).status_code == 201


def test_each_symbol_is_on_its_own_shard(clients: list[httpx.Client]) -> None:
    """The shard is in the order's id; either gateway finds, changes and cancels it, and shows it in the book."""
    for shard in (0, 1):
        made = clients[0].post("/orders", json=order("ann", shard)).json()
        assert int(made["order_id"]) // SHARD_STEP == shard
        assert clients[0].get(f"/market/{ON[shard]}/depth").json()["bids"][0]["price"] == "10.00"
        path = f"/orders/{made['order_id']}"
        assert clients[1].put(path, json={"price": "9.50"}).json()["price"] == "9.50"
        assert clients[1].get(path).json()["version"] == 2
        assert clients[0].delete(path).json()["status"] == "CANCELLED"
        assert [each["type"] for each in clients[1].get(f"{path}/history").json()["events"]][-1] == "CANCELLED"
    unknown = clients[0].delete(f"/orders/{7 * SHARD_STEP + 1}")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "order_not_found")


def test_one_client_order_id_is_one_order_through_any_gateway(clients: list[httpx.Client]) -> None:
    """I1: sent sixteen times at once through both, it is executed once, and all get the same answer."""
    body = order("bob", 1, client_order_id="once")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: clients[number % 2].post("/orders", json=body), range(16)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["order_id"] for answer in answers}) == 1
    assert sum(not answer.json().get("replayed") for answer in answers) == 1
    conflict = clients[0].post("/orders", json=body | {"quantity": 6})
    assert (conflict.status_code, conflict.json()["code"]) == (409, "client_order_id_conflict")


def test_a_batch_of_both_shards_is_answered_in_its_order(clients: list[httpx.Client]) -> None:
    """I4: one refusal stops nothing else; a mass cancel finds the orders wherever they are, in the order of acceptance."""
    bodies = [order("cid", number % 2, price=f"{number + 1}.00") for number in range(6)]
    results = clients[0].post("/orders/batch", json={"orders": [*bodies, order("cid", 0, quantity="0.5")]}).json()["results"]
    assert [result["status"] for result in results] == [201] * 6 + [422]
    assert [result["order"]["price"] for result in results[:6]] == [f"{number + 1}.00" for number in range(6)]
    cancelled = clients[1].delete("/orders", params={"user_id": "cid"}).json()["order_ids"]
    accepted = sorted((result["order"] for result in results[:6]), key=lambda each: each["created_at"])
    assert cancelled == [each["order_id"] for each in accepted]


def test_a_kill_switch_holds_on_every_shard(clients: list[httpx.Client]) -> None:
    """R1: set at one gateway, it stops a user's orders at the other, in every symbol, and is shown once."""
    kill = {"scope": "user", "id": "dan", "active": True}
    for shard in (0, 1):
        assert clients[0].post("/orders", json=order("dan", shard)).status_code == 201
    assert clients[0].put("/admin/kill", json=kill).status_code == 200
    for shard in (0, 1):
        refused = clients[1].post("/orders", json=order("dan", shard))
        assert (refused.status_code, refused.json()["code"]) == (422, "kill_switch")
    assert clients[1].get("/users/dan/risk").json()["killed"] is True
    assert clients[0].put("/admin/kill", json=kill | {"active": False}).status_code == 200


def test_a_watermark_is_older_than_anything_on_its_way(clients: list[httpx.Client]) -> None:
    """HOLE4: another gateway may have forwarded a command up to CLIENT_WAIT_SEC ago that its engine hasn't seen yet."""
    asked = now_us()
    found = clients[0].get("/orders", params={"user_id": "eve", "client_order_id": "none"}).json()
    assert found["orders"] == []
    assert parse_time(found["watermark"]) <= asked - CLIENT_WAIT_S * MICROSECONDS


def test_a_revoked_key_is_closed_at_every_gateway(clients: list[httpx.Client]) -> None:
    """Made at one, good at the other; revoked at one, closed at the other."""
    made = clients[0].post("/keys", json={"user_id": "fay", "scopes": ["operator"]}).json()
    key = {"X-API-Key": made["key"]}
    until(lambda: clients[1].get("/keys", headers=key).status_code == 200)
    assert clients[0].delete(f"/keys/{made['key_id']}", headers=key).status_code == 200
    until(lambda: clients[1].get("/keys", headers=key).status_code == 401)


def test_simulated_traders_are_not_a_gateways_to_start(clients: list[httpx.Client]) -> None:
    """Another gateway couldn't stop them: whoever asks is told to run them himself."""
    refused = clients[0].put("/admin/demo", json={"active": True})
    assert (refused.status_code, refused.json()["code"]) == (422, "not_supported")
    assert "ome demo" in refused.json()["detail"]
    assert clients[1].get("/admin/demo").json()["active"] is False


def test_streams_of_any_gateway_have_what_happens_on_every_shard(cluster: Cluster, clients: list[httpx.Client]) -> None:
    """A user's events and the books of both shards' symbols; a cursor of one gateway is good at the other (D1, D2)."""
    made = [clients[0].post("/orders", json=order("ivy", shard)).json()["order_id"] for shard in (0, 1)]
    url = cluster.urls[1].replace("http", "ws") + "/ws"
    with connect(url, additional_headers=OPERATOR) as socket:
        for shard in (0, 1):
            socket.send(json.dumps({"op": "subscribe", "channel": "depth", "symbol": ON[shard]}))
        socket.send(json.dumps({"op": "subscribe", "channel": "orders", "user_id": "ivy", "from": "start"}))
        heard = _hear(socket, 2)
        assert [each["order"]["order_id"] for each in heard] == made
        made += [clients[0].post("/orders", json=order("ivy", shard, price="11.00")).json()["order_id"] for shard in (0, 1)]
        assert sorted(each["order"]["order_id"] for each in _hear(socket, 2)) == sorted(made[2:])
        socket.send(json.dumps({"op": "submit", "id": 1, **order("ivy", 1, price="12.00")}))
        assert _hear(socket, 1)[0]["order"]["price"] == "12.00"
    listed = clients[0].get("/orders/user/ivy/events", params={"cursor": heard[0]["cursor"]}).json()["events"]
    assert [each["order"]["price"] for each in listed] == ["10.00", "11.00", "11.00", "12.00"]


def _hear(socket: ClientConnection, count: int) -> list[dict[str, Any]]:
    """The next so many private events."""
    heard: list[dict[str, Any]] = []
    while len(heard) < count:
        message = json.loads(socket.recv(timeout=20))
        if message.get("channel") == "orders" and message["type"] == "event":
            heard.append(message["event"])
    return heard


def test_a_symbol_can_be_put_on_a_shard_before_it_is_listed(cluster: Cluster, clients: list[httpx.Client]) -> None:
    """`ome shards move`: orders through any gateway list it there, and it is told of as often as asked."""
    symbol = next(f"PUT{number}" for number in range(100) if highest(f"PUT{number}", 2) == 0)

    def move(shard: int, symbol: str = symbol) -> Result:
        told = {"DATABASE_URL": cluster.database_url, "NATS_URL": cluster.nats.url}
        return CliRunner().invoke(app, ["shards", "move", symbol.lower(), str(shard)], env=told)

    assert [move(1, nonsense).exit_code for nonsense in ("", "a/b c", "_", "x" * 33)] == [2] * 4
    assert move(1).exit_code == 0
    for client in clients:
        made = client.post("/orders", json=order("jon", 0, symbol=symbol))
        assert int(made.json()["order_id"]) // SHARD_STEP == 1
    assert move(1).exit_code == 0
    assert move(7).exit_code == 2


def test_a_move_says_who_does_not_answer(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A NATS that isn't there, and one that the engines aren't at."""
    monkeypatch.setattr(placing, "WITHIN_S", 0.5)

    def said(nats_url: str) -> str:
        told = {"DATABASE_URL": cluster.database_url, "NATS_URL": nats_url}
        result = CliRunner().invoke(app, ["shards", "move", ON[0], "1"], env=told)
        assert result.exit_code == 1
        return result.output

    assert "no answer from NATS" in said(f"nats://127.0.0.1:{free_port()}")
    with running_nats() as other:
        assert "no answer at this NATS from the engine of shard 0 and the engine of shard 1" in said(other.url)


def test_an_engine_that_is_killed_costs_its_own_symbols_alone(cluster: Cluster, clients: list[httpx.Client]) -> None:
    """Those are refused, for certain, until it is back; nothing acknowledged is lost. A gateway may be started meanwhile: it
    serves the rest, says what is missing, and has that too once it is there.
    """
    client, kept, new = clients[0], order("gus", 1, client_order_id="kept"), order("gus", 1, client_order_id="new")
    before = client.post("/orders", json=kept).json()
    cluster.engines[1].kill()
    refused = client.post("/orders", json=new)
    assert (refused.status_code, refused.json()["outcome"]) == (503, "not_executed")
    assert client.post("/orders", json=order("gus", 0)).status_code == 201
    late = Gateway(cluster.database_url, free_port(), cluster.gateways[0].environment, cluster.gateways[0]._nursery)
    try:
        late.spawn()
        check_a_gateway_that_lacks_a_shard(cluster, late, before["order_id"])
        again = clients[1].post("/orders", json=kept).json()
        assert (again["order_id"], again["replayed"]) == (before["order_id"], True)
    finally:
        late.close()


def check_a_gateway_that_lacks_a_shard(cluster: Cluster, gateway: Gateway, order_id: str) -> None:
    """From the start without shard 1's engine until that is there; `order_id` is an open order of gus in its symbol."""
    with httpx.Client(base_url=gateway.url, timeout=30, headers=OPERATOR) as client:
        until(lambda: _answers(client, "/health/ready"))
        assert client.get("/health").json()["reason"] == "shard 1 is AWAY"
        assert client.post("/orders", json=order("gus", 0)).status_code == 201
        assert client.get(f"/market/{ON[0]}/depth").status_code == 200
        refused = client.post("/orders", json=order("gus", 1, client_order_id="late"))
        assert (refused.status_code, refused.json()["outcome"]) == (503, "not_executed")
        for path in (f"/market/{ON[1]}/depth", f"/market/{ON[1]}", f"/instruments/{ON[1]}", "/instruments"):
            unknown = client.get(path)
            assert (unknown.status_code, unknown.json()["code"], "retry-after" in unknown.headers) == (503, "not_accepting", True)
        assert client.get(f"/orders/{order_id}").json()["status"] == "PENDING"
        with connect(gateway.url.replace("http", "ws") + "/ws", additional_headers=OPERATOR) as socket:
            socket.send(json.dumps({"op": "subscribe", "channel": "depth", "symbol": ON[0]}))
            socket.send(json.dumps({"op": "subscribe", "channel": "orders", "user_id": "gus"}))
            cluster.engines[1].spawn()
            until(lambda: is_well(client.get("/health")))
            until(lambda: client.get(f"/market/{ON[1]}/depth").status_code == 200)
            assert client.post("/orders", json=order("gus", 1, client_order_id="late")).status_code == 201
            assert _hear(socket, 1)[0]["order"]["client_order_id"] == "late"


def _answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("fault", ["restarted", "emptied", "stream deleted"])
def test_nats_under_load(cluster: Cluster, fault: str) -> None:
    """Nothing acknowledged is lost and nothing doubled, whatever becomes of NATS; each gateway's market data ends as what the
    engines have done, and nobody who listens to it is sent away.
    """
    symbols = [_fresh(fault, shard) for shard in (0, 1)]
    first = 10 * ["restarted", "emptied", "stream deleted"].index(fault)
    with traders(cluster.urls, 2, symbols, OPERATOR, first) as found:
        trade_on(found, 4)
        listeners = [Listener(url, symbols, OPERATOR) for url in cluster.urls]
        for listener in listeners:
            listener.start()
        trade_on(found, 20)
        break_nats(cluster, fault)
        trade_on(found, 20)
    check_ledgers(cluster.urls[0], found, OPERATOR)
    check_market_data(cluster.urls, symbols, OPERATOR)
    for listener, url in zip(listeners, cluster.urls, strict=True):
        check_listener(listener, url, OPERATOR)
        listener.stop()
    assert verify(cluster.database_url).ok


def _fresh(name: str, shard: int) -> str:
    """A symbol of a shard that no other test has."""
    prefix = name[:2].upper()
    return next(f"{prefix}{number}" for number in range(100) if highest(f"{prefix}{number}", 2) == shard)


def test_a_gateway_is_killed_under_load(cluster: Cluster) -> None:
    """Its clients send again elsewhere, with the same client ids, and have the same answers; so they do again afterwards."""
    symbols = [_fresh("killed", shard) for shard in (0, 1)]
    with traders(cluster.urls, 2, symbols, OPERATOR, 40) as found:
        trade_on(found, 20)
        cluster.gateways[1].kill()
        trade_on(found, 20)
        cluster.gateways[1].spawn()
        trade_on(found, 20)
    assert sum(trader.retried for trader in found) > 0
    cluster.wait()
    check_ledgers(cluster.urls[1], found, OPERATOR)
    with httpx.Client(timeout=30, headers=OPERATOR) as client:
        for trader in found:
            for count, (client_order_id, order_id) in enumerate(trader.told.items(), 1):
                again = client.post(f"{cluster.urls[count % 2]}/orders", json=trader.body(count)).json()
                assert (again["client_order_id"], again["order_id"], again["replayed"]) == (client_order_id, order_id, True)
    check_market_data(cluster.urls, symbols, OPERATOR)


@pytest.mark.long
def test_nats_and_gateways_again_and_again_under_load(cluster: Cluster) -> None:
    """As above for `FAULT_ROUNDS` rounds, with more clients: NATS is restarted, killed and emptied, its streams deleted, and the
    second gateway killed. Who listens at the first one hears every change, on one connection.
    """
    symbols = [_fresh("rounds", shard) for shard in (0, 1)]
    with traders(cluster.urls, 6, symbols, OPERATOR, 50) as found:
        trade_on(found, 4)
        listener = Listener(cluster.urls[0], symbols, OPERATOR)
        listener.start()
        trade_on(found, 50)
        for _ in range(ROUNDS):
            for fault in ("restarted", "emptied", "stream deleted"):
                break_nats(cluster, fault)
                trade_on(found, 50)
            cluster.gateways[1].kill()
            trade_on(found, 20)
            cluster.gateways[1].spawn()
            cluster.wait()
    check_ledgers(cluster.urls[1], found, OPERATOR)
    check_market_data(cluster.urls, symbols, OPERATOR)
    check_listener(listener, cluster.urls[0], OPERATOR)
    listener.stop()
    report = verify(cluster.database_url)
    assert report.ok
    told, retried = sum(len(trader.told) for trader in found), sum(trader.retried for trader in found)
    log = "".join(gateway.output() for gateway in cluster.gateways)
    counts = {event: log.count(f'"{event}"') for event in ("market_data_gap", "resumed", "not_resumed")}
    print(f"{ROUNDS} rounds: {told} orders, {retried} sent again, {counts}")  # noqa: T201  what was measured


def test_nats_may_be_killed_and_started_again(cluster: Cluster, clients: list[httpx.Client]) -> None:
    """It keeps nothing that is needed: orders are refused or unknown meanwhile, and then all is as it was."""
    client, kept, after = clients[1], order("hal", 0, client_order_id="kept"), order("hal", 0, client_order_id="after")
    before = client.post("/orders", json=kept).json()
    cluster.nats.stop(signal.SIGKILL)
    until(lambda: client.post("/orders", json=order("hal", 0)).status_code == 503)
    cluster.nats.start()
    until(lambda: client.post("/orders", json=after).status_code == 201)
    again = clients[0].post("/orders", json=kept).json()
    assert (again["order_id"], again["replayed"]) == (before["order_id"], True)
    assert verify(cluster.database_url).ok


@pytest.mark.long
@pytest.mark.timeout(60 + 15 * ROUNDS)
def test_an_engine_that_is_stopped_in_order_leaves_nobody_in_doubt(cluster: Cluster) -> None:
    """Under load each order is answered, or was certainly not executed."""
    stops, told = threading.Event(), Counter[tuple[int, str]]()

    def send(number: int) -> None:
        with httpx.Client(base_url=cluster.urls[number % 2], timeout=30, headers=OPERATOR) as client:
            while not stops.is_set():
                answer = client.post("/orders", json=order(f"stop{number}", 0, price="1.00"))
                told[answer.status_code, answer.json().get("outcome", "")] += 1

    senders = [threading.Thread(target=send, args=[number]) for number in range(8)]
    for sender in senders:
        sender.start()
    for _ in range(ROUNDS):
        enough = told[201, ""] + 100
        until(lambda: told[201, ""] > enough)  # noqa: B023  called at once
        assert cluster.engines[0].terminate() == 0
        cluster.engines[0].spawn()
    stops.set()
    for sender in senders:
        sender.join()
    cluster.wait()
    assert set(told) == {(201, ""), (503, "not_executed")}, told
