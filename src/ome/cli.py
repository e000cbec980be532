"""The command line: `ome --help` is the map."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from datetime import datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ome import cluster_commands, instrument_commands, key_commands
from ome.config import Settings, SettingsError, load_settings, take_files
from ome.domain.build import CORE
from ome.domain.clock import parse_time
from ome.domain.errors import StorageError
from ome.exits import fail
from ome.replay import FlowError, FlowFormat, ReplayError, generate, print_report, progress_bar, replay_file
from ome.replay.generate import FlowKind

EXIT_DISAGREES = 1
"""Exit status of a replay, a verification or a run of the rule book that found a difference."""

_DatabaseUrl = Annotated[str, typer.Option(envvar="DATABASE_URL", help=str(Settings.model_fields["database_url"].description))]
_Json = Annotated[bool, typer.Option("--json", help="Write the report as one JSON object.")]
_DEFAULT_DATABASE_URL = Settings.model_fields["database_url"].default


class ExportKind(StrEnum):
    """What `ome export` writes."""

    TRADES = "trades"
    ORDERS = "orders"
    CANDLES = "candles"
    EVENTS = "events"


class ExportForm(StrEnum):
    """The forms of its file."""

    CSV = "csv"
    PARQUET = "parquet"


class Interval(StrEnum):
    """How long a candle lasts."""

    S1 = "1s"
    M1 = "1m"
    M5 = "5m"
    M15 = "15m"
    H1 = "1h"
    H4 = "4h"
    D1 = "1d"

    @property
    def seconds(self) -> int:
        """The same in seconds."""
        return int(self[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[self[-1]]


app = typer.Typer(
    name="ome",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="An order matching engine service: limit order books with price-time priority, durable, behind REST.",
)


app.add_typer(key_commands.app, name="keys")
app.add_typer(instrument_commands.app, name="instruments")
cluster_commands.add_to(app)


def main() -> None:
    """The entry point of the command `ome`."""
    try:
        if sys.argv[1:2] not in (["serve"], ["gateway"], ["engine"], ["cluster"]):  # which have flags too
            take_files([])
    except SettingsError as error:
        sys.stderr.write(f"ome: {error}\n")
        raise SystemExit(2) from None
    app()


@app.callback(invoke_without_command=True)
def ome(
    context: typer.Context,
    *,
    show_version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    """Options of every command."""
    if show_version:
        typer.echo(f"ome {version('ome')}" + (", core compiled" if CORE == "compiled" else ""))
        raise typer.Exit
    del context


@app.command(
    "serve",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    help="Run the service. Every setting is a flag too: ome serve --help lists them.",
)
def serve_command(context: typer.Context) -> None:
    """Run the service until SIGINT or SIGTERM."""
    gc.disable()  # what is imported stays: looking through all of it again and again makes importing a fifth slower
    from ome.bootstrap import run  # noqa: PLC0415  the other commands need none of it, and it takes a second to import

    gc.enable()
    try:
        settings = load_settings(context.args)
    except SettingsError as error:
        fail(str(error))
    raise typer.Exit(run(settings))


@app.command("replay")
def replay_command(  # noqa: PLR0913  as replay_file
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Order flow: CSV, LOBSTER, NASDAQ ITCH 5.0 or Databento MBO.")
    ],
    *,
    url: Annotated[str, typer.Option(envvar="OME_URL", help="The server to drive.")] = "http://127.0.0.1:5000",
    in_process: Annotated[bool, typer.Option("--in-process", help="Drive the engine itself, without a server.")] = False,
    api_key: Annotated[str, typer.Option(envvar="API_KEY", help="The operator's key, if the server has one.")] = "",
    form: Annotated[FlowFormat | None, typer.Option("--format", help="The file's format; by its name if left out.")] = None,
    symbol: Annotated[str, typer.Option(help="Symbol to trade; what the file names by default.")] = "",
    date: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Trading day in New York, where the file can't say.")
    ] = None,
    tick: Annotated[str, typer.Option(help="What the file's prices are counts of.")] = "0.01",
    lot: Annotated[str, typer.Option(help="What the file's quantities are counts of.")] = "1",
    rows: Annotated[int, typer.Option(min=0, help="Stop after so many rows; 0 for all.")] = 0,
    as_json: _Json = False,
) -> None:
    """Drive a server, or the engine, with recorded order flow and verify every fill, and tape and book by the files beside it.

    Exit status: 0 everything agreed, 1 disagreements, 2 the file can't be read or the server can't be driven.
    """
    try:
        with progress_bar(file.name) as progress:
            report = asyncio.run(
                replay_file(
                    file,
                    url=url,
                    in_process=in_process,
                    api_key=api_key or None,
                    form=form,
                    symbol=symbol or None,
                    day=date.date() if date else None,
                    tick=tick,
                    lot=lot,
                    progress=progress,
                    limit_rows=rows or None,
                )
            )
    except (FlowError, ReplayError) as error:
        fail(str(error))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report)))
    else:
        print_report(report)
    raise typer.Exit(0 if report.ok else EXIT_DISAGREES)


@app.command("demo")
def demo_command(
    *,
    url: Annotated[str, typer.Option(envvar="OME_URL", help="The server to trade at.")] = "http://127.0.0.1:5000",
    api_key: Annotated[str, typer.Option(envvar="API_KEY", help="The operator's key, if the server has one.")] = "",
    seed: Annotated[int, typer.Option(help="The same seed has the traders draw the same numbers.")] = 1,
    speed: Annotated[float, typer.Option(min=0.1, max=20, help="How fast the market goes.")] = 1.0,
    flow: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Replay this order flow instead: .csv or .csv.gz.")
    ] = None,
    rate: Annotated[float, typer.Option(min=1, help="Orders and cancels a second of the replay.")] = 100.0,
    attached: Annotated[bool, typer.Option("--attached", hidden=True, help="Stop when standard input ends.")] = False,
) -> None:
    """Let simulated traders trade at a running server, in symbols and under users of their own, until Ctrl+C.

    Whatever they have open is cancelled when they stop. Exit status: 0 stopped, 2 the server can't be reached or refuses.
    """
    from ome.demo import flow as flows  # noqa: PLC0415  the other commands need none of it
    from ome.demo import runner, stopping  # noqa: PLC0415  likewise

    key = api_key or None
    if flow is None:
        work = runner.run_demo(url, api_key=key, seed=seed, speed=speed, say=typer.echo)
    else:
        work = flows.replay_flow(url, file=flow, api_key=key, rate=rate, say=typer.echo)
    try:
        asyncio.run(stopping.until_stopped(work, is_attached=attached))
    except runner.DemoError as error:
        fail(str(error))


@app.command("generate")
def generate_command(
    file: Annotated[Path, typer.Argument(help="Where to write (.csv or .csv.gz); its tape and checkpoints go beside it.")],
    *,
    rows: Annotated[int, typer.Option(min=1, help="How many rows.")] = 100_000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same bytes.")] = 1,
    kind: Annotated[FlowKind, typer.Option(help="a row for each fill (replay) or incoming order (sweeps).")] = "sweeps",
) -> None:
    """Make realistic order flow from a seed, in the format that `ome replay` reads and verifies."""
    try:
        with progress_bar(file.name) as progress:
            generate(file, rows=rows, seed=seed, kind=kind, progress=progress)
    except FlowError as error:
        fail(str(error))
    typer.echo(f"{rows} rows in {file}")


@app.command("verify")
def verify_command(
    *,
    database_url: _DatabaseUrl = _DEFAULT_DATABASE_URL,
    as_json: _Json = False,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Read the SQLite file itself, not a copy; only where no engine is running on it.")
    ] = False,
) -> None:
    """Replay the journal and compare every table with what it makes; an engine may be running. Writes nothing.

    Exit status: 0 no difference, 1 differences, 2 usage, 6 the database can't be read.
    """
    from ome.verification import verify  # noqa: PLC0415  takes a while to import, and only this command needs it

    try:
        with progress_bar("verify") as progress:
            report = verify(database_url, in_place=in_place, progress=progress)
    except StorageError as error:
        fail(str(error), error.exit_code)
    typer.echo(report.as_json() if as_json else "\n".join(report.lines()))
    raise typer.Exit(0 if report.ok else EXIT_DISAGREES)


@app.command("conformance")
def conformance_command(
    *,
    url: Annotated[str, typer.Option(envvar="OME_URL", help="The server to play against.")] = "http://127.0.0.1:5000",
    api_key: Annotated[str, typer.Option(envvar="API_KEY", help="The operator's key, if the server has one.")] = "",
    rule: Annotated[list[str] | None, typer.Option(help="Only what proves this rule, as A3; may be repeated.")] = None,
    file: Annotated[list[str] | None, typer.Option(help="Only this file of scenarios, as stops; may be repeated.")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="List the scenarios and play none.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write the result of every scenario as JSON.")] = False,
) -> None:
    """Play the executable rule book against a server: in symbols and under users of its own, touching nothing else."""
    from ome import conformance  # noqa: PLC0415  the other commands need none of it, and httpx takes half a second to import

    try:
        scenarios = conformance.select(conformance.read_rule_book(), rule or (), file or ())
        if list_only:
            conformance.print_list(scenarios)
            raise typer.Exit
        with progress_bar("scenarios") as progress:
            report = conformance.play_rule_book(scenarios, url, api_key or None, progress)
    except conformance.ConformanceError as error:
        fail(str(error))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report)))
    else:
        conformance.print_report(report)
    raise typer.Exit(0 if report.ok else EXIT_DISAGREES)


@app.command("top")
def top_command(
    symbol: Annotated[str, typer.Argument(help="The market; the one that most was traded of if left out.")] = "",
    *,
    url: Annotated[str, typer.Option(envvar="OME_URL", help="The server to watch.")] = "http://127.0.0.1:5000",
    api_key: Annotated[str, typer.Option(envvar="API_KEY", help="A key, if reading needs one there.")] = "",
    per_second: Annotated[float, typer.Option(min=0.1, max=60, help="How often to draw.")] = 8.0,
    once: Annotated[bool, typer.Option("--once", help="Draw once and leave, as where there is no terminal.")] = False,
) -> None:
    """Watch a market live in the terminal: ladder, trades, rates. Ctrl-C leaves."""
    from ome.terminal import WatchError, watch  # noqa: PLC0415  likewise

    try:
        asyncio.run(watch(url, api_key or None, symbol, per_second=per_second, is_once=once))
    except WatchError as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit from None


@app.command("backup")
def backup_command(
    file: Annotated[Path, typer.Argument(help="Where to write; never overwritten. PostgreSQL: pg_dump's custom format.")],
    *,
    database_url: _DatabaseUrl = _DEFAULT_DATABASE_URL,
    is_verified: Annotated[bool, typer.Option("--verify/--no-verify", help="Whether to verify what was written.")] = True,
    as_json: _Json = False,
) -> None:
    """Write a backup, while the engine is running, and verify it.

    Exit status: 0 written, 1 written but with differences, 2 usage, 6 the database can't be read or the file not written.
    """
    from ome.verification import backup  # noqa: PLC0415  likewise

    try:
        with progress_bar("verify") as progress:
            report = backup(database_url, file, is_verified=is_verified, progress=progress)
    except FileExistsError as error:
        fail(str(error))
    except StorageError as error:
        fail(str(error), error.exit_code)
    if as_json:
        written = {"file": str(file), "bytes": file.stat().st_size}
        verified = None if report is None else msgspec.json.decode(report.as_json())
        typer.echo(msgspec.json.format(msgspec.json.encode({**written, "verified": verified})))
    else:
        typer.echo(f"Written to {file}, {file.stat().st_size:,} bytes.")
    if report is not None:
        if not as_json:
            typer.echo("\n".join(report.lines()))
        raise typer.Exit(0 if report.ok else EXIT_DISAGREES)


@app.command("migrate")
def migrate_command(*, database_url: _DatabaseUrl = _DEFAULT_DATABASE_URL) -> None:
    """Bring a database's tables up to this version; ome serve does that too, at every start. No engine may be running on it.

    Exit status: 0 it is up to date, 3 an engine is running on it, 6 the database can't be used.
    """
    from ome.db.storage import open_storage  # noqa: PLC0415  likewise

    async def migrated() -> str:
        storage = open_storage(database_url)
        try:
            await storage.repository.migrate()
        finally:
            await storage.close()
        return storage.shown_url

    try:
        shown = asyncio.run(migrated())
    except StorageError as error:
        fail(str(error), error.exit_code)
    typer.echo(f"{shown} is up to date.")


@app.command("export")
def export_command(
    what: Annotated[ExportKind, typer.Argument(help="What to write.")],
    *,
    out: Annotated[str, typer.Option(help="The file; - is standard output.")],
    form: Annotated[
        ExportForm | None, typer.Option("--format", help="By the ending of the file's name if left out; csv where it has none.")
    ] = None,
    symbol: Annotated[str, typer.Option(help="Only of this symbol.")] = "",
    start: Annotated[str, typer.Option(help="Only from this time on, RFC 3339.")] = "",
    end: Annotated[str, typer.Option(help="Only before this time.")] = "",
    interval: Annotated[Interval, typer.Option(help="How long a candle lasts.")] = Interval.M1,
    database_url: _DatabaseUrl = _DEFAULT_DATABASE_URL,
) -> None:
    """Write trades, orders, candles or order events as CSV or Parquet; an engine may be running. Writes nothing to the database.

    Exit status: 0 written, 1 whoever read it has gone, 2 usage, 6 the database can't be read.
    """
    from ome import export as exports  # noqa: PLC0415  likewise

    ending = Path(out).suffix.lower().removeprefix(".") or ExportForm.CSV.value
    if form is None and ending not in set(ExportForm):
        raise typer.BadParameter(f"{out} is no name of a form that there is; name it .csv or .parquet, or give --format")
    wanted = exports.Wanted(symbol.upper() or None, _moment("--start", start), _moment("--end", end), interval.seconds)
    try:
        with progress_bar("export") as progress:
            rows = exports.export(
                database_url, exports.Export(what.value, out, ending if form is None else form.value, wanted), progress
            )
    except exports.ExportError as error:
        fail(str(error))
    except StorageError as error:
        fail(str(error), error.exit_code)
    except exports.Unreadable as error:
        fail(str(error), StorageError.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered has nowhere to go
        raise typer.Exit(EXIT_DISAGREES) from None
    typer.echo(f"{rows:,} rows", err=out == "-")


def _moment(option: str, text: str) -> int | None:
    try:
        return parse_time(text) if text else None
    except ValueError as error:
        fail(f"{option} {error}")
