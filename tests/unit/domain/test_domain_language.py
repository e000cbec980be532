"""Ids, time, reasons, statuses and the bytes of the journal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack, structs

from ome.domain.batch import CHAIN_START, Batch, chain_hash, hash_text
from ome.domain.clock import LAST_MOMENT_US, format_time, now_us, parse_time
from ome.domain.commands import (
    AdvanceTime,
    CancelOrder,
    CancelOrders,
    Configure,
    DefineInstrument,
    ModifyOrder,
    NewOrder,
    Stamped,
    decode_commands,
    encode_commands,
)
from ome.domain.enums import LAST_OPEN, MarketState, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.ids import MAX_ID, SHARD_STEP, make_id, parse_id
from ome.domain.reasons import TABLE, Reason
from ome.domain.records import EngineSettings, OrderRecord, SpecialTerms, TradeRecord

moments = st.integers(0, LAST_MOMENT_US)
ids = st.integers(1, MAX_ID)
maybe_numbers = st.none() | st.integers(0, 2**63 - 1)
maybe_steps = st.none() | st.integers(0, 10**6)
terms = st.builds(
    SpecialTerms,
    maybe_numbers,
    maybe_numbers,
    maybe_numbers,
    maybe_numbers,
    st.booleans(),
    maybe_numbers,
    maybe_numbers,
    maybe_steps,
)
commands = st.one_of(
    st.builds(
        NewOrder, st.text(), st.text(), st.sampled_from(Side), st.sampled_from(OrderType), st.sampled_from(TimeInForce), ids,
        maybe_numbers, st.sampled_from(SelfTradePrevention), st.none() | st.text(), maybe_numbers, st.none() | terms,
    ),
    st.builds(ModifyOrder, ids, st.booleans(), *[maybe_numbers] * 8),
    st.builds(CancelOrder, ids, st.booleans()),
    st.builds(
        DefineInstrument, st.text(), maybe_numbers, maybe_numbers, st.none() | st.sampled_from(MarketState), maybe_numbers,
        maybe_numbers, maybe_steps, maybe_steps,
    ),
    st.builds(Configure, st.builds(EngineSettings, st.booleans(), st.integers(0, 10**9), st.integers(1, 10**6))),
    st.just(AdvanceTime()),
    st.builds(
        CancelOrders, st.none() | st.text(), st.none() | st.text(), st.none() | st.sampled_from(Side), st.integers(1, 10**6)
    ),
)  # fmt: skip


class TestIds:
    """Ids carry their shard, and only their own text is theirs."""

    @given(st.integers(0, 1000), st.integers(1, SHARD_STEP - 1))
    def test_ids_of_different_shards_never_meet(self, shard: int, number: int) -> None:
        """M3: an id tells its shard and its number."""
        assert divmod(make_id(shard, number), SHARD_STEP) == (shard, number)

    @given(ids)
    def test_an_id_reads_back(self, value: int) -> None:
        """An id is its own digits."""
        assert parse_id(str(value)) == value

    @pytest.mark.parametrize(
        "text",
        ["", "0", "-1", "+1", "01", " 1", "1 ", "1.0", "1e3", "1_0", "a", "²", "\u0661", "9223372036854775808", "9" * 5000],
    )
    def test_what_can_be_no_id_is_nobodys(self, text: str) -> None:
        """Any other text names no order, and is no error."""
        assert parse_id(text) is None


class TestTime:
    """RFC 3339 in, RFC 3339 in UTC with microseconds out."""

    @given(moments)
    def test_time_reads_back_to_the_microsecond(self, moment: int) -> None:
        """What is written is read back."""
        text = format_time(moment)
        assert parse_time(text) == moment
        assert text == (datetime(1970, 1, 1) + timedelta(microseconds=moment)).isoformat(timespec="microseconds") + "Z"  # noqa: DTZ001

    @given(st.datetimes(datetime(1971, 1, 1), datetime(9998, 1, 1)), st.integers(-23 * 60, 23 * 60))  # noqa: DTZ001
    def test_zones_are_taken_off(self, local: datetime, minutes: int) -> None:
        """A time with a zone is the same moment in UTC."""
        moment = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
        assert format_time(parse_time(moment.isoformat())) == f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z".zfill(27)

    @pytest.mark.parametrize(
        ("text", "micro"),
        [("2026-11-22T10:00:00.1Z", 100000), ("2026-11-22t10:00:00.123456789z", 123456), ("2026-11-22 10:00:00Z", 0)],
    )
    def test_forms_that_rfc_3339_allows(self, text: str, micro: int) -> None:
        """Small letters, a space, fewer or more decimals."""
        assert parse_time(text) == 1_795_341_600_000_000 + micro

    @pytest.mark.parametrize(
        "text",
        [
            "", "now", "2026-11-22", "2026-11-22T10:00:00", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T10:60:00Z", "2026-11-22T10:00:60Z", "2026-11-22T10:00:00+24:00", "2026-11-22T10:00:00+00:60",
            "2026-11-22T10:00:00.Z", "1969-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00", "٢٠٢٦-11-22T10:00:00Z", "1763805600", "2026-11-22T10:00:00Z\n",
        ],
    )  # fmt: skip
    def test_what_names_no_moment_is_refused(self, text: str) -> None:
        """Text that names no moment that can be kept is a ValueError with a sentence, never another error."""
        with pytest.raises(ValueError, match=r"\w"):
            parse_time(text)

    def test_the_clock_counts_microseconds(self) -> None:
        """The wall clock is the datetime module's, in microseconds."""
        before = datetime.now(UTC).timestamp() * 1e6
        assert before - 1000 <= now_us() <= before + 60e6


class TestReasons:
    """One closed table, and nothing else is ever answered."""

    def test_the_table_is_complete(self) -> None:
        """Every reason has its row, and every row its reason."""
        assert list(TABLE) == list(Reason)

    @pytest.mark.parametrize("reason", Reason)
    def test_every_row_says_what_to_do(self, reason: Reason) -> None:
        """A code in lower snake case, a status, words, and a rule's id where one is named."""
        info = TABLE[reason]
        assert reason.code.replace("_", "").isalnum()
        assert reason.code == reason.code.lower()
        assert info.status == 200 if reason >= 900 else 400 <= info.status < 600
        assert info.title
        assert info.advice.endswith((".", ";"))
        assert not info.rule or (info.rule[0].isupper() and info.rule[1:].isdigit())
        assert "{" not in info.advice.replace("{limit}", "")

    def test_checks_are_numbered_in_their_order(self) -> None:
        """Numbers never repeat and rise in the order of the table, a hundred to each stage."""
        assert sorted(Reason) == list(Reason)
        assert len({reason.code for reason in Reason}) == len(Reason)


class TestRecords:
    """What is kept can be told apart and read back."""

    def test_open_statuses_come_first(self) -> None:
        """N3: PENDING, PARTIALLY_FILLED and PENDING_TRIGGER are open, every other status is not."""
        opened = [status for status in OrderStatus if status <= LAST_OPEN]
        assert opened == [OrderStatus.PENDING, OrderStatus.PARTIALLY_FILLED, OrderStatus.PENDING_TRIGGER]

    @pytest.mark.parametrize(("taker", "maker_id"), [(Side.BUY, 2), (Side.SELL, 1)])
    def test_a_trade_knows_its_maker(self, taker: Side, maker_id: int) -> None:
        """The maker is the order on the other side of the taker's."""
        trade = TradeRecord(1, "X", 10, 10, 1, 2, taker, 0, 1, 1)
        assert (trade.maker_order_id, trade.taker_order_id) == (maker_id, 3 - maker_id)

    @pytest.mark.parametrize(("buy_id", "sell_id"), [(1, 2), (2, 1)])
    def test_the_older_order_is_an_auctions_maker(self, buy_id: int, sell_id: int) -> None:
        """H3: where nobody took, the older of the two orders is the maker."""
        trade = TradeRecord(1, "X", 10, 10, buy_id, sell_id, None, 0, 1, 1)
        assert (trade.maker_order_id, trade.taker_order_id) == (1, 2)

    @given(st.lists(st.builds(Stamped, ids, moments, commands), max_size=20))
    def test_every_command_reads_back_from_the_journal(self, journal: list[Stamped]) -> None:
        """M6: a command means the same after it was written down, with types and options as they were."""
        again = decode_commands(encode_commands(journal))
        assert again == journal
        assert [type(stamped.command) for stamped in again] == [type(stamped.command) for stamped in journal]

    def test_older_commands_can_be_read_for_ever(self) -> None:
        """Fields are added at the end, with a default: a shorter row of an earlier version is read."""
        short = msgpack.encode([[1, 5, [1, "ann", "X", 0, 0, 0, 10]], [2, 6, [3, 1, True]]])
        new = NewOrder("ann", "X", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, 10)
        assert decode_commands(short) == [Stamped(1, 5, new), Stamped(2, 6, CancelOrder(1, exists=True))]


class TestChain:
    """The journal's chain covers a batch's place, time and commands."""

    batch = Batch(1, 2, 3, 0, 0, EngineSettings(), 9, b"commands", b"events", [], [], [], [], [])

    @pytest.mark.parametrize(
        "change", [{"commands": b"other"}, {"first_position": 0}, {"last_position": 3}, {"time": 4}]
    )  # fmt: skip
    def test_a_changed_batch_has_another_hash(self, change: dict[str, object]) -> None:
        """What is changed shows."""
        assert chain_hash(CHAIN_START, structs.replace(self.batch, **change)) != chain_hash(CHAIN_START, self.batch)

    def test_the_hash_depends_on_all_before_it(self) -> None:
        """A row that is lost or moved shows in every hash behind it."""
        first = chain_hash(CHAIN_START, self.batch)
        assert len(first) == len(CHAIN_START) == 32
        assert chain_hash(first, self.batch) != first

    def test_state_hashes_are_written_with_all_their_digits(self) -> None:
        """16 hex digits."""
        assert (hash_text(255), hash_text(2**64 - 1)) == ("00000000000000ff", "f" * 16)


def test_an_order_record_is_open_by_its_status() -> None:
    """`is_open` follows the status alone."""
    record = OrderRecord(
        1, "ann", "X", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, 10, 10, 0, "0", 10, OrderStatus.PENDING, None, 1, 1,
        SelfTradePrevention.NONE, None, None, 0, 0,
    )  # fmt: skip
    assert [structs.replace(record, status=status).is_open for status in OrderStatus] == [True, True, True] + [False] * 4
