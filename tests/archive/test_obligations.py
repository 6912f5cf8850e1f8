"""What is owed for an object: the debts that rules want, and the copies in the spool they own."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dgate.archive.devices import Devices
from dgate.archive.incoming import Incoming
from dgate.archive.obligations import DIGEST, Obligations, mirror_debts
from dgate.archive.records import DebtKind
from dgate.archive.repair import Repaired
from dgate.archive.rows import Entry
from dgate.archive.spool import Spool
from dgate.clock import SystemClock
from dgate.config.settings import default_settings
from dgate.dicom.part10 import file_meta, read_meta
from dgate.dicom.payload import Payload
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import OutOfSpace
from dgate.rules.effects import Captured, ExportPlan, Forward, ImportForward
from tests.archive.intake_kit import CT, SOP, data_set, large_data_set
from tests.archive.test_incoming import Desk

PATIENT_NAME = 0x00100010


@dataclass
class Bench:
    """A spool, and an object that has arrived."""

    spool: Spool
    item: Incoming

    @property
    def table(self) -> ElementTable:
        """The object as it will be stored."""
        return self.item.table

    def owed(self, *, kept: bool = True) -> Obligations:
        return Obligations(self.spool, self.item, kept=kept)

    def copies(self) -> list[str]:
        return sorted(self.spool.names())

    def name_in(self, copy: Path | None) -> str:
        """Return the patient's name in a copy."""
        assert copy is not None
        content = copy.read_bytes()
        start = read_meta(content).data_offset
        return ElementTable(content[start:], EXPLICIT_LE).text(PATIENT_NAME)


@pytest.fixture(params=["memory", "spilled"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    spool = Spool(tmp_path / "spool", durable=False)
    spool.prepare()
    desk = Desk(tmp_path)
    header = file_meta(CT, SOP, EXPLICIT_LE, "CALLER")
    payload = desk.holding(large_data_set() if request.param == "spilled" else data_set(), header)
    entry = Entry(CT, SOP, "P1", "1.2", "1.3", "CT")
    table = ElementTable(payload.view(), EXPLICIT_LE)
    yield Bench(spool, Incoming(payload, table, "CALLER", "GATE", Repaired(), entry))
    payload.close()


def forward(target: str, snapshot: ElementTable, **more: str) -> ImportForward:
    return ImportForward(Forward(target, "ImportConverter0.0", **more), snapshot)


def test_forward_of_the_object_as_it_is_stored_owns_no_copy(bench: Bench) -> None:
    owed = bench.owed()

    owed.forward([forward("SINK", bench.table, calling="US", compression="j2", script="nop")])

    [draft] = owed.drafts
    assert (draft.kind, draft.destination, draft.rule) == (
        DebtKind.DELIVER, "SINK", "ImportConverter0.0",
    )  # fmt: skip
    assert (draft.calling, draft.called, draft.compression, draft.script) == ("US", "", "j2", "nop")
    assert draft.spool is None
    assert (owed.first_copy, bench.copies()) == ("", [])


def test_forward_of_an_object_that_is_not_kept_owns_a_copy(bench: Bench) -> None:
    owed = bench.owed(kept=False)

    owed.forward([forward("SINK", bench.table), forward("OTHER", bench.table)])

    copies = {draft.spool for draft in owed.drafts}
    assert len(copies) == 1
    assert bench.copies() == [owed.first_copy]
    [copy] = copies
    assert copy is not None
    expected = file_meta(CT, SOP, EXPLICIT_LE, "CALLER") + bytes(bench.item.payload.view())
    assert copy.read_bytes() == expected


def test_each_state_that_was_forwarded_is_a_copy_of_its_own(bench: Bench) -> None:
    """Forwarded, changed, forwarded, changed: three states, of which the last one is stored."""
    before = bench.table.snapshot()
    bench.table.set_text(PATIENT_NAME, "FIRST")
    between = bench.table.snapshot()
    bench.table.set_text(PATIENT_NAME, "LAST")
    owed = bench.owed()

    owed.forward(
        [
            forward("A", before),
            forward("B", between),
            forward("C", between),
            forward("D", bench.table),
        ]
    )

    a, b, c, d = (draft.spool for draft in owed.drafts)
    assert (bench.name_in(a), bench.name_in(b)) == ("SMITH^JOHN", "FIRST")
    assert b == c
    assert d is None
    assert len(bench.copies()) == 2


def test_withdrawn_copies_are_gone(bench: Bench) -> None:
    owed = bench.owed(kept=False)
    owed.forward([forward("SINK", bench.table)])

    owed.withdraw()
    owed.withdraw()

    assert bench.copies() == []


def test_names_of_copies_are_made_durable_where_there_are_any(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("dgate.archive.spool.sync_folder", synced.append)
    bench.spool = Spool(bench.spool.folder, durable=True)
    owed = bench.owed(kept=False)
    owed.secure()
    assert synced == []

    owed.forward([forward("SINK", bench.table), forward("OTHER", bench.table)])
    owed.secure()

    assert synced == [tmp_path / "spool"]


def test_copies_whose_names_cannot_be_made_durable_are_an_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("dgate.archive.spool.sync_folder", fail)
    bench.spool = Spool(bench.spool.folder, durable=True)
    owed = bench.owed(kept=False)
    owed.forward([forward("SINK", bench.table)])
    with pytest.raises(OutOfSpace):
        owed.secure()


def test_rule_that_must_wait_is_a_debt_with_what_it_saw(bench: Bench) -> None:
    bench.item.captured = Captured("CT", "STATION", SOP, "P1", "CALLER", "GATE")
    owed = bench.owed()

    owed.export([ExportPlan(3, deferred=True, digest="abc")])

    [draft] = owed.drafts
    assert (draft.kind, draft.destination) == (DebtKind.EXPORT, "ExportConverter3")
    assert (draft.calling, draft.called) == ("CALLER", "GATE")
    context = json.loads(draft.context)
    assert context.pop(DIGEST) == "abc"
    assert Captured(**context) == bench.item.captured


def test_rule_that_wants_nothing_costs_nothing(bench: Bench) -> None:
    owed = bench.owed(kept=False)
    owed.export([ExportPlan(0), ExportPlan(1)])
    assert (owed.drafts, bench.copies()) == ([], [])


def test_rule_that_was_worked_out_owes_its_deliveries(bench: Bench) -> None:
    owed = bench.owed()
    plan = ExportPlan(0, forwards=(Forward("A", "r"), Forward("B", "r")))
    owed.export([plan])
    assert [(draft.kind, draft.destination) for draft in owed.drafts] == [
        (DebtKind.DELIVER, "A"), (DebtKind.DELIVER, "B"),
    ]  # fmt: skip


def test_object_on_a_device_with_a_mirror_owes_its_copy_there(tmp_path: Path) -> None:
    settings = default_settings(
        tmp_path, mag_devices=(tmp_path / "a", tmp_path / "b"), mirror_devices=(tmp_path / "m",)
    )
    devices = Devices.from_settings(settings, SystemClock())

    [draft] = mirror_debts(devices, "MAG0")

    assert (draft.kind, draft.rule) == (DebtKind.MIRROR, "mirror of MAG0")
    assert mirror_debts(devices, "MAG1") == []
    assert mirror_debts(devices, "SPOOL") == []


def test_full_spool_is_out_of_space_and_owes_nothing(bench: Bench, tmp_path: Path) -> None:
    from dgate.errors import OutOfSpace

    for name in bench.copies():
        bench.spool.remove(name)
    bench.spool.folder.rmdir()
    owed = bench.owed(kept=False)
    bench.table.set_text(PATIENT_NAME, "CHANGED")

    with pytest.raises(OutOfSpace):
        owed.forward([forward("SINK", bench.table)])
    assert owed.drafts == []
    assert isinstance(bench.item.payload, Payload)
