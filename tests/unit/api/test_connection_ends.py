"""How a connection ends, over real sockets in this loop: what is refused before the edge, and in which order things are said."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fakes import FakeExchange, MakeApp
from ome.api.connections import LINGER_BYTES, ConnectionLimits, Connections
from ome.domain.errors import OutcomeUnknown
from ome.observability import Metrics
from unit.api.test_direct import BODY, KEY, request, served

GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def watch(**limits: float) -> Connections:
    """Connections with these limits."""
    return Connections(ConnectionLimits(**limits), Metrics())  # type: ignore[arg-type]


async def told(make_app: MakeApp, sent: bytes, *, ends: bool = False, **limits: float) -> bytes:
    """All that comes back for these bytes, until the server ends the connection; `ends`: the client ends its side too."""
    async with served(make_app(api_key="sesame"), None, watch(**limits)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        if ends:
            writer.write_eof()
        answer = await reader.read()
        writer.close()
    return answer


def statuses(answer: bytes) -> list[int]:
    """The status of each answer, in order."""
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize(
    ("sent", "limits", "status", "code"),
    [
        (b"rubbish\r\n\r\n", {}, 400, b"malformed_request"),
        (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n", {"head_bytes": 4096}, 431, b"headers_too_large"),
        (request(body=b"x" * 9000), {"message_bytes": 4096}, 413, b"body_too_large"),
        (GET[:20], {"receive_timeout_s": 0.05}, 408, b"request_timeout"),
        (GET, {"connections": 0}, 503, b"too_many_connections"),
    ],
)
async def test_a_connection_that_is_ended_is_told_why(
    make_app: MakeApp, sent: bytes, limits: dict[str, Any], status: int, code: bytes
) -> None:
    """A problem document with a stable code, and that the connection closes; nothing behind it."""
    answer = await told(make_app, sent, **limits)
    assert statuses(answer) == [status]
    assert b'"code":"%b"' % code in answer
    assert b"connection: close\r\n" in answer.lower()


async def test_what_came_whole_is_answered_before_what_did_not(make_app: MakeApp) -> None:
    """Two good requests and then rubbish: two answers in their order, then what is wrong with the third, then the end."""
    assert statuses(await told(make_app, GET + GET + b"rubbish\r\n\r\n")) == [200, 200, 400]


async def test_half_a_request_behind_whole_ones_gets_no_answer(make_app: MakeApp) -> None:
    """A client that ends its side in the middle of its last request still gets the answers to those before."""
    assert statuses(await told(make_app, GET + GET + request()[:-9], ends=True)) == [200, 200]


async def test_more_than_may_wait_is_read_when_there_is_room(make_app: MakeApp) -> None:
    """Requests pipelined beyond the bound are left unread, then answered: all of them, and in one order."""
    assert statuses(await told(make_app, GET * 300 + LAST, pipelined=2)) == [200] * 301


async def test_what_waits_unread_is_dropped_when_the_connection_ends(make_app: MakeApp) -> None:
    """Behind a request that asks for the end, nothing is answered."""
    assert statuses(await told(make_app, GET + LAST + GET * 300, pipelined=1)) == [200, 200]


async def test_a_silent_connection_is_closed_without_a_word(make_app: MakeApp) -> None:
    """One that has had its answer, and one that never asked."""
    assert statuses(await told(make_app, GET, keep_alive_s=0.05)) == [200]
    assert await told(make_app, b"", receive_timeout_s=0.05) == b""


async def flood(writer: asyncio.StreamWriter) -> None:
    """Send a few times as much as is read of what comes after the end."""
    for _ in range(LINGER_BYTES // 65536 * 4):
        writer.write(b"x" * 65536)
        await writer.drain()


async def test_what_still_comes_after_the_end_is_dropped_and_bounded(make_app: MakeApp) -> None:
    """The reason isn't lost to a client that goes on sending; one that never stops is cut off."""
    async with served(make_app(api_key="sesame"), None, watch()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"rubbish\r\n\r\n")
        assert statuses(await reader.read()) == [400]
        with pytest.raises(OSError):  # noqa: PT011  reset or broken pipe, whichever the system says
            await flood(writer)
        writer.close()


async def test_what_is_too_much_is_refused_at_once_and_the_connection_stays(make_app: MakeApp) -> None:
    """Overload: each by its own request id where it sent one, HEAD without a body; whoever asked for the end gets that too."""
    read = b"GET /orders HTTP/1.1\r\nHost: x\r\nX-API-Key: sesame\r\nX-Request-ID: mine-1\r\n\r\n"
    bad = read.replace(b"mine-1", b"not mine {}")
    head = read.replace(b"GET", b"HEAD")
    answer = await told(make_app, read + bad + head + LAST.replace(b"/health/live", b"/orders"), requests=0)
    assert statuses(answer) == [503] * 4
    first, second, third, last = answer.split(b"HTTP/1.1 ")[1:]
    assert b"x-request-id: mine-1\r\n" in first
    assert b"not mine" not in second
    assert third.endswith(b"\r\n\r\n")
    assert b"connection: close" not in first + second + third
    assert b"connection: close\r\n" in last
    assert all(b'"code":"overloaded"' in part for part in (first, second, last))


async def test_an_order_too_many_is_refused_unparsed_and_a_cancel_is_not(make_app: MakeApp) -> None:
    """Both on one connection, which stays: 503 with a time to wait, and then what the cancel is answered."""
    app = make_app(api_key="sesame")
    cancel = request("DELETE", "/orders/1000000000000001", b"", head=KEY + "Connection: close\r\n")
    async with served(app, app.begin, watch(requests=0)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request())
        first = await reader.readuntil(b'"code":"overloaded"')
        writer.write(cancel)
        rest = await reader.read()
        writer.close()
    assert statuses(first) == [503]
    assert b"retry-after: 1\r\n" in first
    assert statuses(rest) == [404]


async def test_a_body_of_which_half_came_is_refused_once(make_app: MakeApp) -> None:
    """A request whose body is late, read by the edge meanwhile: it is told so, and no second answer follows."""
    sent = request(head=KEY + "X-Request-ID: r-1\r\n")[:-9]
    assert statuses(await told(make_app, sent, receive_timeout_s=0.05)) == [408]


async def test_an_answer_that_fails_late_is_one_answer(make_app: MakeApp, exchange: FakeExchange) -> None:
    """A request with an early answer of the engine's: the next one on the connection is read as if nothing had been."""
    exchange.fail = OutcomeUnknown("gone")
    sent = request(body=BODY, head=KEY + "X-Request-ID: r-1\r\n")
    assert statuses(await told(make_app, sent + LAST)) == [504, 200]


async def test_a_server_that_stops_lets_nobody_hold_it(make_app: MakeApp) -> None:
    """One that was just told why it ends, one in the middle of a request, and one that is idle: all are closed."""
    async with served(make_app(api_key="sesame"), None, watch(receive_timeout_s=0.1)) as port:
        ending, half, idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        ending[1].write(b"rubbish\r\n\r\n")
        half[1].write(request()[:-9])
        idle[1].write(GET)
        assert statuses(await ending[0].readuntil(b"}")) == [400]
        assert statuses(await idle[0].readuntil(b"}")) == [200]
    for reader, writer in (ending, half, idle):
        try:
            assert b"200" not in await reader.read()
        except ConnectionResetError:
            pass
        finally:
            writer.close()
