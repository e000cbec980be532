"""What happens on a connection before there is a request, and when its client sends no more: raw bytes, real sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from servers import Server, running_server, sqlite_url

ANSWER_SECONDS = 10.0
ORDER = json.dumps({"user_id": "alice", "symbol": "C", "side": "BUY", "quantity": 1, "price": "1.00"}).encode()
HEAD = b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
POST = HEAD + b"Content-Length: %d\r\n\r\n" % len(ORDER) + ORDER
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One service for this module."""
    with running_server(sqlite_url(tmp_path_factory.mktemp("connection"))) as server:
        yield server


def conversation(server: Server, *requests: bytes, ends: bool = False) -> bytes:
    """All that is answered to these bytes until the server closes; with `ends`, the client's side is closed first."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=ANSWER_SECONDS) as connection:
        for request in requests:
            connection.sendall(request)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def statuses(answers: bytes) -> list[int]:
    """The statuses of the answers, in their order."""
    return [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]


def problem(answer: bytes) -> dict[str, Any]:
    """The document of the last answer, which must have the headers of every answer."""
    head, _, body = answer.rpartition(b"HTTP/1.1 ")[2].partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert b"content-type: application/problem+json" in lines
    assert b"connection: close" in lines
    assert b"x-content-type-options: nosniff" in lines
    assert b"content-length: %d" % len(body) in lines
    document: dict[str, Any] = json.loads(body)
    assert b"x-request-id: %b" % document["request_id"].encode() in lines
    return document


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (HEAD + b"Content-Length: abc\r\n\r\n", "malformed_request"),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "malformed_request"),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "malformed_request"),
        (CHUNKED + b"zz\r\n", "malformed_request"),
        (b"BREW /coffee HTTP/1.1\r\nHost: x\r\n\r\n", "malformed_request"),
        (b"NONSENSE\r\n\r\n", "malformed_request"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", "headers_too_large"),
    ],
)
def test_what_is_no_request_is_a_problem(server: Server, request_bytes: bytes, code: str) -> None:
    """One answer, then the end: a problem document with its code and the security headers."""
    answer = conversation(server, request_bytes)
    document = problem(answer)
    assert (document["code"], document["outcome"]) == (code, "not_executed")
    assert statuses(answer) == [document["status"]]


def test_a_client_that_sends_no_more_gets_its_answer(server: Server) -> None:
    """Half-closed after a whole request, or after several: each is answered, then the connection ends."""
    assert statuses(conversation(server, POST, ends=True)) == [201]
    assert statuses(conversation(server, POST * 3, ends=True)) == [201] * 3


def test_half_a_request_gets_nothing(server: Server) -> None:
    """It can't be executed; what came whole before it is answered, nothing waits for ever."""
    assert conversation(server, POST[:-1], ends=True) == b""
    assert conversation(server, ends=True) == b""
    assert statuses(conversation(server, POST + POST[:-1], ends=True)) == [201]


def test_requests_before_a_broken_one_are_answered_first(server: Server) -> None:
    """In their order: a refusal is never taken for the answer to an order that was executed."""
    answer = conversation(server, POST * 2 + b"NONSENSE\r\n\r\n")
    assert (statuses(answer), problem(answer)["code"]) == ([201, 201, 400], "malformed_request")
    answer = conversation(server, POST + CHUNKED + b"zz\r\n")
    assert (statuses(answer), problem(answer)["code"]) == ([201, 400], "malformed_request")
