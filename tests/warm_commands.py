"""Commands as a reader types them, without a second of imports each: one process that has imported everything is forked for each.

`python warm_commands.py SOCKET` is that process. `commands` puts an `ome` and a `python` into a folder that hand it what they are
given: arguments, environment, folder and the three standard streams. `ome serve` is a process of its own, which can be killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_CLIENT = """#!{python} -SE
import json, os, socket, sys
name = os.path.basename(sys.argv[0])
if sys.argv[1:2] == ["serve"]:
    os.execv({python!r}, [{python!r}, "-m", "ome", *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect({address!r})
    told = json.dumps([name, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(asked, [len(told).to_bytes(4, "big") + told], [0, 1, 2])
    sys.exit(int(asked.recv(16) or b"1"))
"""
_MOST_BYTES = 1 << 20


@contextlib.contextmanager
def commands(folder: Path) -> Iterator[Path]:
    """A folder for PATH with `ome` and `python` in it; they work until the block ends."""
    address = str(folder / "commands")
    for name in ("ome", "python"):
        path = folder / name
        path.write_text(_CLIENT.format(python=sys.executable, address=address))
        path.chmod(0o755)
    process = subprocess.Popen([sys.executable, __file__, address])
    try:
        deadline = time.monotonic() + 30
        while not Path(address).exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield folder
    finally:
        process.kill()
        process.wait()


def main(address: str) -> None:
    """Listen, and carry out what comes in a child each."""
    import ome.bootstrap  # noqa: PLC0415  and all below: what the commands would import
    import ome.cli  # noqa: PLC0415
    import ome.client  # noqa: PLC0415
    import ome.conformance  # noqa: PLC0415
    import ome.export  # noqa: PLC0415
    import ome.terminal  # noqa: PLC0415
    import ome.verification  # noqa: F401, PLC0415

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{address}.new")
        listener.listen()
        Path(f"{address}.new").rename(address)
        while True:
            asked, _ = listener.accept()
            with asked:
                if os.fork() == 0:
                    listener.close()
                    _carry_out(asked)


def _carry_out(asked: socket.socket) -> None:
    told, streams, _, _ = socket.recv_fds(asked, _MOST_BYTES, 3)
    while len(told) < 4 + int.from_bytes(told[:4], "big"):
        told += asked.recv(_MOST_BYTES)
    name, arguments, folder, environment = json.loads(told[4:])
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    status = 1
    try:
        status = _status(name, arguments)
    except BaseException:  # noqa: BLE001  whatever it is, its traceback is what a reader would see
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        asked.sendall(str(status).encode())
        os._exit(status)


def _status(name: str, arguments: list[str]) -> int:
    """Carry it out; the status that it leaves with."""
    from ome.cli import main as ome  # noqa: PLC0415

    sys.argv = [name, *arguments]
    try:
        if name == "ome":
            ome()
        elif arguments[0] in {"-", "-c"}:
            exec(compile(sys.stdin.read() if arguments[0] == "-" else arguments[1], "typed", "exec"), {"__name__": "__main__"})  # noqa: S102
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    return 0


if __name__ == "__main__":
    main(sys.argv[1])
