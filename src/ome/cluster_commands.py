"""The commands of a cluster: `ome gateway`, `ome engine`, `ome cluster`, `ome shards`."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

import typer

from ome.config import Settings, SettingsError, load_settings
from ome.domain.errors import OmeError, StorageError
from ome.exits import fail

_SETTINGS_AS_FLAGS = {"allow_extra_args": True, "ignore_unknown_options": True}
_DatabaseUrl = Annotated[str, typer.Option(envvar="DATABASE_URL", help=str(Settings.model_fields["database_url"].description))]

NO_CLUSTER = "This database is no cluster's: no engine has started with --shard on it."

shards_app = typer.Typer(no_args_is_help=True, help="Which shard each symbol is on.")


def add_to(app: typer.Typer) -> None:
    """Declare the commands."""
    app.command("gateway", add_help_option=False, context_settings=_SETTINGS_AS_FLAGS)(gateway_command)
    app.command("engine", add_help_option=False, context_settings=_SETTINGS_AS_FLAGS)(engine_command)
    app.command("cluster", context_settings=_SETTINGS_AS_FLAGS)(cluster_command)
    app.add_typer(shards_app, name="shards")


def gateway_command(context: typer.Context) -> None:
    """Serve HTTP and WebSockets over engines elsewhere. Every setting is a flag too: ome gateway --help lists them."""
    from ome.gateway import run_gateway  # noqa: PLC0415  the other commands need none of it, and it takes a second to import

    raise typer.Exit(run_gateway(_settings(context, "ome gateway")))


def engine_command(context: typer.Context) -> None:
    """Run the engine of one shard, or, with --standby, wait to take over. Every setting is a flag too: ome engine --help."""
    from ome.engine_process import run_engine  # noqa: PLC0415  likewise

    raise typer.Exit(run_engine(_settings(context, "ome engine")))


def cluster_command(
    context: typer.Context,
    *,
    gateways: Annotated[int, typer.Option(min=1, max=64, help="How many gateways share the port.")] = 2,
    shards: Annotated[int, typer.Option(min=1, max=64, help="How many engines, each with its own symbols.")] = 2,
    standbys: Annotated[bool, typer.Option("--standbys", help="A second engine for each shard, to take over.")] = False,
) -> None:
    """Try a whole cluster on this machine: NATS, engines and gateways behind one port, until Ctrl-C.

    DATABASE_URL names a PostgreSQL database, HOST and PORT where to listen; NATS_URL a NATS to use instead of one of its own.
    Each is a flag too, such as --port 8000, like every setting of ome gateway and ome engine.
    Exit status: 0 stopped, 2 a setting is wrong, 3 another one runs on this database, 6 the database can't be used.
    """
    from ome.local_cluster import run_cluster  # noqa: PLC0415  likewise

    raise typer.Exit(run_cluster(_settings(context, "ome cluster"), gateways=gateways, shards=shards, standbys=standbys))


@shards_app.command("list")
def list_command(*, database_url: _DatabaseUrl = Settings.model_fields["database_url"].default) -> None:
    """List the symbols whose shard is in the database; any other symbol's is drawn from its name.

    Exit status: 0 listed, 6 the database can't be read or is no cluster's.
    """
    from ome.db.shard_map import StoredShardMap  # noqa: PLC0415  likewise

    try:
        found = asyncio.run(StoredShardMap(database_url).read())
    except StorageError as error:
        fail(str(error), error.exit_code)
    if found is None:
        fail(NO_CLUSTER, StorageError.exit_code)
    typer.echo(f"{found.shards} shards, version {found.version} of the map")
    for symbol in sorted(found.placed):
        typer.echo(f"{symbol}  {found.placed[symbol]}")


@shards_app.command("move")
def move_command(
    symbol: Annotated[str, typer.Argument(help="A symbol, listed or not.")],
    shard: Annotated[int, typer.Argument(min=0, help="Where it is to be traded.")],
    *,
    database_url: _DatabaseUrl = Settings.model_fields["database_url"].default,
    nats_url: Annotated[str, typer.Option(envvar="NATS_URL", help="The NATS of the cluster.")] = Settings.model_fields[
        "nats_url"
    ].default,
) -> None:
    """Move a symbol to a shard, while the cluster runs: with its open orders in their queues, positions and limits. What is sent
    for it meanwhile waits. One that trades against balances stays where it is.

    Where this is cut short it is all the same done or not done at all: say it again.

    Exit status: 0 it is there, 1 an engine or NATS doesn't answer, 2 it can't be moved, or there is no such shard, 6 the database
    can't be read or is no cluster's.
    """
    from ome.api.schemas import SYMBOL  # noqa: PLC0415  likewise
    from ome.cluster.placing import place  # noqa: PLC0415  likewise
    from ome.cluster.wire import Moved, Staying  # noqa: PLC0415  likewise
    from ome.db.shard_map import StoredShardMap  # noqa: PLC0415  likewise

    symbol = symbol.upper()
    if re.fullmatch(SYMBOL, symbol, re.ASCII) is None:
        fail(
            f"{symbol!r} can't be a symbol: 1 to 32 letters, digits, dots, dashes and underscores, the first a letter or a digit."
        )
    try:
        found = asyncio.run(StoredShardMap(database_url).read())
        if found is None:
            fail(NO_CLUSTER, StorageError.exit_code)
        if shard >= found.shards:
            fail(f"There is no shard {shard}: there are {found.shards}, from 0 on.")
        asyncio.run(place(nats_url, found, symbol, shard))
    except StorageError as error:
        fail(str(error), error.exit_code)
    except Staying as error:
        fail(f"{symbol} stays on its shard: {error}.")
    except Moved:
        fail(f"{symbol} is on its way from one shard to another just now: say it again.", 1)
    except OmeError as error:
        fail(str(error) or type(error).__name__, 1)
    typer.echo(f"{symbol} is on shard {shard}.")


def _settings(context: typer.Context, command: str) -> Settings:
    try:
        return load_settings(context.args, command)
    except SettingsError as error:
        fail(str(error))
