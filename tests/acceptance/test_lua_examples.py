"""The shipped Lua scripts (scripts/lua) in the real server, as sites use them."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sqlite3
import struct
import time
from collections.abc import Mapping
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UltrasoundImageStorage

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import QrScp, StoreScp, run_dcmtk, store
from tests.acceptance.processes import wait_until
from tests.acceptance.test_delayed import idle
from tests.acceptance.test_lua import sent, stored, text_of, with_lua
from tests.generate import Generated, Plan, write_files
from tests.servers import DatabaseServer

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "lua"


def site(
    farm: Farm,
    nodes: tuple[Node, ...] = (),
    *,
    name: str = "dgate",
    lua: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    **settings: object,
) -> Gateway:
    """Return a running server with the scripts in its folder, as the documents say."""
    settings = {"RetryFirst": 0.1, "ScriptErrors": "reject", **settings}
    gateway = farm.gateway(name, settings=settings, start=False)
    shutil.copytree(SCRIPTS, gateway.folder / "lua")
    for path, content in (files or {}).items():
        (gateway.folder / path).write_text(content)
    # The server knows itself, for queries of scripts.
    gateway.name_nodes([*nodes, Node("DGATE", gateway.port)])
    return with_lua(gateway, **(lua or {})).start()


def once(script: str, arguments: str = "") -> dict[str, str]:
    """Return the key of [lua] that runs a script one time, while the server serves.

    It begins when the file `go` is there.
    """
    code = (
        "if not done and io.open('go') then done = true; "
        f"command_line = '{arguments}'; dofile('lua/{script}'); "
        "io.open('over', 'w'):close() end"
    )
    return {"background": code}


def go(gateway: Gateway) -> None:
    """Let the script of `once` run to its end."""
    (gateway.folder / "go").touch()
    wait_until(lambda: (gateway.folder / "over").exists(), "the end of the script")


def changed(source: Generated, target: Path, **values: object) -> Path:
    """Write a copy of an object with other values."""
    made = pydicom.dcmread(source.path)
    for keyword, value in values.items():
        setattr(made, keyword, value)
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.save_as(target)
    return target


def rows_of(path: Path) -> list[list[str]]:
    """Return the rows of a CSV file, none while there is none."""
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return list(csv.reader(stream))


def register(gateway: Gateway) -> set[tuple[str, str, str, str]]:
    """Return old value, kind, new value and stage of every mapping."""
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT OldUID, MODType, NewUID, Stage FROM UIDMODS").fetchall()
    return set(rows)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[Generated]:
    """Return a study of two series with three objects each."""
    plan = Plan(6, seed=7, per_series=3, series_per_study=2)
    return write_files(tmp_path_factory.mktemp("study"), plan)


# The documents.


def lines_of_the_page() -> list[dict[str, str]]:
    """Return the settings of each example in docs/lua-examples.md."""
    page = (SCRIPTS.parents[1] / "docs" / "lua-examples.md").read_text()
    blocks = [block for block in re.findall(r"```ini\n(.*?)```", page, re.S)]
    return [
        {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
        for lines in (block.splitlines() for block in blocks)
    ]


@pytest.mark.parametrize("settings", lines_of_the_page(), ids=lambda each: next(iter(each)))
def test_check_finds_no_fault_in_what_the_page_shows(farm: Farm, settings: dict[str, str]) -> None:
    gateway = farm.gateway(settings=settings, start=False)
    shutil.copytree(SCRIPTS, gateway.folder / "lua")

    result = gateway.command("check", check=False)

    assert result.returncode == 0, result.stdout
    assert "0 error(s), 0 warning(s)" in result.stdout


def test_check_names_a_script_that_is_missing(farm: Farm) -> None:
    settings = {
        "ImportConverter0": "nop; lua/morph_vendor.lua",
        "ExportConverters": 1,
        "ExportConverter0": "process study after 60 by lua/study_report.lua %i|%V0020,000d",
    }

    shown = farm.gateway(settings=settings, start=False).command("check", check=False).stdout

    assert "there is no Lua file lua/morph_vendor.lua" in shown
    assert "there is no Lua file lua/study_report.lua" in shown


def test_job_that_fails_stays_in_the_queue(farm: Farm, study: list[Generated]) -> None:
    line = "process study after 1 by lua/study_report.lua %i"
    gateway = site(farm, ExportConverters=1, ExportConverter0=line)

    assert all(sent(gateway, study[:1]))

    wait_until(
        lambda: (
            "the command line has to be PATIENT|STUDY"
            in gateway.command("queue", "list", "--state", "stuck").stdout
        ),
        "the job among those that are stuck",
    )


# Routing by station.


def receivers(farm: Farm) -> tuple[StoreScp, StoreScp]:
    return farm.sink("ARCHIVE"), farm.sink("WORKSTATION1")


@pytest.mark.parametrize("where", ["export", "import"])
def test_objects_go_where_their_station_says(
    farm: Farm, study: list[Generated], tmp_path: Path, where: str
) -> None:
    archive, workstation = receivers(farm)
    nodes = (archive.node, workstation.node)
    if where == "export":
        lua = {"ExportConverter0": "dofile('lua/route_by_station.lua')"}
        gateway = site(farm, nodes, lua=lua, ExportConverters=1)
    else:
        gateway = site(farm, nodes, ImportConverter0="lua/route_by_station.lua")
    files = [
        changed(study[0], tmp_path / "0.dcm", StationName="ROOM1"),
        changed(study[1], tmp_path / "1.dcm", StationName="elsewhere"),
        changed(study[2], tmp_path / "2.dcm", StationName="US7", StudyDescription="STROKE unit"),
        changed(study[3], tmp_path / "3.dcm", StationName="ROOM1", Modality="PR"),
    ]

    answers = store(gateway.port, *files)
    own = store(gateway.port, changed(study[4], tmp_path / "4.dcm"), calling="ARCHIVE")

    assert all(answer.is_success for answer in [*answers, *own])
    archive.wait_for(3)
    workstation.wait_for(3)
    wait_until(lambda: idle(gateway), "the end of all deliveries")
    uids = [item.sop_instance for item in study]
    assert archive.files().keys() == {uids[0], uids[1], uids[2]}
    assert workstation.files().keys() == {uids[0], uids[2], uids[4]}


# Morphing for a vendor.


def vendor_object(source: Generated, target: Path, **values: object) -> Path:
    made = pydicom.dcmread(source.path)
    made.PatientName, made.PatientID = "DOE, JANE MARY", "  MR-00815"
    made.EchoTime = "0"
    del made.StationName, made.PatientAge
    made.RequestedProcedureDescription = "A100;HEAD/A101;NECK"
    block = made.private_block(0x0019, "OLDMR MEDICAL", create=True)
    block.add_new(0x0C, "LO", "850 ")
    references = []
    for uid in ("1.2.3.1", "", "1.2.3.2"):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", uid
        references.append(item)
    made.ReferencedImageSequence = Sequence(references)
    for keyword, value in values.items():
        setattr(made, keyword, value)
    made.save_as(target)
    return target


def test_objects_of_a_vendor_are_brought_into_form(
    farm: Farm, study: list[Generated], objects: list[Generated], tmp_path: Path
) -> None:
    gateway = site(farm, ImportCallingAE0="OLDMR", ImportConverter0="lua/morph_vendor.lua")
    path = vendor_object(study[0], tmp_path / "vendor.dcm")

    assert store(gateway.port, path, calling="OLDMR")[0].is_success
    assert store(gateway.port, objects[0].path, calling="NEWMR")[0].is_success

    by_uid = {str(made.SOPInstanceUID): made for made in stored(gateway)}
    made = by_uid[study[0].sop_instance]
    assert made.PatientName == "DOE^JANE MARY"
    assert made.PatientID == "00815"
    assert made.PatientAge == "056Y"
    assert made.DiffusionBValue == 850.0
    assert (0x0019, 0x100C) not in made
    assert [
        (item.RequestedProcedureID, item.ScheduledProcedureStepDescription)
        for item in made.RequestAttributesSequence
    ] == [("A100", "HEAD"), ("A101", "NECK")]
    assert made.AccessionNumber == "A100"
    assert "RequestedProcedureDescription" not in made
    assert [item.ReferencedSOPInstanceUID for item in made.ReferencedImageSequence] == [
        "1.2.3.1", "1.2.3.2",
    ]  # fmt: skip
    [added] = made.ContributingEquipmentSequence
    assert added.PurposeOfReferenceCodeSequence[0].CodeValue == "109103"
    assert made.StationName == "OLDMR"
    assert "EchoTime" not in made
    assert made[0x0029, 0x0010].value == "DGATE SITE NOTES"
    assert b"received from OLDMR" in bytes(str(made[0x0029, 0x1001].value), "latin-1")
    assert by_uid[objects[0].sop_instance] == pydicom.dcmread(objects[0].path)


def test_object_of_a_vendor_without_patient_is_refused(
    farm: Farm, study: list[Generated], tmp_path: Path
) -> None:
    gateway = site(farm, ImportConverter0="lua/morph_vendor.lua")
    path = vendor_object(study[0], tmp_path / "vendor.dcm", PatientID="MR-")

    assert not store(gateway.port, path, calling="OLDMR")[0].is_success
    assert stored(gateway) == []


# A study that is complete.


def test_report_about_a_study_that_is_complete(farm: Farm, study: list[Generated]) -> None:
    line = "process study after 1 by lua/study_report.lua %i|%V0020,000d"
    gateway = site(farm, ExportConverters=1, ExportConverter0=line)

    assert all(sent(gateway, study))

    report = gateway.folder / "reports" / f"{study[0].study}.csv"
    # More of the study may come after a first report when the sender is slow.
    wait_until(lambda: rows_of(report)[-1:] == [
        [study[0].study, "", "", study[0].patient_id, "6", "", ""]
    ], "the report about six objects")  # fmt: skip
    head, *lines, _ = rows_of(report)
    assert head[0] == "Series"
    assert sorted((line[0], line[2], line[3], line[4]) for line in lines) == sorted(
        (uid, "MR", "1.0 mm axial", "3") for uid in {item.series for item in study}
    )
    assert sorted(int(line[5]) for line in lines) == [100000, 100003]


# A trial with its keys.


def test_trial_is_anonymised_its_keys_saved_and_taken_to_another_server(
    farm: Farm, study: list[Generated], tmp_path: Path
) -> None:
    first = site(
        farm,
        name="first",
        lua=once("trial_savekeys.lua", "trial7 keys/trial7.csv"),
        ImportConverter0="lua/anonymize_script.lua(|trial7)",
    )
    assert all(sent(first, study))

    kept = stored(first)
    rows = register(first)
    assert {row[3] for row in rows} == {"trial7"}
    news = {old: new for old, _, new, _ in rows}
    originals = {item.sop_instance for item in study}
    assert {str(made.SOPInstanceUID) for made in kept} == {news[uid] for uid in originals}
    for made in kept:
        assert made.PatientID == news[study[0].patient_id]
        assert made.PatientName == news["Doe^Jane"]
        assert made.PatientBirthDate == made.PatientSex == made.AccessionNumber == ""
        assert "StationName" not in made
    # Neither files nor their names tell who it was, but for the register.
    named = [path for path in (first.folder / "DicomAnonymized_Log").rglob("*") if path.is_file()]
    assert len(named) == len(study)
    for path in [*named, *first.stored_files()]:
        secret = (study[0].patient_id, "Doe", *originals)
        assert not any(text in str(path.relative_to(first.folder)) for text in secret)
        assert not any(text.encode() in path.read_bytes() for text in secret)

    go(first)
    keys = first.folder / "keys" / "trial7.csv"
    saved = {(old, kind, new, stage) for old, kind, new, stage, _ in rows_of(keys)[1:]}
    assert saved == rows

    second = site(
        farm,
        name="second",
        files={"keys.csv": keys.read_text()},
        lua={"startup": "command_line = 'keys.csv'; dofile('lua/trial_loadkeys.lua')"},
        ImportConverter0="lua/deanonymize_script.lua(trial7)",
    )
    assert register(second) == rows
    assert all(answer.is_success for answer in store(second.port, *first.stored_files()))
    for made in stored(second):
        assert str(made.SOPInstanceUID) in originals
        assert (made.PatientID, made.PatientName) == (study[0].patient_id, "Doe^Jane")
        assert (made.PatientBirthDate, made.PatientSex) == ("19700101", "F")
        assert made.StudyInstanceUID == study[0].study


def test_deanonymiser_finds_the_stage_and_refuses_the_unknown(
    farm: Farm, study: list[Generated], tmp_path: Path
) -> None:
    gateway = site(
        farm,
        ImportCallingAE0="TRIAL",
        ImportConverter0="lua/anonymize_script.lua(S1|trial8|N1)",
        ImportCallingAE1="BACK",
        ImportConverter1="lua/deanonymize_script.lua(*)",
    )
    assert store(gateway.port, study[0].path, calling="TRIAL")[0].is_success
    [anonymous] = gateway.stored_files()
    shutil.copy(anonymous, tmp_path / "anonymous.dcm")

    assert store(gateway.port, tmp_path / "anonymous.dcm", calling="BACK")[0].is_success
    assert not store(gateway.port, study[1].path, calling="BACK")[0].is_success

    by_uid = {str(made.SOPInstanceUID): made for made in stored(gateway)}
    made = by_uid[study[0].sop_instance]
    assert len(by_uid) == 2
    assert made.PatientID == study[0].patient_id
    assert made[0x9999, 0x9000].value in ("S1", b"S1")


def test_copies_are_anonymised_on_their_way_out(farm: Farm, study: list[Generated]) -> None:
    sink = farm.sink("TRIAL")
    gateway = site(
        farm,
        (sink.node,),
        ExportConverters=1,
        ExportConverter0="forward to TRIAL script lua/anonymize_script.lua(S1|trial7|N1)",
    )

    assert all(sent(gateway, study))

    sink.wait_for(len(study))
    received = [pydicom.dcmread(path) for path in sink.files().values()]
    assert {(made.PatientID, str(made.PatientName)) for made in received} == {("S1", "N1")}
    originals = {item.sop_instance for item in study}
    assert not {str(made.SOPInstanceUID) for made in received} & originals
    assert {str(made.SOPInstanceUID) for made in stored(gateway)} == originals


def test_objects_that_are_fetched_get_their_patient_back(
    farm: Farm, study: list[Generated], tmp_path: Path
) -> None:
    gateway = site(
        farm,
        ImportConverter0="lua/anonymize_script.lua(S1|trial7|N1)",
        RetrieveResultConverter0="lua/deanonymize_script.lua(trial7)",
    )
    assert all(sent(gateway, study))
    uid = stored(gateway)[0].StudyInstanceUID
    folder = tmp_path / "fetched"
    folder.mkdir()

    run_dcmtk(
        "getscu", "-S", "-od", folder, "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={uid}", "127.0.0.1", str(gateway.port),
    )  # fmt: skip

    fetched = [pydicom.dcmread(path) for path in folder.iterdir()]
    assert {str(made.SOPInstanceUID) for made in fetched} == {item.sop_instance for item in study}
    assert {(made.PatientID, str(made.PatientName), made.PatientSex) for made in fetched} == {
        (study[0].patient_id, "Doe^Jane", "F")
    }
    assert {made.PatientID for made in stored(gateway)} == {"S1"}


def test_trace_shows_what_the_anonymiser_would_do_and_does_nothing(
    farm: Farm, study: list[Generated]
) -> None:
    gateway = farm.gateway(
        settings={"ImportConverter0": "lua/anonymize_script.lua(S1|trial7|N1)"}, start=False
    )
    shutil.copytree(SCRIPTS, gateway.folder / "lua")
    before = {path for path in gateway.folder.rglob("*") if path.is_file()}

    shown = gateway.command("trace", str(study[0].path), "--json").stdout

    changes = {each["keyword"]: each["after"] for each in json.loads(shown)["changes"]}
    assert (changes["PatientID"], changes["PatientName"]) == ("S1", "N1")
    assert "DicomAnonymized_Log" in shown
    assert {path for path in gateway.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("errors", ["reject", "ignore"])
def test_anonymiser_that_fails_stores_nothing(
    farm: Farm, study: list[Generated], errors: str
) -> None:
    gateway = site(
        farm,
        files={"trial9.cfg": "TagsToRemove = { 'PatientNmae' }"},
        ImportConverter0="lua/anonymize_script.lua(|trial9)",
        ScriptErrors=errors,
    )

    assert sent(gateway, study[:1]) == [False]
    assert stored(gateway) == []
    wait_until(lambda: "PatientNmae is neither a keyword" in gateway.log, "the reason in the log")


# A worklist from a CSV file.

ORDERS = """\
AccessionNumber,PatientID,PatientName,PatientBirthDate,Modality,ScheduledStationAETitle,\
ScheduledProcedureStepStartDate,ScheduledProcedureStepStartTime,ScheduledProcedureStepID,\
RequestedProcedureDescription
A1,P1,"O'Brien^Ann",19700131,CT,CT1,20260302,0900,S1,"Head, without contrast"
A2,P2,Adams^John,19800229,MR,MR1,20260303,1030,S1,Knee
"""


def worklist(gateway: Gateway, folder: Path, *keys: str) -> dict[str, Dataset]:
    """Ask for the worklist; return the answers by accession number."""
    scratch = folder / f"find{time.monotonic_ns()}"
    scratch.mkdir()
    words = [word for key in ("AccessionNumber", *keys) for word in ("-k", key)]
    run_dcmtk(
        "findscu", "-W", "-X", "-od", scratch, "-aec", "DGATE", *words,
        "127.0.0.1", str(gateway.port),
    )  # fmt: skip
    answers = [pydicom.dcmread(path, force=True) for path in scratch.iterdir()]
    assert len({answer.AccessionNumber for answer in answers}) == len(answers)
    return {str(answer.AccessionNumber): answer for answer in answers}


def test_worklist_queries_are_answered_from_a_csv_file(farm: Farm, tmp_path: Path) -> None:
    gateway = site(
        farm,
        files={"orders.csv": ORDERS},
        WorkListQueryConverter0="lua/worklist_from_csv.lua(orders.csv)",
    )
    orders = gateway.folder / "orders.csv"
    gateway.command("worklist", "add", "AccessionNumber=OTHER", "PatientID=P9", "SchedPSID=S1")
    step = "ScheduledProcedureStepSequence[0]."

    found = worklist(gateway, tmp_path, "PatientName", "RequestedProcedureDescription")
    assert found.keys() == {"A1", "A2", "OTHER"}
    assert found["A1"].PatientName == "O'Brien^Ann"
    assert found["A1"].RequestedProcedureDescription == "Head, without contrast"
    assert worklist(gateway, tmp_path, f"{step}Modality=MR").keys() == {"A2"}

    # A file that is broken changes nothing, and the queries are answered.
    orders.write_text(ORDERS + 'A3,P3,"never ends')
    assert worklist(gateway, tmp_path).keys() == {"A1", "A2", "OTHER"}
    orders.write_text(ORDERS.replace("PatientName", "NoSuchName"))
    assert worklist(gateway, tmp_path).keys() == {"A1", "A2", "OTHER"}

    # One order goes, one is corrected, one is new: only what came from the file is touched.
    lines = ORDERS.splitlines(keepends=True)
    orders.write_text(lines[0] + lines[2].replace("1030", "1145") + lines[2].replace("A2", "A4"))
    found = worklist(gateway, tmp_path, f"{step}ScheduledProcedureStepStartTime")
    assert found.keys() == {"A2", "A4", "OTHER"}
    [item] = found["A2"].ScheduledProcedureStepSequence
    assert item.ScheduledProcedureStepStartTime == "1145"

    # Without the file there is what was read of it last.
    orders.unlink()
    assert worklist(gateway, tmp_path).keys() == {"A2", "A4", "OTHER"}


@pytest.mark.parametrize("engine", ["postgres", "mariadb"])
def test_scripts_that_use_the_database_work_on_servers(
    farm: Farm,
    request: pytest.FixtureRequest,
    study: list[Generated],
    tmp_path: Path,
    engine: str,
) -> None:
    server: DatabaseServer = request.getfixturevalue(engine)
    gateway = site(
        farm,
        files={"orders.csv": ORDERS},
        lua=once("trial_savekeys.lua", "trial7 keys.csv"),
        **server.lines(server.new_database()),
        ImportConverter0="lua/anonymize_script.lua(S1|trial7)",
        ExportConverters=1,
        ExportConverter0="process study after 1 by lua/study_report.lua %i|%V0020,000d",
        WorkListQueryConverter0="lua/worklist_from_csv.lua(orders.csv)",
    )

    assert worklist(gateway, tmp_path).keys() == {"A1", "A2"}
    lines = ORDERS.splitlines(keepends=True)
    (gateway.folder / "orders.csv").write_text(lines[0] + lines[2])
    found = worklist(gateway, tmp_path, "PatientName")
    assert found.keys() == {"A2"}
    assert found["A2"].PatientName == "Adams^John"

    assert all(sent(gateway, study))
    uid = str(stored(gateway)[0].StudyInstanceUID)
    report = gateway.folder / "reports" / f"{uid}.csv"
    end = [uid, "", "", "S1", "6", "", ""]
    wait_until(lambda: rows_of(report)[-1:] == [end], "the report about six objects")
    go(gateway)
    saved = rows_of(gateway.folder / "keys.csv")
    assert [study[0].patient_id, "PatientID", "S1", "trial7"] in [row[:4] for row in saved]


# The small ones.


def test_file_names_of_the_sites_own(farm: Farm, study: list[Generated], tmp_path: Path) -> None:
    gateway = site(farm, FileNameSyntax="lua:dofile('lua/makefilename.lua')")
    climbing = changed(
        study[1], tmp_path / "climbing.dcm", PatientID="../../x", StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.3.4", SeriesNumber=None,
    )  # fmt: skip

    assert all(sent(gateway, study[:1]))
    assert store(gateway.port, climbing)[0].is_success

    device = gateway.device()
    names = sorted(str(path.relative_to(device)) for path in gateway.stored_files())
    assert names == sorted(
        [
            f"MR/202603/{study[0].patient_id}/{study[0].study}/0002_{study[0].sop_instance}.dcm",
            f"MR/202603/__.._x/1.2.3/0000_{study[1].sop_instance}.dcm",
        ]
    )


def archive_peer(farm: Farm, gateway: Node, files: list[Path]) -> QrScp:
    """Return a running dcmqrscp that has the objects and knows the gateway."""
    peer = QrScp.create(farm.folder / "oldpacs", farm.ports, title="OLDPACS", nodes=[gateway])
    farm.add(peer.process)
    peer.start()
    answers = store(peer.port, *files, called="OLDPACS")
    assert all(answer.is_success for answer in answers)
    return peer


def test_patients_of_a_list_are_fetched_once(farm: Farm, objects: list[Generated]) -> None:
    port = farm.ports.take()
    peer = archive_peer(farm, Node("DGATE", port), [item.path for item in objects])
    patients = sorted({item.patient_id for item in objects})
    gateway = site(
        farm,
        (peer.node,),
        lua=once("movepatientsfromlist.lua", "OLDPACS DGATE patients.txt"),
        files={"patients.txt": f"{patients[0]}\n\n*\n{patients[1]}\n", "patients.txt.done": ""},
        TCPPort=port,
    )

    go(gateway)

    assert {made.PatientID for made in stored(gateway)} == set(patients)
    assert text_of(gateway.folder / "patients.txt.done").split() == patients
    wait_until(
        lambda: "2 patients moved from OLDPACS to DGATE, 0 failed" in gateway.log, "the result"
    )


def test_query_writes_the_studies_of_a_day(farm: Farm, study: list[Generated]) -> None:
    gateway = site(farm, lua=once("query.lua", "DGATE 20260314 studies.json"))
    assert all(sent(gateway, study))

    go(gateway)

    [found] = json.loads(text_of(gateway.folder / "studies.json"))
    assert found["0020000D"]["Value"] == [study[0].study]
    assert found["00100020"]["Value"] == [study[0].patient_id]


def test_objects_are_dumped_and_compared(
    farm: Farm, study: list[Generated], tmp_path: Path
) -> None:
    gateway = site(
        farm,
        lua=once("dump_object.lua", f":{study[0].sop_instance} other.dcm"),
        ImportConverter0="lua/dump_object.lua",
    )
    item = Dataset()
    item.RequestedProcedureID = "R1"
    path = changed(study[0], tmp_path / "0.dcm", RequestAttributesSequence=Sequence([item]))
    other = changed(study[0], gateway.folder / "other.dcm", StudyID="OTHER", PatientSex="M")

    assert store(gateway.port, path)[0].is_success
    lines = text_of(gateway.folder / "dumps" / f"{study[0].sop_instance}.txt").splitlines()
    assert f"(0010,0020) LO PatientID: {study[0].patient_id}" in [line.strip() for line in lines]
    assert "(0040,0275)[0](0040,1001) SH RequestedProcedureID: R1" in lines
    assert any(line.startswith("(7fe0,0010) OW PixelData: 2688 bytes, md5") for line in lines)

    assert other.exists()
    go(gateway)
    difference = text_of(gateway.folder / "dumps" / "difference.txt").splitlines()
    assert "- (0010,0040) CS PatientSex: F " in difference
    assert "+ (0010,0040) CS PatientSex: M " in difference
    assert "- (0040,0275) SQ RequestAttributesSequence: 1 items" in difference
    assert not any("StudyInstanceUID" in line for line in difference)


def test_compression_is_measured(farm: Farm, study: list[Generated]) -> None:
    gateway = site(farm, ImportConverter0="lua/compression_check.lua")

    assert all(sent(gateway, study[:2]))

    rows = rows_of(gateway.folder / "compression.csv")
    assert [(row[0], row[1], row[4]) for row in rows] == [
        (item.sop_instance, code, "same") for item in study[:2] for code in ("un", "rl", "ui")
    ]
    assert all(int(row[2]) > 2688 for row in rows)
    assert [made.PixelData for made in stored(gateway)] != []


def test_series_is_written_as_nifti(farm: Farm, study: list[Generated], tmp_path: Path) -> None:
    line = "process series after 1 by lua/nifti_export.lua %V0020,000e"
    gateway = site(farm, ExportConverters=1, ExportConverter0=line)
    files = [
        changed(
            item,
            tmp_path / f"{place}.dcm",
            # The order in which they lie is not the one in which they come.
            ImagePositionPatient=[-10, -20, (2, 0, 1)[place] * 2.5],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[0.5, 0.75],
        )
        for place, item in enumerate(study[:3])
    ]

    assert all(answer.is_success for answer in store(gateway.port, *files))

    path = gateway.folder / "nifti" / f"{study[0].series}.nii"
    pixels = [pydicom.dcmread(item.path).PixelData for item in study[:3]]
    length = 352 + sum(map(len, pixels))
    wait_until(lambda: path.exists() and path.stat().st_size == length, "the file of three slices")
    content = path.read_bytes()
    assert struct.unpack_from("<i", content) == (348,)
    assert struct.unpack_from("<8h", content, 40) == (3, 42, 32, 3, 1, 1, 1, 1)
    assert struct.unpack_from("<hh", content, 70) == (512, 16)
    assert struct.unpack_from("<4f", content, 76) == (1.0, 0.75, 0.5, 2.5)
    assert struct.unpack_from("<f", content, 108) == (352.0,)
    assert struct.unpack_from("<12f", content, 280) == (
        -0.75, 0, 0, 10, 0, -0.5, 0, 20, 0, 0, 2.5, 0,
    )  # fmt: skip
    assert content[344:348] == b"n+1\0"
    assert content[352:] == pixels[1] + pixels[2] + pixels[0]


def test_rows_of_known_devices_are_blackened_and_others_refused(
    farm: Farm, study: list[Generated], tmp_path: Path
) -> None:
    gateway = site(farm, ImportModality0="US", ImportConverter0="lua/screen_filter.lua")
    kind = {"SOPClassUID": UltrasoundImageStorage, "Modality": "US", "NumberOfFrames": 2}
    source = pydicom.dcmread(study[0].path)
    twice = {**kind, "PixelData": source.PixelData * 2}
    known = changed(study[0], tmp_path / "known.dcm", **twice)
    unknown = changed(study[1], tmp_path / "unknown.dcm", Manufacturer="Other", **twice)

    assert store(gateway.port, known)[0].is_success
    assert not store(gateway.port, unknown)[0].is_success

    [made] = stored(gateway)
    line, frame = source.Columns * 2, len(source.PixelData)
    black = bytes(4 * line) + source.PixelData[4 * line :]
    assert made.PixelData[:frame] == black
    assert made.PixelData[frame:] == black
    assert made.BurnedInAnnotation == "NO"


def test_quality_is_looked_at(farm: Farm, study: list[Generated], tmp_path: Path) -> None:
    gateway = site(
        farm,
        ImportConverter0="lua/quality_control.lua",
        RejectedImageConverter0="lua/quality_control.lua(retry)",
    )
    empty = pydicom.dcmread(study[1].path)
    files = [
        study[0].path,
        changed(study[1], tmp_path / "empty.dcm", PixelData=bytes(len(empty.PixelData))),
        changed(study[2], tmp_path / "future.dcm", StudyDate="29990101"),
        changed(study[3], tmp_path / "nobody.dcm", PatientID=""),
        changed(study[4], tmp_path / "somebody.dcm", PatientID="SOMEBODY"),
    ]

    answers = [answer.is_success for answer in store(gateway.port, *files, check=False)]

    assert answers == [True, True, False, False, True]
    by_uid = {str(made.SOPInstanceUID): made for made in stored(gateway)}
    kept = by_uid.pop(study[0].sop_instance)
    [other] = by_uid.values()
    assert kept.StudyInstanceUID == study[0].study
    assert other.PatientID == "SOMEBODY"
    assert other.StudyInstanceUID != study[0].study
    assert other.ImageComments == f"stored with new UIDs: study {study[0].study}"


def test_report_about_nodes(farm: Farm, study: list[Generated]) -> None:
    sink = farm.sink()
    away = Node("AWAY", farm.ports.take())
    gateway = site(farm, (sink.node, away), lua=once("node_report.lua"))
    assert all(sent(gateway, study))

    go(gateway)

    lines = [line.split("\t") for line in text_of(gateway.folder / "node_report.txt").splitlines()]
    nodes = {line[1]: line[4] for line in lines if line[0] == "node"}
    assert nodes == {"SINK": "answers", "AWAY": "no answer", "DGATE": "answers"}
    assert ["oldest", "1", study[0].patient_id] in lines


def test_priors_are_fetched_and_passed_on(farm: Farm, tmp_path: Path) -> None:
    made = write_files(tmp_path / "in", Plan(4, seed=9, per_series=2, studies_per_patient=2))
    assert len({item.patient_id for item in made}) == 1
    workstation = farm.sink("WORKSTATION1")
    port = farm.ports.take()
    peer = archive_peer(farm, Node("DGATE", port), [item.path for item in made[:2]])
    gateway = site(
        farm,
        (peer.node, workstation.node),
        TCPPort=port,
        ExportConverters=1,
        ExportConverter0="process study after 1 by lua/fetch_priors.lua OLDPACS WORKSTATION1 "
        "%i|%V0020,000d",
    )

    assert all(sent(gateway, made[2:]))

    workstation.wait_for(2)
    priors = {item.sop_instance for item in made[:2]}
    assert workstation.files().keys() == priors
    kept = {str(each.SOPInstanceUID): each for each in stored(gateway)}
    assert kept.keys() == {item.sop_instance for item in made}
    for uid in priors:
        assert kept[uid].ImageComments == f"prior of {made[2].study}"


def test_subjects_leave_a_trial(farm: Farm, tmp_path: Path) -> None:
    plan = Plan(6, seed=11, per_series=1, studies_per_patient=2)
    made = write_files(tmp_path / "in", plan)
    first, second, third = (item.patient_id for item in made[::2])
    orders = (
        "PatientID,Action,Text\r\n"
        f"{first},delete,\r\n{second},study,{made[2].study}\r\n"
        f"{third},mark,Trial 7\r\n{third},copy,COPY7\r\n"
    )
    gateway = site(farm, lua=once("trial_remove.lua", "gone.csv"), files={"gone.csv": orders})
    assert all(sent(gateway, made))

    go(gateway)

    kept = {(str(each.PatientID), str(each.StudyInstanceUID)): each for each in stored(gateway)}
    assert {patient for patient, _ in kept} == {second, third, "COPY7"}
    assert [study for patient, study in kept if patient == second] == [made[3].study]
    assert len([study for patient, study in kept if patient == "COPY7"]) == 2
    assert {
        each.ClinicalTrialProtocolName for (patient, _), each in kept.items() if patient == third
    } == {"Trial 7"}
    assert len(rows_of(gateway.folder / "gone.csv.done")) == 4
