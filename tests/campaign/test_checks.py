"""The invariant itself: each way to break it is found."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from tests.campaign.answers import Log, check_answers
from tests.campaign.checks import (
    Arrivals,
    Stored,
    check_counts,
    check_leftovers,
    check_objects,
    passed_on_though_refused,
)
from tests.campaign.senders import ABORTED, BROKEN, Line, Sender
from tests.campaign.truth import Item, Stream, Truth
from tests.generate import Plan, data_set_of, write_files


class Bench:
    """One object that was sent, stored and delivered as it should be."""

    def __init__(self, folder: Path, stream: Stream) -> None:
        [one] = write_files(folder / "device", Plan(1))
        self.path = one.path
        data = data_set_of(one.path.read_bytes())
        self.item = Item(stream, one.sop_class, one.sop_instance, one.study, data)
        self.truth = Truth()
        self.truth.begin([self.item], 1)
        self.stored = Stored({one.sop_instance: one.path} if stream.is_kept else {})
        (folder / "sink2").mkdir()
        self.arrivals = Arrivals(folder / "journal", folder / "sink2")
        for title in stream.destinations:
            self.arrivals.contents[title, one.sop_instance] = Counter([self.item.digest])

    def send(self, status: int | None, item: Item | None = None) -> None:
        """Note that the object, or another version, was sent, and what was answered."""
        item = item or self.item
        self.truth.attempt(item)
        if status is not None:
            self.truth.answered(item, status, set())

    def findings(self) -> list[str]:
        """Return what the check finds, without the names."""
        found = check_objects(self.truth.facts, self.stored, self.arrivals)
        return [each.split(": ", 1)[1] for each in found]

    def other(self) -> Item:
        """Return another version."""
        item = self.item
        return Item(
            item.stream, item.sop_class, item.sop_instance, item.study, item.data[:-1] + b"?"
        )


@pytest.mark.parametrize("stream", [each for each in Stream if each is not Stream.REJECT])
def test_all_is_well(tmp_path: Path, stream: Stream) -> None:
    bench = Bench(tmp_path, stream)
    bench.send(0)
    assert bench.findings() == []


def test_object_that_was_not_acknowledged_may_be_there_or_not(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Stream.KEEP)
    bench.send(None)
    assert bench.findings() == []
    bench.stored.names.clear()
    bench.arrivals.contents.clear()
    assert bench.findings() == []


def test_missing_row(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Stream.KEEP)
    bench.send(0)
    bench.stored.names.clear()
    assert bench.findings() == [
        "acknowledged, but not in the index",
        "delivered to SINK1, but not stored",
        "delivered to SINK2, but not stored",
    ]


def test_other_bytes_in_the_file(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Stream.NAMED)
    bench.send(0)
    bench.path.write_bytes(bench.path.read_bytes()[:-1] + b"!")
    [stored, delivered] = bench.findings()
    assert stored.startswith("other bytes (")
    assert delivered == "what is stored was not delivered to ROOM1"


def test_missing_file(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Stream.NAMED)
    bench.send(0)
    bench.path.unlink()
    assert bench.findings()[0].startswith("other bytes (unreadable: ")


def test_older_version_than_was_acknowledged(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Stream.AGAIN)
    bench.send(0)
    bench.send(0, bench.other())
    assert bench.findings() == ["an older content than was acknowledged"]


def test_version_without_an_answer_may_have_come_last(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Stream.AGAIN)
    bench.send(0, bench.other())
    bench.send(None)
    assert bench.findings() == []


@pytest.mark.parametrize("stream", [Stream.PASS, Stream.STUDY])
def test_missing_delivery(tmp_path: Path, stream: Stream) -> None:
    bench = Bench(tmp_path, stream)
    bench.send(0)
    bench.arrivals.contents.clear()
    assert len(bench.findings()) == len(stream.destinations)


def test_delivery_of_bytes_that_nobody_sent(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Stream.STUDY)
    bench.send(0)
    bench.arrivals.contents["SINK3", bench.item.sop_instance]["0" * 64] += 1
    assert bench.findings() == [f"SINK3 got bytes that were never sent: ['{'0' * 64}']"]


def test_delivery_to_whom_no_rule_names(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Stream.NAMED)
    bench.send(0)
    bench.arrivals.contents["SINK1", bench.item.sop_instance][bench.item.digest] += 1
    assert bench.findings() == ["delivered to SINK1, which no rule asks for"]


def test_object_that_a_rule_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Stream.REJECT)
    bench.send(0x0110)
    assert bench.findings() == []
    bench.stored.names[bench.item.sop_instance] = bench.path
    bench.arrivals.contents["SINK1", bench.item.sop_instance][bench.item.digest] += 1
    assert bench.findings() == [
        "stored, which its rule forbids",
        "delivered to SINK1, which no rule asks for",
    ]


def test_version_that_was_refused_and_kept_need_not_be_delivered(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Stream.AGAIN)
    bench.send(0, bench.other())
    bench.send(0xA700)
    bench.arrivals.contents.clear()
    for title in Stream.AGAIN.destinations:
        bench.arrivals.contents[title, bench.item.sop_instance][bench.other().digest] += 1
    assert bench.findings() == []


def test_journal_and_folder_are_read_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Stream.KEEP)
    (tmp_path / "journal").write_text("SINK1 1.2 abc 10\nSINK1 1.2 abc 10\nSINK3 1.2 d")
    copy = tmp_path / "sink2" / f"MR.{bench.item.sop_instance}"
    copy.write_bytes(bench.path.read_bytes())
    bench.arrivals.contents.clear()
    bench.arrivals.update()
    assert bench.arrivals.contents == {
        ("SINK1", "1.2"): {"abc": 2},
        ("SINK2", bench.item.sop_instance): {bench.item.digest: 1},
    }
    with (tmp_path / "journal").open("a") as journal:
        journal.write("ef 10\n")
    bench.arrivals.update()
    assert bench.arrivals.contents["SINK3", "1.2"] == {"def": 1}
    assert (bench.arrivals.total(), bench.arrivals.duplicates()) == (4, 1)


def test_what_lies_about_is_found(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Stream.KEEP)
    device = tmp_path / "device"
    for name in ("dgate/incoming/1.2.n1", "dgate/spool/1.dcm", "dgate/spool/lost/2.dcm", "x.dcm"):
        path = device / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = check_leftovers(device, bench.stored, [])
    assert sorted(found) == [
        f"{bench.item.sop_instance}: in the index, but never sent",
        "a file without a row: x.dcm",
        "left over: dgate/incoming/1.2.n1",
        "left over: dgate/spool/1.dcm",
    ]


def test_file_that_was_torn_by_a_kill_is_no_arrival(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Stream.KEEP)
    bench.send(0)
    bench.arrivals.contents.clear()
    content = bench.path.read_bytes()
    folder = tmp_path / "sink2"
    for name, what in (("MR.1.X", content), ("MR.2.X", content), ("MR.3.X", content[:-500])):
        (folder / name).write_bytes(what)
        bench.arrivals.drop_torn(bench.truth.facts)
    bench.arrivals.update()
    key = ("SINK2", bench.item.sop_instance)
    assert bench.arrivals.contents == {key: {bench.item.digest: 2}}


def ledger(path: Path, *rows: tuple[str, str, str, int]) -> Path:
    """Write a ledger of deliveries: destination, SOP instance, state, repeats."""
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE dgate_debts (kind, destination, sop_instance, state, repeats, accepted)"
        )
        connection.executemany(
            "INSERT INTO dgate_debts VALUES ('deliver', ?, ?, ?, ?, 1.0)", list(rows)
        )
    connection.close()
    return path


def test_arrivals_are_compared_with_the_ledger(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Stream.KEEP)
    bench.arrivals.contents.clear()
    database = ledger(
        tmp_path / "ledger",
        ("SINK1", "1.1", "done", 1),
        ("SINK1", "1.2", "done", 0),
        ("SINK1", "1.2", "done", 1),
        ("SINK2", "1.1", "done", 0),
        ("SINK2", "1.3", "cancelled", 0),
    )
    for key, count in ((("SINK1", "1.1"), 2), (("SINK1", "1.2"), 3), (("SINK2", "1.1"), 1)):
        bench.arrivals.contents[key]["abc"] = count
    assert check_counts(database, bench.arrivals) == []

    bench.arrivals.contents["SINK1", "1.1"]["def"] = 1
    del bench.arrivals.contents["SINK2", "1.1"]
    bench.arrivals.contents["ROOM1", "1.4"]["abc"] = 1
    assert check_counts(database, bench.arrivals) == [
        "1.4: came to ROOM1 1 times, was owed 0 times, and the ledger has 0 repeats",
        "1.1: came to SINK1 3 times, was owed 1 times, and the ledger has 1 repeats",
        "1.1: came to SINK2 0 times, and the ledger says 1 times",
    ]


def test_object_that_was_passed_on_though_refused_is_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Stream.PASS)
    bench.send(0xA700)
    assert passed_on_though_refused(bench.truth.facts, bench.arrivals) == 1
    # An attempt without an answer may be the one that was delivered.
    bench.send(None)
    assert passed_on_though_refused(bench.truth.facts, bench.arrivals) == 0


@pytest.mark.parametrize(
    ("stream", "status", "faults", "finding"),
    [
        (Stream.REJECT, 0, ("eio",), "1 objects of REJECT were answered 0000"),
        (Stream.KEEP, 0x0110, ("eio",), "1 objects of KEEP were answered 0110"),
        (Stream.KEEP, 0xC000, ("full",), "1 objects of KEEP were answered C000"),
        (Stream.KEEP, 0xB000, (), "1 objects of KEEP were answered B000"),
        (
            Stream.PASS,
            0xA700,
            ("kill", "restart"),
            "1 objects of PASS were answered A700 without a fault of the disk",
        ),
    ],
)
def test_answer_that_nothing_explains(
    tmp_path: Path, stream: Stream, status: int, faults: tuple[str, ...], finding: str
) -> None:
    bench = Bench(tmp_path, stream)
    bench.send(status)
    assert check_answers(bench.truth, Counter(faults)) == [finding]


@pytest.mark.parametrize(
    ("stream", "status", "faults"),
    [
        (Stream.KEEP, 0, ()),
        (Stream.REJECT, 0x0110, ()),
        (Stream.REJECT, 0xA700, ("full",)),
        (Stream.AGAIN, 0xA700, ("power", "eio")),
    ],
)
def test_answer_that_is_right(
    tmp_path: Path, stream: Stream, status: int, faults: tuple[str, ...]
) -> None:
    bench = Bench(tmp_path, stream)
    bench.send(status)
    assert check_answers(bench.truth, Counter(faults)) == []
    bench.truth.begin([], 2)
    assert not bench.truth.told


def test_end_of_an_association_needs_a_cause(tmp_path: Path) -> None:
    truth = Bench(tmp_path, Stream.KEEP).truth
    truth.broke(ABORTED)
    truth.broke(BROKEN)
    assert check_answers(truth, Counter(("restart",))) == []
    assert check_answers(truth, Counter(("kill",))) == [
        "1 associations of senders: aborted, without a cause"
    ]
    assert check_answers(truth, Counter(("eio", "cut"))) == [
        "1 associations of senders: aborted, without a cause",
        "1 associations of senders: broken, without a cause",
    ]


def test_errors_of_dgate_itself_are_found_in_its_log(tmp_path: Path) -> None:
    path = tmp_path / "dgate.log"
    log = Log(path)
    assert log.check(()) == []
    path.write_text(
        "10:00 INFO well\n"
        "10:01 ERROR A command failed by an error of dgate itself\n"
        "  Traceback (most recent call last):\n"
        '    File "a.py", line 1, in b\n'
        "  ValueError: no\n"
        "10:02 INFO well\n"
    )
    assert log.check(("kill",)) == [
        "the log has: 10:01 ERROR A command failed by an error of dgate itself | ValueError: no"
    ]
    assert log.check(("kill",)) == []
    with path.open("a") as file:
        file.write("Traceback (most recent call last):\n  File\nKeyError: 1\n")
    assert len(log.check(())) == 1


def test_error_of_a_disk_behind_a_commit_needs_a_disk_that_fails(tmp_path: Path) -> None:
    path = tmp_path / "dgate.log"
    text = (
        "[x] ERROR t dgate.archive.writer: A committed object could not be moved into place.\n"
        "  Traceback (most recent call last):\n"
        "  {}: /a/b.dcm: the file cannot be written: Input/output error (remedy)\n"
    )
    path.write_text(text.format("dgate.errors.OutOfSpace"))
    assert Log(path).check(("eio", "kill")) == []
    assert len(Log(path).check(("full", "kill"))) == 1
    path.write_text(text.format("OSError"))
    assert len(Log(path).check(("eio",))) == 1


def test_version_without_an_answer_cannot_come_after_a_kill(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Stream.AGAIN)
    line = Line(0)
    sender = Sender(line, bench.truth, [], 1)
    other = bench.other()
    sender._attempt(bench.item)
    assert set(sender._attempt(other)) == {bench.item.digest, other.digest}
    line.starts += 1
    assert set(sender._attempt(other)) == {other.digest}
