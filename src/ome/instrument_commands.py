"""`ome instruments`: what is listed on a running service, and, for its operator, listing and changing it."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec
import typer

from ome.exits import EXIT_REFUSED, fail

TIMEOUT_S: Final = 15.0
PAGE: Final = 1000

app = typer.Typer(no_args_is_help=True, help="List a running service's instruments, and set what they trade in, and how.")

_Url = Annotated[str, typer.Option(envvar="OME_URL", help="The running service.")]
_ApiKey = Annotated[str, typer.Option(envvar="API_KEY", help="An operator's key, if the service has keys.")]
_Json = Annotated[bool, typer.Option("--json", help="As the service answers it.")]
_DEFAULT_URL: Final = "http://127.0.0.1:5000"
_COLUMNS: Final = {
    "symbol": "symbol",
    "state": "state",
    "tick_size": "tick",
    "lot_size": "lot",
    "last_price": "last",
    "max_order_quantity": "largest order",
    "price_band_percent": "band %",
    "session_close": "DAY ends",
    "base_asset": "base",
    "quote_asset": "quote",
}
_FIGURES: Final = frozenset({"tick_size", "lot_size", "last_price", "max_order_quantity", "price_band_percent"})


@app.command("list")
def list_command(*, url: _Url = _DEFAULT_URL, api_key: _ApiKey = "", as_json: _Json = False) -> None:
    """List them all, by name.

    Exit status: 0 listed, 1 refused, 2 nobody answers there.
    """
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = _asked("GET", url, "/instruments", api_key, params={"limit": PAGE} | ({"cursor": cursor} if cursor else {}))
        found += page["instruments"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    _show(found, as_json=as_json)


@app.command("set")
def set_command(  # noqa: PLR0913  what an instrument has
    symbol: Annotated[str, typer.Argument(help="The symbol; listed if it isn't.")],
    *,
    tick_size: Annotated[str | None, typer.Option(help="Prices are whole multiples of it; 0.01 at first.")] = None,
    lot_size: Annotated[str | None, typer.Option(help="Quantities are whole multiples of it; 1 at first.")] = None,
    max_order_quantity: Annotated[str | None, typer.Option(help="Largest quantity of an order; 0: no limit.")] = None,
    price_band_percent: Annotated[str | None, typer.Option(help="How far from the last price orders may be; 0: no band.")] = None,
    band_halt_seconds: Annotated[int | None, typer.Option(help="How long the band's edge halts it; 0: not at all.")] = None,
    session_close: Annotated[str | None, typer.Option(help="When DAY orders end, UTC: HH:MM or HH:MM:SS.")] = None,
    state: Annotated[str | None, typer.Option(help="OPEN, POST_ONLY, CANCEL_ONLY, HALTED or AUCTION.")] = None,
    base_asset: Annotated[str | None, typer.Option(help="What a quantity is of; with both, orders need funds.")] = None,
    quote_asset: Annotated[str | None, typer.Option(help="What a price is in.")] = None,
    maker_fee_bps: Annotated[int | None, typer.Option(help="What the maker pays, in hundredths of a percent.")] = None,
    taker_fee_bps: Annotated[int | None, typer.Option(help="What the taker pays.")] = None,
    url: _Url = _DEFAULT_URL,
    api_key: _ApiKey = "",
    as_json: _Json = False,
) -> None:
    """List a symbol, or change what it trades in and how; what isn't given stays.

    Exit status: 0 done, 1 refused, 2 nobody answers there.
    """
    given = {
        "tick_size": tick_size,
        "lot_size": lot_size,
        "max_order_quantity": max_order_quantity,
        "price_band_percent": price_band_percent,
        "band_halt_seconds": band_halt_seconds,
        "session_close": session_close,
        "state": state,
        "base_asset": base_asset,
        "quote_asset": quote_asset,
        "maker_fee_bps": maker_fee_bps,
        "taker_fee_bps": taker_fee_bps,
    }
    body = {name: value for name, value in given.items() if value is not None}
    answer = _asked("PUT", url, f"/instruments/{quote(symbol, safe='')}", api_key, json=body)
    _show([answer], as_json=as_json)


def _asked(method: str, url: str, path: str, api_key: str, **more: Any) -> dict[str, Any]:
    """What the service answers; leaves where it refuses, or isn't there."""
    import httpx  # noqa: PLC0415  takes an eighth of a second to import, and ome serve needs none of it

    headers = {"X-API-Key": api_key} if api_key else {}
    try:
        answer = httpx.request(method, url.rstrip("/") + path, headers=headers, timeout=TIMEOUT_S, **more)
        shown: dict[str, Any] = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        fail(f"{url} doesn't answer as OME does ({error or type(error).__name__}); name the service with --url")
    if not answer.is_success:
        fields = "".join(f"; {each['field']} {each['message']}" for each in shown.get("errors", ()))
        advice = "; set API_KEY to an operator's key" if answer.status_code in {401, 403} else ""
        fail(f"{shown.get('code', answer.status_code)}: {shown.get('detail', '')}{fields}{advice}", EXIT_REFUSED)
    return shown


def _show(instruments: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(instruments)).decode() + "\n")
        return
    from rich.console import Console  # noqa: PLC0415  slow to import, and --json needs none
    from rich.table import Table  # noqa: PLC0415  likewise

    table = Table(box=None, pad_edge=False)
    for name, heading in _COLUMNS.items():
        table.add_column(heading, justify="right" if name in _FIGURES else "left", no_wrap=True)
    for instrument in instruments:
        table.add_row(*("-" if instrument[name] is None else str(instrument[name]) for name in _COLUMNS))
    Console().print(table)
