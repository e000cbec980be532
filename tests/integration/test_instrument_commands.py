"""`ome instruments` against a running service: listed, set, refused in words."""

from collections.abc import Iterator

import msgspec
import pytest
from typer.testing import CliRunner, Result

from ome.cli import app
from servers import Server, free_port, running_server, sqlite_url


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with an operator's key."""
    with running_server(sqlite_url(tmp_path_factory.mktemp("instruments")), API_KEY="operators-own-key-of-this-test") as running:
        yield running


def run(*words: str, key: str = "operators-own-key-of-this-test") -> Result:
    """`ome instruments ...`, with a key in the environment."""
    return CliRunner().invoke(app, ["instruments", *words], env={"API_KEY": key, "COLUMNS": "120"})


def test_an_instrument_is_listed_and_changed(server: Server) -> None:
    """What isn't given stays; the list shows what stands, as a table and as JSON."""
    made = run("set", "es", "--tick-size", "0.25", "--max-order-quantity", "500", "--url", server.url)
    assert made.exit_code == 0, made.output
    changed = run("set", "ES", "--state", "AUCTION", "--url", server.url, "--json")
    (shown,) = msgspec.json.decode(changed.stdout)
    assert (shown["symbol"], shown["tick_size"], shown["max_order_quantity"], shown["state"]) == ("ES", "0.25", "500", "AUCTION")
    assert run("set", "ZZ", "--base-asset", "ZZZ", "--quote-asset", "USD", "--url", server.url).exit_code == 0
    heading, first, second = run("list", "--url", server.url).stdout.splitlines()
    assert heading.split()[:4] == ["symbol", "state", "tick", "lot"]
    assert first.split() == ["ES", "AUCTION", "0.25", "1", "-", "500", "-", "00:00:00", "-", "-"]
    assert second.split()[-2:] == ["ZZZ", "USD"]
    assert [each["symbol"] for each in msgspec.json.decode(run("list", "--url", server.url, "--json").stdout)] == ["ES", "ZZ"]


def test_a_refusal_is_told_in_words(server: Server) -> None:
    """The field and what would be right; that a key is needed; that nobody is there."""
    wrong = run("set", "ES", "--state", "SHUT", "--url", server.url)
    assert (wrong.exit_code, "state" in wrong.stderr, "HALTED" in wrong.stderr) == (1, True, True)
    keyless = run("set", "ES", "--state", "OPEN", "--url", server.url, key="")
    assert keyless.exit_code == 1
    assert "set API_KEY to an operator's key" in keyless.stderr
    nobody = run("list", "--url", f"http://127.0.0.1:{free_port()}")
    assert nobody.exit_code == 2
    assert "name the service with --url" in nobody.stderr
