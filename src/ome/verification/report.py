"""What a verification tells: the differences, in sentences, and what was looked at."""

from __future__ import annotations

from typing import Final

from msgspec import Struct, json, structs

SHOWN: Final = 20
"""How many differences the report spells out."""


class Difference(Struct, frozen=True):
    """Something stored that isn't what the journal makes.

    `position` is where it shows: that of the command, the last one of the batch, or for what only the end shows the last of all;
    None for what has none (a damaged page). `what` names the row, `column` the column, if one is to blame; `stored` and
    `replayed` are the two sides, empty where there is none. `text` says it all in a sentence.
    """

    position: int | None
    table: str
    what: str
    column: str | None
    stored: str
    replayed: str
    text: str


class Shard(Struct, frozen=True):
    """One shard's history, as far as it was replayed; `begins_after` is where a trimmed journal begins, 0 for a whole one."""

    shard: int
    begins_after: int
    epoch: int
    incarnation: str
    position: int
    state_hash: str
    chain_hash: str


class Report(Struct, frozen=True):
    """What came of a verification. `differences` are the first ones by position, `difference_count` all that were found;
    `is_complete` says whether the journal could be replayed to its end. `seconds` is the whole time, a copy's included.
    """

    database: str
    shards: list[Shard]
    batches: int
    positions: int
    orders: int
    open_orders: int
    trades: int
    events: int
    differences: list[Difference]
    difference_count: int
    is_complete: bool
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether everything stored is what the journal makes."""
        return not self.difference_count

    @property
    def first(self) -> Difference | None:
        """The first difference: by position, those without one before all."""
        return self.differences[0] if self.differences else None

    def problems(self) -> list[str]:
        """The differences as sentences."""
        return [difference.text for difference in self.differences]

    def as_json(self) -> str:
        """The report as a JSON object: every field, and `ok`."""
        return json.encode({"ok": self.ok, **structs.asdict(self)}).decode()

    def lines(self) -> list[str]:
        """The report in words."""
        rate = self.positions / self.seconds if self.seconds else 0.0
        text = [
            f"database      {self.database}",
            f"positions     {self.positions:,} in {self.batches:,} batches, {self.seconds:,.1f} s ({rate:,.0f} per second)",
            f"orders        {self.orders:,}, {self.open_orders:,} of them open",
            f"trades        {self.trades:,}",
            f"events        {self.events:,}",
        ]
        text += [
            f"shard {each.shard}       position {each.position}, state hash {each.state_hash}, chain {each.chain_hash[:16]}...,"
            f" epoch {each.epoch}, incarnation {each.incarnation}"
            for each in self.shards
        ]
        text += [
            f"shard {each.shard}       the journal was trimmed: it begins after position {each.begins_after}, with a snapshot;"
            " what had ended by then was not compared"
            for each in self.shards
            if each.begins_after
        ]
        if self.ok:
            return [*text, "Everything stored is what the journal makes."]
        text.append(f"{self.difference_count:,} differences; the first:" if self.difference_count > 1 else "A difference:")
        text += [f"  {sentence}" for sentence in self.problems()[:SHOWN]]
        if not self.is_complete:
            text.append("The journal could not be replayed beyond this: what comes after it was not compared.")
        return text
