"""DATABASE_URL in the forms that people write, and those that are refused."""

import pytest

from ome.db.url import DatabaseUrl, parse_url
from ome.domain.errors import StorageUnusable

READ = [
    ("sqlite:///x.db", ("sqlite", "x.db", "sqlite:///x.db")),
    ("sqlite+aiosqlite:///data/x.db", ("sqlite", "data/x.db", "sqlite:///data/x.db")),
    ("sqlite:////var/lib/x.db", ("sqlite", "/var/lib/x.db", "sqlite:////var/lib/x.db")),
    ("postgres://u:p@db/ome", ("postgresql", "postgresql://u:p@db/ome", "postgresql://u:***@db/ome")),
    ("postgresql://u@db:5433/ome", ("postgresql", "postgresql://u@db:5433/ome", "postgresql://u@db:5433/ome")),
    (
        "postgresql+asyncpg://db/ome?ssl=require",
        ("postgresql", "postgresql://db/ome?sslmode=require", "postgresql://db/ome?sslmode=require"),
    ),
    (
        "postgresql+psycopg://u:a%40b@[::1]/ome?sslmode=verify-full",
        ("postgresql", "postgresql://u:a%40b@[::1]/ome?sslmode=verify-full", "postgresql://u:***@[::1]/ome?sslmode=verify-full"),
    ),
    (
        "postgresql:///ome?host=/run/postgresql&password=p",
        (
            "postgresql",
            "postgresql:///ome?host=/run/postgresql&password=p",
            "postgresql:///ome?host=/run/postgresql&password=***",
        ),
    ),
]
REFUSED = [
    ("orders.db", "is no URL"),
    ("mysql://u:secret@db/ome", "a database that OME doesn't know"),
    ("sqlite://", "in memory keeps nothing"),
    ("sqlite:///", "in memory keeps nothing"),
    ("sqlite:///:memory:", "in memory keeps nothing"),
    ("sqlite+aiosqlite:///file::memory:?cache=shared", "in memory keeps nothing"),
    ("sqlite:///x?mode=memory", "in memory keeps nothing"),
    ("sqlite://x.db", "three slashes"),
    ("sqlite:///x.db?cache=shared", "takes no parameters"),
    ("postgresql://u:secret@db:port/ome", "can't be read"),
]


@pytest.mark.parametrize(("text", "expected"), READ)
def test_a_url_is_brought_into_one_form(text: str, expected: tuple[str, str, str]) -> None:
    """Kind, what the driver is given, and what people are shown, without the password."""
    found = parse_url(text)
    assert (found.kind, found.target, found.shown) == expected
    assert isinstance(found, DatabaseUrl)


@pytest.mark.parametrize(("text", "sentence"), REFUSED)
def test_a_url_that_names_no_database_is_refused(text: str, sentence: str) -> None:
    """With a sentence that says what is wrong, and no password in it."""
    with pytest.raises(StorageUnusable, match=sentence) as raised:
        parse_url(text)
    assert "secret" not in str(raised.value)
