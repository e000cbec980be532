"""The trading page's files: that a strict content security policy can hold, and that what they name is there."""

import hashlib
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

STATIC = Path(str(files("ome.api") / "static"))
HTML = (STATIC / "index.html").read_text()
SCRIPTS = {path.name: path.read_text() for path in STATIC.glob("*.js") if path.name != "docs.js"}
STYLE = (STATIC / "page.css").read_text()
VENDORED = [STATIC / "vendor", Path(__file__).parents[1] / "e2e" / "vendor"]
ATTRIBUTION = "https://www.tradingview.com/"
"""The one address of the page that leads elsewhere: the chart's licence asks for the link. Nothing is loaded from there."""


class Page(HTMLParser):
    """What the page's markup holds: ids, addresses, labels, and what a strict policy would block."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.blocked: list[str] = []
        self.bare_inputs: list[str] = []
        self._labels = 0
        self._in_script = False
        self.feed(HTML)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the element has."""
        given = dict(attrs)
        self.blocked += [f"<{tag} {name}>" for name in given if name == "style" or name.startswith("on")]
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.addresses += [value for name, value in attrs if name in {"href", "src"} and value]
        self._labels += tag == "label"
        self._in_script = tag in {"script", "style"}
        if tag in {"input", "select"} and not self._labels and "aria-label" not in given:
            self.bare_inputs.append(str(given.get("name") or given.get("id")))

    def handle_endtag(self, tag: str) -> None:
        """Leave a label or a script."""
        self._labels -= tag == "label"
        self._in_script = False

    def handle_data(self, data: str) -> None:
        """Text in a script or style element is what the policy forbids."""
        if self._in_script and data.strip():
            self.blocked.append(data)


PAGE = Page()


def test_nothing_is_inline() -> None:
    """No script, style or handler stands in the markup, so that the policy can forbid them."""
    assert PAGE.blocked == []


def test_everything_comes_from_the_service_itself() -> None:
    """No address of the page leads to another host, but for the link that the chart's licence asks for."""
    assert [address for address in PAGE.addresses if not address.startswith(("/", "data:"))] == [ATTRIBUTION]
    assert not [name for name, text in (SCRIPTS | {"page.css": STYLE}).items() if re.search(r"(https?:)?//\w", text)]
    assert "@import" not in STYLE


def test_every_file_that_is_named_exists() -> None:
    """The page's links and the modules' imports lead to files of the package, and every script is led to."""
    linked = {address.removeprefix("/static/") for address in PAGE.addresses if address.startswith("/static/")}
    imported = {name for text in SCRIPTS.values() for name in re.findall(r'from "\./([^"]+)"', text)}
    chart = "vendor/lightweight-charts.standalone.production.mjs"
    assert linked == {"page.css", "theme.js", "app.js", chart}
    assert imported == set(SCRIPTS) - {"app.js", "theme.js"} | {chart}
    assert (STATIC / chart).is_file()


def test_every_element_that_a_script_looks_for_exists() -> None:
    """Ids in the scripts are ids of the markup, each there once."""
    wanted = {name for text in SCRIPTS.values() for name in re.findall(r'(?:find|getElementById)\("([^"]+)"\)', text)}
    assert len(wanted) > 40
    assert wanted <= set(PAGE.ids)
    assert len(set(PAGE.ids)) == len(PAGE.ids)


def test_every_field_has_a_label() -> None:
    """Each input and select stands in a label, or says itself what it is."""
    assert PAGE.bare_inputs == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_or_keeps_secrets(name: str) -> None:
    """Text goes into the page as text, and nothing is kept in the browser but which theme was chosen."""
    makes_markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function"
    keeps = r"localStorage|sessionStorage|indexedDB|document\.cookie"
    found = re.findall(f"{makes_markup}|{keeps}", SCRIPTS[name])
    assert set(found) == ({"localStorage"} if name == "theme.js" else set())


@pytest.mark.parametrize("folder", VENDORED, ids=["page", "tests"])
def test_what_was_made_elsewhere_is_as_it_came(folder: Path) -> None:
    """Each vendored file has its version, licence and checksum beside it, and no file is without; the page shows the notice."""
    entries = json.loads((folder / "VENDORED.json").read_text())
    named = {"VENDORED.json"}
    for entry in entries:
        content = (folder / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert f"v{entry['version']}".encode() in content[:300]
        assert (folder / entry["licence_file"]).stat().st_size > 1000
        assert set(re.findall(r"https?://[^ ]+|© \d+", entry["notice"])) <= set(re.findall(r'https?://[^"<]+|© \d+', HTML))
        named |= {entry["file"], entry["licence_file"]}
    assert {path.name for path in folder.iterdir()} == named
