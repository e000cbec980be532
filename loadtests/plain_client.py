"""`make load SCENARIO=plain`: fifty threads with the `requests` library, each posting single orders as fast as it can.

    python -m loadtests.plain_client [--url http://127.0.0.1:5000] [--threads 50] [--seconds 10]

What anybody would write first: no retries, no client order ids, one `requests.Session` for each thread. Each answer has to be 201
and name its `order_id` and its `executed_trades`; no id may be told twice. Without --url a service with its default settings is
started, on a new SQLite file and a free port.
`API_KEY` in the environment is sent as X-API-Key. The exit status is 0 only if every request succeeded.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator

import requests
from msgspec import Struct, field

from loadtests.open_loop import percentile
from loadtests.servers import Cores, service


class Sent(Struct):
    """What became of one thread's requests."""

    seconds: list[float] = field(default_factory=list)
    order_ids: list[str] = field(default_factory=list)
    trade_ids: list[str] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


def post_orders(url: str, number: int, until: float) -> Sent:
    """Post orders around one price until this moment of `time.monotonic`."""
    sent, draw = Sent(), random.Random(number)
    headers = {"X-API-Key": os.environ["API_KEY"]} if "API_KEY" in os.environ else {}
    with requests.Session() as session:
        while time.monotonic() < until:
            order = {
                "user_id": f"user-{number}",
                "symbol": "PLAIN",
                "side": ("BUY", "SELL")[number % 2],
                "quantity": draw.randint(1, 100),
                "price": f"{150 + draw.randint(-50, 50) / 100:.2f}",
            }
            began = time.perf_counter()
            try:
                answer = session.post(f"{url}/orders", json=order, headers=headers, timeout=30)
                if answer.status_code != 201:
                    sent.failures[f"{answer.status_code}: {answer.text[:120]}"] += 1
                    continue
                told = answer.json()
                sent.order_ids.append(told["order_id"])
                sent.trade_ids += [trade["trade_id"] for trade in told["executed_trades"]]
            except (requests.RequestException, KeyError, ValueError) as error:
                sent.failures[repr(error)[:120]] += 1
            sent.seconds.append(time.perf_counter() - began)
    return sent


def run(url: str, threads: int, seconds: float) -> tuple[list[Sent], float]:
    """Let them all begin at once; what each sent, and how many seconds it took."""
    results: list[Sent] = []
    began = time.monotonic()
    workers = [
        threading.Thread(target=lambda number=number: results.append(post_orders(url, number, began + seconds)))
        for number in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results, time.monotonic() - began


def summary(results: list[Sent], seconds: float) -> tuple[str, bool]:
    """What came of it, and whether all went well."""
    order_ids = [order_id for each in results for order_id in each.order_ids]
    trade_ids = [trade_id for each in results for trade_id in each.trade_ids]
    failures = sum((each.failures for each in results), Counter[str]())
    took = [second for each in results for second in each.seconds]
    repeated = len(order_ids) - len(set(order_ids)) + len(trade_ids) - len(set(trade_ids))
    lines = [
        f"{len(order_ids):,} orders taken and {len(trade_ids):,} trades told by {len(results)} threads in {seconds:.1f} s",
        f"{len(order_ids) / seconds:,.0f} orders/s",
        f"answers p50 {1000 * percentile(took, 50):.0f} ms, p99 {1000 * percentile(took, 99):.0f} ms",
        f"{failures.total()} failures, {repeated} ids told twice",
        *(f"  {count} times {failure}" for failure, count in failures.most_common(5)),
    ]
    return "\n".join(lines), bool(order_ids) and not failures and not repeated


@contextlib.contextmanager
def served(url: str | None) -> Iterator[str]:
    """The service that is named, or one that is started for this."""
    if url is not None:
        yield url
        return
    with (
        tempfile.TemporaryDirectory(prefix="ome-plain-") as folder,
        service(Cores.anywhere(), f"sqlite:///{folder}/ome.db") as own,
    ):
        yield own.url


def main() -> int:
    """Post, print; 1 if a request failed."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.plain_client", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("--url", help="a service that is running; default: one of its own")
    parser.add_argument("--threads", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with served(options.url) as url:
        text, went_well = summary(*run(url, options.threads, options.seconds))
    print(text)
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main())
