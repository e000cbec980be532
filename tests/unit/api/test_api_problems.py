"""Problem documents, and the table that they all come from."""

from __future__ import annotations

import json
import re

import pytest

from ome.api.problems import MAX_ERRORS, FieldError, Problem, advice
from ome.domain.numbers import pack
from ome.domain.reasons import TABLE, Reason


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_makes_a_whole_problem(reason: Reason) -> None:
    """Each code has a status, a title, words of advice and a link; nothing of the template is left in it."""
    document = json.loads(Problem(reason, limit=pack(15050, 2)).render("POST", "/orders", "r-1"))
    assert document["status"] == TABLE[reason].status
    assert 200 <= document["status"] < 600
    assert document["type"] == f"/docs/problems#{document['code']}"
    assert re.fullmatch(r"[a-z][a-z_]*", document["code"])
    assert document["title"]
    assert document["detail"]
    assert "{" not in document["detail"]
    assert set(document) == {"type", "title", "status", "detail", "instance", "code", "outcome", "request_id"}


def test_reasons_run_in_the_order_of_the_checks() -> None:
    """The table's numbers ascend, and every reason has its row."""
    assert list(TABLE) == sorted(Reason)


def test_the_bound_that_was_missed_is_in_the_advice() -> None:
    """`limit` is a packed number, shown with its own decimals; without one the title speaks."""
    assert advice(Reason.PRICE_OFF_TICK, pack(1, 2)) == "A tick is 0.01; prices are never rounded."
    assert advice(Reason.PRICE_OFF_TICK) == "The price is not a whole number of ticks."


@pytest.mark.parametrize(
    ("reason", "method", "outcome"),
    [
        (Reason.OUTCOME_UNKNOWN, "POST", "unknown"),
        (Reason.INTERNAL_ERROR, "DELETE", "unknown"),
        (Reason.INTERNAL_ERROR, "GET", "not_executed"),
        (Reason.OVERLOADED, "POST", "not_executed"),
        (Reason.INVALID_REQUEST, "POST", "not_executed"),
    ],
)
def test_the_outcome_is_only_certain_where_it_is(reason: Reason, method: str, outcome: str) -> None:
    """DUR2: not_executed is said where it can be proven."""
    assert Problem(reason).document(method, "/", "r").outcome == outcome


def test_the_instance_is_a_short_reference() -> None:
    """Whatever the path was, `instance` is a URI reference of bounded length."""
    instance = Problem(Reason.ROUTE_NOT_FOUND).document("GET", "/a b\r\n\x00\ud800é" + "x" * 9999, "r").instance
    assert instance.startswith("/a%20b%0D%0A%00?".replace("?", "%3F"))
    assert re.fullmatch(r"[!-~]{1,800}", instance)


def test_field_errors_are_bounded() -> None:
    """A body full of nonsense doesn't get an answer that is larger still."""
    errors = [FieldError(f"f{number}", "is wrong") for number in range(1000)]
    assert len(json.loads(Problem(Reason.INVALID_REQUEST, errors=errors).render("POST", "/", "r"))["errors"]) == MAX_ERRORS
