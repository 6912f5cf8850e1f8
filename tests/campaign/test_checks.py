"""The invariant itself: each way to break it is found."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.campaign.checks import Arrivals, Stored, check_leftovers, check_objects
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
