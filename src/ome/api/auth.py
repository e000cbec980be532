"""Who is asking, and may they: every request and every message of a WebSocket passes the `Gate` with the scope that it declares.

No key at all: everybody is the operator, but for a web page of somewhere else whose name was made to point here (DNS rebinding):
a browser would take it for the service's own, so whoever calls the service by such a name isn't let in. With the operator's key
alone (API_KEY), `read` is open too, unless PRIVATE_READS; as soon as there is, or was, a user's key, it isn't. A key that is
given where none is needed is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from hmac import compare_digest
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct
from starlette.types import Scope

from ome.api.keys import Keys
from ome.api.problems import FieldError, Problem
from ome.api.settings import ApiSettings
from ome.domain.access import Access
from ome.domain.keys import digest_of
from ome.domain.reasons import Reason

KEY_HEADER: Final = b"x-api-key"
Headers = dict[bytes, bytes]
"""A request's headers: names in lower case; of one that is repeated, the last."""
_KEPT_HOSTS: Final = 100
_CALLER: Final = "ome.caller"
_OPERATORS: Final = Access.OPERATOR
_CHALLENGE: Final = ((b"www-authenticate", b'ApiKey realm="ome", header="X-API-Key"'),)


class Caller(Struct, frozen=True):
    """Who asks: with a user's key, `user_id` is the user."""

    access: Access
    user_id: str | None = None
    key_id: str = ""

    @property
    def account(self) -> str | None:
        """The one user whose orders there are for this caller; None: everybody's."""
        return None if self.access is _OPERATORS else self.user_id


OPERATOR: Final = Caller(Access.OPERATOR)
"""Everybody, where there is no key at all."""
OPERATORS_KEY: Final = Caller(Access.OPERATOR, key_id="operator")
"""Whoever has API_KEY."""
ANYBODY: Final = Caller(Access.PUBLIC)
READER: Final = Caller(Access.READ)
"""Somebody without a key where none is needed for reading."""


class Gate:
    """Says who a caller is, or raises UNAUTHORIZED or INSUFFICIENT_SCOPE. Keys are compared in constant time."""

    def __init__(self, settings: ApiSettings, keys: Keys) -> None:
        self._operators = digest_of(settings.api_key.encode()) if settings.api_key else ""
        self._private_reads = settings.private_reads
        self.keys = keys
        self._trusted_hosts = frozenset(settings.trusted_hosts)
        self._good_hosts = {b""}
        """Host headers that were looked at and found good; whoever sends none is no browser."""
        self.failed: Callable[[Scope], None] = lambda _scope: None
        """Told of each request whose key is refused; may raise RATE_LIMITED instead."""

    @property
    def needs_key(self) -> bool:
        """Whether there is a key at all."""
        return bool(self._operators) or self.keys.exist

    def without_key(self) -> Caller:
        """Who somebody without a key is."""
        there_are_keys = self.keys.exist
        if not (there_are_keys or self._operators):
            return OPERATOR
        return ANYBODY if there_are_keys or self._private_reads else READER

    def identify(self, key: bytes, scope: Scope) -> Caller:
        """Whose key this is, which came with the request of this ASGI scope. Raises UNAUTHORIZED, or RATE_LIMITED."""
        if not self.needs_key:
            return OPERATOR
        digest = digest_of(key)
        if self._operators and compare_digest(digest, self._operators):
            return OPERATORS_KEY
        record = self.keys.find(key, digest)
        if record is None:
            self.failed(scope)
            raise Problem(Reason.UNAUTHORIZED, headers=_CHALLENGE)
        return Caller(record.access, record.user_id, record.key_id)

    def check_host(self, caller: Caller, headers: Headers) -> None:
        """Raises HOST_NOT_TRUSTED where somebody is the operator for want of any key, and has called the service by a name that
        could be a stranger's: one that is neither an IP address, nor localhost, nor without a dot, nor trusted.
        """
        if caller is not OPERATOR:
            return
        host = headers.get(b"host", b"")
        if host in self._good_hosts:
            return
        if not is_local_name(host, self._trusted_hosts):
            raise Problem(Reason.HOST_NOT_TRUSTED)
        if len(self._good_hosts) < _KEPT_HOSTS:
            self._good_hosts.add(host)

    def is_good(self, caller: Caller) -> bool:
        """Whether whoever was let in may stay: the key is still good, or none is needed now for what none was needed then."""
        if not caller.key_id:
            return caller.access <= self.without_key().access
        return caller.key_id == OPERATORS_KEY.key_id or self.keys.is_good(caller.key_id)

    def admit(self, access: Access, headers: Headers, scope: Scope) -> Caller:
        """Whoever sent these headers, if that is enough for what is asked. Raises UNAUTHORIZED or INSUFFICIENT_SCOPE."""
        stranger = self.without_key()
        if access <= stranger.access:
            self.check_host(stranger, headers)
            return stranger
        given = headers.get(KEY_HEADER)
        if given is None:
            raise Problem(Reason.UNAUTHORIZED, headers=_CHALLENGE)
        caller = self.identify(given, scope)
        check_scope(caller, access)
        return caller


def is_local_name(host: bytes, trusted: Collection[str]) -> bool:
    """Whether a Host header names the service by what no foreign page can be at: an address, or a name of this network's own."""
    try:
        name = urlsplit(f"//{host.decode('latin-1')}").hostname or ""
        if name not in trusted and "." in name and not name.endswith(".localhost"):
            ip_address(name)
    except ValueError:
        return False
    return True


def check_scope(caller: Caller, access: Access) -> None:
    """Raises UNAUTHORIZED where a key is missing for what is asked, INSUFFICIENT_SCOPE where the key's scopes are too few."""
    if access <= caller.access:
        return
    if not caller.key_id:
        raise Problem(Reason.UNAUTHORIZED, headers=_CHALLENGE)
    raise Problem(Reason.INSUFFICIENT_SCOPE, f"This needs a key with the scope {access.scope}; ask the operator for one.")


def user_for(caller: Caller, named: str | None) -> str:
    """The user that is meant: who was named, or whose the key is. Raises NOT_YOUR_USER, or INVALID_REQUEST where nobody is."""
    if named is None:
        if caller.user_id is None:
            raise Problem(Reason.INVALID_REQUEST, errors=[FieldError("user_id", "is required: the key belongs to no user")])
        return caller.user_id
    if caller.account is not None and named != caller.account:
        raise Problem(Reason.NOT_YOUR_USER)
    return named


def put_caller(scope: Scope, caller: Caller) -> None:
    """Keep in a request's ASGI scope who asks."""
    scope[_CALLER] = caller


def caller_of(scope: Scope) -> Caller:
    """Who asks, once the gate was passed. Of a route that is public: ANYBODY."""
    caller: Caller = scope.get(_CALLER, ANYBODY)
    return caller
