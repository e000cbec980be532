"""The trading page in a real browser, against a real server, as a trader uses it.

Each page that is opened is watched: its console stays silent (what the browser itself says of a connection that was cut or of a
refused call excepted), nothing of it breaks the content security policy, and no request goes to another host.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from servers import Server, running_server, sqlite_url, until

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright (make test installs it)")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic")
AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
OF_THE_BROWSER = ("Failed to load resource", "WebSocket connection to")
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium (apt-get install --no-install-recommends chromium)")


class Trader:
    """A window with the page, as one of its users."""

    def __init__(self, page: Any, server: Server, user: str, symbol: str) -> None:
        self.page = page
        page.set_default_timeout(15_000)
        self.user = user
        self.symbol = symbol
        self.said: list[str] = []
        self.elsewhere: list[str] = []
        own = (server.url, server.url.replace("http", "ws"), "data:")
        page.on("console", lambda message: self.said.append(message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(own) else self.elsewhere.append(request.url))
        page.on("websocket", lambda socket: None if socket.url.startswith(own) else self.elsewhere.append(socket.url))
        page.goto(f"{server.url}/#symbol={symbol}&user={user}")
        page.wait_for_selector("html[data-ready]", state="attached")

    def check(self) -> None:
        """Nothing was said and nobody else was asked."""
        assert [text for text in self.said if not text.startswith(OF_THE_BROWSER)] == []
        assert self.elsewhere == []

    def fill_in(self, **fields: str) -> None:
        """Write into the ticket; what doesn't apply isn't there to be written into."""
        for name, value in fields.items():
            field = self.page.locator(f"#ticket [name={name}]")
            if name == "side":
                self.page.check(f"#ticket [name=side][value={value}]")
            elif name in {"type", "time_in_force", "trail_kind", "self_trade_prevention"}:
                field.select_option(value)
            elif name == "post_only":
                field.check()
            else:
                field.fill(value)

    def send(self, **fields: str) -> str:
        """Fill in the ticket, send it, and what the page says of it."""
        self.fill_in(**fields)
        message = self.page.locator("#ticket-message")
        message.evaluate("element => element.textContent = ''")
        self.page.click("#send")
        playwright.expect(message).not_to_be_empty()
        return str(message.text_content())

    def rows(self, name: str) -> list[list[str]]:
        """The texts of a table's cells."""
        script = "element => [...element.rows].map(row => [...row.cells].map(cell => cell.textContent))"
        found: list[list[str]] = self.page.locator(f"#{name}").evaluate(script)
        return found

    def ladder(self, side: str) -> list[list[str]]:
        """Mine, price, quantity and total of a side's levels, from the top to the bottom."""
        script = "element => [...element.children].map(row => [...row.children].map(cell => cell.textContent))"
        found: list[list[str]] = self.page.locator(f"#{side}").evaluate(script)
        return found

    def sees(self, look: Callable[[], Any], wanted: Any) -> None:
        """Wait until the page shows something."""
        shown: list[Any] = []

        def holds() -> bool:
            shown[:] = [look()]
            self.page.wait_for_timeout(20)  # the page's events are heard meanwhile
            return bool(shown[0] == wanted)

        try:
            until(holds)
        except AssertionError:
            assert shown[0] == wanted


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all of these tests."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One service for most of them; each test has a symbol and users of its own."""
    with running_server(sqlite_url(tmp_path_factory.mktemp("page"))) as server:
        yield server


Opening = Callable[..., Trader]


@pytest.fixture
def opening(browser: Any) -> Iterator[Opening]:
    """Opens windows, and looks at the end at what they said."""
    with open_windows(browser) as opening:
        yield opening


@contextmanager
def open_windows(browser: Any) -> Iterator[Opening]:
    """See `opening`."""
    contexts, traders = [], []

    def open_window(server: Server, user: str, symbol: str, **options: Any) -> Trader:
        contexts.append(browser.new_context(**{"viewport": DESKTOP, **options}))
        traders.append(Trader(contexts[-1].new_page(), server, user, symbol))
        return traders[-1]

    try:
        yield open_window
        for trader in traders:
            trader.check()
    finally:
        for context in contexts:
            context.close()


def put(server: Server, **order: str) -> dict[str, Any]:
    """Send an order that must be taken, past the page."""
    answer = httpx.post(f"{server.url}/orders", json=order)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_a_first_visitor_starts_a_market_that_moves(browser: Any, server: Server) -> None:
    """One click on an empty page gives a living book; stopping it in the operator's view leaves no order behind."""
    with open_windows(browser) as opening:
        window = opening(server, "visitor", "")
        window.page.click("#demo-first")
        window.page.wait_for_selector("#bids .level", timeout=30_000)
        window.page.wait_for_selector("#tape tr", timeout=30_000)
        window.page.click("nav.views [data-view=operator]")
        window.page.click("#demo-toggle:text('Stop')")
        playwright.expect(window.page.locator("#demo-state")).to_have_text("not running", timeout=15_000)
    markets = httpx.get(f"{server.url}/market").json()["markets"]
    assert len(markets) > 3
    assert [(each["best_bid"], each["best_ask"]) for each in markets] == [(None, None)] * len(markets)


def test_every_type_is_sent_shown_and_cancelled(server: Server, opening: Opening) -> None:
    """Each type with the fields that it has; the ladder shows what rests and marks it as one's own; cancel all empties it."""
    put(server, user_id="maker", symbol="TYPES", side="SELL", quantity="5", price="101.00")
    put(server, user_id="maker", symbol="TYPES", side="BUY", quantity="50", price="99.00")
    window = opening(server, "alice", "TYPES")
    assert "5 of 5 filled at 101." in window.send(side="BUY", type="MARKET", quantity="5")
    assert "is pending:" in window.send(type="LIMIT", quantity="7", price="98.50", time_in_force="GTC")
    assert "is pending:" in window.send(quantity="3", price="98.00", time_in_force="GTD", expires_at="2099-12-31T23:59:59")
    assert "is pending:" in window.send(quantity="4", price="97.50", time_in_force="DAY")
    assert "is cancelled" in window.send(quantity="4", price="97.00", time_in_force="IOC")
    assert "is cancelled" in window.send(quantity="4", price="97.00", time_in_force="FOK")
    assert "is pending trigger" in window.send(type="STOP", quantity="2", stop_price="110")
    stop_limit = {"type": "STOP_LIMIT", "quantity": "2", "stop_price": "111", "price": "112"}
    assert "is pending trigger" in window.send(**stop_limit, time_in_force="GTC")
    trailing = {"type": "TRAILING_STOP", "quantity": "2", "trail_kind": "trail_percent", "trail": "5"}
    assert "is pending trigger" in window.send(side="SELL", **trailing)
    window.sees(lambda: len(window.rows("orders")), 6)
    types = {row[3] for row in window.rows("orders")}
    assert types == {"limit GTC", "limit GTD", "limit DAY", "stop IOC", "stop limit GTC", "trailing stop IOC"}
    bids = [["", "99.00", "50", "50"], ["7", "98.50", "7", "57"], ["3", "98.00", "3", "60"], ["4", "97.50", "4", "64"]]
    window.sees(lambda: window.ladder("bids"), bids)
    window.page.click("#cancel-all")
    window.page.click("#sure-yes")
    window.sees(lambda: window.rows("orders"), [])
    window.sees(lambda: window.ladder("bids"), bids[:1])


def test_an_order_is_filled_modified_explained_and_cancelled(server: Server, opening: Opening) -> None:
    """In its row: what is filled, a new price and quantity in place, why it isn't filled, and its end."""
    put(server, user_id="maker", symbol="LIFE", side="BUY", quantity="8", price="50.00")
    window = opening(server, "bob", "LIFE")
    window.send(side="BUY", quantity="10", price="50.00")
    put(server, user_id="taker", symbol="LIFE", side="SELL", quantity="12", price="50.00")
    window.sees(lambda: [row[5:8] for row in window.rows("orders")], [["10", "4", "partially filled"]])
    window.sees(lambda: [row[:2] for row in window.rows("tape")], [["50.00", "4"], ["50.00", "8"]])
    window.sees(lambda: [row[:3] for row in window.rows("positions")], [["LIFE", "4", "50"]])

    put(server, user_id="maker", symbol="LIFE", side="BUY", quantity="3", price="49.00")
    window.page.click("[data-act=edit]")
    window.page.fill("#orders [name=price]", "49.00")
    window.page.fill("#orders [name=quantity]", "20")
    window.page.press("#orders [name=quantity]", "Enter")
    window.sees(lambda: [row[4:7] for row in window.rows("orders")], [["49.00", "20", "4"]])
    window.sees(lambda: window.ladder("bids"), [["16", "49.00", "19", "19"]])

    window.page.click("[data-act=why]")
    answer = window.page.locator("#why-text")
    playwright.expect(answer).to_contain_text("1 order with 3 in all are ahead of it")
    window.page.keyboard.press("Escape")
    window.page.click("[data-act=cancel]")
    window.sees(lambda: window.rows("orders"), [])
    window.page.click("#tab-history")
    window.sees(lambda: [row[7] for row in window.rows("orders")], ["cancelled: cancelled by user"])


def test_the_ticket_says_what_would_happen_and_why_not(server: Server, opening: Opening) -> None:
    """A dry run before each order: fills, average, slippage; a refusal's own words, before and after sending, and its field."""
    for price in ("10.00", "10.10"):
        put(server, user_id="maker", symbol="PREVIEW", side="SELL", quantity="10", price=price)
    window = opening(server, "carol", "PREVIEW")
    preview = window.page.locator("#preview")
    window.fill_in(quantity="15", price="10.20")
    playwright.expect(preview).to_have_text(
        "Would fill 15 of 15 at 10.033333 on average, 10.00 to 10.10 in 2 trades, slippage 33.3 bps."
    )
    window.page.click("summary")
    window.fill_in(post_only="true")
    playwright.expect(preview).to_contain_text("would take liquidity")
    assert "would take liquidity. The best price on the other side is 10.00" in window.send()
    assert httpx.get(f"{server.url}/market/PREVIEW").json()["best_ask"] == {"price": "10.00", "quantity": "10"}
    window.fill_in(price="10.005")
    playwright.expect(preview).to_contain_text("0.01")
    window.fill_in(quantity="some")
    playwright.expect(window.page.locator("#ticket [name=quantity]")).to_have_attribute("aria-invalid", "true")
    playwright.expect(preview).to_contain_text("quantity must be")


def test_the_ticket_shows_the_fields_that_apply(server: Server, opening: Opening) -> None:
    """For each type no field that the service would refuse with it; a click in the ladder and the keyboard fill it in."""
    put(server, user_id="maker", symbol="FIELDS", side="SELL", quantity="10", price="20.00")
    window = opening(server, "dave", "FIELDS")
    window.page.click("summary")

    def shown() -> set[str]:
        script = "() => [...document.querySelectorAll('#ticket [data-field]')].filter(e => !e.hidden).map(e => e.dataset.field)"
        return set(window.page.evaluate(script))

    window.fill_in(type="MARKET")
    assert shown() == {"min_quantity", "max_slippage_bps"}
    window.fill_in(type="STOP")
    assert shown() == {"stop_price", "max_slippage_bps"}
    window.fill_in(type="TRAILING_STOP")
    assert shown() == {"trail", "limit_offset", "max_slippage_bps"}
    window.fill_in(limit_offset="0.5")
    assert shown() == {"trail", "limit_offset", "time_in_force", "post_only", "display_quantity"}
    window.fill_in(type="LIMIT", time_in_force="IOC")
    assert shown() == {"price", "time_in_force", "min_quantity"}
    window.page.click("#asks .level")
    assert window.page.input_value("#ticket [name=price]") == "20.00"
    window.page.locator("#ladder-title").click()
    window.page.keyboard.press("s")
    playwright.expect(window.page.locator("#send")).to_have_text("Sell FIELDS")
    window.page.keyboard.press("q")
    window.page.keyboard.type("12")
    window.page.keyboard.press("ArrowUp")
    assert window.page.input_value("#ticket [name=quantity]") == "13"
    window.page.keyboard.press("Escape")
    window.page.keyboard.press("?")
    playwright.expect(window.page.locator("#help-list div").first).to_be_visible()


def test_two_windows_stay_equal(server: Server, opening: Opening) -> None:
    """After a burst of orders both show the service's own book, level by level, and the same orders of their user."""
    put(server, user_id="erin", symbol="TWINS", side="BUY", quantity="1", price="1.00")
    first, second = opening(server, "erin", "TWINS"), opening(server, "erin", "TWINS")
    draw = random.Random(7)
    orders = [
        {
            "user_id": draw.choice(("erin", "maker")),
            "symbol": "TWINS",
            "side": side,
            "quantity": str(draw.randint(1, 9)),
            "price": price,
        }
        for side, price in ((draw.choice(("BUY", "SELL")), f"{draw.randint(90, 110)}.00") for _ in range(300))
    ]
    for start in range(0, 300, 30):
        answer = httpx.post(f"{server.url}/orders/batch", json={"orders": orders[start : start + 30]})
        assert answer.status_code == 200
    depth = httpx.get(f"{server.url}/market/TWINS/depth?levels=12").json()
    mine = httpx.get(f"{server.url}/orders/user/erin?symbol=TWINS&status=PENDING,PARTIALLY_FILLED").json()["count"]
    for window in (first, second):
        playwright.expect(window.page.locator("#ladder")).to_have_attribute("data-sequence", str(depth["sequence"]))
        window.sees(partial(shown_levels, window), (levels(depth["bids"]), levels(depth["asks"])))
        window.sees(partial(count_orders, window), mine)
    assert first.rows("orders") == second.rows("orders")
    assert first.page.text_content("#recoveries") == "0 gaps"


def shown_levels(window: Trader) -> tuple[list[list[str]], list[list[str]]]:
    """Price and quantity of the best dozen bids and asks that a window shows, best first."""
    bids, asks = ([row[1:3] for row in window.ladder(side)] for side in ("bids", "asks"))
    return bids[:12], asks[::-1][:12]


def count_orders(window: Trader) -> int:
    """How many orders a window lists."""
    return len(window.rows("orders"))


def levels(side: list[dict[str, str]]) -> list[list[str]]:
    """Price and quantity of what GET depth shows."""
    return [[level["price"], level["quantity"]] for level in side]


def test_after_a_kill_the_page_comes_back_without_a_wrong_number(browser: Any, tmp_path: Path) -> None:
    """While the service is gone the page says so and shows no book; then it shows what is true now. A key is asked for where one
    is needed, and works when it is given.
    """
    with running_server(sqlite_url(tmp_path)) as server, open_windows(browser) as opening:
        put(server, user_id="frank", symbol="BACK", side="BUY", quantity="4", price="9.00")
        window = opening(server, "frank", "BACK")
        connection = window.page.locator("#connection")
        window.sees(lambda: window.ladder("bids"), [["4", "9.00", "4", "4"]])
        server.kill()
        playwright.expect(connection).to_have_attribute("data-state", "lost")
        window.sees(lambda: window.ladder("bids"), [])
        server.start()
        put(server, user_id="frank", symbol="BACK", side="BUY", quantity="6", price="9.50")
        playwright.expect(connection).to_have_attribute("data-state", "live", timeout=15_000)
        window.sees(lambda: window.ladder("bids"), [["6", "9.50", "6", "6"], ["4", "9.00", "4", "10"]])
        window.sees(lambda: [row[4] for row in window.rows("orders")], ["9.50", "9.00"])

        made = httpx.post(f"{server.url}/keys", json={"user_id": "frank", "scopes": ["trade"]}).json()
        window.page.reload()
        window.page.wait_for_selector("#key-dialog[open]")
        window.page.fill("#api-key", made["key"])
        window.page.press("#api-key", "Enter")
        window.sees(lambda: [row[4] for row in window.rows("orders")], ["9.50", "9.00"])
        assert window.page.locator("#user").is_disabled()
        assert "is pending:" in window.send(side="BUY", quantity="1", price="8.00")
        assert json.dumps(window.page.evaluate("() => ({...localStorage, ...sessionStorage})")).find(made["key"]) == -1
        window.page.click("nav.views [data-view=operator]")
        playwright.expect(window.page.locator("#operator-message")).to_contain_text("operator")


def test_nothing_serious_stands_against_its_accessibility(server: Server, opening: Opening) -> None:
    """What axe finds, on the desktop and on a phone, light and dark: nothing serious or critical."""
    for side, price in (("BUY", "5.00"), ("SELL", "6.00")):
        put(server, user_id="grace", symbol="AXE", side=side, quantity="10", price=price)
    put(server, user_id="other", symbol="AXE", side="BUY", quantity="1", price="6.00")
    desktop = opening(server, "grace", "AXE", color_scheme="dark")
    desktop.sees(lambda: len(desktop.rows("orders")), 2)
    serious = audit(desktop)
    desktop.page.click("#theme")
    desktop.page.click("nav.views [data-view=operator]")
    playwright.expect(desktop.page.locator("#instruments tr").first).to_be_visible()
    serious += audit(desktop)
    phone = opening(server, "grace", "AXE", viewport=PHONE, has_touch=True)
    for tab in ("book", "ticket", "orders"):
        phone.page.click(f".tabbar [data-tab={tab}]")
        serious += audit(phone)
    assert serious == []
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def audit(window: Trader) -> list[str]:
    """What axe holds against the page as it is shown, in a line each."""
    window.page.evaluate(AXE)
    run = "() => axe.run(document, {resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice']})"
    found = window.page.evaluate(run)["violations"]
    return [
        f"{each['id']}: {node['html'][:120]} {node['failureSummary']}"
        for each in found
        if each["impact"] in {"serious", "critical"}
        for node in each["nodes"]
    ]
