"""The shard map: which shard a symbol belongs to."""

from __future__ import annotations

from collections import Counter

from ome.domain.shards import ShardMap, highest

SYMBOLS = [f"SYM{number}" for number in range(3000)]


def test_every_copy_of_the_map_draws_the_same_shard_for_a_symbol_nobody_has_listed() -> None:
    """The draw depends on the name and the number of shards alone: these must stay as they are for ever."""
    assert [highest(symbol, 4) for symbol in ("AAPL", "MSFT", "BTC-USD", "X")] == [
        ShardMap("a", 1, 4, {}).shard_of(symbol) for symbol in ("AAPL", "MSFT", "BTC-USD", "X")
    ]
    assert [highest(symbol, 2) for symbol in ("AAPL", "MSFT", "GOOG", "TSLA")] == [1, 0, 1, 0]


def test_symbols_spread_evenly() -> None:
    """Each of four shards has about a quarter."""
    counts = Counter(highest(symbol, 4) for symbol in SYMBOLS)
    assert sorted(counts) == [0, 1, 2, 3]
    assert all(650 < count < 850 for count in counts.values())


def test_one_shard_more_takes_its_share_and_leaves_the_rest_where_it_is() -> None:
    """No symbol changes between shards that were there before."""
    before = {symbol: highest(symbol, 3) for symbol in SYMBOLS}
    after = {symbol: highest(symbol, 4) for symbol in SYMBOLS}
    moved = [symbol for symbol in SYMBOLS if before[symbol] != after[symbol]]
    assert {after[symbol] for symbol in moved} == {3}
    assert 650 < len(moved) < 850


def test_what_the_database_says_goes_before_the_draw() -> None:
    """A symbol that is listed or was moved is where its row says."""
    other = 1 - highest("AAPL", 2)
    assert ShardMap("a", 1, 2, {"AAPL": other}).shard_of("AAPL") == other
