"""Who may do what: one operator's key, or none at all."""

from __future__ import annotations

from hmac import compare_digest
from typing import Final

from ome.api.problems import Problem
from ome.api.settings import ApiSettings
from ome.domain.reasons import Reason

KEY_HEADER: Final = b"x-api-key"
Headers = dict[bytes, bytes]
"""A request's headers: names in lower case; of one that is repeated, the last."""


class Gate:
    """Lets a request through or raises UNAUTHORIZED. Keys are compared in constant time."""

    def __init__(self, settings: ApiSettings) -> None:
        self._key = settings.api_key.encode()
        self._private_reads = settings.private_reads and bool(self._key)

    @property
    def needs_key(self) -> bool:
        """Whether a key is set."""
        return bool(self._key)

    @property
    def private_reads_need_key(self) -> bool:
        """Whether orders are read with the key only."""
        return self._private_reads

    def operator(self, headers: Headers) -> None:
        """What changes something, or shows what is the operator's: the key, if one is set."""
        if self._key and not compare_digest(headers.get(KEY_HEADER, b""), self._key):
            raise Problem(Reason.UNAUTHORIZED, headers=((b"www-authenticate", b'ApiKey realm="ome", header="X-API-Key"'),))

    def private_read(self, headers: Headers) -> None:
        """Orders and what belongs to users: the key, where reads are private."""
        if self._private_reads:
            self.operator(headers)
