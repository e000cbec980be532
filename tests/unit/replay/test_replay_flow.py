"""Files of order flow are read and written as their format says."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ome.domain.enums import Side
from ome.replay.errors import FlowError
from ome.replay.flow import (
    FLOW_HEADER,
    Fill,
    Op,
    Row,
    companion_path,
    companions,
    count_rows,
    flow_name,
    read_checkpoints,
    read_mismatches,
    read_rows,
    read_tape,
    write_rows,
)

ROWS = [
    Row(0, 1_340_285_405_266_040_346, Op.SEED, 16_160_421, Side.BUY, 57_912, 100),
    Row(1, 1_340_285_405_266_040_347, Op.ADD, 1_020_000_000_001_745, Side.SELL, 57_959, 5_000_000_000),
    Row(2, 1_340_285_405_266_040_347, Op.TAKE, 3, Side.SELL, 57_912, 1),
]


@pytest.mark.parametrize("name", ["flow.csv", "flow.sweeps.csv.gz"])
def test_rows_written_are_the_rows_read(tmp_path: Path, name: str) -> None:
    """What is written, compressed or not, is read back equal, ids and quantities beyond 32 bits included."""
    path = tmp_path / name
    assert write_rows(path, ROWS) == 3
    assert list(read_rows(path)) == ROWS
    assert count_rows(path) == 3


def test_a_written_flow_has_the_columns_of_the_format(tmp_path: Path) -> None:
    """The text is the format's, header and letters included."""
    path = tmp_path / "flow.csv.gz"
    write_rows(path, ROWS[:1])
    text = gzip.decompress(path.read_bytes()).decode()
    assert text == "seq,ts_ns,op,order_id,side,price,quantity\n0,1340285405266040346,SEED,16160421,B,57912,100\n"


def test_equal_rows_make_equal_bytes(tmp_path: Path) -> None:
    """A compressed file holds neither its name nor the time of writing."""
    for name in ("one.csv.gz", "other.csv.gz"):
        write_rows(tmp_path / name, ROWS)
    assert (tmp_path / "one.csv.gz").read_bytes() == (tmp_path / "other.csv.gz").read_bytes()


@pytest.mark.parametrize(
    "line",
    [
        "1,2,ADD,3,B,100",
        "1,2,ADD,3,B,100,5,6",
        "1,2,ADDED,3,B,100,5",
        "1,2,ADD,3,X,100,5",
        "1,2,ADD,three,B,100,5",
        "1,2,ADD,3,B,100.5,5",
        "1,2,ADD,3,B,-100,5",
        "",
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: str) -> None:
    """A line with the wrong columns, words or numbers is refused, with its place in the file."""
    path = tmp_path / "flow.csv"
    path.write_text(f"{FLOW_HEADER}\n1,2,ADD,3,B,100,5\n{line}\n")
    with pytest.raises(FlowError, match="line 3"):
        list(read_rows(path))


def test_a_file_with_another_header_is_refused(tmp_path: Path) -> None:
    """A file of something else isn't taken for order flow."""
    path = tmp_path / "flow.csv"
    path.write_text("time,type,id\n")
    with pytest.raises(FlowError, match="line 1"):
        list(read_rows(path))


@pytest.mark.parametrize("content", [b"not compressed", gzip.compress(FLOW_HEADER.encode(), mtime=0)[:-9]])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """What can't be unpacked, or ends too early, is an error and not a short flow."""
    path = tmp_path / "flow.csv.gz"
    path.write_bytes(content)
    with pytest.raises(FlowError, match=r"flow\.csv\.gz"):
        list(read_rows(path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A file that isn't there is a FlowError that names it."""
    with pytest.raises(FlowError, match=r"none\.csv"):
        count_rows(tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["flow.txt", ".csv", "flow.gz"])
def test_another_name_is_refused(name: str) -> None:
    """Only NAME.csv and NAME.csv.gz hold order flow."""
    with pytest.raises(FlowError, match="NAME"):
        flow_name(Path(name))


def test_the_files_beside_a_flow_are_found_by_name(tmp_path: Path) -> None:
    """Tape, checkpoints and mismatches are found compressed or not; those of another flow are not."""
    flow = tmp_path / "X.sweeps.csv.gz"
    for name in ("X.sweeps.tape.csv.gz", "X.sweeps.checkpoints.csv", "X.replay.mismatch.csv", "Y.sweeps.mismatch.csv"):
        (tmp_path / name).touch()
    beside = companions(flow)
    assert beside.tape == tmp_path / "X.sweeps.tape.csv.gz"
    assert beside.checkpoints == tmp_path / "X.sweeps.checkpoints.csv"
    assert beside.mismatch is None


def test_files_are_written_where_they_are_found(tmp_path: Path) -> None:
    """A companion's path is one that `companions` looks at."""
    flow = tmp_path / "X.csv.gz"
    for kind in ("tape", "checkpoints", "mismatch"):
        companion_path(flow, kind).touch()
    beside = companions(flow)
    assert (beside.tape, beside.checkpoints, beside.mismatch) == tuple(
        companion_path(flow, kind) for kind in ("tape", "checkpoints", "mismatch")
    )


def test_a_tape_is_read_by_row(tmp_path: Path) -> None:
    """The fills of a row stay in the order of the file."""
    path = tmp_path / "X.tape.csv"
    path.write_text("row,taker_id,maker_id,price,quantity\n7,1,20,100,3\n7,1,19,101,4\n9,2,19,101,1\n")
    assert read_tape(path) == {7: [Fill(20, 100, 3), Fill(19, 101, 4)], 9: [Fill(19, 101, 1)]}


def test_mismatches_say_what_an_engine_does_instead(tmp_path: Path) -> None:
    """Each row has its fills; a row without any fills nothing."""
    path = tmp_path / "X.mismatch.csv"
    path.write_text("row,seq,order_id,price,quantity,fills_by_price_time\n5,1,2,3,4,17=100@57112 18=50@57113\n6,1,2,3,4,\n")
    assert read_mismatches(path) == {5: [Fill(17, 57112, 100), Fill(18, 57113, 50)], 6: []}


def test_a_checkpoint_is_read_whole(tmp_path: Path) -> None:
    """The columns go where they belong; those about the venue's own book are passed over."""
    path = tmp_path / "X.checkpoints.csv"
    path.write_text(
        "row,seq,ts_ns,live_orders,best_bid,best_ask,bids5,asks5,book_sha,trades,traded_quantity,tape_sha,venue_book_sha,"
        "venue_depth_equal\n10,9,8,2,99:5,,99:5 98:1,,b5e1dcc907329600,3,12,6cb690d0b7680f80,b5e1dcc907329600,1\n"
    )
    (checkpoint,) = read_checkpoints(path).values()
    assert (checkpoint.row, checkpoint.live_orders, checkpoint.best_bid, checkpoint.best_ask) == (10, 2, "99:5", "")
    assert (checkpoint.bids5, checkpoint.asks5, checkpoint.book_sha) == ("99:5 98:1", "", "b5e1dcc907329600")
    assert (checkpoint.trades, checkpoint.traded_quantity, checkpoint.tape_sha) == (3, 12, "6cb690d0b7680f80")
