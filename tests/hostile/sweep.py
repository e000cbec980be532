"""Sends the corpus to a real service and looks at what becomes of it: no 5xx, no hang, flat memory, unchanged schema, whole logs.

A round is a list of named cases, each the bytes of one request on a connection of its own. What is answered is judged by
`verdict`; a connection that is closed without an answer is fine (half a request gets none), a silent one never is.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from hostile.corpus import DOCUMENTS, FIELDS, HEAD, JSON_TYPE, NUMBERS, ORDER, REQUESTS, TEXTS, json_of, order_with, repeated
from servers import Server

ANSWER_SECONDS: Final = 30.0
MOST_GROWTH_MIB: Final = 24
STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3})")
BODIES: Final = (("POST", "/orders"), ("POST", "/orders/batch"), ("PUT", "/orders/1"), ("PUT", "/instruments/HOST"))


class Case(NamedTuple):
    """One request, and what it is called in a finding."""

    name: str
    data: bytes


def request(method: str, path: str, body: bytes | None = None, headers: bytes = JSON_TYPE) -> bytes:
    """The bytes of a well-formed request, its path as given."""
    head = f"{method} {path} HTTP/1.1\r\n".encode() + HEAD
    return head + (b"\r\n" if body is None else headers + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def cases(document: dict[str, Any], *, every: bool) -> Iterator[Case]:
    """The corpus on every route of an OpenAPI document; without `every`, each list in one or two places."""
    yield from (Case(f"request {number}", data) for number, data in enumerate(REQUESTS))
    for method, path in BODIES if every else BODIES[:2]:
        yield from (
            Case(f"{method} {path} document {number}", request(method, path, body)) for number, body in enumerate(DOCUMENTS)
        )
    for field in FIELDS if every else ("quantity", "valid_for_ms"):
        for number, value in enumerate(NUMBERS):
            yield Case(f"{field} number {number}", request("POST", "/orders", order_with(field, value)))
    for field in FIELDS if every else ("user_id", "symbol"):
        for number, text in enumerate(TEXTS):
            yield Case(f"{field} text {number}", request("POST", "/orders", order_with(field, json_of(text))))
        yield Case(f"{field} twice", request("POST", "/orders", repeated(field, b'"x"')))
    for path, operations in document["paths"].items():
        if not path.endswith("/stream"):  # its answer lasts
            yield from _on_route(path, operations, TEXTS if every else TEXTS[::12])


def _on_route(path: str, operations: dict[str, Any], texts: tuple[str, ...]) -> Iterator[Case]:
    """A route's methods with these texts in each parameter of the path and the query, and methods that it doesn't have."""
    plain = re.sub(r"\{[a-z_]+\}", "1", path)
    for method in ("PATCH", "OPTIONS", "TRACE", "HEAD"):
        yield Case(f"{method} {path}", request(method, plain))
    for method, operation in operations.items():
        body = json.dumps(ORDER).encode() if "requestBody" in operation else None
        for parameter in operation.get("parameters", ()):
            name, where = parameter["name"], parameter["in"]
            for text in texts:
                sent = quote(text, safe="", errors="surrogatepass")
                target = path.replace(f"{{{name}}}", sent) if where == "path" else f"{plain}?{name}={sent}"
                target = re.sub(r"\{[a-z_]+\}", "1", target)
                yield Case(f"{method} {path} {where} {name}={text[:20]!r}", request(method.upper(), target, body))
        yield Case(f"{method} {path} unknown parameter", request(method.upper(), f"{plain}?%00=1&a[]=2&=3", body))


def answer_to(server: Server, data: bytes) -> bytes | None:
    """What is answered, once the client has sent all and no more; None where the service neither answers nor closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=ANSWER_SECONDS) as connection:
        answer = b""
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while piece := connection.recv(65536):
                    answer += piece
        except TimeoutError:
            return None
    return answer


def verdict(answer: bytes | None) -> str:
    """What is wrong with an answer; empty if nothing is."""
    if answer is None:
        return "neither answered nor closed"
    server_errors = [status for status in map(int, STATUS.findall(answer)) if status >= 500]
    return f"answered {server_errors}" if server_errors else ""


def findings(server: Server, round_of: Iterator[Case]) -> list[str]:
    """Send them all; what is wrong, by name."""
    judged = ((case.name, verdict(answer_to(server, case.data))) for case in round_of)
    return [f"{name}: {wrong}" for name, wrong in judged if wrong]


def memory_mib(server: Server) -> float:
    """The service's resident memory."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def schema_of(database: Path) -> list[tuple[str, str]]:
    """The names and definitions of all that a SQLite database has."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def split_lines(server: Server) -> list[str]:
    """Lines of its log that aren't one JSON object each."""
    return [line for line in server.output().splitlines() if not _is_object(line)]


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
