"""One engine, one process: whoever starts several is told how it is done."""

from __future__ import annotations

import pytest

from ome.bootstrap import SEVERAL_WORKERS, several_workers


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        (["uvicorn", "--factory", "ome.bootstrap:create_app"], {}, False),
        (["uvicorn", "--workers", "1", "ome.bootstrap:create_app"], {}, False),
        (["uvicorn", "ome.bootstrap:create_app", "--workers", "4"], {}, True),
        (["uvicorn", "ome.bootstrap:create_app", "--workers=4"], {}, True),
        (["gunicorn", "-w", "2", "ome.bootstrap:create_app()"], {}, True),
        (["uvicorn", "ome.bootstrap:create_app"], {"WEB_CONCURRENCY": "3"}, True),
        (["uvicorn", "ome.bootstrap:create_app"], {"WEB_CONCURRENCY": "1"}, False),
        (["uvicorn", "ome.bootstrap:create_app", "--workers"], {}, False),
    ],
)
def test_several_workers_are_seen(arguments: list[str], environment: dict[str, str], expected: bool) -> None:
    """However uvicorn or gunicorn is told of them; what is said then names the gateway."""
    assert several_workers(arguments, environment) is expected
    assert "ome gateway" in SEVERAL_WORKERS
