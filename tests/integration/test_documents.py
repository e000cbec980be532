"""The documents work as typed: every shell and Python block of the README and of docs/ runs, in order, against real services."""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
from pathlib import Path

import pytest

from servers import Server, free_port, running_server, sqlite_url
from snippets import ROOT, blocks, has_tools, objects, typed
from warm_commands import commands

DOCUMENTS = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
OF_ITS_OWN = {"docs/tutorial.md", "docs/security.md", "docs/deploy.md"}
"""Documents that start the service themselves, or need keys that would close it to the others."""
NOT_RUN = {
    "make run": "the first call installs for a minute, and the demo goes on until Ctrl+C: both have tests of their own",
    "docker ": "needs Docker; the image and the compose file have tests of their own",
    "createdb ": "needs PostgreSQL's own tools; the same drill is a test of both databases",
    "pip install 'ome[cluster]'": "needs PostgreSQL; a cluster has tests of its own",
    "export DATABASE_URL=postgresql": "likewise",
    "git clone": "the clone is what runs",
    "make ": "minutes",
    ".venv/bin/python -m": "likewise",
}
"""How blocks begin that are not run, and why."""
SHOWN = {"text", "json", "yaml", "toml", "ini", "sql", "nginx", "mermaid", "diff"}
"""Languages of blocks that aren't commands."""

pytestmark = pytest.mark.skipif(not has_tools(), reason="needs bash and curl")


def shared_documents() -> list[str]:
    """Those that one service is enough for."""
    shared = (name for name in DOCUMENTS if name not in OF_ITS_OWN)
    return [name for name in shared if any(block.language in {"bash", "python"} for block in blocks(name))]


def test_documents_work_as_typed(tmp_path: Path) -> None:
    """Each in turn, by one reader: those that need one against one service, then those that have their own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    with commands(folder):
        with running_server(sqlite_url(tmp_path)) as server:
            check_first_order({name: typed(name, folder, server, tuple(NOT_RUN)) for name in shared_documents()})
        with contextlib.closing(Server(f"sqlite:///{tmp_path}/tutorial.db", free_port(), {})) as server:
            check_tutorial(typed("docs/tutorial.md", folder, server))
        with contextlib.closing(Server(f"sqlite:///{tmp_path}/deploy.db", free_port(), {})) as server:
            tried, made = typed("docs/deploy.md", folder, server, tuple(NOT_RUN))
            assert "is up to date" in tried
            assert re.search(r"^key +ome_", made, re.MULTILINE)
            (changed,) = typed("docs/security.md", folder, server)
            assert len(re.findall(r"^key +ome_", changed, re.MULTILINE)) == 2
            assert re.search(r"^revoked_at +20", changed, re.MULTILINE)


def check_first_order(said: dict[str, list[str]]) -> None:
    """The README's first order, its trade and its book, and the funds' example, come out as they say."""
    (sell,), (buy,), (depth, trades, orders) = map(objects, said["README.md"][:3])
    assert (sell["status"], sell["executed_trades"]) == ("PENDING", [])
    assert buy["status"] == "FILLED"
    assert [(trade["price"], trade["quantity"]) for trade in buy["executed_trades"]] == [("150.50", "60")]
    assert (depth["bids"], [(level["price"], level["quantity"]) for level in depth["asks"]]) == ([], [("150.50", "40")])
    assert trades["trades"] == buy["executed_trades"]
    assert [(order["order_id"], order["status"]) for order in orders["orders"]] == [(sell["order_id"], "PARTIALLY_FILLED")]
    assert said["README.md"][3] == "PENDING ['40 at 150.50', '10 at 151.00']\n"
    (balances,) = [json.loads(block.text) for block in blocks("docs/funds.md") if block.language == "json"]
    assert objects(said["docs/funds.md"][-1])[-1] == balances


def check_tutorial(said: list[str]) -> None:
    """A trade, an iceberg, a stop, streams, kill -9, and the book that there was before."""
    assert '"status":"healthy"' in said[0]
    assert '"status":"FILLED"' in said[2]
    assert '{"price":"151.00","quantity":"50","orders":1}' in said[4]
    assert '"dry_run":true' in said[5]
    assert '"status":"PENDING_TRIGGER"' in said[6]
    assert '"triggered_at":"' in said[7].splitlines()[1]
    assert said[9].split()[0] == "ACCEPTED"
    assert said[10].endswith("killed\n")
    assert said[11].endswith("True\n")
    assert said[12].endswith("Everything stored is what the journal makes.\n")


def test_every_block_says_what_it_is() -> None:
    """A fence names a language, none is indented instead; what isn't run is no command in disguise, and is readable."""
    for name in DOCUMENTS:
        text = re.sub(r"^```.*?^```$", "", (ROOT / name).read_text(), flags=re.MULTILINE | re.DOTALL)
        assert not re.search(r"\n\n    \S", text), f"{name}: an indented block"
        for language, content in blocks(name):
            assert language in SHOWN | {"bash", "python"}, f"{name}: {language}"
            if language in {"text", "json"}:
                assert not re.match(r"(\.venv/bin/)?(ome|curl|make|pip|python3?) ", content), f"{name}: {content}"
            if language == "json":
                json.loads(content)
            if language == "toml":
                tomllib.loads(content)
