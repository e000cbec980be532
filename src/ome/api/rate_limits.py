"""How much each may ask: token buckets, one for each key and policy, and for each address where no key was needed.

A bucket holds BURST_SECONDS' worth and is refilled by the clock. It starts half full, so that a restart, or a client that is new,
neither gets a burst for nothing nor is locked out. What weighs more than a bucket holds is let through when it is full, and
paid off afterwards. Operators' keys aren't limited, and while there is no key at all nobody is.

Policies: `orders` for what submits and changes, `cancels` for what takes out, several times as much, so that whoever can place
orders can cancel them all (R3); `mass_cancels`, because one of them does what a flood of cancels was for and must not
wait behind it; `reads`. A change of nothing but `quantity` goes to `cancels` when `orders` is used up.

The library `limits` has no token bucket, and its nearest strategy costs an order ten times as much as this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network
from math import ceil
from time import monotonic
from typing import Final

from starlette.types import Scope

from ome.api.auth import Caller, Headers
from ome.api.problems import Header, Problem
from ome.api.settings import RateSettings
from ome.domain.access import Access
from ome.domain.reasons import Reason

BURST_SECONDS: Final = 5
MAX_BUCKETS: Final = 20_000
"""Buckets that are kept; beyond it the ones that have been idle longest are forgotten, and start half full again."""
IPV6_NETWORK: Final = 64
"""An IPv6 client has as many addresses as it likes in a network of this prefix: they count as one."""
MASS_CANCELS_PER_SECOND: Final = 5
_RATE: Final = "ome.rate"
_OPERATORS: Final = Access.OPERATOR
_MAX_FORWARDED: Final = 20


class Policy:
    """So many a second, and a bucket of BURST_SECONDS' worth, which is `most`; 0: no limit. `told` is how answers name it."""

    __slots__ = ("most", "name", "per_second", "prefix", "told")

    def __init__(self, name: str, per_second: float) -> None:
        self.name = name
        self.per_second = per_second
        self.most = per_second * BURST_SECONDS
        self.prefix = b'"%b"' % name.encode()
        self.told: Header = (b"ratelimit-policy", b"%b;q=%d;w=%d" % (self.prefix, self.most, BURST_SECONDS))


class Bucket:
    """What is left of a policy for somebody; may be below zero, where something large was let through."""

    __slots__ = ("at", "left")

    def __init__(self, left: float, at: float) -> None:
        self.left = left
        self.at = at

    def refill(self, policy: Policy, now: float) -> None:
        """Add what has come in since it was looked at last."""
        left, most = self.left + (now - self.at) * policy.per_second, policy.most
        self.left = min(most, left)
        self.at = now


class RateLimits:
    """Lives on the event loop. `applies` says whether there is anybody to limit: whether there are keys."""

    def __init__(self, settings: RateSettings, applies: Callable[[], bool], clock_s: Callable[[], float] = monotonic) -> None:
        self.reads = Policy("reads", settings.reads_per_second)
        self.orders = Policy("orders", settings.orders_per_second)
        self.cancels = Policy("cancels", settings.cancels_per_second)
        self.mass_cancels = Policy("mass_cancels", MASS_CANCELS_PER_SECOND if settings.cancels_per_second else 0)
        self.failures = Policy("failed_keys", settings.failed_keys_per_second)
        self._applies = applies
        self._clock_s = clock_s
        self._trusted = [ip_network(text) for text in settings.trusted_proxies]
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def take(self, policy: Policy, weight: float, caller: Caller, scope: Scope, *, instead: Policy | None = None) -> None:
        """Count a request; raises RATE_LIMITED where there isn't enough left, of `instead` neither."""
        if caller.access is _OPERATORS or not policy.per_second or not weight or not self._applies():
            return
        who = caller.key_id or self.address(scope)
        bucket = self._take(policy, weight, who)
        if bucket is None and instead is not None:
            policy = instead
            bucket = self._take(policy, weight, who)
        if bucket is None:
            raise self._refusal(policy, weight, who)
        scope[_RATE] = self._headers(policy, bucket)

    def key_failed(self, scope: Scope) -> None:
        """A key was refused; raises RATE_LIMITED where too many were that came from this address."""
        if self.failures.per_second and self._take(self.failures, 1, who := self.address(scope)) is None:
            raise self._refusal(self.failures, 1, who)

    def address(self, scope: Scope) -> str:
        """Where a request comes from: the peer, or, through proxies that are trusted, whom the last of them names."""
        client = scope.get("client")
        peer: str = client[0] if client else ""
        if self._trusted and self._is_trusted(peer):
            headers: Headers = dict(scope["headers"])
            named = headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")
            for text in [each.strip() for each in reversed(named[-_MAX_FORWARDED:])]:
                if not _is_address(text):
                    break
                peer = text
                if not self._is_trusted(text):
                    break
        return _counted(peer)

    def _is_trusted(self, address: str) -> bool:
        if not _is_address(address):
            return False
        found = ip_address(address)
        return any(found in network for network in self._trusted)

    def _take(self, policy: Policy, weight: float, who: str) -> Bucket | None:
        now = self._clock_s()
        key = (policy.name, who)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._new_bucket(key, policy, now)
        else:
            bucket.refill(policy, now)
        if bucket.left < weight and bucket.left < policy.most:
            return None
        bucket.left -= weight
        return bucket

    def _new_bucket(self, key: tuple[str, str], policy: Policy, now: float) -> Bucket:
        if len(self._buckets) >= MAX_BUCKETS:
            idle = sorted(self._buckets, key=lambda each: self._buckets[each].at)[: MAX_BUCKETS // 10]
            for each in idle:
                del self._buckets[each]
        bucket = self._buckets[key] = Bucket(policy.most / 2, now)
        return bucket

    def _refusal(self, policy: Policy, weight: float, who: str) -> Problem:
        bucket = self._buckets[policy.name, who]
        wait_s = max(1, ceil((min(weight, policy.most) - bucket.left) / policy.per_second))
        detail = (
            f"At most {policy.per_second:g} {policy.name.replace('_', ' ')} a second; nothing was executed, send it again later."
        )
        retry_after = (b"retry-after", b"%d" % wait_s)
        return Problem(Reason.RATE_LIMITED, detail, headers=(retry_after, *self._headers(policy, bucket)))

    def _headers(self, policy: Policy, bucket: Bucket) -> tuple[Header, Header]:
        """As the IETF's draft has them: how much in how many seconds, how much is left, and when it is full again."""
        left = bucket.left
        full_s = ceil((policy.most - left) / policy.per_second)
        return policy.told, (b"ratelimit", b"%b;r=%d;t=%d" % (policy.prefix, max(0, left), full_s))


def rate_headers(scope: Scope) -> Sequence[Header]:
    """What a good answer says of the limit that it was counted for."""
    headers: Sequence[Header] = scope.get(_RATE, ())
    return headers


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _counted(address: str) -> str:
    """The address as it is counted."""
    if ":" not in address or not _is_address(address):
        return address
    return str(ip_network((address.partition("%")[0], IPV6_NETWORK), strict=False))
