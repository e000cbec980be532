"""The containers of compose.yaml and the Dockerfile, as processes: their commands, environments, files; names become ports."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import ClassVar

import asyncpg
import httpx
import pytest

from clusters import Engine, Gateway
from containers import Container, compose, container, instructions
from forks import own_nursery
from nats_server import NOT_FOUND
from ome.local_cluster import nats_server
from postgres import FAST, PostgresServer, execute, server_or_skip
from servers import START_SECONDS, Server, free_port, sqlite_url, until

KEY = {"X-API-Key": "operators-key"}
LOOPBACK = {"HOST": "127.0.0.1"}
ORDER = {"user_id": "ann", "symbol": "AAPL", "side": "BUY", "quantity": 5, "price": "10.00"}


def healthy(port: int) -> int:
    """The exit status of the image's health check against a service."""
    _, _, command = instructions("HEALTHCHECK")[-1].partition("CMD ")
    return ran(json.loads(command), PORT=str(port))


def ran(check: list[str], **environment: str) -> int:
    """The exit status of a health check."""
    name, *arguments = check
    assert name == "python"
    return subprocess.run([sys.executable, *arguments], env=os.environ | environment, check=False, capture_output=True).returncode


@contextlib.contextmanager
def running(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended by its id."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def answered(url: str, process: subprocess.Popen[bytes], log: Path) -> httpx.Response:
    """The first answer of whoever is about to listen there; NATS says 500 until it has started all of itself."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(url, timeout=5)
            if answer.status_code != HTTPStatus.INTERNAL_SERVER_ERROR:
                return answer
        time.sleep(0.02)
    raise RuntimeError(log.read_text())


def first_line(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    """What a stream begins with, for a client that would like a WebSocket and says that it is somebody else."""
    headers = {"X-Forwarded-For": "6.6.6.6", "Connection": "Upgrade", "Upgrade": "websocket"}
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.ConnectError), httpx.stream("GET", url, headers=headers, timeout=START_SECONDS) as answer:
            return next(answer.iter_lines())
        time.sleep(0.02)
    raise RuntimeError(log.read_text())


def rewritten(found: Container, target: Path, words: dict[str, str]) -> list[str]:
    """The command of a container whose one file is written to `target`, with these words in place of those."""
    ((inside, source),) = found.files.items()
    text = source.read_text()
    for old, new in words.items():
        assert old in text, old
        text = text.replace(old, new)
    target.write_text(text)
    return [str(target) if argument == inside else argument for argument in found.command]


def test_the_single_service_is_healthy(tmp_path: Path) -> None:
    """`ome serve` with the environment of its container, its data elsewhere: the image's health check finds it well."""
    found = container("ome")
    assert found.command == []
    assert json.loads(instructions("CMD")[-1]) == ["ome", "serve"]
    environment = found.environment | LOOPBACK | {"DATABASE_URL": sqlite_url(tmp_path), "PORT": str(free_port())}
    with contextlib.closing(Server(environment["DATABASE_URL"], int(environment["PORT"]), environment, own_nursery())) as server:
        server.start()
        assert healthy(server.port) == 0
        assert httpx.post(f"{server.url}/orders", json=ORDER, headers=KEY).status_code == 201


def test_the_cluster_trades(postgres_url: str, tmp_path: Path) -> None:
    """NATS, an engine of each shard and a gateway, as in their containers: an order on each shard is taken."""
    binary = nats_server()
    if binary is None:
        pytest.skip(NOT_FOUND)
    nats, engines, gateway = container("nats"), [container("engine-0"), container("engine-1")], container("gateway-1")
    assert (engines, gateway) == ([container("engine-0-standby"), container("engine-1-standby")], container("gateway-2"))
    assert ([each.command for each in engines], gateway.command) == ([["ome", "engine"]] * 2, ["ome", "gateway"])
    database = container("primary").environment
    names = tuple(database[f"POSTGRES_{name}"] for name in ("USER", "PASSWORD", "DB"))
    assert gateway.environment["DATABASE_URL"] == "postgresql://{}:{}@primary:5432/{}".format(*names)
    assert gateway.environment["DATABASE_READ_URL"] == "postgresql://{}:{}@replica:5432/{}".format(*names)

    bus, monitoring, log = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", tmp_path / "nats.log"
    words = {"0.0.0.0:4222": bus, "127.0.0.1:8222": monitoring, "/data": str(tmp_path / "jetstream")}
    program, *arguments = rewritten(nats, tmp_path / "nats.conf", words)
    assert program == "nats-server"
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(running([binary, *arguments], log, **nats.environment))
        assert answered(f"http://{monitoring}/healthz", process, log).status_code == 200

        def outside(found: Container, port: int) -> dict[str, str]:
            url = found.environment["NATS_URL"].replace("nats:4222", bus)
            databases = {"DATABASE_URL": postgres_url, "DATABASE_READ_URL": postgres_url}
            return found.environment | LOOPBACK | databases | {"NATS_URL": url, "PORT": str(port)}

        metrics = [free_port() for _ in engines]
        started = [
            Engine(postgres_url, 0, outside(found, 0) | {"METRICS_PORT": str(number)}, own_nursery())
            for found, number in zip(engines, metrics, strict=True)
        ]
        for engine in started:
            stack.enter_context(contextlib.closing(engine)).spawn()
        port = free_port()
        server = stack.enter_context(contextlib.closing(Gateway(postgres_url, port, outside(gateway, port), own_nursery())))
        server.start()
        assert healthy(port) == 0
        taken = [httpx.post(f"{server.url}/orders", json=ORDER | {"symbol": f"S{n}"}, headers=KEY).status_code for n in range(6)]
        assert taken == [201] * 6
        check = compose()["services"]["engine-0"]["healthcheck"]["test"]
        for number in metrics:
            assert ran(check[1:], METRICS_PORT=str(number)) == 0
            assert httpx.get(f"http://127.0.0.1:{number}/health/ready").status_code == 200
            told = httpx.get(f"http://127.0.0.1:{number}/metrics").text
            assert 'ome_engine_state{state="RUNNING"} 1.0' in told
            assert int(float(told.partition("\nome_batch_commands_count ")[2].partition("\n")[0])) > 0

        standby = f"http://127.0.0.1:{free_port()}"
        settings = outside(engines[0], 0) | {"METRICS_PORT": standby.rpartition(":")[2]}
        waiting = stack.enter_context(contextlib.closing(Engine(postgres_url, 0, settings, own_nursery())))
        waiting.spawn()
        until(lambda: "standing_by" in waiting.output())
        assert ran(check[1:], METRICS_PORT=settings["METRICS_PORT"]) == 0
        health = httpx.get(f"{standby}/health")
        assert (health.status_code, health.json()["shard"]) == (503, 0)
        assert "Standing by" in health.json()["reason"]
        assert httpx.get(f"{standby}/health/ready").status_code == 503
        assert waiting.terminate() == 0
        assert ran(check[1:], METRICS_PORT=settings["METRICS_PORT"]) == 1
        assert "event_log_away" not in "".join(engine.output() for engine in started)


class StandIn(http.server.BaseHTTPRequestHandler):
    """What a proxy needs of a gateway: it says what it was sent, and begins a stream that doesn't end by itself."""

    protocol_version = "HTTP/1.1"
    ended: ClassVar[threading.Event]

    def do_GET(self) -> None:
        """An event with the request's headers; the stream ends when the test says so."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"data: " + json.dumps({name.lower(): value for name, value in self.headers.items()}).encode() + b"\n\n")
        self.wfile.flush()
        self.ended.wait(START_SECONDS)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx, of the system's packages")
def test_the_proxy_passes_streams_on_and_a_dead_gateway_over(tmp_path: Path) -> None:
    """An event arrives while its stream is open; the client's own X-Forwarded-For doesn't count; upgrades are asked for."""
    StandIn.ended = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandIn) as gateway:
        threading.Thread(target=gateway.serve_forever, kwargs={"poll_interval": 0.05}).start()
        port, log = free_port(), tmp_path / "log"
        words = {
            "listen 8080": f"listen 127.0.0.1:{port}",
            "gateway-1:5000": f"127.0.0.1:{free_port()}",
            "gateway-2:5000": f"127.0.0.1:{gateway.server_address[1]}",
            "/tmp/": f"{tmp_path}/",  # noqa: S108  the container's, which is its own
        }
        command = rewritten(container("proxy"), tmp_path / "nginx.conf", words)
        try:
            with running(command, log) as process:
                event = json.loads(first_line(f"http://127.0.0.1:{port}/", process, log).removeprefix("data: "))
        finally:
            StandIn.ended.set()
            gateway.shutdown()
    assert event["x-forwarded-for"] == "127.0.0.1"
    assert (event["connection"], event["upgrade"]) == ("upgrade", "websocket")


@pytest.fixture
def primary() -> Iterator[PostgresServer]:
    """The primary of compose.yaml, in which only those with a password may replicate."""
    found = container("primary")
    assert found.command[:2] == ["postgres", "-c"]
    server = server_or_skip(*FAST, *found.command[2::2])
    folder = Path(server.socket_folder)
    (folder / "data/pg_hba.conf").write_text("host all postgres 127.0.0.1/32 trust\n")
    asyncio.run(execute(server.dsn, "SELECT pg_reload_conf()"))
    yield server
    server.remove()


def test_the_replica_follows_the_primary(primary: PostgresServer) -> None:
    """Both scripts, run as in their containers: what the primary commits is on the replica; a second start keeps the copy."""
    folder, port = Path(primary.socket_folder), free_port()
    first, second = container("primary"), container("replica")

    def script(found: Container, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        (text,) = (source.read_text() for source in found.files.values())
        path = f"{primary._binaries}:{os.environ['PATH']}"
        everything = {"PATH": path, "HOME": str(folder)} | found.environment | environment
        return subprocess.Popen(["/bin/bash", "-c", text, "bash", *arguments], env=everything, cwd=folder, **primary._as)

    place = {"PGHOST": "127.0.0.1", "PGPORT": str(primary.port), "PGDATA": str(folder / "data")}
    made = script(first, POSTGRES_USER="postgres", POSTGRES_DB="postgres", **place)
    assert made.wait(START_SECONDS) == 0
    asyncio.run(execute(primary.dsn, "SELECT pg_reload_conf()", "CREATE TABLE told (number int)"))

    copy = folder / "copies/18/docker"
    address = second.environment["PRIMARY"].replace("host=primary port=5432", f"host=127.0.0.1 port={primary.port}")
    elsewhere = {"PRIMARY": address, "PGDATA": str(copy)}
    assert second.command[-1] == "postgres"
    options = ("-h", "127.0.0.1", "-p", str(port), "-k", str(folder))
    replica = script(second, "postgres", *options, **elsewhere)
    try:
        asyncio.run(execute(primary.dsn, "INSERT INTO told VALUES (7)"))
        asyncio.run(asyncio.wait_for(_until_told(f"postgresql://postgres@127.0.0.1:{port}/postgres", replica), START_SECONDS))
        until(lambda: asyncio.run(_followers(primary.dsn)) == ["replica"])
    finally:
        replica.terminate()
        replica.wait(START_SECONDS)
    identity = (copy / "PG_VERSION").stat().st_ino
    assert script(second, "true", **elsewhere).wait(START_SECONDS) == 0
    assert (copy / "PG_VERSION").stat().st_ino == identity


async def _followers(dsn: str) -> list[str]:
    """Who streams from a primary, as `synchronous_standby_names` names them."""
    connection = await asyncpg.connect(dsn)
    try:
        return [row["application_name"] for row in await connection.fetch("SELECT application_name FROM pg_stat_replication")]
    finally:
        await connection.close()


async def _until_told(dsn: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server is there, follows another one, and has what that one was given."""
    while True:
        assert process.poll() is None
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            connection = await asyncpg.connect(dsn)
            try:
                assert await connection.fetchval("SELECT pg_is_in_recovery()")
                if await connection.fetchval("SELECT max(number) FROM told") == 7:
                    return
            finally:
                await connection.close()
        await asyncio.sleep(0.05)
