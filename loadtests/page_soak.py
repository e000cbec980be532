"""`make page-soak`: the trading page in a real browser under a replay of a thousand updates a second.

    python -m loadtests.page_soak [--seconds 600] [--rate 1000] [--seed 1]

Order flow is generated and replayed at a steady pace (`ome demo --flow`) against a service of its own, and a page follows its
symbol. Asked, after the first tenth, in which the page settles:

- memory is steady: the median JavaScript heap after a collection grows by at most a tenth from the first third to the last;
- no task of the page's thread takes longer than 100 ms;
- what is shown is never older than a second: asked at a moment, the service's sequence is on the screen within one;
- the page has noticed no gap, and its console stays silent.

The exit status is 1 where something isn't as asked. Needs chromium and Playwright. Other work on the machine counts against it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, Final

from msgspec import Struct

from loadtests.servers import Cores, service

SYMBOL: Final = "SOAK"
MOST_TASK_MS: Final = 100.0
MOST_AGE_MS: Final = 1000.0
MOST_GROWTH: Final = 1.1
SAMPLE_SECONDS: Final = 1.0
HEAP_SECONDS: Final = 10.0
SETTLING: Final = 0.1
"""The share of the time that isn't counted: code is compiled, caches and rings fill."""
MARGIN_SECONDS: Final = 60
"""Flow that is generated beyond the time."""
FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-quic")
WATCH: Final = """
window.__tasks = [];
new PerformanceObserver((list) => {
  for (const each of list.getEntries()) window.__tasks.push(each.duration);
}).observe({ type: "longtask", buffered: true });
"""
AGE: Final = """
async (symbol) => {
  const started = performance.now();
  const { sequence } = await (await fetch(`/market/${symbol}/depth?levels=1`)).json();
  while (Number(document.getElementById("ladder").dataset.sequence || -1) < sequence) {
    if (performance.now() - started > 10000) break;
    await new Promise((done) => requestAnimationFrame(done));
  }
  return performance.now() - started;
}
"""


class Sample(Struct, frozen=True):
    """What was seen at a moment: how far behind the screen was, at most; the heap, where it was measured."""

    second: float
    age_ms: float
    heap_mib: float | None
    sequence: int


class Seen(Struct, frozen=True):
    """All of a run."""

    samples: list[Sample]
    tasks_ms: list[float]
    gaps: str
    said: list[str]


def main() -> int:
    """Run it and print what came out."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.page_soak", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--rate", type=int, default=1000, help="rows of flow a second")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.stderr.write("page-soak needs chromium: apt-get install --no-install-recommends chromium\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="ome-page-") as folder:
        flow = Path(folder) / f"{SYMBOL}.csv.gz"
        rows = (options.seconds + MARGIN_SECONDS) * options.rate
        generate = [sys.executable, "-m", "ome", "generate", str(flow), "--rows", str(rows), "--seed", str(options.seed)]
        subprocess.run(generate, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        database_url = f"sqlite+aiosqlite:///{folder}/ome.db"
        with service(Cores.of_this_machine(), database_url) as server:
            url = server.url
            replay = [sys.executable, "-m", "ome", "demo", "--url", url, "--flow", str(flow), "--rate", str(options.rate)]
            with subprocess.Popen(replay, stdout=subprocess.DEVNULL) as traders:
                try:
                    seen = watch(browser, url, options.seconds)
                finally:
                    traders.terminate()
    return report(seen, options.seconds)


def watch(browser: str, url: str, seconds: int) -> Seen:
    """Look at the page for so long."""
    sync_playwright = import_module("playwright.sync_api").sync_playwright  # a tool of tests: known to be there only here
    said: list[str] = []
    samples: list[Sample] = []
    with sync_playwright() as started:
        window = started.chromium.launch(executable_path=browser, args=FLAGS)
        page = window.new_page(viewport={"width": 1440, "height": 900})
        page.on("console", lambda message: said.append(message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.add_init_script(WATCH)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:  # the replay lists its symbol
            page.goto(f"{url}/#symbol={SYMBOL}")
            page.wait_for_selector("html[data-ready]", state="attached")
            if page.text_content("#symbol") == SYMBOL:
                break
            page.goto("about:blank")
        page.wait_for_selector("#bids .level")
        devtools = page.context.new_cdp_session(page)
        begun, heap_at = time.monotonic(), 0.0
        while (second := time.monotonic() - begun) < seconds:
            age = page.evaluate(AGE, SYMBOL)
            heap = heap_of(devtools) if second >= heap_at else None
            heap_at = second + HEAP_SECONDS if heap is not None else heap_at
            samples.append(Sample(second, age, heap, int(page.get_attribute("#ladder", "data-sequence") or -1)))
            page.wait_for_timeout(SAMPLE_SECONDS * 1000)
            if second < SETTLING * seconds:
                page.evaluate("window.__tasks.length = 0")
        tasks, gaps = page.evaluate("window.__tasks"), page.text_content("#recoveries")
        window.close()
    return Seen(samples, tasks, gaps, said)


def heap_of(devtools: Any) -> float:
    """The page's heap in MiB, after a collection."""
    devtools.send("HeapProfiler.collectGarbage")
    return float(devtools.send("Runtime.getHeapUsage")["usedSize"]) / 2**20


def report(seen: Seen, seconds: int) -> int:
    """Print the figures; 1 where one isn't as asked."""
    counted = [sample for sample in seen.samples if sample.second >= SETTLING * seconds]
    heaps = [sample.heap_mib for sample in counted if sample.heap_mib is not None]
    third = max(1, len(heaps) // 3)
    first, last = median(heaps[:third]), median(heaps[-third:])
    ages = sorted(sample.age_ms for sample in counted)
    span = counted[-1].second - counted[0].second
    rate = (counted[-1].sequence - counted[0].sequence) / span if span else 0.0
    longest = max(seen.tasks_ms, default=0.0)
    print(f"market events a second, as shown     {rate:,.0f}")
    print(f"shown after, median and longest      {median(ages):.0f} and {ages[-1]:.0f} ms (at most {MOST_AGE_MS:.0f})")
    print(f"tasks over 50 ms, and the longest    {len(seen.tasks_ms)}, {longest:.0f} ms (at most {MOST_TASK_MS:.0f})")
    print(f"heap, first and last third           {first:.1f} and {last:.1f} MiB (at most {MOST_GROWTH:.1f} times)")
    print(f"gaps; lines on the console           {seen.gaps}; {len(seen.said)}")
    for line in seen.said[:5]:
        print(f"  {line[:200]}")
    is_good = ages[-1] <= MOST_AGE_MS and longest <= MOST_TASK_MS and last <= first * MOST_GROWTH
    is_good = is_good and not seen.said and seen.gaps == "0 gaps"
    print("as asked" if is_good else "NOT as asked")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
