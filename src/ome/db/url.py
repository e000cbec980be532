"""DATABASE_URL, and DATABASE_READ_URL, as people write them, made into one form for each database, or refused with a sentence
that says what is wrong.

SQLite: `sqlite:///relative.db`, `sqlite:////absolute.db`, with or without a driver (`sqlite+aiosqlite:`). In memory is refused:
nothing would be durable. PostgreSQL: `postgres:`, `postgresql:`, with or without a driver, with every parameter that libpq and
asyncpg know (`sslmode`, `host=/run/postgresql`, ...); `ssl=` is read as `sslmode=`.
"""

from __future__ import annotations

from typing import Final, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from msgspec import Struct

from ome.domain.errors import StorageUnusable

_FORMS: Final = "write sqlite:///file.db or postgresql://user:password@host:5432/database"


class DatabaseUrl(Struct, frozen=True):
    """Where the data is: `target` is a file's path or the DSN as asyncpg reads it, `shown` has no password in it."""

    kind: Literal["sqlite", "postgresql"]
    target: str
    shown: str


def parse_url(text: str, setting: str = "DATABASE_URL") -> DatabaseUrl:
    """The database that a URL names. Raises StorageUnusable, with `setting` and no password in it, for one that names none."""
    scheme, separator, _ = text.partition("://")
    if not separator:
        raise StorageUnusable(f"{setting} is no URL: {_FORMS}")
    match scheme.lower().partition("+")[0]:
        case "sqlite":
            return _sqlite(text, setting)
        case "postgres" | "postgresql":
            return _postgresql(text, setting)
        case _:
            raise StorageUnusable(f"{setting} names a database that OME doesn't know ({scheme}): {_FORMS}")


def _sqlite(text: str, setting: str) -> DatabaseUrl:
    location, _, query = text.partition("://")[2].partition("?")
    path = location.removeprefix("/")
    if location in {"", "/"} or path == ":memory:" or path.startswith("file:") or "mode=memory" in query:
        raise StorageUnusable("An SQLite database in memory keeps nothing; name a file, such as sqlite:///order_matching.db")
    if not location.startswith("/"):
        raise StorageUnusable(f"{setting} needs three slashes before a relative path: sqlite:///{location}")
    if query:
        raise StorageUnusable(f"{setting} takes no parameters for SQLite; leave out ?{query}")
    return DatabaseUrl("sqlite", path, f"sqlite:///{path}")


def _postgresql(text: str, setting: str) -> DatabaseUrl:
    try:
        parts = urlsplit(text)
        _ = parts.port  # looked at for its check alone
    except ValueError as error:
        raise StorageUnusable(f"{setting} can't be read ({error}): {_FORMS}") from None
    query = [("sslmode" if name == "ssl" else name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True)]
    user, at, place = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    hidden = [(key, "***" if key == "password" else value) for key, value in query]
    shown = f"postgresql://{name}{':***' if colon else ''}{at}{place}{parts.path}{_query(hidden)}"
    return DatabaseUrl("postgresql", f"postgresql://{parts.netloc}{parts.path}{_query(query)}", shown)


def _query(pairs: list[tuple[str, str]]) -> str:
    return f"?{urlencode(pairs, safe='*/')}" if pairs else ""
