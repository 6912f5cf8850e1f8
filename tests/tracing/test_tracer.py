"""What a trace tells of each rule: whether it runs, why not, what it changes and where it sends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tracing.kit import opened, traced


def test_statement_by_statement(tmp_path: Path) -> None:
    trace = traced(
        tmp_path,
        'ImportConverter0 = ifequal "%m", "CT"; set PatientID to "X%i"; '
        'ifequal "%m", "MR"; { nop a; nop b; } nop at %i',
    )
    (rule,) = trace.imports
    assert (rule.rule, rule.where, rule.fires) == ("ImportConverter0", "dicom.ini:7", True)
    assert [(event.number, event.result, event.values) for event in rule.statements] == [
        (0, "true", ("CT", "CT")),
        (1, "done", ()),
        (2, "false", ("CT", "MR")),
        (5, "done", ("nop at X0009703828",)),
    ]
    (change,) = rule.statements[1].changes
    assert (change.path, change.keyword) == ("(0010,0020)", "PatientID")
    assert (change.before, change.after) == ("0009703828", "X0009703828")
    assert rule.statements[2].skipped == ["nop a", "nop b"]
    assert trace.changes == [change]
    assert trace.outcome == "keep"


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        ("ImportModality0 = MR", "ImportModality0 = MR does not match 'CT'"),
        ("ImportStationName0 = ROOM2", "ImportStationName0 = ROOM2 does not match 'ROOM1'"),
        ("ImportCallingAE0 = MR*", "ImportCallingAE0 = MR* does not match 'CT1'"),
        ("ImportCalledAE0 = OTHER", "ImportCalledAE0 = OTHER does not match 'GATE'"),
        ("ImportModality0 =", "ImportModality0 is empty, which never matches"),
    ],
)
def test_rule_whose_filter_fails_says_which(tmp_path: Path, filters: str, reason: str) -> None:
    trace = traced(tmp_path, f"{filters}\nImportConverter0 = destroy")
    (rule,) = trace.imports
    assert (rule.fires, rule.reason, rule.statements) == (False, reason, [])
    assert trace.outcome == "keep"


def test_rules_behind_the_one_that_ends_the_object_do_not_run(tmp_path: Path) -> None:
    trace = traced(
        tmp_path,
        "ImportConverter0 = nop first\nImportConverter1 = nop in; destroy; nop never\n"
        "ImportConverter2 = nop late\nExportConverters = 1\nExportConverter0 = forward to ARCHIVE",
    )
    assert (trace.outcome, trace.reason) == ("destroy", "destroy by ImportConverter1.1")
    assert trace.imports[1].statements[1].skipped == ["nop never"]
    assert [(one.fires, one.reason) for one in trace.imports] == [
        (True, ""),
        (True, ""),
        (False, "ImportConverter1 ended the rules for this object"),
    ]
    assert [(one.fires, one.reason) for one in trace.exports] == [
        (False, "the object is not stored")
    ]
    assert trace.destinations == []


def test_scripts_are_followed(tmp_path: Path) -> None:
    trace = traced(
        tmp_path,
        'ImportConverter0 = call tag; nop out\nImportConverter1 = script "set StudyID to ""%i"""',
        'tag = set InstitutionName to "Site"; stop; nop x',
    )
    outer, inner, after = trace.imports[0].statements
    assert (outer.text, outer.result, outer.skipped) == ("call tag", "stop", ["nop out"])
    assert outer.changes == []
    assert (inner.rule, inner.number) == ("ImportConverter0.0 tag", 0)
    assert [change.keyword for change in inner.changes] == ["InstitutionName"]
    assert (after.text, after.skipped) == ("stop", ["nop x"])


def test_failing_statement_names_its_error(tmp_path: Path) -> None:
    trace = traced(tmp_path, "ImportConverter0 = call nowhere; nop never")
    (event,) = trace.imports[0].statements
    assert event.result == "failed"
    assert "there is no script nowhere" in event.error
    assert event.skipped == ["nop never"]
    assert trace.outcome == "reject"


def test_destinations_with_address_and_titles(tmp_path: Path) -> None:
    trace = traced(
        tmp_path,
        "ImportConverter0 = forward compressed as un to MRARCHIVE org ME dest YOU\n"
        "ExportConverters = 3\nExportConverter0 = forward to ARCHIVE\n"
        'ExportConverter1 = ifequal "%m", "MR"; forward to MRARCHIVE\n'
        "ExportConverter2 = forward to NOWHERE; forward to 127.0.0.1:11112 "
        'script set PatientName to "Anon"',
    )
    places = [
        (one.rule, one.target, one.host, one.port, one.calling, one.called, one.compression)
        for one in trace.destinations
    ]
    assert places[0] == (
        "ImportConverter0.0", "MRARCHIVE", "10.0.0.2", 105, "ME", "YOU", "un",
    )  # fmt: skip
    assert places[1] == ("ExportConverter0.0", "ARCHIVE", "10.0.0.1", 104, "GATE", "ARCHIVE", "as")
    assert "neither a node of acrnema.map nor the name of a host" in trace.destinations[2].problem
    assert places[3][:4] == ("ExportConverter2.1", "127.0.0.1:11112", "127.0.0.1", 11112)
    (event,) = trace.destinations[3].script
    assert [(one.before, one.after) for one in event.changes] == [("HEAD EXP2", "Anon")]
    assert trace.changes == []
    assert [one.fires for one in trace.exports] == [True, True, True]


def test_export_filter_looks_at_the_rows_that_the_object_would_have(tmp_path: Path) -> None:
    rules = (
        "ExportConverters = 2\nExportConverter0 = forward to ARCHIVE\n"
        "ExportFilter0 = Modality = 'CT' and QRows = 512\n"
        "ExportConverter1 = forward to MRARCHIVE\nExportFilter1 = Modality = 'MR'"
    )
    trace = traced(tmp_path, rules)
    assert [one.target for one in trace.destinations] == ["ARCHIVE"]
    assert trace.exports[1].reason == "ExportFilter1 does not hold: Modality = 'MR'"
    # The rows of one object do not stay for the next.
    trace = traced(tmp_path, rules, Modality="MR", Rows=100)
    assert [one.target for one in trace.destinations] == ["MRARCHIVE"]


def test_broken_export_filter_is_an_error_of_its_rule(tmp_path: Path) -> None:
    trace = traced(
        tmp_path,
        "ExportConverters = 1\nExportConverter0 = forward to ARCHIVE\nExportFilter0 = Nothing = 1",
    )
    assert trace.destinations == []
    assert trace.exports[0].reason.startswith("fails: ")


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    traced(
        tmp_path,
        'ImportConverter0 = write "%i" to out.txt; append "x" to out.txt; newuids; '
        'set PatientComments to "%g"; mkdir deep/er; rm dicom.ini',
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["acrnema.map", "dicom.ini"]


def test_what_rules_do_outside_is_told(tmp_path: Path) -> None:
    trace = traced(
        tmp_path,
        'ImportConverter0 = write "%i" to out.txt; append "x" to out.txt; newuids stage s',
    )
    first, second, third = trace.imports[0].statements
    assert first.actions == [f"write 10 bytes to {tmp_path}/out.txt"]
    assert second.actions == [f"append 1 bytes to {tmp_path}/out.txt"]
    assert any(action.startswith("map 1.2.3.4.5 to ") for action in third.actions)
    assert "(0008,0018)" in [change.path for change in third.changes]


def test_same_uid_twice_in_one_trace_is_mapped_once(tmp_path: Path) -> None:
    with opened(tmp_path, "ImportConverter0 = newuids") as trace:
        from dgate.tracing.tracer import Subject
        from tests.rules import kit

        first = trace.tracer.trace(Subject("a", kit.table(), "A", "B"))
        second = trace.tracer.trace(Subject("b", kit.table(), "A", "B"))
    assert first.changes == second.changes


def test_object_is_left_as_it_was(tmp_path: Path) -> None:
    with opened(tmp_path, 'ImportConverter0 = set PatientID to "X"') as trace:
        from dgate.tracing.tracer import Subject
        from tests.rules import kit

        table = kit.table()
        before = table.tobytes()
        assert trace.tracer.trace(Subject("a", table, "A", "B")).changes
        assert table.tobytes() == before


def test_json_and_text_hold_the_same(tmp_path: Path) -> None:
    trace = traced(
        tmp_path,
        'ImportConverter0 = set PatientName to "Jos\u00e9"\nImportModality1 = MR\n'
        "ImportConverter1 = destroy\nExportConverters = 1\nExportConverter0 = forward to ARCHIVE",
    )
    data = json.loads(json.dumps(trace.as_json()))
    assert data["imports"][0]["statements"][0]["changes"][0]["after"] == "Jos\u00e9"
    assert data["destinations"][0]["host"] == "10.0.0.1"
    text = "\n".join(trace.lines())
    assert "ImportConverter1 (dicom.ini:9): does not run: ImportModality1 = MR" in text
    assert "'HEAD EXP2' -> 'Jos\u00e9'" in text
    assert "to ARCHIVE by ExportConverter0.0: ARCHIVE at 10.0.0.1:104, calling GATE" in text
    assert "ImportConverter1" not in "\n".join(trace.lines(verbose=False))


def test_settings_that_act_beside_rules_are_named(tmp_path: Path) -> None:
    trace = traced(tmp_path, "IncomingCompression = un\nWorkListMode = 1")
    assert [note.split()[0] for note in trace.notes] == ["IncomingCompression", "WorkListMode"]


def test_rule_of_section_lua_is_one_statement(tmp_path: Path) -> None:
    code = (
        "Data.PatientComments = 'x'; mkdir('sub'); "
        "local f = io.open('out.txt', 'w'); f:write('y'); f:close(); os.remove('acrnema.map'); "
        "destroy()"
    )
    trace = traced(
        tmp_path,
        "ImportConverter0 = nop first\nImportConverter2 = nop late\n\n"
        f"[lua]\nImportConverter1 = {code}",
    )
    first, second, third = trace.imports
    [event] = second.statements
    assert (second.rule, event.text, event.result) == ("ImportConverter1", code, "destroy")
    assert [change.keyword for change in event.changes] == ["PatientComments"]
    assert event.actions == [
        f"make the folder {tmp_path}/sub",
        f"open {tmp_path}/out.txt to write",
        f"remove {tmp_path}/acrnema.map",
    ]
    assert (first.fires, third.fires) == (True, False)
    assert third.reason == "ImportConverter1 ended the rules for this object"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["acrnema.map", "dicom.ini"]


def test_name_of_a_file_is_the_one_that_lua_makes(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rules = (
        "FileNameSyntax = lua:Data.Modality .. '/' .. Association.Calling .. '/x.dcm'\n"
        'ImportConverter0 = set PatientComments to "%f"'
    )
    changes = traced(tmp_path, rules).changes

    assert [change.after for change in changes] == [str(tmp_path / "data" / "CT/CT1/x.dcm")]


def test_name_of_a_file_is_the_default_where_lua_makes_none(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rules = 'FileNameSyntax = lua:nosuch()\nImportConverter0 = set PatientComments to "%f"'

    (change,) = traced(tmp_path, rules).changes

    assert str(change.after).startswith(str(tmp_path / "data"))
    assert str(change.after).endswith(".dcm")
