"""Keys of a real service: made at the command line, used over HTTP and WebSockets, and nowhere to be found afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ome.verification import verify
from servers import Server, running_server, spawned, sqlite_url

ORDER = {"symbol": "ABC", "side": "BUY", "quantity": 5, "price": "10.00"}


def ome(database_url: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`ome keys ...` on a database."""
    clean = {name: value for name, value in os.environ.items() if name not in {"API_KEY", "HOST", "PORT"}}
    return subprocess.run(
        [sys.executable, "-m", "ome", "keys", *arguments],
        env={**clean, "DATABASE_URL": database_url, "DISK_RESERVE_MB": "0", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def made(shown: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What `ome keys create` has shown, by name."""
    assert shown.returncode == 0, shown.stderr
    return dict(line.split(maxsplit=1) for line in shown.stdout.splitlines())


def test_the_first_key_opens_the_door(tmp_path: Path) -> None:
    """Without any key the service doesn't listen where others can reach it, and says how to make one; with one it does."""
    url = sqlite_url(tmp_path)
    with spawned(url, HOST="0.0.0.0") as refused:  # noqa: S104  that is the point
        assert refused.process is not None
        assert refused.process.wait(30) == 2
        assert "ome keys create" in refused.output()
    key = made(ome(url, "create", "--user", "ann", "--scope", "operator"))
    listed = ome(url, "list", "--json").stdout
    assert [found["key_id"] for found in json.loads(listed)] == [key["key_id"]]
    assert key["key"] not in listed
    with running_server(url, HOST="0.0.0.0") as server:  # noqa: S104  likewise
        assert httpx.get(f"{server.url}/orders/user/ann").status_code == 401
        assert httpx.get(f"{server.url}/keys", headers={"X-API-Key": key["key"]}).json()["count"] == 1


def test_keys_of_a_running_service(tmp_path: Path) -> None:
    """The command asks the running service; without an operator's key that refuses, in words."""
    url = sqlite_url(tmp_path)
    with running_server(url, API_KEY="sesame") as server:
        here = {"PORT": str(server.port)}
        refused = ome(url, "create", "--user", "bob", "--scope", "trade", **here)
        assert (refused.returncode, "API_KEY" in refused.stderr) == (1, True)
        key = made(ome(url, "create", "--user", "bob", "--scope", "trade", API_KEY="sesame", **here))
        headers = {"X-API-Key": key["key"]}
        assert httpx.post(f"{server.url}/orders", json=ORDER, headers=headers).json()["user_id"] == "bob"
        new = made(ome(url, "rotate", key["key_id"], "--overlap-seconds", "0", API_KEY="sesame", **here))
        assert httpx.get(f"{server.url}/orders", headers=headers).status_code == 401
        headers = {"X-API-Key": new["key"]}
        assert httpx.get(f"{server.url}/orders", headers=headers).status_code == 200
        server.restart()
        assert httpx.get(f"{server.url}/orders", headers=headers).status_code == 200
        assert ome(url, "revoke", new["key_id"], API_KEY="sesame", **here).returncode == 0
        assert httpx.get(f"{server.url}/orders", headers=headers).status_code == 401
    assert ome(url, "revoke", "nobody").returncode == 1
    assert ome(url, "create", "--user", "a b", "--scope", "trade").returncode == 2
    assert [line.split()[1] for line in ome(url, "list").stdout.splitlines()] == ["expired", "revoked"]
    assert verify(url).ok


def new_key(server: Server, user: str, *scopes: str) -> dict[str, str]:
    """A new key of the running service."""
    body = {"user_id": user, "scopes": scopes}
    answer = httpx.post(f"{server.url}/keys", json=body, headers={"X-API-Key": "sesame"})
    shown: dict[str, str] = answer.json()
    return shown


async def test_revoking_a_key_closes_its_sockets(tmp_path: Path) -> None:
    """Within a second, those that it has opened by header and by message alike, and no others."""
    with running_server(sqlite_url(tmp_path), API_KEY="sesame") as server:
        key, other = new_key(server, "alice", "trade"), new_key(server, "bob", "read")
        address = f"ws://127.0.0.1:{server.port}/ws"
        async with (
            connect(address, additional_headers={"X-API-Key": key["key"]}) as by_header,
            connect(address) as by_message,
            connect(address, additional_headers={"X-API-Key": other["key"]}) as untouched,
        ):
            await by_message.send(json.dumps({"op": "auth", "key": key["key"]}))
            assert json.loads(await by_message.recv())["status"] == 200
            for socket in (by_header, by_message, untouched):
                await socket.send(json.dumps({"op": "subscribe", "channel": "orders"}))
                assert json.loads(await socket.recv())["status"] == 200
            async with httpx.AsyncClient() as client, asyncio.timeout(1.0):
                await client.delete(f"{server.url}/keys/{key['key_id']}", headers={"X-API-Key": "sesame"})
                for socket in (by_header, by_message):
                    with pytest.raises(ConnectionClosed) as closed:
                        await socket.recv()
                    assert closed.value.rcvd is not None
                    assert closed.value.rcvd.code == 4001
            await untouched.send(json.dumps({"op": "ping"}))
            assert json.loads(await untouched.recv())["type"] == "pong"
        with pytest.raises(InvalidStatus):
            await connect(address, additional_headers={"X-API-Key": key["key"]})


def test_no_secret_is_kept(tmp_path: Path) -> None:
    """Not in any byte of the database, its log, the service's output or its answers: neither a user's key nor the operator's."""
    url = sqlite_url(tmp_path)
    with running_server(url, API_KEY="sesame-open-9471", LOG_LEVEL="DEBUG") as server:
        operator = {"X-API-Key": "sesame-open-9471"}
        body = {"user_id": "alice", "scopes": ["trade"]}
        key = httpx.post(f"{server.url}/keys", json=body, headers=operator).json()["key"]
        secret = key.split("_", 2)[2]
        headers = {"X-API-Key": key}
        answers = [
            httpx.post(f"{server.url}/orders", json=ORDER, headers=headers),
            httpx.post(f"{server.url}/orders", content=b"{", headers={**headers, "Content-Type": "application/json"}),
            httpx.post(f"{server.url}/orders", json={**ORDER, "user_id": "bob"}, headers=headers),
            httpx.get(f"{server.url}/orders/1?key=no", headers={"X-API-Key": key + "x"}),
            httpx.put(f"{server.url}/instruments/ABC", json={"lot_size": 0}, headers=operator),
            *(
                httpx.get(f"{server.url}{path}", headers=operator)
                for path in ("/admin/audit", "/admin/errors", "/keys", "/metrics")
            ),
        ]
        told = "\n".join(answer.text for answer in answers)
        server.stop()
        told += server.output()
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert len(stored) > 10_000
    for each in (secret, "sesame-open-9471"):
        assert each not in told
        assert each.encode() not in stored


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("UPDATE audit SET actor = 'nobody' WHERE action = 'key_made'", "actor"),
        ("UPDATE audit SET detail = replace(detail, '\"access\":2', '\"access\":3')", "detail"),
        ("DELETE FROM audit WHERE action = 'key_revoked'", "missing in audit"),
        ("INSERT INTO audit SELECT shard, 99, time, actor, action, subject, detail FROM audit WHERE action = 'key_made'", "99"),
    ],
)
def test_an_edited_entry_of_the_audit_is_found(tmp_path: Path, edit: str, said: str) -> None:
    """`ome verify` compares the trail with the journal, whose rows are chained."""
    url = sqlite_url(tmp_path)
    key = made(ome(url, "create", "--user", "ann", "--scope", "trade"))
    assert ome(url, "revoke", key["key_id"]).returncode == 0
    assert verify(url).ok
    with closing(sqlite3.connect(tmp_path / "ome.db")) as connection, connection:
        assert connection.execute(edit).rowcount > 0
    report = verify(url)
    assert not report.ok
    assert report.first is not None
    assert said in report.first.text
