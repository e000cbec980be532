"""`ome cluster`: NATS, engines and gateways as processes of this machine, for a try. One signal stops all of them."""

from __future__ import annotations

import itertools
import shutil
import socket
import sys
import tempfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from ome.bootstrap import EXIT_ADDRESS, Signals, reserve, run_until_stopped
from ome.cluster.connection import MISSING
from ome.config import Settings
from ome.db.shard_map import StoredShardMap
from ome.domain.errors import EngineRunning, StorageAway, StorageError
from ome.gateway import supervise
from ome.observability import configure_logging
from ome.processes import Child, Children, ome

MOST_BYTES: Final = 8 * 1024 * 1024
"""The largest NATS message of a server of our own."""

TAKEOVER_LEASE_S: Final = "1.5"
"""LEASE_SEC where nothing else is said: a standby trades within 3 seconds of the other one's end."""

log = structlog.get_logger(__name__)


def nats_server() -> str | None:
    """The NATS server: the one that pip has installed beside this Python, else one of the system's."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def nats_configuration(port: int, folder: Path) -> str:
    """The configuration of a NATS server of our own: on loopback, with JetStream in a folder, which goes with it."""
    return (f"listen: 127.0.0.1:{port}\nmax_payload: {MOST_BYTES}\njetstream {{ store_dir: {str(folder)!r} }}\n").replace(
        "'", '"'
    )


async def _run(settings: Settings, signals: Signals, *, gateways: int, shards: int, standbys: bool) -> int:
    configure_logging(settings.log_level, settings.log_format)
    signals.watch()
    stored = StoredShardMap(settings.database_url)
    try:
        found = await stored.read()
    except StorageAway:
        found = None  # the engines wait for it
    except StorageError as error:
        log.critical("cannot_start", error=str(error))
        return error.exit_code
    if found is not None and found.shards != shards:
        log.critical(
            "cannot_start", error=f"this database is a cluster of {found.shards} shards", advice=f"--shards {found.shards}"
        )
        return 2
    async with AsyncExitStack() as held:
        try:
            port = held.enter_context(reserve(settings.host, settings.port)).getsockname()[1]
        except OSError as error:
            log.error("cannot_listen", host=settings.host, port=settings.port, error=error.strerror)  # noqa: TRY400  it is said
            return EXIT_ADDRESS
        nats: list[Child] = []
        if "nats_url" not in settings.model_fields_set:
            if not await held.enter_async_context(stored.alone()):
                # its engines would take a shard whose engine hangs away from gateways that listen at another NATS
                log.critical("cannot_start", error="another `ome cluster` runs on this database", advice="stop it first")
                return EngineRunning.exit_code
            binary = nats_server()
            if binary is None:
                log.critical("cannot_start", error=MISSING)
                return 2
            folder = held.enter_context(tempfile.TemporaryDirectory(prefix="ome-nats-", ignore_cleanup_errors=True))
            nats = [_nats(binary, Path(folder))]
        # one that was named may hold a password
        own = {"nats_url": nats[0].environment["NATS_URL"]} if nats else {}
        log.info("cluster", url=f"http://{settings.host}:{port}", gateways=gateways, shards=shards, **own)
        common = {name: str(value) for name, value in settings.given().items()} | {name.upper(): url for name, url in own.items()}
        engines = _engines(settings.metrics_port, common, shards, standbys=standbys)
        shared = common | {"PORT": str(port), "SHARE_PORT": "true", "WORKERS": "1"}
        edge = [Child(f"gateway {number}", ome("gateway"), shared) for number in range(gateways)]
        return await supervise(Children(nats + engines + edge), signals)


def _nats(binary: str, folder: Path) -> Child:
    """A NATS server of our own."""
    port = free_port()
    configuration = folder / "nats.conf"
    configuration.write_text(nats_configuration(port, folder / "store"), encoding="utf-8")
    return Child("nats", [binary, "-c", str(configuration)], {"NATS_URL": f"nats://127.0.0.1:{port}"})


def _engines(first_port: int, common: dict[str, str], shards: int, *, standbys: bool) -> list[Child]:
    """One engine for each shard, or two; each has a port for its metrics, if there are to be any."""
    ports = itertools.count(first_port) if first_port else itertools.repeat(0)
    settings = {"LEASE_SEC": TAKEOVER_LEASE_S} | common | {"STANDBY": str(standbys).lower()}
    return [
        Child(name, ome("engine"), settings | {"SHARD": f"{shard}/{shards}", "METRICS_PORT": str(next(ports))})
        for shard in range(shards)
        for name in (f"engine {shard}", f"engine {shard} standby")[: 1 + standbys]
    ]


def run_cluster(settings: Settings, *, gateways: int, shards: int, standbys: bool) -> int:
    """Run a cluster on this machine until SIGINT or SIGTERM; the exit status."""
    return run_until_stopped(partial(_run, settings, gateways=gateways, shards=shards, standbys=standbys))
