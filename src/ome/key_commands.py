"""`ome keys`: make, list, rotate and revoke keys, whether the service is running or not.

The engine's commands are the one way to a key, so where it is running on the database the running service is asked, as the
operator; else an engine is started for the one command. The list is read from the database itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
import typer
from msgspec import structs

from ome.config import Settings, SettingsError, load_settings
from ome.domain.clock import format_time, now_us
from ome.domain.errors import EngineRunning, OmeError, StorageError
from ome.domain.keys import KeyRecord, fold_keys
from ome.exits import EXIT_REFUSED, fail

ACTOR: Final = "command line"
"""Who the audit trail says it was, where no service was asked."""
TIMEOUT_S: Final = 15.0

app = typer.Typer(no_args_is_help=True, help="Make, list, rotate and revoke API keys, whether the service is running or not.")


class ScopeName(StrEnum):
    """What a key may be good for."""

    READ = "read"
    TRADE = "trade"
    OPERATOR = "operator"


_DatabaseUrl = Annotated[str, typer.Option(envvar="DATABASE_URL", help=str(Settings.model_fields["database_url"].description))]
_Url = Annotated[str, typer.Option(envvar="OME_URL", help="The running service; HOST and PORT name it by default.")]
_ApiKey = Annotated[str, typer.Option(envvar="API_KEY", help="An operator's key, where the service is running and has one.")]
_KeyId = Annotated[str, typer.Argument(help="The id of a key: what stands between the underscores, in ome keys list too.")]
_Json = Annotated[bool, typer.Option("--json", help="Write it as JSON, as the service answers it.")]
_DEFAULT: Final = Settings.model_fields["database_url"].default


class Way:
    """How a key is changed: by the running service, or by an engine of our own."""

    def __init__(self, database_url: str, url: str, api_key: str) -> None:
        try:
            self._settings = load_settings().model_copy(update={"database_url": database_url})
        except SettingsError as error:
            fail(str(error))
        host = "127.0.0.1" if self._settings.is_any_address else self._settings.host
        self._url = url or f"http://{f'[{host}]' if ':' in host else host}:{self._settings.port}"
        self._api_key = api_key

    def go(
        self, here: Callable[[Any], Awaitable[dict[str, Any]]], method: str, path: str, body: dict[str, Any] | None
    ) -> dict[str, Any]:
        """The key as it is now: from an engine of our own that is told `here`, or from the service by this request."""
        try:
            return asyncio.run(self._here(here))
        except EngineRunning:
            return self._there(method, path, body)
        except StorageError as error:
            fail(str(error), error.exit_code)
        except OmeError as error:
            fail(str(error) or type(error).__name__, EXIT_REFUSED)

    async def _here(self, work: Callable[[Any], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        from ome.bootstrap import Service  # noqa: PLC0415  takes a second to import
        from ome.observability import configure_logging  # noqa: PLC0415  likewise

        configure_logging("ERROR", stream=sys.stderr)
        service = Service(self._settings)
        try:
            await service.open()
            await service.start()
            return await work(service.app.gate.keys)
        finally:
            await service.stop()

    def _there(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        import httpx  # noqa: PLC0415  takes an eighth of a second to import, and ome serve needs none of it

        headers = {"X-API-Key": self._api_key} if self._api_key else {}
        try:
            answer = httpx.request(method, self._url + path, json=body, headers=headers, timeout=TIMEOUT_S)
            shown: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            fail(f"an engine is running on the database, and {self._url} doesn't answer ({error}); name it with --url")
        if not answer.is_success:
            advice = "; set API_KEY to an operator's key, or stop the service" if answer.status_code in {401, 403} else ""
            fail(f"the service refused: {shown.get('detail', shown)}{advice}", EXIT_REFUSED)
        return shown


@app.command("create")
def create_command(
    *,
    user: Annotated[str, typer.Option(help="Whose the key is.")],
    scope: Annotated[list[ScopeName], typer.Option(help="What it is good for; each includes those before it. May be repeated.")],
    expires_at: Annotated[str, typer.Option(help="When it ends, RFC 3339; never if left out.")] = "",
    database_url: _DatabaseUrl = _DEFAULT,
    url: _Url = "",
    api_key: _ApiKey = "",
    as_json: _Json = False,
) -> None:
    """Make a key and show it, this once.

    Exit status: 0 made, 1 refused, 2 usage, 6 the database can't be used.
    """
    from ome.api.key_schemas import new_key_view, read_key  # noqa: PLC0415  likewise
    from ome.api.problems import Problem  # noqa: PLC0415  likewise

    body: dict[str, Any] = {"user_id": user, "scopes": [name.value for name in scope]}
    if expires_at:
        body["expires_at"] = expires_at
    try:
        user_id, access, ends = read_key(msgspec.json.encode(body))
    except Problem as problem:
        fail("; ".join(f"{error.field} {error.message}" for error in problem.errors))

    async def here(keys: Any) -> dict[str, Any]:
        made = await keys.make(ACTOR, user_id, access, ends)
        return structs.asdict(new_key_view(made.record, made.key, now_us()))

    _show(Way(database_url, url, api_key).go(here, "POST", "/keys", body), as_json=as_json)


@app.command("rotate")
def rotate_command(
    key_id: _KeyId,
    *,
    overlap_seconds: Annotated[int, typer.Option(min=0, max=30 * 86_400, help="How long the old key stays good.")] = 86_400,
    database_url: _DatabaseUrl = _DEFAULT,
    url: _Url = "",
    api_key: _ApiKey = "",
    as_json: _Json = False,
) -> None:
    """Make another key for the same and show it; the old one ends after the overlap."""
    from ome.api.key_schemas import new_key_view  # noqa: PLC0415  likewise

    async def here(keys: Any) -> dict[str, Any]:
        made = await _known(keys.rotate(ACTOR, key_id, overlap_seconds))
        return structs.asdict(new_key_view(made.record, made.key, now_us()))

    body = {"overlap_seconds": overlap_seconds}
    _show(Way(database_url, url, api_key).go(here, "POST", f"/keys/{key_id}/rotate", body), as_json=as_json)


@app.command("revoke")
def revoke_command(
    key_id: _KeyId, *, database_url: _DatabaseUrl = _DEFAULT, url: _Url = "", api_key: _ApiKey = "", as_json: _Json = False
) -> None:
    """Close a key for ever, at once: its open WebSockets too."""
    from ome.api.key_schemas import key_view  # noqa: PLC0415  likewise

    async def here(keys: Any) -> dict[str, Any]:
        return structs.asdict(key_view(await _known(keys.revoke(ACTOR, key_id)), now_us()))

    _show(Way(database_url, url, api_key).go(here, "DELETE", f"/keys/{key_id}", None), as_json=as_json)


@app.command("list")
def list_command(*, database_url: _DatabaseUrl = _DEFAULT, as_json: _Json = False) -> None:
    """List every key there was: its id, whose it is, what for, until when."""
    from ome.db.storage import open_storage  # noqa: PLC0415  likewise

    async def stored() -> list[KeyRecord]:
        storage = open_storage(database_url, pool_size=1)
        try:
            return list(fold_keys(await storage.reads.key_entries()).values())
        finally:
            await storage.close()

    try:
        keys, now = asyncio.run(stored()), now_us()
    except StorageError as error:
        fail(f"{error} Where there is no database yet, there are no keys: ome keys create makes the first.", error.exit_code)
    if as_json:
        from ome.api.key_schemas import key_view  # noqa: PLC0415  likewise

        _write_json([key_view(key, now) for key in keys])
        return
    for key in keys:
        ended = "revoked" if key.revoked_at is not None else "active" if key.is_good(now) else "expired"
        until = "" if key.expires_at is None else f"  until {format_time(key.expires_at)}"
        typer.echo(f"{key.key_id}  {ended:<7}  {key.user_id}  {','.join(key.scopes)}  since {format_time(key.created_at)}{until}")


async def _known(change: Awaitable[Any]) -> Any:
    """What it leads to; for a key that there isn't, or that has ended, the sentence that says so."""
    from ome.api.problems import Problem  # noqa: PLC0415  likewise

    try:
        return await change
    except Problem as problem:
        fail(problem.detail, EXIT_REFUSED)


def _write_json(what: Any) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(what)))


def _show(key: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        _write_json(key)
        return
    for name, value in key.items():
        if value is not None:
            typer.echo(f"{name:<11} {', '.join(value) if isinstance(value, list) else value}")
    if "key" in key:
        typer.echo("The key is shown this once and kept nowhere; send it in the header X-API-Key.", err=True)
