"""The README tells the truth: its first order works as pasted, its settings and commands are the real ones."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from ome.config import Settings
from servers import cold_server, sqlite_url

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
ADDRESS = "http://127.0.0.1:5000"
CURL_HEADERS = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "*/*"}
"""What curl sends with -d where no -H says otherwise."""


def curl_commands() -> list[list[str]]:
    """The words of every curl command in the README's bash blocks, in order."""
    blocks = re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [words for words in map(shlex.split, lines) if words and words[0] == "curl"]


def paste(words: list[str], client: httpx.Client) -> Any:
    """What curl would do with these words, against the client's server: the JSON of a 2xx answer."""
    method, path, headers, body = "GET", "", {"Accept": "*/*"}, None
    rest = iter(words[1:])
    for word in rest:
        match word:
            case "-s":
                pass
            case "-X":
                method = next(rest)
            case "-H":
                name, _, value = next(rest).partition(":")
                headers[name] = value.strip()
            case "-d":
                body = next(rest)
                method, headers = "POST", CURL_HEADERS | headers
            case _:
                assert word.startswith(ADDRESS), f"a reader's server is not at {word}"
                path = word.removeprefix(ADDRESS)
    answer = client.request(method, path, headers=headers, content=body)
    assert answer.is_success, f"{words}: {answer.status_code} {answer.text}"
    return answer.json()


def test_first_order_and_its_trade_work_as_pasted(tmp_path: Path) -> None:
    """The README's commands, pasted in order, make the trade that it tells of, and show it."""
    with cold_server(sqlite_url(tmp_path)) as server, httpx.Client(base_url=server.url) as client:
        sell, buy, depth, trades, orders = (paste(words, client) for words in curl_commands())
    assert (sell["status"], sell["executed_trades"]) == ("PENDING", [])
    assert buy["status"] == "FILLED"
    assert [(trade["price"], trade["quantity"]) for trade in buy["executed_trades"]] == [("150.50", "60")]
    assert (depth["bids"], [(level["price"], level["quantity"]) for level in depth["asks"]]) == ([], [("150.50", "40")])
    assert trades["trades"] == buy["executed_trades"]
    assert [(order["order_id"], order["status"]) for order in orders["orders"]] == [(sell["order_id"], "PARTIALLY_FILLED")]


def test_python_works_as_pasted(tmp_path: Path) -> None:
    """The README's Python, after its first orders, in a process of its own: the order rests, and the book shows it."""
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    with cold_server(sqlite_url(tmp_path)) as server, httpx.Client(base_url=server.url) as client:
        for words in curl_commands():
            paste(words, client)
        command = [sys.executable, "-c", code.replace(ADDRESS, server.url)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    assert done.stdout == "PENDING ['40 at 150.50', '10 at 151.00']\n"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_settings_table_has_every_setting_with_its_default(name: str) -> None:
    """Each setting's line in the README has its name, its default and its meaning as the code has them."""
    setting = Settings.model_fields[name]
    default = setting.default.get_secret_value() if isinstance(setting.default, SecretStr) else setting.default
    text = str(default).lower() if isinstance(default, bool) else str(default)
    assert f"| `{name.upper()}` | {f'`{text}`' if text else ''} | {setting.description} |" in README


def test_make_targets_that_it_names_exist() -> None:
    """Every `make X` of the README is a target of make.py."""
    targets = re.findall(r'^    "([\w-]+)": ', (ROOT / "make.py").read_text(), re.MULTILINE)
    named = set(re.findall(r"\bmake (\w[\w-]*)", README.replace("make.py", "make")))
    assert {"run", "test", "bench"} <= named <= set(targets)


def test_it_names_the_python_that_the_package_needs() -> None:
    """The README's version of Python is the package's lower bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"Python {project['requires-python'].removeprefix('>=')} or later" in README


def test_streams_leave_room_for_orders() -> None:
    """However many of them are open, as many as there may be, there are connections left."""
    settings = Settings()
    assert settings.max_connections - settings.max_streams >= 1000
