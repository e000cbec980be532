"""The fuzzer's own small print, and a few examples of every operation: `make schemathesis` draws a thousand."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from fuzz.__main__ import a_part, run, share
from fuzz.accepted import why_accepted

QUICK: Final = ("--workers", "2", "--no-shrink")


def refused(code: str, *messages: str) -> bytes:
    """A problem with these field errors."""
    return json.dumps({"code": code, "errors": [{"field": "x", "message": message} for message in messages]}).encode()


@pytest.mark.timeout(300)
def test_a_few_examples_of_every_operation_pass_every_check() -> None:
    """The same ones each time."""
    assert run([*QUICK, "--max-examples", "3", "--phases", "examples,fuzzing", "--generation-deterministic"]) == 0


def test_every_operation_is_in_one_of_the_parts() -> None:
    """As many parts as one likes."""
    names = [f"GET /{number}" for number in range(11)]
    assert sorted(name for number in range(1, 5) for name in share(names, number, 4)) == sorted(names)
    assert a_part("3/4") == (3, 4)


@pytest.mark.long
@pytest.mark.parametrize("keyed", [False, True])
def test_every_boundary_of_the_document_passes_every_check(keyed: bool) -> None:
    """With a key too: what is asked without it is refused where the document says so."""
    assert run([*QUICK, "--max-examples", "20", "--generation-deterministic"], key=keyed) == 0


@pytest.mark.parametrize(
    ("failure", "path", "status", "content", "accepted"),
    [
        ("RejectedPositiveData", "/orders", 422, refused("price_off_tick"), True),
        ("RejectedPositiveData", "/orders", 422, refused("not_supported"), True),
        ("RejectedPositiveData", "/orders", 422, refused("invalid_request", "has 14 decimals; at most 9 are kept"), True),
        ("RejectedPositiveData", "/orders", 422, refused("invalid_request", "has 14 decimals; at most", "is required"), False),
        ("RejectedPositiveData", "/orders", 422, refused("invalid_request", "must be a string"), False),
        ("RejectedPositiveData", "/orders", 400, refused("malformed_json"), False),
        ("RejectedPositiveData", "/orders", 422, refused("malformed_json"), False),
        ("RejectedPositiveData", "/orders/{order_id}", 405, b'{"instance": "/orders/batch"}', True),
        ("RejectedPositiveData", "/orders/{order_id}", 405, b'{"instance": "/orders/1"}', False),
        ("AcceptedNegativeData", "/orders/batch", 200, b'{"results": [{"status": 422, "problem": {}}]}', True),
        ("AcceptedNegativeData", "/orders/batch", 200, b'{"results": [{"status": 201, "order": {}}]}', False),
        ("AcceptedNegativeData", "/orders", 201, b"{}", False),
        ("UseAfterFree", "/orders/{order_id}/explain", 200, b"{}", True),
        ("UseAfterFree", "/keys/{key_id}", 409, b"{}", True),
        ("UseAfterFree", "/instruments/{symbol}", 200, b"{}", False),
        ("ServerError", "/orders", 500, b"{}", False),
    ],
)
def test_a_failure_is_dropped_for_a_reason_or_stands(failure: str, path: str, status: int, content: bytes, accepted: Any) -> None:
    """Only what no schema can say, and what the contract wants so."""
    assert (why_accepted(failure, path, status, content) is not None) is accepted
