"""A whole cluster for tests: NATS, engines and gateways as processes on loopback, each stopped by its id."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import ClassVar

import httpx

from forks import own_nursery
from nats_server import NatsServer, running_nats
from servers import START_SECONDS, Server, free_port, is_well


class Engine(Server):
    """One `ome engine`; it has no port."""

    COMMAND: ClassVar = "engine"


class Gateway(Server):
    """One `ome gateway`."""

    COMMAND: ClassVar = "gateway"


class Cluster:
    """`engines` by shard, each with a standby if asked for, and `gateways`, each with a port of its own."""

    def __init__(
        self, database_url: str, nats: NatsServer, *, shards: int, gateways: int, standbys: bool, **settings: str
    ) -> None:
        self.nats = nats
        self.database_url = database_url
        common = {"NATS_URL": nats.url} | settings
        nursery = own_nursery()

        def engine(shard: int, standby: str) -> Engine:
            return Engine(database_url, 0, common | {"SHARD": f"{shard}/{shards}", "STANDBY": standby}, nursery)

        self.engines = [engine(shard, "false") for shard in range(shards)]
        self.standbys = [engine(shard, "true") for shard in range(shards if standbys else 0)]
        self.gateways = [Gateway(database_url, free_port(), common, nursery) for _ in range(gateways)]

    @property
    def urls(self) -> list[str]:
        """Where each gateway listens."""
        return [gateway.url for gateway in self.gateways]

    def start(self) -> None:
        """Start all, and wait until every gateway finds every engine running."""
        for member in (*self.engines, *self.gateways):
            member.spawn()
        self.wait()
        for standby in self.standbys:
            standby.spawn()

    def wait(self) -> None:
        """Wait until every gateway is healthy and finds nothing to say against any engine."""
        deadline = time.monotonic() + START_SECONDS
        for gateway in self.gateways:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    answer = httpx.get(f"{gateway.url}/health", timeout=5)
                    if is_well(answer):
                        break
                if time.monotonic() > deadline:
                    raise RuntimeError(self.output())
                time.sleep(0.05)

    def output(self) -> str:
        """What all of them have written."""
        return "\n".join(member.output() for member in (*self.engines, *self.standbys, *self.gateways))

    def close(self) -> None:
        """Stop them: the gateways first."""
        for member in (*self.gateways, *self.standbys, *self.engines):
            member.close()


@contextlib.contextmanager
def running_cluster(
    database_url: str, *, shards: int = 2, gateways: int = 2, standbys: bool = False, **settings: str
) -> Iterator[Cluster]:
    """A cluster that trades; settings are keywords, as for `running_server`."""
    with running_nats() as nats:
        cluster = Cluster(database_url, nats, shards=shards, gateways=gateways, standbys=standbys, **settings)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.close()
