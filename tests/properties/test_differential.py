"""Seeded random flow through engine and twin, compared after every command."""

from __future__ import annotations

from random import Random

import pytest

from ome.domain.reasons import Reason
from properties.flow import SECOND, Flow
from properties.pair import Pair
from properties.profiles import LONG

COMMANDS = 2_000
SEEDS = range(300) if LONG else range(10)


def run(seed: int, commands: int = COMMANDS, compare_every: int = 25, *, funded: bool = False) -> Pair:
    """One seed's commands through a pair; AssertionError, with the seed, where engine and twin part."""
    random = Random(seed)
    pair = Pair(shard=seed % 3)
    flow = Flow(random, shard_base=pair.twin.shard * 10**15, funded=funded)
    try:
        for command in flow.listing():
            pair.send(command)
        while len(pair.journal) < commands:
            pair.clock += random.choice([0, 0, 1, 1000, SECOND // 2, 2 * SECOND])
            pair.send(flow.next(len(pair.journal) + 1, pair.clock))
            if len(pair.journal) % compare_every == 0:
                pair.compare()
            if random.random() < 0.005:
                pair.restart()
    except Exception as error:
        raise AssertionError(f"seed {seed}, command {len(pair.journal)}: {error}") from error
    pair.compare()
    return pair


@pytest.mark.parametrize("seed", SEEDS)
def test_engine_and_twin_agree_on_every_command(seed: int) -> None:
    """M1-M7, A1-A7, T1-T3, T5, P1, P2, N3: whatever is sent, engine and specification tell the same and know the same."""
    pair = run(seed)
    assert pair.twin.trade_count > COMMANDS // 20, "flow that trades"


@pytest.mark.parametrize("seed", SEEDS)
def test_engine_and_twin_agree_on_all_money(seed: int) -> None:
    """F1-F4: with funds, after every command: everybody has the same of everything in both, nobody less than nothing, what is
    reserved is what the open orders imply, and all accounts of an asset, the venue's too, add up to zero.
    """
    pair = run(seed, funded=True)
    reasons = [order.reason for order in pair.twin.orders.values()]
    assert pair.twin.trade_count > COMMANDS // 50, "flow that trades"
    assert reasons.count(Reason.INSUFFICIENT_FUNDS) > COMMANDS // 200, "flow that runs out of money"
