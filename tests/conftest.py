"""Fixtures for every test."""

import os
from pathlib import Path

from postgres import own_postgres, postgres_server, postgres_url

__all__ = ["own_postgres", "postgres_server", "postgres_url"]

# No test speaks TLS, and reading the certificates of all authorities is most of what an HTTP client costs: they are looked for in
# a folder that has none, here and in the processes that tests start.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = str(Path(__file__).parent)
