"""What an operator's definition of an instrument makes of the rules that it had."""

from __future__ import annotations

from msgspec import structs

from ome.domain.commands import DefineInstrument
from ome.domain.records import InstrumentRules


def changed_rules(rules: InstrumentRules, command: DefineInstrument) -> InstrumentRules:
    """The rules with what the command gives; 0 takes a rule away, what is left out stays."""
    given = {
        "max_order_quantity": command.max_order_quantity,
        "price_band_percent": command.price_band_percent,
        "band_halt_s": command.band_halt_s,
        "session_close_s": command.session_close_s,
        "base_asset": command.base_asset,
        "quote_asset": command.quote_asset,
        "maker_fee_bps": command.maker_fee_bps,
        "taker_fee_bps": command.taker_fee_bps,
    }
    may_go = ("max_order_quantity", "price_band_percent", "base_asset", "quote_asset")
    taken_away = {name: None for name in may_go if given[name] in {0, ""}}
    return structs.replace(rules, **{name: value for name, value in given.items() if value is not None} | taken_away)
