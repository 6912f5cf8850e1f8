"""Maintenance beside a running server and without one: deleting, cleaning, moving, correcting.

The tools at the other end are DCMTK's. In the middle of the long operations the server is killed,
as by a power cut, and everything that was acknowledged must be there afterwards, whole.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from tests.acceptance import processes
from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import find, store
from tests.acceptance.processes import TOOL_DEADLINE_S, wait_until
from tests.acceptance.rawdicom import Offer, RawAssociation
from tests.acceptance.test_trouble import inside, send, small_disk
from tests.generate import Generated, Kind, Plan, data_set_of, write_files

MANY = 400


def images(gateway: Gateway, folder: Path) -> set[str]:
    """Return the SOP Instance UIDs that C-FIND gives."""
    found = find(gateway.port, {"SOPInstanceUID": ""}, folder, level="IMAGE")
    return {str(one.SOPInstanceUID) for one in found}


def rows(gateway: Gateway, sql: str) -> list[tuple[str, ...]]:
    """Ask the index database."""
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as connection:
        return [tuple(row) for row in connection.execute(sql).fetchall()]


def files_below(folder: Path) -> dict[str, bytes]:
    """Return every file of objects below a device, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in processes.files_below(folder)
        if path.relative_to(folder).parts[0] not in ("dgate", "dbase")
    }


def leftovers(folder: Path) -> list[Path]:
    """Return what lies in a device's incoming folder."""
    incoming = folder / "dgate" / "incoming"
    return list(incoming.iterdir()) if incoming.exists() else []


@pytest.fixture(params=["beside the server", "without a server"])
def gateway(request: pytest.FixtureRequest, farm: Farm, objects: list[Generated]) -> Gateway:
    """A server with twenty objects of two patients, running or stopped."""
    made = farm.gateway()
    store(made.port, *(item.path for item in objects))
    if request.param == "without a server":
        made.stop()
    return made


def running(gateway: Gateway) -> Gateway:
    """Return the server, started if it was not running."""
    return gateway if gateway.answers() else gateway.start()


def test_delete_shows_first_and_does_it_with_yes(
    gateway: Gateway, objects: list[Generated], tmp_path: Path
) -> None:
    patient = objects[0].patient_id
    kept = {item.sop_instance for item in objects if item.patient_id != patient}

    shown = gateway.command("delete", "patient", patient).stdout
    assert "Would delete: 1 patient(s), 1 study(ies), 1 series, 10 image(s)" in shown
    assert "add --yes" in shown
    assert len(gateway.stored_files()) == len(objects)

    done = gateway.command("delete", "patient", patient, "--yes", "--json")
    assert json.loads(done.stdout.splitlines()[-1])["images"] == 10
    assert len(gateway.stored_files()) == len(kept)
    assert images(running(gateway), tmp_path) == kept
    journal = (gateway.folder / "dgate" / "maintenance.log").read_text()
    assert json.loads(journal.splitlines()[-1])["why"] == "dgate delete patient"


def test_delete_of_what_is_not_there_fails_in_words(gateway: Gateway) -> None:
    for level, key, words in (
        ("patient", "*", "wildcard"),
        ("study", "1.2.*", "is not a UID"),
        ("image", "1.2.3.4", "there is no image"),
        ("series", "../../etc/passwd", "is not a UID"),
    ):
        result = gateway.command("delete", level, key, "--yes", check=False)
        assert result.returncode == 1
        assert words in result.stdout
        assert "Traceback" not in result.stdout
    assert len(gateway.stored_files()) == 20


def test_correcting_and_merging_reach_the_files_and_the_answers(
    gateway: Gateway, objects: list[Generated], tmp_path: Path
) -> None:
    first, second = dict.fromkeys(item.patient_id for item in objects)

    shown = gateway.command("merge", "patient", first, second).stdout
    assert "Would correct: 10 object(s)" in shown
    assert f"{first} -> {second}" in shown
    gateway.command("merge", "patient", first, second, "--yes")
    gateway.command(
        "correct", "patient", second, "--name", "Новый^Имя", "--birth-date", "19800101", "--yes"
    )

    server = running(gateway)
    found = find(server.port, {"PatientID": second, "StudyInstanceUID": ""}, tmp_path)
    assert {one.StudyInstanceUID for one in found} == {item.study for item in objects}
    assert find(server.port, {"PatientID": first, "StudyInstanceUID": ""}, tmp_path) == []
    for path in server.stored_files():
        data = pydicom.dcmread(path)
        assert (data.PatientID, str(data.PatientName)) == (second, "Новый^Имя")
        assert data.PatientBirthDate == "19800101"


def test_splitting_a_study_gives_a_series_its_own(farm: Farm, tmp_path: Path) -> None:
    items = write_files(tmp_path / "in", Plan(20, series_per_study=2))
    gateway = farm.gateway()
    store(gateway.port, *(item.path for item in items))
    study, series = items[0].study, items[0].series

    gateway.command("split", "study", study, "--series", series, "--yes")

    found = find(
        gateway.port,
        {"StudyInstanceUID": "", "SeriesInstanceUID": series},
        tmp_path,
        level="SERIES",
    )
    assert {one.StudyInstanceUID for one in found}.isdisjoint({study})
    merged = found[0].StudyInstanceUID
    gateway.command("merge", "study", merged, study, "--yes")
    again = find(gateway.port, {"StudyInstanceUID": ""}, tmp_path)
    assert [one.StudyInstanceUID for one in again] == [study]


def test_moving_between_devices_goes_on_beside_storing(farm: Farm, tmp_path: Path) -> None:
    items = write_files(tmp_path / "in", Plan(MANY, per_series=50))
    more = write_files(tmp_path / "more", Plan(100, seed=1))
    gateway = farm.gateway(settings={"MAGDevices": 2, "MAGDevice1": "./second"})
    store(gateway.port, tmp_path / "in")
    before = files_below(gateway.device())

    with subprocess.Popen(
        [sys.executable, "-m", "dgate", "move-device", "MAG0", "MAG1", "-c", str(gateway.folder)],
        stdout=subprocess.PIPE,
        text=True,
    ) as mover:
        answers = store(gateway.port, tmp_path / "more")
        output, _ = mover.communicate(timeout=TOOL_DEADLINE_S)

    assert all(answer.is_success for answer in answers)
    assert mover.returncode == 0, output
    moved = files_below(gateway.folder / "second")
    assert before.items() <= moved.items()
    everything = {item.sop_instance for item in (*items, *more)}
    assert images(gateway, tmp_path) == everything
    assert len(files_below(gateway.device())) + len(moved) == len(everything)


@pytest.mark.parametrize(
    "words",
    [
        ("move-device", "MAG0", "MAG1"),
        ("delete", "patient", "{patient}", "--yes"),
        ("correct", "patient", "{patient}", "--id", "CORRECTED", "--yes"),
    ],
    ids=["move", "delete", "correct"],
)
def test_kill_in_the_middle_loses_nothing_and_the_command_can_be_given_again(
    farm: Farm, tmp_path: Path, words: tuple[str, ...]
) -> None:
    plan = Plan(MANY, per_series=50, studies_per_patient=100)
    items = write_files(tmp_path / "in", plan)
    patient = items[0].patient_id
    assert {item.patient_id for item in items} == {patient}
    gateway = farm.gateway(settings={"MAGDevices": 2, "MAGDevice1": "./second"})
    store(gateway.port, tmp_path / "in")
    contents = {item.sop_instance: data_set_of(item.path.read_bytes()) for item in items}
    command = [sys.executable, "-m", "dgate", *(word.format(patient=patient) for word in words)]
    second = gateway.folder / "second"
    journal = gateway.folder / "dgate" / "maintenance.log"

    def has_begun() -> bool:
        if words[0] == "move-device":
            return len(files_below(second)) > 60
        return journal.exists() and '"state": "done"' in journal.read_text()

    with subprocess.Popen(
        [*command, "-c", str(gateway.folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as caller:
        wait_until(has_begun, "the work has begun")
        gateway.kill()
        caller.wait(TOOL_DEADLINE_S)
    gateway.start()

    check_whole(gateway, contents, tmp_path, deleted=words[0] == "delete")
    again = gateway.command(*command[3:], check=False)
    assert (
        again.returncode == 0
        or "there is no patient" in again.stdout
        or ("no objects of patient" in again.stdout)
    ), again.stdout
    check_whole(gateway, contents, tmp_path, deleted=words[0] == "delete")
    if words[0] == "move-device":
        assert files_below(gateway.device()) == {}
    elif words[0] == "delete":
        assert images(gateway, tmp_path) == set()
        assert files_below(gateway.device()) == {}
    else:
        assert rows(gateway, "SELECT PatientID FROM DICOMPatients") == [("CORRECTED",)]


def check_whole(
    gateway: Gateway, contents: dict[str, bytes], folder: Path, *, deleted: bool
) -> None:
    """Assert that rows and files agree, each object is one that was sent, and each study whole."""
    devices = {"MAG0": gateway.device(), "MAG1": gateway.folder / "second"}
    named = rows(gateway, "SELECT DeviceName, ObjectFile, SOPInstanc FROM DICOMImages")
    on_disk = {
        (device, name): content
        for device, root in devices.items()
        for name, content in files_below(root).items()
    }
    assert {(device, name) for device, name, _ in named} == set(on_disk)
    patients: dict[str, set[str]] = {}
    for device, name, sop_instance in named:
        content = on_disk[device, name]
        data = pydicom.dcmread(devices[device] / name)
        assert data.SOPInstanceUID == sop_instance
        patients.setdefault(data.StudyInstanceUID, set()).add(data.PatientID)
        sent = contents[sop_instance]
        assert content.endswith(sent[-2000:])
        assert data.PatientID == "CORRECTED" or content.endswith(sent)
    assert all(len(ids) == 1 for ids in patients.values())
    assert deleted or {sop for _, _, sop in named} == set(contents)
    assert rows(gateway, "SELECT COUNT(*) FROM dgate_removals") == [(0,)]
    assert [path for root in devices.values() for path in leftovers(root)] == []
    assert images(gateway, folder) == {sop for _, _, sop in named}


def test_objects_reach_the_mirror_even_when_the_server_was_killed(
    farm: Farm, tmp_path: Path
) -> None:
    items = write_files(tmp_path / "in", Plan(60))
    gateway = farm.gateway(settings={"MIRRORDevices": 1, "MIRRORDevice0": "./mirror"})
    mirror = gateway.folder / "mirror"
    store(gateway.port, tmp_path / "in")
    gateway.kill()
    gateway.start()

    wait_until(lambda: len(files_below(mirror)) == len(items), "all copies")
    wait_until(lambda: rows(gateway, "SELECT * FROM dgate_debts") == [], "nothing is owed")
    assert files_below(mirror) == files_below(gateway.device())

    gateway.command("delete", "patient", items[0].patient_id, "--yes")
    assert files_below(mirror) == files_below(gateway.device())
    assert len(files_below(mirror)) == 50


def test_copies_wait_for_a_mirror_that_is_away(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway(
        settings={
            "MIRRORDevices": 1,
            "MIRRORDevice0": "./mirror",
            "RetryFirst": 0.1,
            "RetryMax": 0.2,
        }
    )
    mirror = gateway.folder / "mirror"
    mirror.write_text("something else")
    store(gateway.port, *(item.path for item in objects))
    listed = gateway.command("queue", "list", "--destination", "MIRROR0").stdout
    assert "MIRROR0" in listed

    mirror.unlink()

    wait_until(lambda: mirror.is_dir() and len(files_below(mirror)) == len(objects), "all copies")
    assert files_below(mirror) == files_below(gateway.device())


def test_what_is_owed_is_not_deleted_until_it_is_given_up(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = farm.gateway(
        settings={"ExportConverters": 1, "ExportConverter0": "forward to SINK"},
        nodes=[Node("SINK", farm.ports.take())],
    )
    store(gateway.port, *(item.path for item in objects))
    patient = objects[0].patient_id

    shown = gateway.command("delete", "patient", patient).stdout
    assert "Open deliveries: 10." in shown
    refused = gateway.command("delete", "patient", patient, "--yes", check=False)
    assert refused.returncode == 1
    assert "10 deliveries of this patient are still open" in refused.stdout
    assert len(gateway.stored_files()) == 20
    cleaned = gateway.command("clean", "--free", "999999999", "--yes", check=False)
    assert cleaned.returncode == 1
    assert "spared, 10 deliveries are still open" in cleaned.stdout
    assert len(gateway.stored_files()) == 20

    gateway.command("delete", "patient", patient, "--yes", "--even-owed")
    assert len(gateway.stored_files()) == 10


def test_clean_deletes_the_oldest_until_enough_is_free(farm: Farm, tmp_path: Path) -> None:
    """On a real file system of its own; time has passed as far as the index knows."""
    device = tmp_path / "small"
    slices = write_files(tmp_path / "ct", Plan(4, Kind.CT, per_series=1))
    gateway = farm.gateway(
        settings={"MAGDevice0": device, "MAGDeviceFullThreshold": 0},
        wrapper=small_disk(device, "4m"),
    )
    for item in slices:
        assert send(gateway, item).status == 0
    stop_counting_as_new(gateway, [item.patient_id for item in slices])

    shown = gateway.command("clean", "--free", "3").stdout
    assert shown.count("would go, 1 image(s)") == 3
    done = gateway.command("clean", "--free", "3", "--yes").stdout

    assert done.count("deleted, 1 image(s)") == 3
    assert images(gateway, tmp_path) == {slices[3].sop_instance}
    assert len(files_below(inside(gateway, device))) == 1


def test_a_device_below_its_threshold_is_cleaned_while_storing_goes_on(
    farm: Farm, tmp_path: Path
) -> None:
    device = tmp_path / "small"
    slices = write_files(tmp_path / "ct", Plan(6, Kind.CT, per_series=1))
    gateway = farm.gateway(
        settings={"MAGDevice0": device, "MAGDeviceFullThreshold": 0, "MAGDeviceThreshold": 3},
        wrapper=small_disk(device, "6m"),
    )
    for item in slices[:3]:
        assert send(gateway, item).status == 0
    stop_counting_as_new(gateway, [item.patient_id for item in slices[:3]])

    with RawAssociation.open(gateway.port, [Offer(Kind.CT.sop_class)]) as association:
        for item in slices[3:]:
            content = data_set_of(item.path.read_bytes())
            assert association.store(item.sop_class, item.sop_instance, content).status == 0

    old = {item.sop_instance for item in slices[:3]}
    new = {item.sop_instance for item in slices[3:]}
    # The number of free bytes counts for a second, so it takes another object to notice.
    later = itertools.cycle(write_files(tmp_path / "later", Plan(100, seed=5)))

    def is_clean() -> bool:
        item = next(later)
        assert send(gateway, item).status == 0
        new.add(item.sop_instance)
        return images(gateway, tmp_path).isdisjoint(old)

    wait_until(is_clean, "the old ones go")
    assert images(gateway, tmp_path) == new, "the new ones stay"
    said = "MAGDeviceThreshold = 3: 3 patients"
    wait_until(lambda: said in gateway.log, "the message about the cleaning")


def stop_counting_as_new(gateway: Gateway, patients: list[str]) -> None:
    """Let objects be days old, the first patient the oldest, in the index of a running server."""
    with sqlite3.connect(gateway.database, timeout=30) as connection:
        for age, patient in enumerate(reversed(patients), 1):
            for table, column in (("DICOMPatients", "PatientID"), ("DICOMImages", "ImagePat")):
                connection.execute(
                    f"UPDATE {table} SET AccessTime = AccessTime - ? WHERE {column} = ?",
                    (age * 86400, patient),
                )


def test_a_full_target_stops_a_move_in_words_and_nothing_is_lost(
    farm: Farm, tmp_path: Path
) -> None:
    target = tmp_path / "small"
    slices = write_files(tmp_path / "ct", Plan(6, Kind.CT))
    gateway = farm.gateway(
        settings={"MAGDevices": 2, "MAGDevice1": target, "MAGDeviceFullThreshold": 0},
        wrapper=small_disk(target, "2m"),
    )
    store(gateway.port, *(item.path for item in slices))

    result = gateway.command("move-device", "MAG0", "MAG1", check=False)

    assert result.returncode == 1
    assert "MAG1 has no room for more" in result.stdout
    devices = [row[0] for row in rows(gateway, "SELECT DeviceName FROM DICOMImages")]
    assert sorted(set(devices)) == ["MAG0", "MAG1"]
    moved = files_below(inside(gateway, target))
    assert len(moved) == devices.count("MAG1")
    assert len(moved) + len(files_below(gateway.device())) == len(slices)
    sent = {data_set_of(item.path.read_bytes()) for item in slices}
    everything = [*moved.values(), *files_below(gateway.device()).values()]
    assert {data_set_of(content) for content in everything} == sent


def with_rule(farm: Farm, folder: Path, plan: Plan, **settings: object) -> Gateway:
    """Start a server with a rule and two devices, and store what is planned."""
    items = write_files(folder, plan)
    devices = {"MAGDevices": 2, "MAGDevice1": "./second", "MIRRORDevices": 2}
    mirrors = {"MIRRORDevice0": "./mirror0", "MIRRORDevice1": "./mirror1"}
    gateway = farm.gateway(settings={**devices, **mirrors, **settings})
    store(gateway.port, *(item.path for item in items))
    return gateway


def headers(paths: list[Path]) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]


def test_move_device_converter_changes_what_moves(farm: Farm, tmp_path: Path) -> None:
    """In files, index, answers and mirror; what it rejects moves as it was."""
    gateway = with_rule(
        farm,
        tmp_path / "in",
        Plan(4),
        MoveDeviceConverter0='set 0008,1030 to "MOVED"; ifequal "%V0020,0013", "100000"; reject',
    )
    before = {path.read_bytes() for path in gateway.stored_files()}

    done = gateway.command("move-device", "MAG0", "MAG1")

    assert "4 of 4 object(s) moved" in done.stdout
    second = gateway.folder / "second"
    after = files_below(second)
    assert len(after) == 4
    assert len(before & set(after.values())) == 1
    moved = headers([second / name for name in after])
    assert sorted(one.StudyDescription == "MOVED" for one in moved) == [False, True, True, True]
    changed = {str(one.SOPInstanceUID) for one in moved if one.StudyDescription == "MOVED"}
    found = find(gateway.port, {"StudyDescription": "MOVED", "StudyInstanceUID": ""}, tmp_path)
    assert [str(one.StudyInstanceUID) for one in found] == [str(moved[0].StudyInstanceUID)]
    mirror = gateway.folder / "mirror1"

    def is_mirrored() -> bool:
        return files_below(mirror) == after

    wait_until(is_mirrored, "the mirror has what moved")
    wait_until(lambda: not files_below(gateway.folder / "mirror0"), "the old copies are gone")
    assert rows(gateway, "SELECT DISTINCT DeviceName FROM DICOMImages") == [("MAG1",)]
    assert images(gateway, tmp_path) >= changed


def test_merge_studies_converter_changes_what_is_merged(farm: Farm, tmp_path: Path) -> None:
    gateway = with_rule(
        farm,
        tmp_path / "in",
        Plan(4, per_series=2, studies_per_patient=2),
        MergeStudiesConverter0='set 0008,1030 to "FROM %V0020,000d"',
    )
    first, second = sorted({str(one.StudyInstanceUID) for one in headers(gateway.stored_files())})

    done = gateway.command("merge", "study", first, second, "--yes")

    assert "Corrected: 2 object(s)" in done.stdout
    descriptions = [str(one.StudyDescription) for one in headers(gateway.stored_files())]
    assert descriptions.count(f"FROM {second}") == 2
    found = find(gateway.port, {"StudyInstanceUID": "", "StudyDescription": ""}, tmp_path)
    assert [one.StudyInstanceUID for one in found] == [second]


def test_merge_series_converter_changes_what_is_merged(farm: Farm, tmp_path: Path) -> None:
    gateway = with_rule(
        farm,
        tmp_path / "in",
        Plan(4, per_series=2, series_per_study=2),
        MergeSeriesConverter0='set 0008,103e to "JOINED"; ifequal "%V0020,0013", "100000"; destroy',
    )
    stored = headers(gateway.stored_files())
    first, second = sorted({str(one.SeriesInstanceUID) for one in stored})
    left = [str(one.SOPInstanceUID) for one in stored if one.SeriesInstanceUID == first]

    done = gateway.command("merge", "series", first, second, "--yes")

    assert "left as they are by a rule" in done.stdout
    after = {str(one.SOPInstanceUID): one for one in headers(gateway.stored_files())}
    joined = [one for one in after.values() if one.get("SeriesDescription") == "JOINED"]
    assert {str(one.SeriesInstanceUID) for one in joined} == {second}
    assert sorted(str(after[uid].SeriesInstanceUID) == first for uid in left) == [False, True]
    keys = {"StudyInstanceUID": str(stored[0].StudyInstanceUID), "SeriesInstanceUID": ""}
    found = find(gateway.port, keys, tmp_path, level="SERIES")
    assert {str(one.SeriesInstanceUID) for one in found} == {first, second}
