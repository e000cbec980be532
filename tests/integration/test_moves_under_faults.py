"""Symbols move under load while whoever takes part in it dies or hangs: the tape is what price and time make of the orders."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from clusters import Cluster, Engine, running_cluster
from moving import OPERATOR, Load, audit_tape, check, move, order, rows
from ome.domain.errors import Fenced
from ome.domain.shards import highest
from ome.verification import verify
from postgres import execute, with_database
from servers import START_SECONDS, until

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "2"))
AGAIN_S = 0.3


@pytest.fixture(scope="module")
def cluster(postgres_server: str) -> Iterator[Cluster]:
    """One with standbys, for all tests here: each has symbols and users of its own."""
    name = f"ome_{uuid.uuid4().hex}"
    asyncio.run(execute(postgres_server, f"CREATE DATABASE {name}"))
    url, key = with_database(postgres_server, name), OPERATOR["X-API-Key"]
    with running_cluster(url, standbys=True, API_KEY=key, LEASE_SEC="1.5") as cluster:
        yield cluster
    asyncio.run(execute(postgres_server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


def on_shard_0(name: str) -> str:
    """A symbol that shard 0 is drawn for."""
    return next(f"{name}{number}" for number in range(100) if highest(f"{name}{number}", 2) == 0)


class Pipe(threading.Thread):
    """Sends orders on a WebSocket without waiting for an answer, each named by its connection and its place in it."""

    def __init__(self, url: str, symbol: str, user_id: str) -> None:
        super().__init__()
        self.url, self.symbol, self.user_id = url.replace("http", "ws") + "/ws", symbol, user_id
        self.ends = threading.Event()
        self.connections = 0
        self.answers: dict[int, int] = {}

    def run(self) -> None:
        """See Thread. A connection that is ended is followed by another."""
        while not self.ends.is_set():
            self.connections += 1
            with suppress(ConnectionClosed), connect(self.url, additional_headers=OPERATOR) as socket:
                reader = threading.Thread(target=self._read, args=[socket])
                reader.start()
                for number in range(100_000):
                    if self.ends.wait(0.004):
                        break
                    name = f"{self.user_id}-{self.connections}-{number:06}"
                    side = "BUY" if number % 2 else "SELL"
                    body = order(self.user_id, self.symbol, side=side, client_order_id=name, self_trade_prevention="NONE")
                    socket.send(json.dumps(body | {"op": "submit", "id": number}))
                self.ends.wait(1)
            reader.join()

    def _read(self, socket: object) -> None:
        with suppress(ConnectionClosed):
            for message in socket:  # type: ignore[attr-defined]
                status = json.loads(message)["status"]
                self.answers[status] = self.answers.get(status, 0) + 1


@pytest.mark.long
@pytest.mark.timeout(180)
def test_what_is_sent_without_waiting_never_changes_places(cluster: Cluster) -> None:
    """On each connection orders are accepted in the order in which they were sent, wherever the symbol was meanwhile."""
    symbol = on_shard_0("PIPE")
    pipes = [Pipe(cluster.urls[number % 2], symbol, f"pipe{number}") for number in range(3)]
    for pipe in pipes:
        pipe.start()
    for number in range(2 * 6):
        until(lambda: all(pipe.answers.get(201, 0) > 20 * number for pipe in pipes))  # noqa: B023  called at once
        assert move(cluster, symbol, 1 - number % 2).exit_code == 0
    for pipe in pipes:
        pipe.ends.set()
    for pipe in pipes:
        pipe.join()
    assert [set(pipe.answers) - {201, 503} for pipe in pipes] == [set()] * 3
    sql = "SELECT client_order_id FROM stored_orders WHERE symbol = $1 AND user_id = $2 ORDER BY created_at, id"
    for pipe in pipes:
        names = [name for (name,) in asyncio.run(rows(cluster.database_url, sql, symbol, pipe.user_id))]
        assert len(names) >= pipe.answers[201]
        for connection in range(1, pipe.connections + 1):
            mine = [name for name in names if name.startswith(f"{pipe.user_id}-{connection}-")]
            assert mine == sorted(mine)
    assert audit_tape(cluster, symbol) > 100
    assert verify(cluster.database_url).ok


class Faults:
    """What happens to a cluster while a symbol moves, and how it is put right."""

    def __init__(self, cluster: Cluster, dice: random.Random) -> None:
        self.cluster, self.dice = cluster, dice

    def mover(self, command: subprocess.Popen[bytes]) -> None:
        """The command that moves is killed."""
        command.kill()

    def engine(self, _: subprocess.Popen[bytes]) -> None:
        """An engine is killed, and its standby takes over."""
        place = self.dice.randrange(2)
        self.cluster.engines[place].kill()
        self._replace(place)

    def hang(self, _: subprocess.Popen[bytes]) -> None:
        """An engine hangs until its standby has taken over, and wakes up: it commits nothing, and exits."""
        place = self.dice.randrange(2)
        process = self.cluster.engines[place].process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        until(lambda: '"serving"' in self.cluster.standbys[place].output())
        process.send_signal(signal.SIGCONT)
        assert process.wait(START_SECONDS) == Fenced.exit_code
        self._replace(place)

    def nats(self, _: subprocess.Popen[bytes]) -> None:
        """NATS is killed, and comes back."""
        self.cluster.nats.stop(signal.SIGKILL)
        threading.Event().wait(AGAIN_S)
        self.cluster.nats.start()

    def _replace(self, place: int) -> None:
        """The standby is the engine from now on, and has one of its own."""
        gone = self.cluster.engines[place]
        until(lambda: '"serving"' in self.cluster.standbys[place].output())
        self.cluster.engines[place] = self.cluster.standbys[place]
        standby = Engine(gone.database_url, 0, gone.environment | {"STANDBY": "true"}, gone._nursery)
        self.cluster.standbys[place] = standby
        standby.spawn()
        gone.close()


@pytest.mark.long
@pytest.mark.timeout(120 + 120 * ROUNDS)
def test_a_move_goes_through_whoever_dies(cluster: Cluster) -> None:
    """The command, an engine, a hung one, NATS: at any moment of a move. Each order is there once, the tape as it must be."""
    symbol, dice = on_shard_0("DIES"), random.Random(11)
    faults = Faults(cluster, dice)
    load = Load(cluster.urls, symbol, clients=4, most=100_000, cancelled=0)
    until(lambda: len(load.accepted) > 40)
    place = {"DATABASE_URL": cluster.database_url, "NATS_URL": cluster.nats.url, "PYTHONPATH": os.pathsep.join(sys.path)}
    target = 0
    for fault in [faults.mover, faults.engine, faults.hang, faults.nats] * ROUNDS:
        target = 1 - target
        until(lambda: all("tanding by" in standby.output() for standby in cluster.standbys))
        command = subprocess.Popen(
            [sys.executable, "-m", "ome", "shards", "move", symbol, str(target)],
            env=os.environ | place,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        threading.Event().wait(0.3 + 0.5 * dice.random())
        fault(command)
        command.wait(START_SECONDS)
        until(lambda: move(cluster, symbol, target).exit_code == 0)  # noqa: B023  called at once
        enough = len(load.accepted) + 20
        until(lambda: len(load.accepted) > enough)  # noqa: B023  likewise
    load.ended()
    assert audit_tape(cluster, symbol) > 100
    with httpx.Client(base_url=cluster.urls[0], timeout=30, headers=OPERATOR) as client:
        check(cluster, client, load)
