"""Every point at which a crash can hit the storing of an object, and what recovery makes of it.

A child process stores an object and is ended, without any clean-up, before its first, second,
third... call of the system that touches files (or halfway through a write). The parent then
recovers the folder as a start does, and looks: row and file both, or neither; right bytes; debts
with the row; nothing left over.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.ownership import Owner
from dgate.config.settings import Durability
from dgate.rules.effects import ExportPlan, Forward, ImportForward
from dgate.rules.effects import Outcome as RuleOutcome
from tests.archive.intake_kit import SOP, Hooks, Station, data_set, large_data_set, open_station

CALLS = (
    "open",
    "write",
    "writev",
    "fdatasync",
    "fsync",
    "rename",
    "link",
    "symlink",
    "unlink",
    "makedirs",
    "copy_file_range",
)
CRASHED = 77
ACKNOWLEDGED = 78
FAILED = 79
OTHER = "1.2.9"

OLD, NEW = "Thorax", "Second"


@dataclass(frozen=True)
class Scenario:
    """One way to store an object."""

    make: Callable[..., bytes] = data_set
    known: bool = False
    """The object is stored already, with the description OLD."""
    lost: bool = False
    """Its file is gone."""
    hooks: Callable[[], Hooks] = Hooks
    before: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    kept: bool = True
    owed: int = 0
    """Debts that go with the row."""
    shared: bool = False
    """Other gateways may use the same folders."""

    @property
    def owner(self) -> Owner:
        """Return the gateway that stores and recovers."""
        return Owner.named("one", shared=self.shared)


def forwarding(*, destroy: bool = False, change: bool = False) -> Callable[[], Hooks]:
    def run(table: Any, verdict: Any) -> None:
        verdict.forwards.append(ImportForward(Forward("DEST", "R"), table.snapshot()))
        if change:
            table.set_text(0x00100010, "CHANGED")
        if destroy:
            verdict.outcome = RuleOutcome.DESTROY

    return lambda: Hooks(on_import=run)


def exporting() -> Hooks:
    return Hooks(plans=[ExportPlan(0, deferred=True), ExportPlan(1, (Forward("DEST", "R"),))])


SCENARIOS = {
    "new": Scenario(hooks=exporting, owed=2),
    "new large": Scenario(large_data_set, hooks=exporting, owed=2),
    "new, changed by a rule": Scenario(hooks=forwarding(change=True), owed=1),
    "new large, changed by a rule": Scenario(large_data_set, hooks=forwarding(change=True), owed=1),
    "again": Scenario(known=True, hooks=exporting, owed=2),
    "again large": Scenario(large_data_set, known=True),
    "again, to be renamed": Scenario(
        known=True, settings={"rename_on_rewrite": True, "file_name_syntax": "10"}
    ),
    "again large, other extension": Scenario(
        large_data_set, known=True, before={"file_name_syntax": "7"}
    ),
    "again, file lost": Scenario(known=True, lost=True),
    "again, file lost and to be renamed": Scenario(
        known=True, lost=True, settings={"rename_on_rewrite": True}
    ),
    "new, shared": Scenario(hooks=exporting, owed=2, shared=True),
    "again, shared": Scenario(known=True, hooks=exporting, owed=2, shared=True),
    "again large, other extension, shared": Scenario(
        large_data_set, known=True, before={"file_name_syntax": "7"}, shared=True
    ),
    "again, file lost, shared": Scenario(known=True, lost=True, shared=True),
    "forwarded and destroyed, shared": Scenario(
        hooks=forwarding(destroy=True), kept=False, owed=1, shared=True
    ),
    "forwarded and destroyed": Scenario(hooks=forwarding(destroy=True), kept=False, owed=1),
    "forwarded and destroyed, large": Scenario(
        large_data_set, hooks=forwarding(destroy=True), kept=False, owed=1
    ),
}


class Crasher:
    """Ends the process at the n-th call that touches files; if torn, halfway in the n-th write."""

    def __init__(self, point: int, *, torn: bool) -> None:
        self.left = point
        self._torn = torn

    def arm(self) -> None:
        """Watch the calls from now on."""
        for call in ("write", "writev") if self._torn else CALLS:
            setattr(os, call, self._watched(call, getattr(os, call)))

    def _watched(self, call: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                if self._torn:
                    data = arguments[1] if call == "write" else b"".join(arguments[1])
                    os.pwrite(arguments[0], bytes(data)[: len(data) // 2], 0)
                os._exit(CRASHED)
            # The end of a process loses nothing that was written: waiting for the disk is idle.
            return None if call in ("fsync", "fdatasync") else real(*arguments, **named)

        return watched


def store_in_child(base: Path, scenario: Scenario, point: int, torn: bool) -> int:
    """Store in a child that crashes at `point`; return how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    ended = FAILED
    try:
        station = open_station(
            base, hooks=scenario.hooks(), owner=scenario.owner, **scenario.settings
        )
        crasher = Crasher(point, torn=torn)
        crasher.arm()
        station.send(scenario.make(StudyDescription=NEW))
        ended = ACKNOWLEDGED
        if scenario.known:
            # The next object also clears up behind a replaced one.
            station.send(data_set(SOPInstanceUID=OTHER, StudyDescription=NEW), sop_instance=OTHER)
    finally:
        # Without any clean-up, whatever happened.
        os._exit(ended)


def prepared(folder: Path, scenario: Scenario) -> Path:
    """Make the state before the crash."""
    station = open_station(folder, **scenario.before)
    if scenario.known:
        station.send(scenario.make(StudyDescription=OLD))
        if scenario.lost:
            station.path().unlink()
    station.close()
    return folder


def crashes(folder: Path, scenario: Scenario) -> Iterator[tuple[str, int, Path]]:
    """Crash at one point after the other; yield where, how it ended, and the folder."""
    template = prepared(folder / "template", scenario)
    for torn in (False, True):
        for point in range(1, 200):
            base = folder / f"{point}{torn}"
            shutil.copytree(template, base)
            ended = store_in_child(base, scenario, point, torn)
            assert ended in (CRASHED, ACKNOWLEDGED)
            yield f"point {point} torn {torn}", ended, base
            shutil.rmtree(base)
            if ended == ACKNOWLEDGED:
                break


def check(station: Station, scenario: Scenario, acknowledged: bool) -> None:
    """Assert what must hold after any crash and recovery."""
    ref = station.find()
    new_debts = [debt for debt in station.debts() if debt["sop_instance"] == SOP]
    expected = []
    if not scenario.kept:
        assert ref is None
        assert len(new_debts) in (0, scenario.owed)
        assert new_debts or not acknowledged
    elif ref is None:
        assert not acknowledged
        assert not scenario.known
        assert new_debts == []
    else:
        version = description(station)
        assert version == NEW or (scenario.known and not acknowledged)
        assert len(new_debts) == (scenario.owed if version == NEW else 0)
        if version == NEW or not scenario.lost:
            expected.append(ref.name)
            assert stored_version(station, scenario, version)
        assert station.path().exists() or scenario.lost
    other = station.find(OTHER)
    if other is not None:
        expected.append(other.name)
        assert len(station.content(OTHER)) > 100
    for name in {debt["name"] for debt in station.debts() if debt["device"] == "SPOOL"}:
        expected.append(f"dgate/spool/{name}")
        copy = (station.devices.spool.folder / name).read_bytes()
        assert copy.endswith(scenario.make(StudyDescription=NEW))
    lost = [name for name in station.files() if name.startswith("dgate/spool/lost/")]
    assert not (lost and (acknowledged or new_debts))
    root = station.devices.spool.folder.parent.parent
    for name in lost:
        # Nobody may ever have heard of it, but what is kept is whole.
        assert (root / name).read_bytes().endswith(scenario.make(StudyDescription=NEW))
    assert station.files() == sorted([*expected, *lost])
    assert station.rewrites() == []


def description(station: Station) -> str:
    """Return the version that the index has."""
    with station.database.reader() as connection:
        return str(connection.execute("SELECT StudyDescr FROM DICOMStudies").fetchone()[0])


def stored_version(station: Station, scenario: Scenario, version: str) -> bool:
    """Tell whether the file has the whole of a version, changed by rules or not."""
    content = station.content()
    return content in (
        scenario.make(StudyDescription=version),
        scenario.make(StudyDescription=version, PatientName="CHANGED"),
    )


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_crash_anywhere_leaves_the_object_whole_or_not_at_all(
    tmp_path: Path, scenario: Scenario
) -> None:
    points = 0
    for where, ended, base in crashes(tmp_path, scenario):
        points += ended == CRASHED
        station = open_station(
            base, durability=Durability.NONE, owner=scenario.owner, **scenario.settings
        )
        station.recover()
        station.sweep()
        try:
            check(station, scenario, acknowledged=ended != CRASHED)
        except AssertionError as error:
            error.add_note(f"{where}: {station.files()}, {station.debts()}")
            raise
        finally:
            station.close()
    assert points > 5
