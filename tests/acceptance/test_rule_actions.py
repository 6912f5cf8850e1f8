"""Rules that act beyond the object, against the real server: replaced UIDs, files, programs."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import run_dcmtk, store
from tests.acceptance.processes import wait_until
from tests.generate import Generated, Plan, write_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Generated]:
    """Return a series of three objects."""
    return write_files(tmp_path_factory.mktemp("series"), Plan(3, per_series=3))


def register(gateway: Gateway) -> list[tuple[str, str, str, str]]:
    """Return old value, kind, new value and stage of every mapping."""
    connection = sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT OldUID, MODType, NewUID, Stage FROM UIDMODS").fetchall()
    finally:
        connection.close()


def send(gateway: Gateway, *items: Generated, accepted: bool = True) -> None:
    answers = store(gateway.port, *(item.path for item in items))
    assert [answer.is_success for answer in answers] == [accepted] * len(items)


def get(gateway: Gateway, study: str, folder: Path) -> list[Path]:
    """Fetch a study with getscu and return the files."""
    folder.mkdir()
    run_dcmtk(
        "getscu", "-S", "-od", folder, "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={study}", "127.0.0.1", str(gateway.port),
    )  # fmt: skip
    return sorted(folder.iterdir())


def read(path: Path) -> Dataset:
    return pydicom.dcmread(path)


def queue(gateway: Gateway) -> str:
    return gateway.command("queue", "list").stdout


def test_uids_are_replaced_on_the_way_in_and_come_back_on_the_way_out(
    farm: Farm, files: list[Generated], tmp_path: Path
) -> None:
    gateway = farm.gateway(
        settings={
            "ImportConverter0": "newuids stage TRIAL",
            "RetrieveResultConverter0": 'ifequal "%s", "DGATE"; nop; olduids stage TRIAL',
        }
    )
    send(gateway, *files)

    originals = {str(read(item.path).SOPInstanceUID): read(item.path) for item in files}
    rows = register(gateway)
    assert len(rows) == len({old for old, _, _, _ in rows}) == len({new for _, _, new, _ in rows})
    assert {stage for _, _, _, stage in rows} == {"TRIAL"}
    news = {old: new for old, _, new, _ in rows}
    stored = [read(path) for path in gateway.stored_files()]
    assert {made.SOPInstanceUID for made in stored} == {news[old] for old in originals}
    for made in stored:
        assert made.file_meta.MediaStorageSOPInstanceUID == made.SOPInstanceUID
        assert made.StudyInstanceUID == news[read(files[0].path).StudyInstanceUID]

    fetched = get(gateway, str(stored[0].StudyInstanceUID), tmp_path / "fetched")

    assert len(fetched) == len(files)
    for path in fetched:
        found = read(path)
        original = originals[str(found.SOPInstanceUID)]
        assert found == original
        assert found.file_meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID


def test_the_same_objects_get_the_same_uids_after_a_restart(
    farm: Farm, files: list[Generated]
) -> None:
    gateway = farm.gateway(settings={"ImportConverter0": "newuids"})
    send(gateway, *files)
    before = sorted(register(gateway))

    gateway.restart()
    send(gateway, *files)

    assert sorted(register(gateway)) == before
    assert len(gateway.stored_files()) == len(files)


def test_a_copy_that_is_sent_has_replaced_uids_and_the_stored_one_has_not(
    farm: Farm, files: list[Generated]
) -> None:
    sink = farm.sink()
    gateway = farm.gateway(
        settings={
            "ExportConverters": 1,
            "ExportConverter0": "forward to SINK script newuids stage #out",
        },
        nodes=[sink.node],
    )
    send(gateway, *files)
    sink.wait_for(len(files))

    originals = {str(read(item.path).SOPInstanceUID) for item in files}
    assert {str(read(path).SOPInstanceUID) for path in gateway.stored_files()} == originals
    assert not originals & sink.files().keys()
    for name, path in sink.files().items():
        found = read(path)
        assert found.SOPInstanceUID == found.file_meta.MediaStorageSOPInstanceUID == name
    assert register(gateway) == []


def test_a_program_runs_for_each_object_where_that_is_allowed(
    farm: Farm, files: list[Generated]
) -> None:
    gateway = farm.gateway(
        settings={
            "AllowSystemCommands": 1,
            "ImportConverter0": 'mkdir seen; system touch "seen/%o in"',
            "ExportConverters": 1,
            "ExportConverter0": "system touch seen/%o.out; /usr/bin/env touch seen/%o.bare",
        }
    )
    send(gateway, *files)

    uids = [str(read(item.path).SOPInstanceUID) for item in files]
    assert all((gateway.folder / "seen" / f"{uid} in").exists() for uid in uids)
    expected = {f"{uid}{end}" for uid in uids for end in (" in", ".out", ".bare")}
    wait_until(
        lambda: {path.name for path in (gateway.folder / "seen").iterdir()} == expected,
        "the programs of the export line have run",
    )
    wait_until(lambda: "ExportConverter" not in queue(gateway), "the export debts are paid")
    assert "The program touch ended with status 0" in gateway.log


def test_programs_are_off_unless_they_are_switched_on(farm: Farm, files: list[Generated]) -> None:
    gateway = farm.gateway(settings={"ImportConverter0": "system touch seen"})
    send(gateway, files[0], accepted=False)

    assert not (gateway.folder / "seen").exists()
    assert gateway.stored_files() == []
    check = gateway.command("check", check=False)
    assert check.returncode == 1
    assert "AllowSystemCommands = 1" in check.stdout


def test_a_program_that_cannot_be_started_leaves_its_debt_stuck(
    farm: Farm, files: list[Generated]
) -> None:
    gateway = farm.gateway(
        settings={
            "AllowSystemCommands": 1,
            "ExportConverters": 1,
            "ExportConverter0": "/no/such/program",
        }
    )
    send(gateway, files[0])

    wait_until(lambda: "stuck" in queue(gateway), "the debt is stuck")
    assert "cannot be started" in gateway.log


def test_a_program_changes_an_object_before_it_is_stored(
    farm: Farm, files: list[Generated], tmp_path: Path
) -> None:
    gateway = farm.gateway(
        settings={
            "AllowSystemCommands": 1,
            "ImportConverter0": "process with dcmodify -nb -ma PatientName=%i",
            "ImportConverter1": "process with ./implicit.sh",
        },
        start=False,
    )
    script = gateway.folder / "implicit.sh"
    script.write_text('#!/bin/sh\ndcmconv +ti "$1" "$1.new" && mv "$1.new" "$1"\n')
    script.chmod(0o755)
    gateway.start()
    send(gateway, *files)

    for path in gateway.stored_files():
        made = read(path)
        assert made.PatientName == made.PatientID
        assert made.file_meta.TransferSyntaxUID == pydicom.uid.ImplicitVRLittleEndian
        assert made.file_meta.MediaStorageSOPInstanceUID == made.SOPInstanceUID
    assert len(gateway.stored_files()) == len(files)
    study = str(read(files[0].path).StudyInstanceUID)
    [*fetched] = get(gateway, study, tmp_path / "fetched")
    pixels = {str(read(item.path).SOPInstanceUID): read(item.path).PixelData for item in files}
    assert {str(read(path).SOPInstanceUID): read(path).PixelData for path in fetched} == pixels


def test_a_program_that_fails_refuses_the_object(farm: Farm, files: list[Generated]) -> None:
    gateway = farm.gateway(
        settings={"AllowSystemCommands": 1, "ImportConverter0": "process with false"}
    )
    send(gateway, files[0], accepted=False)

    assert gateway.stored_files() == []
    assert "false ended with status 1" in gateway.log


def test_files_are_written_by_import_and_export_lines(farm: Farm, files: list[Generated]) -> None:
    gateway = farm.gateway(
        settings={
            "ImportConverter0": 'append "%u %o%n" to received.txt; mkdir saved/%m; '
            "save to saved/%m/%o.dcm",
            "ExportConverters": 1,
            "ExportConverter0": 'mkdir out; copy %f to out; append "%b%n" to out/names.txt',
        }
    )
    send(gateway, *files)

    uids = sorted(str(read(item.path).SOPInstanceUID) for item in files)
    lines = (gateway.folder / "received.txt").read_text().splitlines()
    assert sorted(line.split()[1] for line in lines) == uids
    saved = sorted((gateway.folder / "saved").rglob("*.dcm"))
    assert sorted(str(read(path).SOPInstanceUID) for path in saved) == uids
    stored = {path.name: path.read_bytes() for path in gateway.stored_files()}
    names = gateway.folder / "out" / "names.txt"
    wait_until(
        lambda: names.exists() and len(names.read_text().splitlines()) == len(files),
        "the export line has run for each object",
    )
    copies = {path.name: path.read_bytes() for path in names.parent.glob("*.dcm")}
    assert copies == stored


def test_a_value_that_climbs_stays_where_it_is(
    farm: Farm, files: list[Generated], tmp_path: Path
) -> None:
    hostile = read(files[0].path)
    hostile.PatientID = "../../../../escaped"
    hostile.save_as(tmp_path / "hostile.dcm")
    gateway = farm.gateway(settings={"ImportConverter0": 'write "x" to %i.txt'})

    [answer] = store(gateway.port, tmp_path / "hostile.dcm")

    assert answer.is_success
    [written] = gateway.folder.glob("*escaped.txt")
    assert written.name == ".._.._.._.._escaped.txt"


def test_a_line_that_defers_is_run_again_until_it_no_longer_does(
    farm: Farm, files: list[Generated]
) -> None:
    sink = farm.sink()
    gateway = farm.gateway(
        settings={
            "RetryFirst": 0.1,
            "RetryMax": 0.1,
            "MaximumExportRetries": 1,
            "ExportConverters": 1,
            "ExportConverter0": 'append "t" to tries.txt; ifequal "%QaPatientID", "go"; '
            "forward to SINK",
        },
        nodes=[sink.node],
        start=False,
    )
    gateway.configure(
        ExportConverter0='append "t" to tries.txt; call hold; forward to SINK',
    )
    gateway.ini.write_text(
        gateway.ini.read_text() + '\n[scripts]\nhold = ifnotequal "%Qa0008,0060", "go"; defer\n'
    )
    gateway.start()
    send(gateway, files[0])

    tries = gateway.folder / "tries.txt"
    wait_until(
        lambda: tries.exists() and len(tries.read_text()) > 3, "the line was tried several times"
    )
    assert "stuck" not in queue(gateway)
    assert sink.files() == {}
    modality = read(files[0].path).Modality
    (gateway.folder / "aliasfileqa.txt").write_text(f"{modality}\tgo\n")

    sink.wait_for(1)
    assert "stuck" not in queue(gateway)


@pytest.mark.parametrize("key", ["", "ScriptFolders", "LuaUnrestricted"])
def test_folders_for_scripts_may_be_written_too(
    farm: Farm, files: list[Generated], tmp_path: Path, key: str
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    settings: dict[str, object] = {"ImportConverter0": f'write "x" to {folder}/%o.txt'}
    if key:
        settings[key] = f"/nothing/here, {folder}" if key == "ScriptFolders" else 1
    gateway = farm.gateway(settings=settings)

    send(gateway, files[0], accepted=bool(key))

    assert len(list(folder.iterdir())) == bool(key)
    if key == "ScriptFolders":
        assert "ScriptFolders names /nothing/here, which is no folder" in gateway.log


def test_a_program_that_does_not_end_is_killed_and_refuses_the_object(
    farm: Farm, files: list[Generated]
) -> None:
    gateway = farm.gateway(
        settings={
            "AllowSystemCommands": 1,
            "SystemTimeout": 1,
            "ImportConverter0": "system sleep 100000",
        }
    )
    send(gateway, files[0], accepted=False)

    assert "did not end within 1 seconds" in gateway.log
    assert gateway.stored_files() == []
