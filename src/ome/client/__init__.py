"""The Python client: `Client` for asyncio, `BlockingClient` for everything else. See docs/client.md.

It speaks the public interface alone and imports nothing else of this package.
"""

from ome.client.blocking import BlockingBook, BlockingClient
from ome.client.book import Book
from ome.client.client import Client
from ome.client.errors import ClientError, Problem, Refused, Unavailable, UnexpectedAnswer, Unknown

__all__ = [
    "BlockingBook",
    "BlockingClient",
    "Book",
    "Client",
    "ClientError",
    "Problem",
    "Refused",
    "Unavailable",
    "UnexpectedAnswer",
    "Unknown",
]
