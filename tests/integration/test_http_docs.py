"""The documentation page in a real browser, under the content security policy."""

import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from servers import running_server, sqlite_url

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=4000 --dump-dom"
)


@pytest.mark.skipif(BROWSER is None, reason="needs chromium (apt-get install --no-install-recommends chromium)")
def test_the_docs_show_every_operation_from_local_files(tmp_path: Path) -> None:
    """Swagger UI draws each operation of the document, and the console stays silent: nothing was blocked or missing."""
    with running_server(sqlite_url(tmp_path)) as server:
        paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
        command = [str(BROWSER), *FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}", f"{server.url}/docs"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    drawn = re.findall(r'opblock-summary-path"[^>]*data-path="([^"]*)"', done.stdout)
    assert sorted(drawn) == sorted(path for path, operations in paths.items() for _ in operations)
