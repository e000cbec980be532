"""The simulated traders, without a service: what they do follows from the seed, fits the symbol and stays bounded."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest

from ome.demo.traders import LISTINGS, USERS, Cancel, Listing, Submit, Trading


def played(listing: Listing, seed: int, beats: int) -> tuple[Trading, list[list[Submit | Cancel]]]:
    """A market after so many turns of a third of a second, in which whatever rests stays; and what was done in each."""
    market, ids, turns = Trading(listing, seed), itertools.count(1), []
    for _ in range(beats):
        actions = market.beat(0.35)
        turns.append(actions)
        for action in actions:
            if isinstance(action, Cancel):
                market.ended(action.order_id)
            elif action.ticks:
                market.accepted(action, str(next(ids)))
    return market, turns


def test_the_same_seed_does_the_same() -> None:
    """Action by action; another seed does something else."""
    assert played(LISTINGS[0], 5, 50)[1] == played(LISTINGS[0], 5, 50)[1]
    assert played(LISTINGS[0], 5, 50)[1] != played(LISTINGS[0], 6, 50)[1]


@pytest.mark.parametrize("listing", LISTINGS, ids=lambda listing: listing.symbol)
def test_orders_fit_the_symbol_and_stay_bounded(listing: Listing) -> None:
    """Whole ticks and lots, demo users alone, a full book at once, and then a few actions a second and never a pile of orders."""
    market, turns = played(listing, 1, 400)
    for action in itertools.chain(*turns):
        if isinstance(action, Submit):
            order = action.order
            assert order["user_id"] in USERS
            for name, unit in (("quantity", listing.lot), ("price", listing.tick), ("stop_price", listing.tick)):
                amount = Decimal(str(order.get(name, unit)))
                assert amount > 0
                assert amount % unit == 0
    assert len(turns[0]) > 80
    assert sum(map(len, turns[1:])) / (len(turns) * 0.35) < 20
    assert len(market.resting) < 200


def test_an_order_that_ended_before_it_was_accepted_is_not_remembered() -> None:
    """Events overtake answers: what has ended already never counts as resting."""
    market = Trading(LISTINGS[0], 1)
    first = next(each for each in market.beat(0.1) if isinstance(each, Submit) and each.ticks)
    market.ended("7")
    market.accepted(first, "7")
    assert market.resting == {}
