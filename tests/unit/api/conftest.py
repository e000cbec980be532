"""An application over the in-memory exchange, and a client that speaks to it without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import httpx
import pytest

from fakes import FakeExchange, MakeApp, client_of
from ome.api.app import build_app
from ome.api.dispatcher import Dispatcher
from ome.api.services import Ports
from ome.api.settings import ApiSettings
from ome.observability import Metrics


@pytest.fixture(scope="session")
def shared() -> tuple[FakeExchange, Dispatcher]:
    """An exchange and an application over it with default settings: declaring fifty routes takes a while."""
    exchange = FakeExchange()
    return exchange, make(exchange, Metrics())


@pytest.fixture
def exchange(shared: tuple[FakeExchange, Dispatcher]) -> FakeExchange:
    """What the application calls, empty."""
    shared[0].reset()
    return shared[0]


@pytest.fixture
def metrics() -> Metrics:
    """What the application counts with."""
    return Metrics()


def make(exchange: FakeExchange, metrics: Metrics, durability: str = "full", **settings: object) -> Dispatcher:
    """An application over this exchange with these settings, which commits like this."""
    ports = Ports(
        entry=exchange, funds=exchange, reads=exchange, market=exchange, past=exchange.past, feed=exchange, bus=exchange
    )
    return build_app(ports=ports, settings=ApiSettings(**settings), metrics=metrics, durability=lambda: durability)  # type: ignore[arg-type]


@pytest.fixture
def make_app(exchange: FakeExchange, metrics: Metrics) -> MakeApp:
    """Makes an application with these settings, which counts with `metrics`."""
    return partial(make, exchange, metrics)


@pytest.fixture
def app(shared: tuple[FakeExchange, Dispatcher], exchange: FakeExchange) -> Dispatcher:
    """An application with default settings over the empty exchange."""
    assert shared[0] is exchange
    return shared[1]


@pytest.fixture
async def client(app: Dispatcher) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application with default settings."""
    async with client_of(app) as client:
        yield client


@pytest.fixture
async def keyed(make_app: MakeApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client, without a key, of an application that has one and private reads."""
    async with client_of(make_app(api_key="sesame", private_reads=True)) as client:
        yield client
