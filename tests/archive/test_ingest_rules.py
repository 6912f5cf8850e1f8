"""What import and export converters make of an arriving object, and what becomes owed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import InstanceRef, Outcome, Receipt
from dgate.config.settings import Engine
from dgate.dicom.table import ElementTable
from dgate.errors import NotDicom, Refused, RuleError
from dgate.rules.effects import ExportPlan, Forward, ImportForward, ImportVerdict
from dgate.rules.effects import Outcome as RuleOutcome
from tests.archive.intake_kit import (
    CT,
    SOP,
    Hooks,
    Station,
    data_set,
    large_data_set,
    open_station,
)

Rule = Callable[[ElementTable, ImportVerdict], None]
BOTH = pytest.mark.parametrize("make", [data_set, large_data_set], ids=["small", "large"])
FORWARD = Forward("DEST", "ImportConverter0.0")


def forward(table: ElementTable, verdict: ImportVerdict) -> None:
    verdict.forwards.append(ImportForward(FORWARD, table.snapshot()))


def change(table: ElementTable, verdict: ImportVerdict) -> None:
    table.set_text(0x00081030, "Changed")


def destroy(table: ElementTable, verdict: ImportVerdict) -> None:
    verdict.outcome = RuleOutcome.DESTROY


def reject(table: ElementTable, verdict: ImportVerdict) -> None:
    verdict.outcome = RuleOutcome.REJECT
    verdict.reason = "ImportConverter0.1 rejected it"


def rules(*steps: Rule) -> Hooks:
    """Return hooks whose import converters take these steps."""

    def run(table: ElementTable, verdict: ImportVerdict) -> None:
        for step in steps:
            step(table, verdict)

    return Hooks(on_import=run)


def spooled(station: Station, debt: dict[str, Any]) -> bytes:
    """Return the data set that a debt refers to."""
    ref = InstanceRef(CT, debt["sop_instance"], "", "", "", debt["device"], debt["name"])
    return station.sent(ref)


@BOTH
def test_changes_are_stored_and_indexed(tmp_path: Path, make: Any) -> None:
    station = open_station(tmp_path, hooks=rules(change))

    station.send(make())

    assert station.content() == make(StudyDescription="Changed")
    assert len(station.files()) == 1
    station.close()


def test_object_is_known_by_the_uid_that_a_rule_gave_it(tmp_path: Path) -> None:
    station = open_station(
        tmp_path, hooks=rules(lambda table, verdict: table.set_text(0x00080018, "1.2.77"))
    )

    receipt = station.send(data_set())

    assert receipt.sop_instance == "1.2.77"
    assert station.exporter.peek(station.ref("1.2.77")).sop_instance == "1.2.77"
    station.close()


@pytest.mark.parametrize("uid", ["../../x", ""])
def test_rule_cannot_give_a_uid_that_is_none(tmp_path: Path, uid: str) -> None:
    station = open_station(
        tmp_path, hooks=rules(lambda table, verdict: table.set_text(0x00080018, uid))
    )

    with pytest.raises(NotDicom):
        station.send(data_set())

    assert station.files() == []
    station.close()


@BOTH
def test_destroyed_object_is_dropped_with_success(tmp_path: Path, make: Any) -> None:
    hooks = rules(destroy)
    hooks.plans = [ExportPlan(0, deferred=True)]
    station = open_station(tmp_path, hooks=hooks)

    receipt = station.send(make())

    assert receipt == Receipt(Outcome.DROPPED, SOP)
    assert (station.files(), station.debts(), hooks.exported, hooks.wakes) == ([], [], [], 0)
    station.close()


@BOTH
def test_rejected_object_is_refused_with_the_rule_s_reason(tmp_path: Path, make: Any) -> None:
    station = open_station(tmp_path, hooks=rules(forward, reject))

    with pytest.raises(Refused, match=r"ImportConverter0\.1 rejected it"):
        station.send(make())

    assert (station.files(), station.debts()) == ([], [])
    station.close()


def test_failing_rule_refuses_the_object(tmp_path: Path) -> None:
    def fail(table: ElementTable, verdict: ImportVerdict) -> None:
        raise RuleError("no such table")

    station = open_station(tmp_path, hooks=rules(change, fail))

    with pytest.raises(Refused, match="no such table"):
        station.send(data_set())

    assert station.files() == []
    station.close()


def test_objects_fetched_by_dgate_itself_pass_no_rules(tmp_path: Path) -> None:
    hooks = rules(reject)
    station = open_station(tmp_path, hooks=hooks)

    station.send(data_set(), skip_rules=True)

    assert station.content() == data_set()
    assert (hooks.imported, hooks.exported) == ([], [])
    station.close()


def test_captured_values_are_those_before_import_and_after(tmp_path: Path) -> None:
    hooks = rules(lambda table, verdict: table.set_text(0x00080060, "MR"))
    station = open_station(tmp_path, hooks=hooks)

    station.send(data_set(), calling="CT1", called="DGATE~as")

    assert hooks.imported[0].modality == "CT"
    assert hooks.exported[0].modality == "MR"
    assert (hooks.exported[0].calling, hooks.exported[0].called) == ("CT1", "DGATE")
    station.close()


@BOTH
def test_forward_of_the_object_as_stored_needs_no_copy(tmp_path: Path, make: Any) -> None:
    hooks = rules(change, forward)
    station = open_station(tmp_path, hooks=hooks)

    receipt = station.send(make())

    (debt,) = station.debts()
    assert (debt["kind"], debt["destination"], debt["rule"]) == (
        "deliver",
        "DEST",
        "ImportConverter0.0",
    )
    assert (debt["device"], debt["name"]) == ("MAG0", receipt.name)
    assert len(station.files()) == 1
    assert hooks.wakes == 1
    station.close()


@BOTH
def test_forward_before_a_change_owns_a_copy_of_what_it_saw(tmp_path: Path, make: Any) -> None:
    station = open_station(tmp_path, hooks=rules(forward, change, forward))

    station.send(make())

    first, second = station.debts()
    assert first["device"] == "SPOOL"
    assert spooled(station, first) == make()
    assert second["device"] == "MAG0"
    assert station.content() == make(StudyDescription="Changed")
    assert len(station.files()) == 2
    station.close()


@BOTH
def test_forwarded_and_destroyed_object_lives_in_the_spool_only(tmp_path: Path, make: Any) -> None:
    hooks = rules(forward, forward, destroy)
    station = open_station(tmp_path, hooks=hooks)

    assert station.send(make()).outcome is Outcome.DROPPED

    debts = station.debts()
    assert len({debt["name"] for debt in debts}) == 1
    assert [spooled(station, debt) for debt in debts] == [make()] * 2
    assert station.files() == [f"dgate/spool/{debts[0]['name']}"]
    assert station.find() is None
    assert hooks.wakes == 1
    station.close()


def test_unchanged_large_object_is_linked_into_the_spool(tmp_path: Path) -> None:
    station = open_station(tmp_path, hooks=rules(forward, destroy))
    arrival = station.arrival(large_data_set())
    assert arrival.payload.spilled is not None
    inode = arrival.payload.spilled.path.stat().st_ino

    station.ingest.store(arrival)

    (debt,) = station.debts()
    assert (station.devices.spool.folder / debt["name"]).stat().st_ino == inode
    station.close()


def test_options_of_a_forward_reach_its_debt(tmp_path: Path) -> None:
    hooks = Hooks(plans=[ExportPlan(3, (Forward("DEST:104", "R", "ORG", "CALLED", "j2", "nop"),))])
    station = open_station(tmp_path, hooks=hooks)

    station.send(data_set())

    with station.database.reader() as connection:
        row = connection.execute(
            "SELECT destination, calling, called, compression, script FROM dgate_debts"
        ).fetchone()
    assert tuple(row) == ("dest:104", "ORG", "CALLED", "j2", "nop")
    station.close()


def test_deferred_export_is_owed_with_its_captured_values(tmp_path: Path) -> None:
    hooks = Hooks(plans=[ExportPlan(0, deferred=True), ExportPlan(1), ExportPlan(7, deferred=True)])
    station = open_station(tmp_path, hooks=hooks)

    receipt = station.send(data_set(), calling="CT1")

    first, second = station.debts()
    assert (first["kind"], first["destination"], first["rule"]) == (
        "export",
        "ExportConverter0",
        "ExportConverter0",
    )
    assert second["destination"] == "ExportConverter7"
    assert (first["calling"], first["called"]) == ("CT1", "DGATE")
    assert json.loads(first["context"])["patient_id"] == "P1"
    assert (first["device"], first["name"]) == ("MAG0", receipt.name)
    station.close()


def test_nothing_owed_wakes_nobody(tmp_path: Path) -> None:
    hooks = Hooks(plans=[ExportPlan(0)])
    station = open_station(tmp_path, hooks=hooks)

    station.send(data_set())

    assert hooks.wakes == 0
    station.close()


@BOTH
def test_without_a_database_what_is_forwarded_is_kept_until_then(tmp_path: Path, make: Any) -> None:
    hooks = Hooks(plans=[ExportPlan(0, deferred=True), ExportPlan(1, (FORWARD,))])
    station = open_station(tmp_path, hooks=hooks, engine=Engine.NONE, mag_devices=())

    receipt = station.send(make())

    debts = station.debts()
    assert receipt.outcome is Outcome.DROPPED
    assert [spooled(station, debt) for debt in debts] == [make()] * 2
    assert station.files() == [f"dgate/spool/{receipt.name}"]
    station.close()


def test_without_a_database_an_object_that_nobody_wants_is_refused(tmp_path: Path) -> None:
    station = open_station(tmp_path, engine=Engine.NONE, mag_devices=())

    with pytest.raises(Refused, match="no rule forwards"):
        station.send(large_data_set())

    assert station.files() == []
    station.close()
