"""Readers of streams, a thousand or ten thousand in one process: raw sockets and one epoll, so that they cost the machine little.

    python -m loadtests.stream_readers --port 5000 --count 1000 [--stuck 10] [--symbol AAPL]

With a symbol each subscribes to its depth and trades, without one it is idle. The last `stuck` of them never read. It says
`ready` when all have joined; when its input ends it reads on until nothing has come for a while, then prints a `Heard` as JSON.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
import time
from base64 import b64encode
from typing import Final

import msgspec
from msgspec import Struct

from loadtests.open_loop import allow_open_files

QUIET_S: Final = 1.5
"""When nothing has come for so long, all has come."""
PONG: Final = b"\x8a\x80\x00\x00\x00\x00"
PING: Final = b"\x89\x00"
HANDSHAKE: Final = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: " + b64encode(b"0123456789abcdef") + b"\r\n\r\n"
)
STUCK_BUFFER_BYTES: Final = 4096
READ_BYTES: Final = 1 << 18


class Heard(Struct):
    """What came: bytes of each reader that reads, and how many of these were lost."""

    bytes_each: list[int]
    lost: int


def join(port: int, symbol: str | None, *, stuck: bool) -> socket.socket:
    """One WebSocket after its handshake."""
    connection = socket.socket()
    if stuck:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STUCK_BUFFER_BYTES)
    connection.connect(("127.0.0.1", port))
    connection.sendall(HANDSHAKE)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(4096)
    if b" 101 " not in head.partition(b"\r\n")[0]:
        raise RuntimeError(f"the handshake was refused: {head!r}")
    for channel in ("depth", "trades") if symbol else ():
        payload = json.dumps({"op": "subscribe", "channel": channel, "symbol": symbol}).encode()
        connection.sendall(bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload)
    connection.setblocking(False)  # noqa: FBT003  its name says what is false
    return connection


def listen(readers: list[socket.socket]) -> tuple[list[int], int]:
    """Read what comes until standard input has ended and nothing more comes: bytes of each reader, and how many were lost."""
    poll = select.epoll()
    by_fd = {reader.fileno(): (number, reader) for number, reader in enumerate(readers)}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    poll.register(sys.stdin.fileno(), select.EPOLLIN | select.EPOLLHUP)
    buffer = bytearray(READ_BYTES)
    heard, lost, last, ending = [0] * len(readers), 0, time.monotonic(), False
    while not (ending and time.monotonic() - last > QUIET_S):
        for fd, _ in poll.poll(0.2):
            if fd == sys.stdin.fileno():
                ending = True
                last = time.monotonic()
                poll.unregister(fd)
                continue
            number, reader = by_fd[fd]
            try:
                size = reader.recv_into(buffer)
            except OSError:
                size = 0
            if not size:
                poll.unregister(fd)
                lost += 1
                continue
            heard[number] += size
            last = time.monotonic()
            if buffer[:size].endswith(PING):
                reader.send(PONG)
    return heard, lost


def main() -> int:
    """Join, say so, listen, tell."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.stream_readers", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--stuck", type=int, default=0)
    parser.add_argument("--symbol")
    options = parser.parse_args()
    allow_open_files(options.count + 64)
    reading = options.count - options.stuck
    readers = [join(options.port, options.symbol, stuck=number >= reading) for number in range(options.count)]
    print("ready", flush=True)
    print(msgspec.json.encode(Heard(*listen(readers[:reading]))).decode(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
