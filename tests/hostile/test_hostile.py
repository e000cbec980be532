"""The corpus against a real service: nothing of it is a 5xx, hangs, splits the log, changes the schema or stays in memory."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from hostile.sweep import MOST_GROWTH_MIB, cases, findings, memory_mib, schema_of, split_lines, verdict
from servers import running_server, sqlite_url


def sweep(folder: Path, *, rounds: int, every: bool) -> None:
    """Send the corpus so many times, and look at all that must hold; the first round is for caches to fill."""
    with running_server(sqlite_url(folder), RECEIVE_TIMEOUT_SEC="2") as server:
        document = httpx.get(f"{server.url}/openapi.json").json()
        schema = schema_of(folder / "ome.db")
        assert findings(server, cases(document, every=every)) == []
        before = memory_mib(server)
        for _ in range(rounds):
            assert findings(server, cases(document, every=every)) == []
        assert memory_mib(server) - before < MOST_GROWTH_MIB
        assert schema_of(folder / "ome.db") == schema
        assert split_lines(server) == []
        assert httpx.get(f"{server.url}/health").json()["status"] == "healthy"


def test_a_part_of_the_corpus_does_no_harm(tmp_path: Path) -> None:
    """Every request and document, every number and text in one field each, a few texts in every parameter of every route."""
    sweep(tmp_path, rounds=1, every=False)


@pytest.mark.long
def test_the_whole_corpus_does_no_harm_again_and_again(tmp_path: Path) -> None:
    """Everything in every place, three times over."""
    sweep(tmp_path, rounds=3, every=True)


@pytest.mark.parametrize(
    ("answer", "is_fine"),
    [
        (b"", True),
        (b"HTTP/1.1 422 Unprocessable\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 500 Internal\r\n\r\n", False),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False),
        (None, False),
    ],
)
def test_a_verdict_sees_every_answer_and_every_silence(answer: bytes | None, is_fine: bool) -> None:
    """A second answer on the connection too."""
    assert (verdict(answer) == "") is is_fine
