"""Files, programs and replaced UIDs under a trace: shown, and left as they were."""

from __future__ import annotations

import sqlite3
import tracemalloc
from pathlib import Path

from dgate.archive.database import Database
from dgate.archive.schema import prepare
from dgate.archive.uidregister import Register
from dgate.archive.writer import Writer
from dgate.dicom.part10 import file_meta
from dgate.dicom.uids import EXPLICIT_LE
from tests.dicom.samples import explicit
from tests.rules import kit
from tests.tracing.kit import configuration, opened, traced


def tree(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder but for the configuration."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("dicom.ini", "acrnema.map")
    }


def actions(trace: object) -> list[str]:
    return [
        action
        for rule in trace.imports  # type: ignore[attr-defined]
        for event in rule.statements
        for action in event.actions
    ]


def test_nothing_is_written_run_or_registered(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("one\n")
    before = tree(tmp_path)
    trace = traced(
        tmp_path,
        "AllowSystemCommands = 1\n"
        'ImportConverter0 = newuids stage T; append "%i%n" to kept.txt; mkdir new; '
        "save to new/%o.dcm; copy kept.txt to new; rm kept.txt; system touch ran; "
        'process with edit; set PatientID to "%EPatientName"',
    )

    assert (trace.outcome, trace.reason) == ("keep", "")
    assert tree(tmp_path) == before
    assert not (tmp_path / "new").exists()
    [kept] = [line for line in actions(trace) if line.startswith("append")]
    assert kept == f"append 11 bytes to {tmp_path}/kept.txt"
    done = [line.split()[0] for line in actions(trace)]
    assert done == [*["map"] * 3, "append", "make", "write", "copy", "remove", "run", "run", "map"]
    changed = {change.keyword for change in trace.changes}
    assert changed == {"SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID"}


def test_what_the_register_holds_is_used(tmp_path: Path) -> None:
    made = configuration(tmp_path, "")
    database = Database(made.settings)
    database.open()
    prepare(database, made.layout, made.settings)
    writer = Writer(database, made.settings.durability)
    register = Register(database, writer, kit.StillClock(), made.settings.uid_prefix)
    register.forward("1.2.3.4", "T", "", "9.9.9")
    writer.close()
    database.close()

    trace = traced(tmp_path, "ImportConverter0 = newuids stage T; olduids stage T; newuids stage T")

    [study] = [change for change in trace.changes if change.keyword == "StudyInstanceUID"]
    assert (study.before, study.after) == ("1.2.3.4", "9.9.9")
    with sqlite3.connect(tmp_path / "index.db3") as connection:
        assert connection.execute("SELECT count(*) FROM UIDMODS").fetchone() == (1,)
    connection.close()


def test_a_line_that_defers_says_so(tmp_path: Path) -> None:
    trace = traced(
        tmp_path, "ExportConverters = 1\nExportConverter0 = nop; defer; forward to ARCHIVE"
    )
    [rule] = trace.exports
    assert rule.reason == "deferred by ExportConverter0.1"
    assert trace.destinations == []


def test_files_that_lua_opens_are_copies(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("one ")
    (tmp_path / "old.txt").write_text("old")
    (tmp_path / "x.lua").write_text(
        "mkdir('new') "
        "local f = io.open('kept.txt', 'a') f:write('two') f:close() "
        "f = io.open(Global.BaseDir .. 'new/made.txt', 'w') f:write('made') f:close() "
        "os.rename('kept.txt', 'other.txt') "
        "assert(os.remove('old.txt')) assert(not os.remove('nothing.txt')) "
        "assert(not io.open('old.txt') and not io.open('kept.txt')) "
        "local text = io.open('other.txt'):read('*a') .. io.open('new/made.txt'):read('*a') "
        "Data.PatientComments = text"
    )
    before = tree(tmp_path)
    trace = traced(tmp_path, "ImportConverter0 = x.lua")

    assert (trace.outcome, trace.reason) == ("keep", "")
    assert tree(tmp_path) == before
    [change] = [change for change in trace.changes if change.keyword == "PatientComments"]
    assert change.after.strip() == "one twomade"
    done = [line.split()[0] for line in actions(trace)]
    assert done == ["make", "open", "open", "rename", "remove"]


def test_copies_are_told_apart_from_what_they_were_made_of(tmp_path: Path) -> None:
    """Nothing long is copied for a copy, and still none of the names sees what is written to
    another one."""
    (tmp_path / "kept.txt").write_text("one ")
    (tmp_path / "x.lua").write_text(
        "script('copy kept.txt to second.txt') "
        "local f = io.open('second.txt', 'a') f:write('two ') f:close() "
        "script('append \"three \" to second.txt') "
        "script('copy second.txt to third.txt') "
        "script('append \"four \" to second.txt') "
        'script(\'append "five " to kept.txt; append "six " to kept.txt\') '
        "os.rename('third.txt', 'last.txt') "
        "f = io.open('last.txt', 'a') f:write('seven') f:close() "
        "local function all(name) return io.open(name):read('*a') .. '|' end "
        "Data.PatientComments = all('kept.txt') .. all('second.txt') .. all('last.txt')"
    )
    before = tree(tmp_path)
    trace = traced(tmp_path, "ImportConverter0 = x.lua")

    assert (trace.outcome, trace.reason) == ("keep", "")
    assert tree(tmp_path) == before
    [change] = [change for change in trace.changes if change.keyword == "PatientComments"]
    assert change.after == "one five six |one two three four |one two three seven|"


def test_what_cannot_be_copied_fails_the_rule(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for line in ("copy nothing.txt to a", "copy folder to a", "copy dicom.ini to absent/a"):
        trace = traced(tmp_path, f"ImportConverter0 = {line}")
        assert trace.outcome == "reject", line


def test_long_object_is_not_loaded(tmp_path: Path) -> None:
    """Two hundred megabytes of pixels, of which rules see nothing."""
    path = tmp_path / "long.dcm"
    head = file_meta("1.2.840.10008.5.1.4.1.1.2", "1.2.3", EXPLICIT_LE)
    data = kit.table().tobytes() + explicit(0x7FE00010, "OW", b"", length=200 << 20)
    with path.open("wb") as file:
        file.write(head + data)
        file.truncate(len(head) + len(data) + (200 << 20))
    line = 'set PatientID to "x"; set StudyID to "%VPixelData"; save to out.dcm'
    with opened(tmp_path, f"ImportConverter0 = {line}") as trace:
        tracemalloc.start()
        found = trace.tracer.trace(trace.file(path, "CT1", "GATE"))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert [change.keyword for change in found.changes if change.keyword == "PatientID"]
    assert most < 30 << 20
