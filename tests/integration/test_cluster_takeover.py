"""Takeover in a cluster: active engines are killed and stopped under load; nothing is lost and nothing doubled."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import httpx
import pytest

from clusters import Cluster, Engine, running_cluster
from ome.domain.errors import Fenced
from ome.domain.shards import highest
from ome.verification import verify
from servers import until

ROUNDS = int(os.environ.get("TAKEOVER_ROUNDS", "6"))
WITHIN_S = 3.0
"""How soon a standby is to trade."""
ON = [next(f"SYM{number}" for number in range(100) if highest(f"SYM{number}", 2) == shard) for shard in (0, 1)]
HEADERS = {"X-API-Key": "operators-key"}


class Client(threading.Thread):
    """Sends orders one after another through alternating gateways; each is asked again, elsewhere, until its outcome is known."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        super().__init__()
        self.cluster = cluster
        self.name = f"user{number}"
        self.told: dict[str, str] = {}
        self.stops = threading.Event()
        self.differences: list[Any] = []

    def run(self) -> None:
        """See Thread."""
        count = 0
        with httpx.Client(timeout=30, headers=HEADERS) as client:
            while not self.stops.is_set():
                count += 1
                body = {"user_id": self.name, "symbol": ON[count % 2], "side": "BUY", "quantity": 1, "price": "1.00"}
                body["client_order_id"] = f"c{count}"
                self.told[f"c{count}"] = self._until_known(client, body, count)

    def _until_known(self, client: httpx.Client, body: dict[str, Any], turn: int) -> str:
        while True:
            turn += 1
            try:
                answer = client.post(f"{self.cluster.urls[turn % 2]}/orders", json=body)
            except httpx.TransportError:
                continue
            if answer.status_code == 201:
                order_id: str = answer.json()["order_id"]
                return order_id
            if answer.status_code not in {503, 504}:
                self.differences.append(answer.text)
                return ""
            time.sleep(0.02)


def trades_again(cluster: Cluster, name: str) -> float:
    """How many seconds until an order of shard 0 is taken."""
    began = time.monotonic()
    body = {"user_id": "probe", "symbol": ON[0], "side": "BUY", "quantity": 1, "price": "1.00", "client_order_id": name}
    with httpx.Client(timeout=30, headers=HEADERS) as client:
        until(lambda: client.post(f"{cluster.urls[0]}/orders", json=body).status_code == 201)
    return time.monotonic() - began


def replace(cluster: Cluster, place: int, active: list[Engine]) -> None:
    """Start the engine that was active as the standby of the one that took over."""
    gone = active[place]
    standby = gone.environment | {"STANDBY": "true"}
    active[place] = cluster.standbys[0]
    cluster.standbys[0] = Engine(gone.database_url, 0, standby, gone._nursery)
    cluster.standbys[0].spawn()
    gone.close()


@pytest.mark.long
@pytest.mark.timeout(120 + 15 * ROUNDS)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_standby_takes_over_and_nothing_is_lost(postgres_url: str, how: signal.Signals) -> None:
    """DUR8, fault row 3: again and again under load. A hung engine that wakes up commits nothing and exits with 4."""
    times = []
    with running_cluster(postgres_url, standbys=True, LEASE_SEC="1.5", API_KEY=HEADERS["X-API-Key"]) as cluster:
        clients = [Client(cluster, number) for number in range(4)]
        for client in clients:
            client.start()
        try:
            for turn in range(ROUNDS):
                until(lambda: "standing_by" in cluster.standbys[0].output())
                time.sleep(0.5)  # under load
                active = cluster.engines[0]
                assert active.process is not None
                active.process.send_signal(how)
                times.append(trades_again(cluster, f"p{turn}"))
                if how is signal.SIGSTOP:
                    active.process.send_signal(signal.SIGCONT)
                    assert active.process.wait(30) == Fenced.exit_code
                replace(cluster, 0, cluster.engines)
        finally:
            for client in clients:
                client.stops.set()
            for client in clients:
                client.join()
        assert [client.differences for client in clients] == [[]] * 4
        for client in clients:
            asked = {"params": {"limit": 1000}, "headers": HEADERS, "timeout": 30}
            stored = httpx.get(f"{cluster.urls[0]}/orders/user/{client.name}", **asked).json()  # type: ignore[arg-type]
            found = {each["client_order_id"]: each["order_id"] for each in stored["orders"]}
            assert len(found) == len(stored["orders"])
            assert found.items() <= client.told.items()
            assert stored["next_cursor"] is not None or found == client.told
        assert verify(postgres_url).ok
        print(f"{how.name}: trading again after {', '.join(f'{each:.2f}' for each in times)} s")  # noqa: T201  what was measured
        assert max(times) < WITHIN_S
