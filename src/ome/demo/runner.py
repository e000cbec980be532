"""Carries out what simulated traders decide, and leaves nothing behind: each stop, and each start, cancels what they have open.

A dead-man timer of the service's (`cancel_all_after`) is kept armed for each of them, so that nothing stays where the demo is
killed or loses its service either. Symbols that aren't listed yet are listed; those that are keep their terms.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from random import Random
from typing import Any, Final

import httpx

from ome.client import Client, ClientError, Refused
from ome.client.models import CancelOperation, Operation, OrderEvent, SubmitOperation
from ome.demo.traders import LISTINGS, USERS, Cancel, Listing, Submit, Trading

TIMER_SECONDS: Final = 30
"""The dead-man timer of each demo trader."""
BEAT_SECONDS: Final = 0.35
"""Between two turns in a symbol on average; they come at random."""
LONGEST_BEAT_SECONDS: Final = 2.0
"""A turn after a longer pause, the service having been away, moves the market by no more than this."""
CLEANING_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 1.0

OPEN: Final = frozenset({"PENDING", "PARTIALLY_FILLED", "PENDING_TRIGGER"})

Say = Callable[[str], None]


class DemoError(Exception):
    """The demo can't run; the message says why and what would be right."""


async def run_demo(
    url: str,
    *,
    api_key: str | None = None,
    seed: int = 1,
    speed: float = 1.0,
    listings: Sequence[Listing] = LISTINGS,
    say: Say = lambda _: None,
) -> None:
    """Trade until cancelled. Raises DemoError where the service can't be reached or refuses the demo."""
    headers = {"X-API-Key": api_key} if api_key else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=10) as operator, Client(url, api_key) as client:
        terms = [await listed(operator, listing) for listing in listings]
        await clean_up(client)
        say(f"Simulated traders in {', '.join(each.symbol for each in terms)}, seed {seed}, at {url}. Ctrl+C stops them.")
        try:
            async with asyncio.TaskGroup() as tasks:
                markets = [Trading(each, seed) for each in terms]
                tasks.create_task(_keep_timers(operator))
                for user in USERS:
                    tasks.create_task(_listen(client, user, markets))
                for market in markets:
                    draw = Random(f"{seed} {market.listing.symbol} beats")  # noqa: S311  a seed is wanted
                    tasks.create_task(_trade(client, market, speed, draw))
        except* ClientError as errors:
            raise DemoError(str(errors.exceptions[0])) from errors
        finally:
            await _leave(operator, client)


async def listed(operator: httpx.AsyncClient, listing: Listing) -> Listing:
    """The listing with the terms that the service has for its symbol; it is listed now if it wasn't."""
    path = f"/instruments/{listing.symbol}"
    try:
        answer = await operator.get(path)
        if answer.status_code == httpx.codes.NOT_FOUND:
            answer = await operator.put(path, json={"tick_size": str(listing.tick), "lot_size": str(listing.lot)})
    except httpx.TransportError as error:
        raise DemoError(f"nothing answers at {operator.base_url}: start the service first (ome serve)") from error
    if not answer.is_success:
        detail = answer.json().get("detail", answer.reason_phrase)
        raise DemoError(f"{listing.symbol} can't be listed: {detail} The demo needs an operator's key where there are keys.")
    found: dict[str, Any] = answer.json()
    price = Decimal(found["last_price"] or listing.price)
    return listing._replace(tick=Decimal(found["tick_size"]), lot=Decimal(found["lot_size"]), price=price)


async def _trade(client: Client, market: Trading, speed: float, draw: Random) -> None:
    """Turn after turn, for ever."""
    last = time.monotonic()
    while True:
        now = time.monotonic()
        actions = market.beat(min(now - last, LONGEST_BEAT_SECONDS) * speed)
        last = now
        if actions:
            await _send(client, market, actions)
        await asyncio.sleep(min(draw.expovariate(1 / BEAT_SECONDS), LONGEST_BEAT_SECONDS) / speed)


async def _send(client: Client, market: Trading, actions: Sequence[Submit | Cancel]) -> None:
    """Carry out a turn in one batch; what is refused is left alone."""
    operations: list[Operation] = [
        CancelOperation(op="cancel", order_id=each.order_id)
        if isinstance(each, Cancel)
        else SubmitOperation(op="submit", **each.order)
        for each in actions
    ]
    try:
        answer = await client.batch(operations)
    except Refused:
        raise
    except ClientError:
        await asyncio.sleep(PAUSE_SECONDS)  # the service is away or busy: it will be back
        return
    for action, result in zip(actions, answer.results, strict=True):
        order = result.order
        if isinstance(action, Cancel):
            market.ended(action.order_id)
        elif order is not None and order.order_id is not None and order.status in OPEN:
            market.accepted(action, order.order_id)


async def _listen(client: Client, user: str, markets: Sequence[Trading]) -> None:
    """Hear what became of a trader's orders."""
    by_symbol = {market.listing.symbol: market for market in markets}
    async for event in client.order_events(user):
        _take_note(event, by_symbol)


def _take_note(event: OrderEvent, markets: dict[str, Trading]) -> None:
    order, trade = event.order, event.trade
    if order is not None and order.order_id is not None and order.status not in OPEN:
        if order.symbol in markets:
            markets[order.symbol].ended(order.order_id)
    elif trade is not None and event.order_id is not None and event.remaining_quantity == 0 and trade.symbol in markets:
        markets[trade.symbol].ended(event.order_id)


async def _keep_timers(operator: httpx.AsyncClient) -> None:
    """Keep the dead-man timers armed."""
    while True:
        with contextlib.suppress(httpx.TransportError):
            await _set_timers(operator, TIMER_SECONDS)
        await asyncio.sleep(TIMER_SECONDS / 3)


async def _set_timers(operator: httpx.AsyncClient, seconds: int) -> None:
    for user in USERS:
        await operator.post(f"/users/{user}/cancel_all_after", json={"seconds": seconds})


async def clean_up(client: Client, users: Sequence[str] = USERS) -> None:
    """Cancel everything that demo traders have open. Raises DemoError."""
    try:
        for user in users:
            await client.cancel_all(user_id=user)
    except ClientError as error:
        raise DemoError(f"{error} The demo needs an operator's key where there are keys.") from error


async def _leave(operator: httpx.AsyncClient, client: Client) -> None:
    """Leave nothing behind; where the service doesn't answer any more, its timers see to it."""
    with contextlib.suppress(TimeoutError, DemoError, httpx.TransportError):
        async with asyncio.timeout(CLEANING_SECONDS):
            await clean_up(client)
            await _set_timers(operator, 0)
