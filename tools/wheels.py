"""The wheel, built and tried as a stranger would: `make wheels`.

For every Python from 3.11 on that is found here (named `python3.N`, or kept by pyenv) an empty virtual environment gets the wheel
and what it depends on, hash-locked; then `ome serve` is asked for the page, its parts, the docs and an order, where there
are none of the sources, and the database that it made for `ome verify`. The exit status is 1 where one doesn't do as it should.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
MINORS: Final = range(11, 15)
ORDER: Final = {"user_id": "alice", "symbol": "ACME", "side": "SELL", "quantity": "5", "price": "10"}
START_SECONDS: Final = 60.0
PARTS: Final = (
    "/",
    "/static/app.js",
    "/static/page.css",
    "/static/vendor/lightweight-charts.standalone.production.mjs",
    "/docs",
    "/docs/assets/swagger-ui.css",
)
"""Of the page and the docs."""


def main() -> int:
    """Build, try on each Python, say how it went."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        print(f"{wheel.name}, {wheel.stat().st_size:,} bytes", flush=True)
        said = {python: tried(python, wheel, Path(folder) / f"venv-{number}") for number, python in enumerate(pythons())}
    for python, result in said.items():
        print(f"{python}: {result}")
    return 0 if said and all(result.startswith("ok") for result in said.values()) else 1


def build(folder: Path) -> Path:
    """The wheel, by the build backend that pyproject.toml names."""
    code = "import sys, flit_core.buildapi as backend; backend.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def pythons() -> list[str]:
    """One of each minor version that is here."""
    found = []
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in MINORS:
        candidates = [shutil.which(f"python3.{minor}"), *map(str, sorted(versions.glob(f"3.{minor}.*/bin/python")))]
        found += [python for python in filter(None, candidates) if _is(python, minor)][:1]
    return found


def _is(python: str, minor: int) -> bool:
    """Whether it runs, is this version and can make environments; a shim of pyenv may name one that isn't there."""
    code = f"import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, {minor}))"
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


def tried(python: str, wheel: Path, environment: Path) -> str:
    """Install it there and use it; "ok" and what was seen, or what went wrong."""
    subprocess.run([python, "-m", "venv", str(environment)], check=True)
    command = environment / "bin"
    pip = [str(command / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", str(ROOT / "requirements.lock")], check=True)
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True)
    ome = str(command / "ome")
    with tempfile.TemporaryDirectory() as elsewhere, (Path(elsewhere) / "log").open("w+b") as log:
        port = free_port()
        known = {"PATH": os.environ["PATH"], "PORT": str(port), "DATABASE_URL": f"sqlite:///{elsewhere}/ome.db"}
        service = subprocess.Popen([ome, "serve"], cwd=elsewhere, env=known, stdout=log, stderr=log)
        try:
            seen = used(f"http://127.0.0.1:{port}")
        except (OSError, ValueError) as error:
            log.seek(0)
            return f"{type(error).__name__} {error}\n{log.read().decode()}"
        finally:
            service.terminate()
            status = service.wait(30)
        verified = subprocess.run([ome, "verify"], cwd=elsewhere, env=known, capture_output=True, text=True, check=False)
    version = subprocess.run([str(command / "python"), "-V"], capture_output=True, text=True, check=True).stdout.strip()
    if (status, verified.returncode) != (0, 0):
        return f"{version}: serve left with {status}, verify with {verified.returncode}: {verified.stderr}"
    return f"ok, {version}: {seen}"


def free_port() -> int:
    """A port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def used(url: str) -> str:
    """Wait for the service, and take what a browser would; raises ValueError or OSError where something isn't there."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            got(f"{url}/health")
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    parts = {path: len(got(url + path)) for path in PARTS}
    asked = urllib.request.Request(f"{url}/orders", json.dumps(ORDER).encode(), {"Content-Type": "application/json"})  # noqa: S310  ours
    with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310  likewise
        order = json.load(answer)
    if order["status"] != "PENDING":
        raise ValueError(f"the order is {order}")
    return ", ".join(f"{path} {size:,} bytes" for path, size in parts.items()) + f", an order {order['status']}"


def got(url: str) -> bytes:
    """A 200 answer's body."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  our own service
        body: bytes = answer.read()
    if not body:
        raise ValueError(f"{url} is empty")
    return body


if __name__ == "__main__":
    sys.exit(main())
