"""Lua in the real server: rules, events, file names and limits, with DCMTK at the other end."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import store
from tests.acceptance.processes import wait_until
from tests.acceptance.rawdicom import Closed, RawAssociation, pdu
from tests.generate import Generated


def with_lua(gateway: Gateway, **keys: str) -> Gateway:
    """Write keys into section [lua]."""
    text = gateway.ini.read_text()
    gateway.ini.write_text(
        "\n".join([text, "[lua]", *[f"{key} = {value}" for key, value in keys.items()], ""])
    )
    return gateway


def serving(farm: Farm, nodes: tuple[Node, ...] = (), *, lua: dict[str, str] | None = None,
            **settings: object) -> Gateway:  # fmt: skip
    """Return a running server with these settings and keys of [lua]."""
    gateway = farm.gateway(settings=settings, nodes=nodes, start=False)
    return with_lua(gateway, **(lua or {})).start()


def sent(gateway: Gateway, objects: list[Generated]) -> list[bool]:
    """Store objects; return which were accepted."""
    paths = [each.path for each in objects]
    return [answer.is_success for answer in store(gateway.port, *paths, check=False)]


def stored(gateway: Gateway) -> list[pydicom.Dataset]:
    """Return the objects of the archive."""
    return [pydicom.dcmread(path) for path in gateway.stored_files()]


def text_of(path: Path) -> str:
    """Return the content of a file, empty while there is none."""
    return path.read_text() if path.exists() else ""


def test_import_rule_of_section_lua_changes_what_is_stored(
    farm: Farm, objects: list[Generated]
) -> None:
    code = (
        "if Data.Modality == 'MR' then Data.InstitutionName = 'Łódź'; "
        "Data.RequestAttributesSequence = {}; "
        "Data.RequestAttributesSequence[0].RequestedProcedureID = Data.PatientID .. '/1' end"
    )
    gateway = serving(farm, lua={"ImportConverter0": code})

    assert sent(gateway, objects[:2]) == [True, True]
    for made in stored(gateway):
        assert made.InstitutionName == "Łódź"
        assert made.SpecificCharacterSet == "ISO_IR 192"
        assert made.RequestAttributesSequence[0].RequestedProcedureID == f"{made.PatientID}/1"


def test_lua_statements_and_files_run_in_a_rule(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway(
        settings={
            "ImportConverter0": """fix.lua(%m,"a"); lua:Data.StudyID = 'S%i' count = count + 1; """
        },
        start=False,
    )
    (gateway.folder / "fix.lua").write_text(
        "count = (count or 0) + 1\nData.PatientComments = command_line .. count\n"
    )
    gateway.start()

    assert sent(gateway, objects[:2]) == [True, True]
    made = sorted(stored(gateway), key=lambda each: str(each.PatientComments))
    assert [each.PatientComments for each in made] == ['MR,"a"1', 'MR,"a"3']
    assert {each.StudyID for each in made} == {f"S{made[0].PatientID}"}


@pytest.mark.parametrize(("errors", "is_kept"), [("reject", False), ("ignore", True)])
def test_failing_script_refuses_the_object_unless_errors_are_ignored(
    farm: Farm, objects: list[Generated], errors: str, is_kept: bool
) -> None:
    code = "Data.PatientName = 'X' local nothing = nil + 1"
    gateway = serving(farm, lua={"ImportConverter0": code}, ScriptErrors=errors)

    assert sent(gateway, objects[:1]) == [is_kept]
    assert len(stored(gateway)) == is_kept
    said = "lua run error ImportConverter0:1: attempt to perform arithmetic"
    wait_until(lambda: said in gateway.log, "the error in the log")


def test_destroy_answers_success_and_reject_does_not(farm: Farm, objects: list[Generated]) -> None:
    code = "if Association.Calling == 'GOOD' then destroy() else reject() end"
    gateway = serving(farm, lua={"ImportConverter0": code})

    answers = [
        store(gateway.port, objects[0].path, calling=title, check=False)[0].is_success
        for title in ("GOOD", "BAD")
    ]

    assert answers == [True, False]
    assert stored(gateway) == []


@pytest.mark.parametrize(
    "code",
    [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local t = {} while true do t[#t + 1] = string.rep('x', 1e5) .. #t end",
        "local function f() return 1 + f() end f()",
        "os.exit(1)",
        "coroutine.yield()",
    ],
)
def test_script_without_end_is_stopped_and_the_server_lives_on(
    farm: Farm, objects: list[Generated], code: str
) -> None:
    gateway = serving(
        farm,
        lua={"ImportConverter0": code},
        LuaInstructions=5,
        LuaMemoryMB=16,
        LuaSeconds=20,
    )

    assert sent(gateway, objects[:1]) == [False]
    assert stored(gateway) == []
    assert gateway.answers()


def test_counter_of_an_export_converter_outlives_objects_and_reloads(
    farm: Farm, objects: list[Generated]
) -> None:
    code = (
        "count = (count or 0) + 1; local f = io.open('count.txt', 'w'); f:write(count); f:close()"
    )
    gateway = serving(farm, lua={"ExportConverter0": code}, ExportConverters=1)
    count = gateway.folder / "count.txt"

    assert all(sent(gateway, objects[:3]))
    wait_until(lambda: text_of(count) == "3", "a count of 3")
    gateway.configure(DebugLevel=1)
    gateway.command("config", "reload")
    assert all(sent(gateway, objects[3:4]))

    wait_until(lambda: text_of(count) == "4", "a count of 4")


def test_export_script_sends_what_it_has_changed(farm: Farm, objects: list[Generated]) -> None:
    sink = farm.sink()
    code = (
        "Data.PatientComments = '100% \\\\ \"quoted\"' Data.OperatorsName = nil "
        "Data.RequestAttributesSequence = {} "
        "Data.RequestAttributesSequence[0].RequestedProcedureID = 'P1' "
        "script('forward to SINK')"
    )
    gateway = serving(
        farm, (Node("SINK", sink.port),), lua={"ExportConverter0": code}, ExportConverters=1
    )

    assert sent(gateway, objects[:1]) == [True]
    sink.wait_for(1)

    received = pydicom.dcmread(next(iter(sink.files().values())))
    assert received.PatientComments == '100% \\ "quoted"'
    assert received.RequestAttributesSequence[0].RequestedProcedureID == "P1"
    assert "PatientComments" not in stored(gateway)[0]


def test_file_names_are_made_by_an_expression(farm: Farm, objects: list[Generated]) -> None:
    gateway = serving(farm, FileNameSyntax="lua:Data.Modality .. '/' .. Data.SOPInstanceUID")

    assert all(sent(gateway, objects[:2]))

    device = gateway.device()
    names = {str(path.relative_to(device)) for path in gateway.stored_files()}
    assert len(names) == 2
    assert names == {f"MR/{made.SOPInstanceUID}.dcm" for made in stored(gateway)}


def test_corrected_objects_are_named_by_the_expression_too(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = serving(farm, FileNameSyntax="lua:Data.PatientID .. '/' .. Data.SOPInstanceUID")
    assert all(sent(gateway, objects[:1]))
    [made] = stored(gateway)

    gateway.command("correct", "patient", made.PatientID, "--id", "CORRECTED", "--yes")

    device = gateway.device()
    names = [str(path.relative_to(device)) for path in gateway.stored_files()]
    assert names == [f"CORRECTED/{made.SOPInstanceUID}.dcm"]


def test_file_names_share_globals_with_the_association(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = serving(
        farm,
        FileNameSyntax="lua:who .. '/' .. count .. '/' .. Data.SOPInstanceUID",
        lua={
            "association": "who = Association.Calling",
            "ImportConverter0": "count = (count or 0) + 1",
        },
    )

    for calling in ("FIRST", "SECOND"):
        answers = store(gateway.port, *[made.path for made in objects[:2]], calling=calling)
        assert [answer.is_success for answer in answers] == [True, True]
        objects = objects[2:]

    device = gateway.device()
    names = sorted(str(path.relative_to(device).parent) for path in gateway.stored_files())
    assert names == ["FIRST/1", "FIRST/2", "SECOND/1", "SECOND/2"]


@pytest.mark.parametrize("expression", ["nil", "nosuch()", "'../../etc/x.dcm'"])
def test_expression_without_a_name_leads_to_the_default_syntax(
    farm: Farm, objects: list[Generated], expression: str
) -> None:
    gateway = serving(farm, FileNameSyntax=f"lua:{expression}")

    assert all(sent(gateway, objects[:1]))

    [made], [path] = stored(gateway), gateway.stored_files()
    assert path.parent.name == made.PatientID
    assert path.name.startswith(f"{made.SeriesInstanceUID}_")


def test_association_event_drops_and_shares_globals_with_rules(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = serving(
        farm,
        lua={
            "association": "who = Association.Calling; if who == 'BAD' then reject() end",
            "ImportConverter0": "Data.PatientComments = who .. Association.ConnectedIP",
            "endassociation": "local f = io.open('ended.txt', 'a'); f:write(who, ' '); f:close()",
        },
    )

    assert store(gateway.port, objects[0].path, calling="GOOD")[0].is_success
    with pytest.raises(Closed), RawAssociation.open(gateway.port, calling="BAD") as association:
        association.echo()

    assert stored(gateway)[0].PatientComments == "GOOD127.0.0.1"
    ended = gateway.folder / "ended.txt"
    wait_until(lambda: text_of(ended).endswith("GOOD BAD "), "the ends of both associations")


def test_command_event_sees_and_refuses_commands(farm: Farm) -> None:
    code = (
        "local f = io.open('commands.txt', 'a') f:write(Command.CommandField, ' ') f:close() "
        "if Association.Calling == 'BAD' and Command.CommandField == '48' then reject() end"
    )
    gateway = serving(farm, lua={"command": code})

    with RawAssociation.open(gateway.port, calling="GOOD") as association:
        assert association.echo().status == 0
        assert association.echo().status == 0
    with pytest.raises(Closed), RawAssociation.open(gateway.port, calling="BAD") as association:
        association.echo()

    assert set(text_of(gateway.folder / "commands.txt").split()) == {"48"}


def test_startup_event_can_refuse_the_start(farm: Farm) -> None:
    gateway = with_lua(farm.gateway(start=False), startup="destroy()")

    result = gateway.command("serve", check=False)

    assert result.returncode != 0
    assert "the start was refused: destroy by [lua] startup" in result.stdout


def test_background_event_runs_again_and_again(farm: Farm) -> None:
    code = "n = (n or 0) + 1; local f = io.open('n.txt', 'w'); f:write(n); f:close()"
    gateway = serving(farm, lua={"startup": "n = 10", "background": code})

    count = gateway.folder / "n.txt"
    wait_until(lambda: int(text_of(count) or 0) >= 12, "two runs of the code")


def test_check_names_syntax_errors_and_missing_files(farm: Farm) -> None:
    gateway = farm.gateway(
        settings={"ImportConverter1": 'nop; lua "if x"', "ImportConverter2": "nosuch.lua()"},
        start=False,
    )
    with_lua(gateway, ImportConverter0="Data.x = = 1", nightly="for")

    shown = gateway.command("check", check=False).stdout

    assert "unexpected symbol near '='" in shown
    assert "'then' expected near '<eof>'" in shown
    assert "there is no Lua file nosuch.lua" in shown
    assert "'<name>' expected near '<eof>'" in shown
    assert "not executable" not in shown


def test_client_error_event_runs_when_the_client_breaks_the_protocol(farm: Farm) -> None:
    code = "local f = io.open('error.txt', 'w'); f:write(Association.Calling); f:close()"
    gateway = serving(farm, lua={"clienterror": code})

    broken = RawAssociation.open(gateway.port, calling="BROKEN")
    broken.connection.sendall(pdu(0x99, b"rubbish"))
    with pytest.raises(Closed):
        broken.receive()
    broken.connection.close()
    with RawAssociation.open(gateway.port, calling="GOOD") as association:
        assert association.echo().status == 0

    wait_until(lambda: text_of(gateway.folder / "error.txt") == "BROKEN", "the event")


def test_limits_can_be_changed_while_the_server_runs(farm: Farm, objects: list[Generated]) -> None:
    code = "local t = ('x'):rep(3e6) for i = 1, 1000000 do end"
    gateway = serving(farm, lua={"ImportConverter0": code})
    assert sent(gateway, objects[:1]) == [True]

    for key, small, usual in (
        ("LuaInstructions", 1, 1000), ("LuaMemoryMB", 2, 256), ("LuaSeconds", "0.000001", 30),
    ):  # fmt: skip
        gateway.configure(**{key: small})
        gateway.command("config", "reload")
        assert sent(gateway, objects[1:2]) == [False], key
        gateway.configure(**{key: usual})
    gateway.command("config", "reload")
    assert sent(gateway, objects[1:2]) == [True]
