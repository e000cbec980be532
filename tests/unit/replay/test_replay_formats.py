"""Venues' files as rows: what each message becomes, what is inferred, and what a file that isn't right is told."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import databento_dbn as dbn
import pytest

import venue_files as files
from ome.domain.enums import Side
from ome.domain.numbers import parse
from ome.replay import FlowError, ReplayError, generate, replay_file
from ome.replay.driver import Market
from ome.replay.flow import Op, Row, read_rows
from ome.replay.formats import FlowFormat, Named, format_of, named, read

MARKET = Market("X", parse("0.01"), parse("1"))
BUY, SELL = Side.BUY, Side.SELL


def _rows(path: Path, form: FlowFormat) -> list[tuple[Op, int, Side, int, int]]:
    return [(row.op, row.order_id, row.side, row.price, row.quantity) for row in read(path, form, MARKET, files.DAY)]


def _written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """2,000 rows of generated flow, one EXECUTE for each fill."""
    return list(read_rows(generate(tmp_path_factory.mktemp("flow") / "X.csv", rows=2000, seed=3, kind="replay").path))


def _as_nasdaq_numbers(rows: list[Row]) -> Iterator[Row]:
    """The same with numbers in the order of arrival, a replacement being a cancel and a new order."""
    numbers: dict[int, int] = {}
    resting: dict[int, tuple[int, int]] = {}
    latest = 0
    for row in rows:
        price, left = resting.get(row.order_id, (row.price, 0))
        if row.op in {Op.CANCEL, Op.PURGE, Op.REPLACE}:
            yield Row(row.seq, row.ts_ns, Op.CANCEL, numbers[row.order_id], row.side, price, left)
        if row.op in {Op.ADD, Op.SEED, Op.REPLACE}:
            latest += 1
            numbers[row.order_id] = latest
            resting[row.order_id] = (row.price, row.quantity)
            yield Row(row.seq, row.ts_ns, Op.ADD, latest, row.side, row.price, row.quantity)
        elif row.op in {Op.REDUCE, Op.EXECUTE}:
            resting[row.order_id] = (price, left - row.quantity)
            yield Row(row.seq, row.ts_ns, row.op, numbers[row.order_id], row.side, price, row.quantity)


async def test_itch_gives_back_what_was_written_and_the_engine_agrees(tmp_path: Path, flow: list[Row]) -> None:
    """Every row of a flow comes back from an ITCH file under its first number and time, and each execution hits its order."""
    path = tmp_path / "01022024.NASDAQ_ITCH50.gz"
    path.write_bytes(gzip.compress(files.itch_file(flow)))
    back = list(read(path, format_of(path), MARKET, named(path, FlowFormat.ITCH).day))
    kept = {Op.SEED: Op.ADD, Op.PURGE: Op.CANCEL}
    expected = [(row.ts_ns, kept.get(row.op, row.op), row.order_id, row.side) for row in flow]
    assert [(row.ts_ns, row.op, row.order_id, row.side) for row in back] == expected
    entered = (Op.ADD, Op.REPLACE, Op.EXECUTE, Op.REDUCE)
    amounts = [(row.price, row.quantity) for row in flow if kept.get(row.op, row.op) in entered and row.op is not Op.REDUCE]
    assert [(row.price, row.quantity) for row in back if row.op in entered and row.op is not Op.REDUCE] == amounts
    report = await replay_file(path, in_process=True, symbol="x")
    assert report.disagreements == []
    assert (report.rows, report.fill_rows) == (len(flow), sum(row.op is Op.EXECUTE for row in flow))
    assert report.trades > 20


async def test_lobster_gives_back_what_was_written_and_the_engine_agrees(tmp_path: Path, flow: list[Row]) -> None:
    """Every message comes back with its time, and each execution hits the order that it names."""
    rows = list(_as_nasdaq_numbers(flow))
    name = "X_2024-01-02_34200000_57600000_message_10.csv"
    path = _written(tmp_path / name, "".join(map(files.lobster_line, rows)))
    back = list(read(path, format_of(path), MARKET, files.DAY))
    assert [(r.ts_ns, r.op, r.order_id, r.side) for r in back] == [(r.ts_ns, r.op, r.order_id, r.side) for r in rows]
    report = await replay_file(path, in_process=True)
    assert report.disagreements == []
    assert report.trades > 20


async def test_lobster_orders_from_before_the_file_are_seeded(tmp_path: Path, flow: list[Row]) -> None:
    """Without the starting book's lines, its orders are seeded in the order of their numbers, and executions still hit them."""
    seeded = set(range(1, 1 + sum(row.op is Op.SEED for row in flow)))
    rows = [row for row in _as_nasdaq_numbers(flow) if row.op is not Op.ADD or row.order_id not in seeded]
    path = _written(tmp_path / "X_2024-01-02_0_0_message_10.csv", "".join(map(files.lobster_line, rows)))
    back = list(read(path, FlowFormat.LOBSTER, MARKET, files.DAY))
    named_later = {row.order_id for row in rows} & seeded
    assert [row.order_id for row in back if row.op is Op.SEED] == sorted(named_later)
    assert len(named_later) > 100
    report = await replay_file(path, in_process=True)
    assert report.disagreements == []


async def test_dbn_gives_back_what_was_written_and_the_engine_agrees(tmp_path: Path, flow: list[Row]) -> None:
    """Every row of a flow comes back from an MBO file, fills once and not twice, and each hits its order."""
    path = _written(tmp_path / "day.dbn", files.dbn_file(flow))
    assert named(path, FlowFormat.DBN) == Named("X", files.DAY)
    back = list(read(path, format_of(path), MARKET, None))
    kept = {Op.PURGE: Op.CANCEL}
    assert [(r.ts_ns, r.op, r.order_id) for r in back] == [(r.ts_ns, kept.get(r.op, r.op), r.order_id) for r in flow]
    report = await replay_file(path, in_process=True)
    assert report.disagreements == []
    assert report.trades > 20


def test_a_compressed_dbn_file_is_read(tmp_path: Path, flow: list[Row]) -> None:
    """What Databento delivers is compressed by Zstandard: the same rows."""
    plain = _written(tmp_path / "day.dbn", files.dbn_file(flow[:50]))
    packed = tmp_path / "day.dbn.zst"
    with packed.open("wb") as file:
        transcoder = dbn.Transcoder(file, encoding=dbn.Encoding("dbn"), compression=dbn.Compression("zstd"))
        transcoder.write(plain.read_bytes())
        transcoder.flush()
    assert packed.read_bytes()[:4] == bytes.fromhex("28b52ffd")
    assert _rows(packed, format_of(packed)) == _rows(plain, format_of(plain))


def test_itch_executions_off_the_continuous_market_only_take_quantity(tmp_path: Path) -> None:
    """One at a price given is executed at the order's own; one that a cross prints as a whole, and no trade, is a reduction."""
    at = struct.pack(">QIQ1sI", 1, 10, 1, b"Y", 999_900)
    in_cross = struct.pack(">QIQ1sI", 1, 20, 1, b"N", 999_900)
    with_mpid = files.itch_add(1, BUY, 100, 10_000)[2:].replace(b"A", b"F", 1) + b"MPID"
    messages = files.itch_directory("X") + len(with_mpid).to_bytes(2, "big") + with_mpid
    messages += files.itch_message(b"C", at) + files.itch_message(b"C", in_cross)
    messages += files.itch_message(b"Q", bytes(29)) + files.itch_message(b"D", struct.pack(">Q", 77))
    assert _rows(_written(tmp_path / "x.itch", messages + bytes(2)), FlowFormat.ITCH) == [
        (Op.ADD, 1, BUY, 10_000, 100),
        (Op.EXECUTE, 1, BUY, 10_000, 10),
        (Op.REDUCE, 1, BUY, 10_000, 20),
    ]


def test_lobster_orders_deleted_out_of_sight_are_purged(tmp_path: Path) -> None:
    """An order that would have to trade before one that did, or with one that came to rest, has gone."""
    lines = (
        "34200.000000001,1,11,100,1000000,1\n"  # 100.00, in the way of the execution at 99.99
        "34200.000000002,1,12,100,999900,1\n"
        "34200.000000003,4,12,40,999900,1\n"
        "34200.000000004,5,0,10,999900,1\n"  # a hidden order's execution: nothing visible moves
        "34200.000000005,1,13,50,1000100,-1\n"  # 100.01, crossed by what comes to rest next
        "34200.000000006,1,14,50,1000200,1\n"
        "34200.000000007,3,13,50,1000100,-1\n"  # comes too late: it has been purged
        "34200.000000008,7,0,0,-1,-1\n"
    )
    assert _rows(_written(tmp_path / "x_message_1.csv", lines), FlowFormat.LOBSTER) == [
        (Op.ADD, 11, BUY, 10_000, 100),
        (Op.ADD, 12, BUY, 9_999, 100),
        (Op.PURGE, 11, BUY, 10_000, 100),
        (Op.EXECUTE, 12, BUY, 9_999, 40),
        (Op.ADD, 13, SELL, 10_001, 50),
        (Op.PURGE, 13, SELL, 10_001, 50),
        (Op.ADD, 14, BUY, 10_002, 50),
    ]


def test_dbn_fills_beyond_what_was_visible_and_changes_of_orders(tmp_path: Path) -> None:
    """An iceberg's fill takes what was visible, and its next slice is a replacement; a modified stranger is added; R clears."""
    records = [
        files.mbo("A", 1, BUY, 100, 10),
        files.mbo("F", 1, BUY, 100, 15, last=False),
        files.mbo("M", 1, BUY, 100, 10),  # the next slice: filled away above, so it is added
        files.mbo("M", 2, SELL, 110, 5),
        files.mbo("M", 2, SELL, 109, 5),
        files.mbo("C", 2, SELL, 109, 2),
        files.mbo("C", 99, SELL, 109, 2),
        files.mbo("F", 99, SELL, 109, 2),
        files.mbo("R", 0, BUY, 1, 0),
    ]
    path = _written(tmp_path / "x.dbn", files.dbn_metadata({"X": 2}) + b"".join(records))
    assert _rows(path, FlowFormat.DBN) == [
        (Op.ADD, 1, BUY, 100, 10),
        (Op.EXECUTE, 1, BUY, 100, 10),
        (Op.ADD, 1, BUY, 100, 10),
        (Op.ADD, 2, SELL, 110, 5),
        (Op.REPLACE, 2, SELL, 109, 5),
        (Op.REDUCE, 2, SELL, 109, 2),
        (Op.PURGE, 1, BUY, 100, 10),
        (Op.PURGE, 2, SELL, 109, 3),
    ]


@pytest.mark.parametrize(
    ("name", "form", "own"),
    [
        ("GOOG_2012-06-21_34200000_57600000_message_10.csv", FlowFormat.LOBSTER, Named("GOOG", date(2012, 6, 21))),
        ("x_message_1.csv", FlowFormat.LOBSTER, Named(None, None)),
        ("S013019-v50.txt.gz", FlowFormat.ITCH, Named(None, date(2019, 1, 30))),
        ("01302019.NASDAQ_ITCH50.gz", FlowFormat.ITCH, Named(None, date(2019, 1, 30))),
        ("day.itch", FlowFormat.ITCH, Named(None, None)),
        ("GOOG.replay.csv.gz", FlowFormat.CSV, Named("GOOG", None)),
    ],
)
def test_a_name_tells_format_symbol_and_day(name: str, form: FlowFormat, own: Named) -> None:
    """As venues name their files."""
    assert format_of(Path(name)) is form
    assert named(Path(name), form) == own


async def test_what_a_name_does_not_tell_is_asked_for(tmp_path: Path) -> None:
    """A format, a symbol or a day that is missing is an error that says which option gives it."""
    with pytest.raises(FlowError, match="no known format; say which it is: csv, lobster, itch, dbn"):
        format_of(Path("day.bin"))
    path = _written(tmp_path / "x.itch", files.itch_file([]))
    with pytest.raises(ReplayError, match="--symbol"):
        await replay_file(path, in_process=True)
    with pytest.raises(FlowError, match="--date"):
        await replay_file(path, in_process=True, symbol="X")
    with pytest.raises(FlowError, match="holds no symbol Y"):
        await replay_file(path, in_process=True, symbol="Y", day=files.DAY)
    two = _written(tmp_path / "two.dbn", files.dbn_metadata({"X": 2, "Y": 3}))
    with pytest.raises(ReplayError, match="--symbol"):
        await replay_file(two, in_process=True)
    with pytest.raises(FlowError, match="holds no symbol Z, but X, Y; give --symbol"):
        await replay_file(two, in_process=True, symbol="Z")
    for wrong in ("X_2024-13-02_0_0_message_1.csv", "S139919-v50"):
        with pytest.raises(FlowError, match="month must be in"):
            named(Path(wrong), format_of(Path(wrong)))


ADD = files.itch_add(1, BUY, 5, 100)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("x_message_1.csv", b"34200.1,1,11,100\n", r"line 1: .*there must be 6 columns"),
        ("x_message_1.csv", b"34200.1,9,11,100,100,1\n", r"line 1: .*there is no type 9"),
        ("x_message_1.csv", b"34200.1,1,11,100,1000000,2\n", r"line 1: .*can't be read"),
        ("x_message_1.csv", b"34200.1,1,11,100,1000050,1\n", r"line 1: .*no multiple of the tick; give its size with --tick"),
        ("x_message_1.csv", b"34200.1,1,11,0,1000000,1\n", r"line 1: .*no multiple of the lot; give its size with --lot"),
        ("x_message_1.csv", b"\xff\n", r"line 1: .*can't be read"),
        ("x.itch", files.itch_directory("X") + ADD[:-1], r"ends within a message, 37 bytes of it are there"),
        ("x.itch", files.itch_directory("X") + files.itch_message(b"D", b"1234"), r"message 2: .*type D has 19 bytes, not 15"),
        ("x.itch", files.itch_directory("X") + ADD.replace(b"B", b"?"), r"message 2: "),
        ("x.itch.gz", b"no gzip", r"Not a gzipped file"),
        ("x.dbn", b"no metadata at all", r"invalid DBN header"),
        ("x.dbn", b"", r"does not begin with DBN metadata"),
        ("x.dbn", files.dbn_metadata({"X": 2}) + files.mbo("A", 1, BUY, 100, 5)[:-9], r"ends within a record, 47 bytes"),
        ("x.dbn", files.dbn_metadata({"X": 2}) + files.mbo("A", 1, BUY, 100, 0), r"record 1: .*no multiple of the lot"),
    ],
)
def test_a_file_that_is_not_right_is_told_where(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    """The error names the file, the line or message, and what was wrong with it."""
    path = _written(tmp_path / name, content)
    with pytest.raises(FlowError, match=complaint) as caught:
        list(read(path, format_of(path), MARKET, files.DAY))
    assert str(path) in str(caught.value)
