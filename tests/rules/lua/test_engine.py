"""Ways to run Lua in rules, and what its results lead to (spec lua-api.md 1, 2 and 5.1)."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dgate.config.settings import ConverterText
from dgate.errors import Deferred, RuleError
from dgate.rules.effects import Decision, Outcome
from dgate.rules.events import Event
from dgate.rules.hooks import Rules
from dgate.rules.session import Session, Sessions
from tests.rules import kit

PATIENT_ID = 0x00100020


def verdict(
    *lines: str, base: Path = Path("/nonexistent"), **changes: object
) -> tuple[object, str]:
    """Run import lines; return the outcome and the patient ID afterwards."""
    converters = [kit.converter(line, index=number) for number, line in enumerate(lines)]
    made = kit.rules(*converters, base=base, **changes)  # type: ignore[arg-type]
    assert made.problems == ()
    found, table = kit.run_import(made)
    return found.outcome, table.text(PATIENT_ID)


# Results.


@pytest.mark.parametrize(
    ("line", "outcome", "patient_id"),
    [
        ("lua:Data.PatientID = 'x'", Outcome.KEEP, "x"),
        ('lua "Data.PatientID = [[x;y]]"; nop', Outcome.KEEP, "x;y"),
        ('lua "destroy()"; set PatientID to "x"', Outcome.DESTROY, "0009703828"),
        ("lua:destroy() Data.PatientID = 'x'", Outcome.DESTROY, "x"),
        ('lua "reject()"; set PatientID to "x"', Outcome.REJECT, "0009703828"),
        ("lua:destroy() reject()", Outcome.REJECT, "0009703828"),
        ("lua:destroy() script('nop')", Outcome.KEEP, "0009703828"),
        ("lua:destroy() DicomObject:new():Script('nop')", Outcome.KEEP, "0009703828"),
        ("lua:script('destroy')", Outcome.DESTROY, "0009703828"),
        ("lua:script('set PatientID to \"x\"')", Outcome.KEEP, "x"),
        ("lua:Data:Script('set PatientID to \"x\"; reject')", Outcome.REJECT, "x"),
        ('lua "script(\'stop\')"; set PatientID to "x"', Outcome.KEEP, "0009703828"),
        ("lua \"script('ifequal a, b')\" ", Outcome.REJECT, "0009703828"),
        ('lua "return 2"; set PatientID to "x"', Outcome.KEEP, "x"),
        ('lua "retry()"; set PatientID to "x"', Outcome.KEEP, "x"),
    ],
)
def test_results(line: str, outcome: Outcome, patient_id: str) -> None:
    assert verdict(line) == (outcome, patient_id)


def test_failed_test_in_a_script_skips_the_next_statement() -> None:
    code = """lua "script([[ifequal \\34%%m\\34, \\34MR\\34]])"; set PatientID to "x"; nop"""
    assert verdict(code.replace("[[", "'").replace("]]", "'")) == (Outcome.KEEP, "0009703828")


def test_script_works_on_other_objects_and_leaves_its_forwards() -> None:
    code = (
        "lua:local o = Data:Copy() o:Script('set PatientID to \"other\"; forward to A') "
        "o:Script('forward to B') script('forward to C') Data.PatientID = o.PatientID .. 2"
    )
    made = kit.importing(code)
    found, table = kit.run_import(made)
    assert table.text(PATIENT_ID) == "other2"
    assert [(one.forward.target, one.snapshot.text(PATIENT_ID)) for one in found.forwards] == [
        ("A", "other"),
        ("B", "other"),
        ("C", "0009703828"),
    ]


def test_storage_and_reason_reach_the_verdict() -> None:
    found, _ = kit.run_import(kit.importing("lua:Data.Storage = 'MAG3' destroy()"))
    assert (found.device, found.reason) == ("MAG3", "destroy by ImportConverter0.0")


def test_retry_is_for_the_hooks_of_refused_objects() -> None:
    made = kit.rules(kit.converter("lua:retry()", "RejectedImage"))
    decision = made.events.run(
        Event.REJECTED_IMAGE, kit.table(), kit.captured(), kit.FakeEnvironment()
    )
    assert decision.retry


def test_error_of_a_statement_is_an_error_of_the_script(caplog: pytest.LogCaptureFixture) -> None:
    found, _ = kit.run_import(kit.importing("lua:script('nonsense')"))
    assert found.outcome is Outcome.REJECT
    assert "lua run error ImportConverter0.0:1: there is no script nonsense" in found.reason
    assert verdict("lua:pcall(script, 'nonsense')") == (Outcome.KEEP, "0009703828")


@pytest.mark.parametrize("ignored", [False, True])
def test_errors_are_ignored_where_that_is_wanted(
    ignored: bool, caplog: pytest.LogCaptureFixture
) -> None:
    line = 'lua "Data.PatientID = \'x\' nosuch()"; set StudyID to "y"'
    made = kit.importing(line, script_errors_reject=not ignored)
    found, table = kit.run_import(made)
    assert found.outcome is (Outcome.KEEP if ignored else Outcome.REJECT)
    assert table.text(0x00200010) == ("y" if ignored else "")
    assert "attempt to call global 'nosuch'" in caplog.text


# Files.


def test_lua_file_gets_its_arguments_unparsed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.lua").write_text(
        "#!/usr/bin/lua\nData.PatientID = tostring(command_line)"
    )
    for line, expected in [
        ("sub/x.lua", "nil"),
        ("sub/x.lua()", ""),
        ("sub/x.lua(a, b)", "a, b"),
        ('sub/x.lua("a %m")', "a CT"),
        (f"{tmp_path}/sub/x.lua(%V0008,0060)", "CT"),
        ("SUB/X.LUA", None),
    ]:
        made = kit.importing(line, base=tmp_path)
        if expected is None:
            assert "there is no Lua file" in made.problems[0].message
        else:
            assert made.problems == ()
            assert kit.run_import(made)[1].text(PATIENT_ID) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nosuch.lua", "there is no Lua file nosuch.lua"),
        ("bad.lua", "unexpected symbol near '='"),
        ("x%m.lua", "must not contain %-tokens"),
        ("x.lua a", "arguments in parentheses only"),
        ("compiled.lua", "compiled Lua code cannot be loaded"),
    ],
)
def test_lua_file_that_cannot_run_is_reported_and_refuses(
    tmp_path: Path, line: str, message: str
) -> None:
    (tmp_path / "bad.lua").write_text("\n x = = 1")
    (tmp_path / "x.lua").write_text("")
    (tmp_path / "compiled.lua").write_bytes(b"\x1bLua")
    made = kit.importing(line, base=tmp_path)
    assert message in made.problems[0].message
    if line == "bad.lua":
        assert (made.problems[0].where, made.problems[0].column) == ("bad.lua:2", 6)
    assert kit.run_import(made)[0].outcome is Outcome.REJECT


def test_file_that_runs_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.lua").write_text("script('x.lua')")
    found, _ = kit.run_import(kit.importing("x.lua", base=tmp_path))
    assert found.outcome is Outcome.REJECT
    assert "runs itself" in found.reason


def test_modules_are_found_and_files_are_confined(tmp_path: Path) -> None:
    (tmp_path / "lua").mkdir()
    (tmp_path / "lua" / "mod.lua").write_text(
        "module(..., package.seeall) function f() return 'M' end"
    )
    (tmp_path / "lua" / "bad.lua").write_text("x = =")
    (tmp_path / "part.lua").write_text("part = (part or 0) + 1 return 'P'")
    made = kit.importing(
        "lua:local a = require('mod').f() local b = dofile('part.lua') .. loadfile('part.lua')() "
        "local ok, why = pcall(require, 'bad') "
        "Data.PatientID = a .. b .. part .. tostring(string.find(why, 'bad.lua:1') ~= nil)",
        base=tmp_path,
    )
    env = kit.FakeEnvironment()
    env.files.place = lambda name: tmp_path / name  # type: ignore[method-assign]
    found, table = kit.run_import(made, env=env)
    assert found.reason == ""
    assert table.text(PATIENT_ID) == "MPP2true"


def test_files_are_read_and_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    env = kit.FakeEnvironment()
    env.files.place = lambda name: tmp_path / name  # type: ignore[method-assign]
    caplog.set_level(logging.INFO)
    code = """lua:
        local f = assert(io.open('a.txt', 'w')) f:write('one\\n', 2, '\\n') f:close()
        local lines = {} for l in io.lines('a.txt') do lines[#lines + 1] = l end
        f = io.open('a.txt') local n = (f:seek('end')) f:seek('set')
        local first = f:read('*l') f:close()
        os.rename('a.txt', 'b.txt')
        local gone = io.open('a.txt') == nil
        os.remove('b.txt')
        io.output('c.txt') io.write('x') io.close()
        io.input('c.txt') local c = io.read('*a')
        io.write('to the log', 1) io.stderr:write('error')
        Data.PatientID = table.concat(lines, ',') .. n .. first .. tostring(gone) .. c
            .. tostring(io.type(f)) .. os.date('%%Y', 0) .. tostring(os.setlocale('de_DE'))
    """
    found, table = kit.run_import(kit.importing(code), env=env)
    assert found.reason == ""
    assert table.text(PATIENT_ID) == "one,26onetruexclosed file1970nil"
    said = [
        record.getMessage()
        for record in caplog.records
        if record.name == "dgate.lua" and record.levelno == logging.INFO
    ]
    assert said == ["to the log1", "error"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.txt"]


def test_programs_are_started_without_a_shell() -> None:
    env = kit.FakeEnvironment()
    env.programs.status = 3
    code = "lua:Data.PatientID = os.execute('prog \"a b\" c') .. os.execute()"
    _, table = kit.run_import(kit.importing(code), env=env)
    assert env.programs.ran == [["prog", "a b", "c"]]
    assert table.text(PATIENT_ID) == "30"


# Output.


def test_print_shows_values_as_the_original_does(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    kit.run_import(kit.importing("lua:print('a', 1, 1.5, nil, true, {}, Data) debuglog('Łódź')"))
    said = [record for record in caplog.records if record.name == "dgate.lua"]
    words = said[0].getMessage().split("\t")
    assert words[:5] == ["a", "1", "1.5", "nil", "true"]
    assert words[5].startswith("table:0x")
    assert words[6].startswith("userdata:0x")
    assert (said[1].getMessage(), said[1].levelno) == ("Łódź", logging.DEBUG)


# Hooks and sessions.


@pytest.mark.parametrize("event", list(Event), ids=lambda event: event.value)
def test_lua_converter_of_every_event_changes_its_object(event: Event) -> None:
    lua = ConverterText(event.value, 0, "Data.PatientID = 'changed'", True, where="dicom.ini:1")
    made = kit.rules(lua)
    assert made.problems == ()
    table = kit.table()
    decision: Decision = made.events.run(event, table, kit.captured(), kit.FakeEnvironment())
    assert decision.outcome is Outcome.KEEP
    assert table.text(PATIENT_ID) == "changed"


def test_lua_converter_runs_whatever_its_filters_and_keeps_percent_signs() -> None:
    code = "Data.PatientID = ('%s'):format('%m')"
    made = kit.rules(kit.converter(code, lua=True, modality="MR"))
    assert kit.run_import(made)[1].text(PATIENT_ID) == "%m"


def run_with(made: Rules, session: Session | None) -> str:
    """Run the import rules in a session; return the patient ID."""
    table = kit.table()
    found = made.run_import(table, kit.captured(), kit.FakeEnvironment(), session)
    assert found.reason == ""
    return table.text(PATIENT_ID)


def test_globals_live_as_long_as_the_session() -> None:
    made = kit.importing("lua:n = (n or 0) + 1 Data.PatientID = n")
    session, other = Session(), Session()
    assert [run_with(made, session) for _ in range(3)] == ["1", "2", "3"]
    assert run_with(made, other) == "1"
    assert [run_with(made, None) for _ in range(2)] == ["1", "1"]
    session.close()
    assert run_with(made, session) == "1"


def test_state_survives_a_reload_and_sees_new_code_and_limits() -> None:
    session = Sessions().named("ExportConverter0")
    count = "lua:n = (n or 0) + 1 Data.PatientID = n"
    assert run_with(kit.importing(count), session) == "1"
    assert run_with(kit.importing(f"{count} .. 'b'", lua_seconds=7.0), session) == "2b"
    # Another limit of memory takes a state of its own.
    assert run_with(kit.importing(count, lua_memory_mb=17), session) == "1"


def test_filename_and_command_line_are_those_of_the_call() -> None:
    session = Session()
    session.file_name = "/data/incoming/x.dcm"
    made = kit.importing("lua:Data.PatientID = Filename .. tostring(command_line)")
    assert run_with(made, session) == "/data/incoming/x.dcmnil"


def export(line: str, *, lua: bool = False, **changes: object) -> Rules:
    """Compile an export line."""
    return kit.rules(kit.converter(line, "Export", lua=lua), **changes)  # type: ignore[arg-type]


def test_export_lines_with_lua_are_never_decided_at_intake() -> None:
    for made in (export('lua "x = 1"; forward to A'), export("x = 1", lua=True)):
        [plan] = made.plan_exports(kit.table(), kit.captured(), kit.FakeEnvironment())
        assert plan.deferred


def test_forwards_of_export_scripts_carry_what_was_changed() -> None:
    made = export(
        "script('forward to A') Data.PatientComments = '100% ; \"x\"\\n' Data.StationName = nil "
        "Data.ReferencedStudySequence = {} "
        "Data.ReferencedStudySequence[0].ReferencedSOPInstanceUID = '1.2' "
        "script('forward to B')",
        lua=True,
    )
    expansion = made.expand(0, kit.table(), kit.captured(), kit.FakeEnvironment())
    first, second = expansion.forwards
    assert (first.target, first.script) == ("A", None)
    copy = kit.table()
    assert second.script is not None
    made.run_script(second.script, copy, kit.captured(), kit.FakeEnvironment())
    assert copy.text(0x00104000) == '100% ; "x"\n'
    assert 0x00081010 not in copy
    assert copy.items(0x00081110)[0].text(0x00081155) == "1.2"


def test_change_that_no_forward_can_carry_fails() -> None:
    made = export("Data.PatientComments = ('x'):rep(1e5) script('forward to A')", lua=True)
    with pytest.raises(RuleError, match="Lua changed more of the object"):
        made.expand(0, kit.table(), kit.captured(), kit.FakeEnvironment())


def test_defer_breaks_off_an_export_script() -> None:
    made = export("pcall(script, 'defer') done = true", lua=True)
    with pytest.raises(Deferred):
        made.expand(0, kit.table(), kit.captured(), kit.FakeEnvironment())


def test_destroy_and_reject_have_no_effect_in_export_lines() -> None:
    made = export('lua "destroy()"; forward to A')
    expansion = made.expand(0, kit.table(), kit.captured(), kit.FakeEnvironment())
    assert [forward.target for forward in expansion.forwards] == ["A"]


def test_lua_runs_inside_coroutines_and_from_scripts() -> None:
    code = (
        "lua:local co = coroutine.wrap(function() "
        "script('lua \"Data.StudyID = Data.Modality\"') coroutine.yield(Data.StudyID) end) "
        "Data.PatientID = co()"
    )
    assert verdict(code) == (Outcome.KEEP, "CT")


# Minimal acceptance checks of the specification.


@pytest.mark.parametrize(
    "check",
    [
        "_VERSION == 'Lua 5.1'",
        "type(Data) == 'userdata'",
        "#Data == 1",
        "Data.Nope == nil",
        "select('#', Data:ListItems()) == 4",
        "select(2, dictionary('PatientID')) == 32",
        "(dictionary('PatientID')) == 16",
        "crc('hello') == '4029829531'",
        "md5('') == 'ee7ee7f6775a4a345175ce996256f6ee'",
        "setfenv and getfenv and unpack and loadstring and module",
        "type(tickcount()) == 'number'",
        "type(heapinfo()) == 'string'",
        "(function(...) return arg.n end)(1, 2) == 2",
    ],
)
def test_minimal_checks_of_the_specification(check: str) -> None:
    assert verdict(f"lua:assert({check})")[0] is Outcome.KEEP
