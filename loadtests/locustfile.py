"""Four load scenarios for Locust. Each ends by itself and prints what came of it; the exit status is 0 only if all went well.

    locust -f loadtests/locustfile.py --headless --host http://127.0.0.1:5000 --scenario burst
    locust -f loadtests/locustfile.py --headless --host http://127.0.0.1:5000 --scenario steady
    locust -f loadtests/locustfile.py --headless --host http://127.0.0.1:5000 --scenario balanced
    locust -f loadtests/locustfile.py --headless --host http://127.0.0.1:5000 --scenario trades

burst     1,000 orders by 50 workers, 20 each, as fast as the answers come
steady    60 seconds at 50 orders per second: 3,000 orders, each at its own appointed time, however slow the answers are
balanced  2,000 orders, 1,000 buys and 1,000 sells of one size at one price: all of them fill, and the book is empty afterwards
trades    200,000 trades: as balanced, 400,000 orders in batches of 500 by 10 workers

`make load SCENARIO=burst` (`load.py`) starts a service for it and gives a verdict on what is in its database afterwards.

Every run trades a symbol of its own, or those that SYMBOLS names, with commas, a pair of orders in each in turn. URLS, with
commas, names several gateways, which the workers divide among themselves. `API_KEY` in the environment is sent as X-API-Key.
Users, spawn rate and run time come from the scenario; Locust's -u, -r and -t are not needed. Locust makes the standard library's
sleep, events and sockets cooperative, process-wide: run this file, don't import it.
"""

from __future__ import annotations

import os
import random
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final

from locust import FastHttpUser, LoadTestShape, events, task
from locust.exception import StopUser

WORKERS: Final = 50
QUANTITY: Final = 10
PRICE: Final = "150.00"
FOLLOWS_S: Final = 2.0
"""How long a gateway may take to tell what another one has answered."""


@dataclass(frozen=True)
class Scenario:
    """`orders` in all, an equal share for each worker, `batch` in a request; `per_second` 0: as fast as the answers come."""

    name: str
    orders: int
    per_second: int = 0
    is_balanced: bool = False
    workers: int = WORKERS
    batch: int = 1

    @property
    def path(self) -> str:
        """Where they are posted to."""
        return "/orders" if self.batch == 1 else "/orders/batch"


SCENARIOS: Final = {
    each.name: each
    for each in (
        Scenario("burst", 1_000),
        Scenario("steady", 60 * 50, per_second=50),
        Scenario("balanced", 2_000, is_balanced=True),
        Scenario("trades", 400_000, is_balanced=True, workers=10, batch=500),
    )
}


@dataclass
class Run:
    """One run of a scenario: what the workers share."""

    scenario: Scenario
    symbols: list[str]
    go: threading.Event = field(default_factory=threading.Event)
    started_at: float = 0.0
    ended_at: float = 0.0
    workers: int = 0
    workers_done: int = 0
    sent: int = 0
    accepted: int = 0
    worst_delay_seconds: float = 0.0

    def order(self, number: int) -> dict[str, str]:
        """The body of the run's order with this number, from 0. Buyers and sellers are different users."""
        is_buy = number % 2 == 0
        balanced = self.scenario.is_balanced
        draw = random.Random(number)
        return {
            "user_id": f"{'buyer' if is_buy else 'seller'}-{number // 2 % 10}",
            "symbol": self.symbols[number // 2 % len(self.symbols)],
            "side": "BUY" if is_buy else "SELL",
            "type": "LIMIT",
            "quantity": str(QUANTITY if balanced else draw.randint(1, 100)),
            "price": PRICE if balanced else f"{150 + draw.randint(-50, 50) / 100:.2f}",
        }

    def wait_for_turn(self, number: int) -> None:
        """Sleep until the order's appointed time, where the scenario has a rate; note how late it is where that has passed."""
        if not self.scenario.per_second:
            return
        wait = self.started_at + number / self.scenario.per_second - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        self.worst_delay_seconds = max(self.worst_delay_seconds, -wait)


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: Any) -> None:
    """The scenario, on the command line or as SCENARIO in the environment."""
    parser.add_argument("--scenario", choices=list(SCENARIOS), default="burst", env_var="SCENARIO", help="which load to make")


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def begin(environment: Any, **_: object) -> None:
    """A new run, on a symbol that nobody has used, or on those that are named."""
    scenario = SCENARIOS[environment.parsed_options.scenario]
    symbols = os.environ.get("SYMBOLS") or f"{scenario.name.upper()}-{secrets.token_hex(4).upper()}"
    environment.run = Run(scenario, symbols.split(","))


class Worker(FastHttpUser):
    """One of the workers: sends its share of the run's orders, one after the other, then stops."""

    host = "http://127.0.0.1:5000"

    @task
    def work(self) -> None:
        """Wait until all workers are there, then send orders `place`, `place + WORKERS`, ..."""
        run: Run = self.environment.run
        place = run.workers
        run.workers += 1
        if run.workers == run.scenario.workers:
            run.started_at = time.monotonic()
            run.go.set()
        run.go.wait()
        headers = {"X-API-Key": os.environ["API_KEY"]} if "API_KEY" in os.environ else {}
        urls = os.environ.get("URLS", "").split(",")  # without any, paths alone: locust's --host comes before them
        path, batch = run.scenario.path, run.scenario.batch
        url = f"{urls[place % len(urls)]}{path}"
        for number in range(place * batch, run.scenario.orders, run.scenario.workers * batch):
            run.wait_for_turn(number)
            run.sent += batch
            orders = [run.order(each) for each in range(number, number + batch)]
            body = orders[0] if batch == 1 else {"orders": orders}
            with self.client.post(url, name=path, json=body, headers=headers, catch_response=True) as answer:
                taken = accepted(answer, batch)
                run.accepted += taken
                if taken < batch:
                    answer.failure(f"{answer.status_code}: {(answer.text or '')[:200]}")
        run.workers_done += 1
        if run.workers_done == run.scenario.workers:
            run.ended_at = time.monotonic()
            report(self, run)
        raise StopUser


def accepted(answer: Any, batch: int) -> int:
    """How many orders of a request were taken."""
    if batch == 1:
        return int(answer.status_code == 201)
    return sum(result["status"] == 201 for result in answer.json()["results"]) if answer.status_code == 200 else 0


class Conductor(LoadTestShape):
    """All workers at once; the test ends when the last has sent its share and the summary is printed."""

    def tick(self) -> tuple[int, float] | None:
        """What Locust asks every second: (users, users spawned per second), or None to end."""
        run: Run | None = getattr(self.runner.environment, "run", None) if self.runner else None
        if run is None:
            return 0, 1.0
        return None if run.ended_at else (run.scenario.workers, float(run.scenario.workers))


def is_empty_again(worker: Worker, symbol: str) -> bool:
    """Whether a book has no order, now or in a moment: one gateway may tell what another one has answered a little later."""
    ends_at = time.monotonic() + FOLLOWS_S
    while True:
        depth = worker.client.get(f"/market/{symbol}/depth", name="/market/{symbol}/depth").json()
        is_empty = bool(depth["bids"] == depth["asks"] == [])
        if is_empty or time.monotonic() > ends_at:
            return is_empty
        time.sleep(0.05)


def report(worker: Worker, run: Run) -> None:
    """Print the summary and set the exit status: 0 if every order was taken and, when balanced, the book is empty again."""
    worker.environment.process_exit_code = 1
    seconds = run.ended_at - run.started_at
    stats = worker.environment.stats.get(run.scenario.path, "POST")
    p50, p95, p99 = (stats.get_response_time_percentile(share) for share in (0.5, 0.95, 0.99))
    taken = f"{run.accepted:,} of {run.sent:,} orders taken"
    print(f"\n{run.scenario.name} on {', '.join(run.symbols)}: {taken}, {run.workers} workers")
    print(f"  {seconds:.2f} s, {run.accepted / seconds:,.1f} orders/s; answers p50 {p50} ms, p95 {p95} ms, p99 {p99} ms")
    went_well = run.accepted == run.sent == run.scenario.orders
    if run.scenario.per_second:
        print(f"  at most {run.worst_delay_seconds * 1000:.0f} ms behind the appointed time")
    if run.scenario.is_balanced:
        is_empty = all(is_empty_again(worker, symbol) for symbol in run.symbols)
        book = "each book" if len(run.symbols) > 1 else "the book"
        print(f"  {book} is {'empty again: every buy met its sell' if is_empty else 'NOT empty: some orders did not fill'}")
        went_well = went_well and is_empty
    worker.environment.process_exit_code = 0 if went_well else 1
