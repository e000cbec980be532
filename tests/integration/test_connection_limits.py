"""What a connection may take, of time and of room: raw bytes against a real server whose limits are small."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from servers import Server, running_server, sqlite_url

PATIENCE_SECONDS = 30.0
"""A server that hasn't closed by then never will."""
ORDER = json.dumps({"user_id": "alice", "symbol": "C", "side": "BUY", "quantity": 1, "price": "1.00"}).encode()
HEAD = b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
POST = HEAD + b"Content-Length: %d\r\n\r\n" % len(ORDER) + ORDER
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
SMALL = {
    "RECEIVE_TIMEOUT_SEC": "0.5",
    "SEND_TIMEOUT_SEC": "0.5",
    "KEEP_ALIVE_SEC": "0.6",
    "MAX_CONNECTIONS": "40",
    "MAX_BATCH_BYTES": "65536",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One service for this module."""
    with running_server(sqlite_url(tmp_path_factory.mktemp("limits")), **SMALL) as server:
        yield server


def connect(server: Server) -> socket.socket:
    """A connection to it."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS)


def read_to_the_end(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            answer += piece
    return answer


def statuses(answers: bytes) -> list[int]:
    """The statuses of the answers, in their order."""
    return [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]


def code_of(answers: bytes) -> str:
    """The code of the last answer's problem."""
    code: str = json.loads(answers.rpartition(b"\r\n\r\n")[2])["code"]
    return code


def sent_until_closed(connection: socket.socket, first: bytes, more: bytes) -> bytes:
    """Send on and on, whatever the server says, and return what it has said when it has closed."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, TimeoutError):
        connection.sendall(first)
        for _ in range(100_000):
            connection.sendall(more)
        pytest.fail("the server took 100,000 pieces")
    return read_to_the_end(connection)


def test_a_client_that_never_sends_is_closed(server: Server) -> None:
    """Without a word: it has asked nothing."""
    with connect(server) as connection:
        assert read_to_the_end(connection) == b""


@pytest.mark.parametrize("half", [POST[:10], HEAD, POST[:-1], CHUNKED + b"5\r\nab"])
def test_half_a_request_is_timed_out(server: Server, half: bytes) -> None:
    """In the head or in the body: 408, and the end; nothing was executed."""
    with connect(server) as connection:
        connection.sendall(half)
        answer = read_to_the_end(connection)
    assert (statuses(answer), code_of(answer)) == ([408], "request_timeout")
    assert b'"outcome":"not_executed"' in answer
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"x" * 80, 400),
        (POST[:10], 408),
        (POST[:-1], 408),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 19_900 + b"\r\n: y\r\n", 400),
        (CHUNKED + b"0\r\nX: " + b"x" * 200_000, 413),
        (POST + POST[:-1], 201),
    ],
)
def test_whoever_stays_after_the_last_answer_is_closed(server: Server, sent: bytes, status: int) -> None:
    """Though it neither sends nor closes; and everybody's deadlines hold afterwards."""
    with connect(server) as connection, connect(server) as another:
        connection.sendall(sent)
        answer = read_to_the_end(connection)  # to the end of what the server says; this side stays open
        assert statuses(answer)[0] == status
        with httpx.Client(base_url=server.url) as client:
            while open_connections(client) < 2:
                pass
            while open_connections(client) > 1:
                pass
        assert read_to_the_end(another) == b""


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nX: ", CHUNKED])
def test_a_slow_sender_is_timed_out_however_busy_it_seems(server: Server, start: bytes) -> None:
    """The deadline is for the whole request: a byte now and then doesn't move it."""
    with connect(server) as connection:
        connection.settimeout(0.05)
        connection.sendall(start)
        answer = b""
        for _ in range(200):
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(65536)
                break
            connection.sendall(b"x" if start != CHUNKED else b"1\r\nx\r\n")
    assert (statuses(answer), code_of(answer)) == ([408], "request_timeout")


def test_requests_before_a_slow_one_are_answered_first(server: Server) -> None:
    """In their order; only what didn't come whole is refused."""
    with connect(server) as connection:
        connection.sendall(POST * 3 + POST[:-1])
        assert statuses(read_to_the_end(connection)) == [201, 201, 201, 408]


def test_an_idle_connection_is_closed_after_keep_alive(server: Server) -> None:
    """Without a word, after the answers that it has had."""
    with connect(server) as connection:
        connection.sendall(GET)
        assert statuses(read_to_the_end(connection)) == [200]


@pytest.mark.parametrize(
    ("first", "more", "status", "code"),
    [
        (b"GET /", b"x" * 8192, 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nX: ", b"x" * 8192, 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\n", b"X: y\r\n" * 1000, 431, "headers_too_large"),
        (CHUNKED, b"2000\r\n" + b"x" * 0x2000 + b"\r\n", 413, "body_too_large"),
        (CHUNKED + b"0\r\nX: ", b"x" * 8192, 413, "body_too_large"),
        (CHUNKED + b"0\r\n", b"X: y\r\n" * 1000, 413, "body_too_large"),
        (CHUNKED + b"1;", b"x" * 8192, 413, "body_too_large"),
        (HEAD + b"Content-Length: 99999999999\r\n\r\n", b"x" * 8192, 413, "body_too_large"),
    ],
)
def test_a_request_without_end_is_refused(server: Server, first: bytes, more: bytes, status: int, code: str) -> None:
    """A path, a header, headers, a body, trailers, a chunk's extension: one answer, then the end."""
    with connect(server) as connection:
        answer = sent_until_closed(connection, first, more)
    assert (statuses(answer), code_of(answer)) == ([status], code)


def test_a_trailer_is_no_header(server: Server) -> None:
    """What comes behind a chunked body can't change what the request says of itself: here, that its body is JSON."""
    chunk = b"%x\r\n%b\r\n0\r\n" % (len(ORDER), ORDER)
    untyped = CHUNKED.replace(b"Content-Type: application/json\r\n", b"")
    with connect(server) as connection:
        connection.sendall(untyped + chunk + b"Content-Type: application/json\r\n\r\n")
        connection.sendall(CHUNKED + chunk + b"Content-Type: text/plain\r\nX: " + b"y" * 20_000 + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert statuses(read_to_the_end(connection)) == [415, 201]


def test_many_pipelined_requests_are_all_answered(server: Server) -> None:
    """Only a few wait inside at a time; the others are read as there is room, none is lost."""
    with connect(server) as connection:
        connection.sendall(GET * 1000)
        connection.shutdown(socket.SHUT_WR)
        assert statuses(read_to_the_end(connection)) == [200] * 1000


def test_a_client_that_does_not_read_is_closed(server: Server) -> None:
    """It asks for more than the network keeps, and takes nothing of it: the rest is never sent."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 400)
        with httpx.Client(base_url=server.url) as client:
            while open_connections(client) > 1:
                pass
        answered = read_to_the_end(connection).count(b"HTTP/1.1 200")
    assert 0 < answered < 400


def open_connections(client: httpx.Client) -> int:
    """How many the service counts; it counts once a sweep."""
    lines = client.get("/metrics").text.splitlines()
    return int(float(next(line for line in lines if line.startswith("ome_connections ")).rpartition(" ")[2]))


def test_a_connection_too_many_is_refused_in_words(server: Server) -> None:
    """503 with Retry-After, then the end; those that are there stay, and one that leaves makes room."""
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(connect(server)) for _ in range(60)]
        refused = [read_to_the_end(connection) for connection in kept[40:]]
        assert {(*statuses(answer), code_of(answer)) for answer in refused} == {(503, "too_many_connections")}
        assert all(b"retry-after: 1" in answer.lower() for answer in refused)
        kept[0].sendall(GET)
        assert statuses(kept[0].recv(65536)) == [200]
    with connect(server) as connection:
        connection.sendall(GET)
        assert statuses(connection.recv(65536)) == [200]


def test_the_server_survives_a_lack_of_open_files(tmp_path: Path) -> None:
    """With few files to open it takes fewer connections, refuses the others in words, and answers as soon as there is room."""
    import resource  # noqa: PLC0415  where there is no such thing there is nothing to test

    with running_server(sqlite_url(tmp_path)) as server:
        assert server.process is not None
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (64, 64))
        with contextlib.ExitStack() as stack:
            for _ in range(200):
                stack.enter_context(connect(server))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with contextlib.suppress(httpx.ReadError):  # reset: it hasn't seen yet that the others have gone
                assert httpx.get(f"{server.url}/health", timeout=PATIENCE_SECONDS).status_code == 200
                break
            assert time.monotonic() < deadline
        assert httpx.post(f"{server.url}/orders", json=json.loads(ORDER), timeout=PATIENCE_SECONDS).status_code == 201
