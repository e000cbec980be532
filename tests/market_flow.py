"""Random commands around one price, for what is folded from an engine's events."""

from __future__ import annotations

import random

from ome.domain.commands import CancelOrder, Command, DefineInstrument, ModifyOrder, NewOrder
from ome.domain.enums import OrderType, Side, TimeInForce
from ome.domain.numbers import parse


def random_command(rng: random.Random, position: int) -> Command:
    """An order, cancel or modify around one price, or now and then a new instrument."""
    kind, quantity, price = rng.random(), rng.randrange(1, 9) * 10, rng.randrange(95, 106) * 10
    if kind < 0.55 or position < 10:
        side, tif = rng.choice(list(Side)), rng.choice([TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK])
        symbol = rng.choice(["AAA", "BBB"])
        return NewOrder(f"u{rng.randrange(5)}", symbol, side, OrderType.LIMIT, tif, quantity, price)
    if kind < 0.75:
        return CancelOrder(rng.randrange(1, position), exists=True)
    if kind < 0.98:
        return ModifyOrder(rng.randrange(1, position), exists=True, quantity=quantity, price=price)
    return DefineInstrument(rng.choice(["AAA", "BBB", "CCC"]), parse("0.5"), parse("1"))
