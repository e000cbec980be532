"""The trading page's files: that a strict content security policy can hold, and that what they name is there."""

import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

STATIC = files("ome.api") / "static"
HTML = (STATIC / "index.html").read_text()
SCRIPTS = {
    name: (STATIC / name).read_text() for name in ("page.js", "page-api.js", "page-market.js", "page-orders.js", "page-view.js")
}
STYLE = (STATIC / "page.css").read_text()


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
        if tag in {"input", "select"} and not self._labels:
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
    """No address of the page leads to another host."""
    assert [address for address in PAGE.addresses if not address.startswith(("/", "data:"))] == []
    assert not [name for name, text in (SCRIPTS | {"page.css": STYLE}).items() if re.search(r"(https?:)?//\w", text)]
    assert "@import" not in STYLE


def test_every_file_that_is_named_exists() -> None:
    """The page's links and the modules' imports lead to files of the package."""
    linked = {address.removeprefix("/static/") for address in PAGE.addresses if address.startswith("/static/")}
    imported = {name for text in SCRIPTS.values() for name in re.findall(r'from "\./([^"]+)"', text)}
    assert linked == {"page.css", "page.js"}
    assert imported == set(SCRIPTS) - {"page.js"}


def test_every_element_that_a_script_looks_for_exists() -> None:
    """Ids in the scripts are ids of the markup, each there once."""
    wanted = {name for text in SCRIPTS.values() for name in re.findall(r'(?:find|getElementById)\("([^"]+)"\)', text)}
    assert len(wanted) > 20
    assert wanted <= set(PAGE.ids)
    assert len(set(PAGE.ids)) == len(PAGE.ids)


def test_every_field_has_a_label() -> None:
    """Each input and select stands in a label."""
    assert PAGE.bare_inputs == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_or_keeps_secrets(name: str) -> None:
    """Text goes into the page as text, and nothing is kept in the browser."""
    makes_markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function"
    keeps = r"localStorage|sessionStorage|indexedDB|document\.cookie"
    assert re.findall(f"{makes_markup}|{keeps}", SCRIPTS[name]) == []
