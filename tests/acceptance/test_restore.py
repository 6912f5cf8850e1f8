"""The record of change and `dgate restore`, with the real server."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pydicom
import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import find, store
from tests.generate import Generated, Plan, data_set_of, write_files

LOGGED = {"ChangeLog": 1, "RetryFirst": 0.1}


def records(gateway: Gateway) -> int:
    """Return how many records of change there are."""
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as connection:
        return int(connection.execute("SELECT count(*) FROM dgate_changes").fetchone()[0])


def stored(gateway: Gateway) -> set[bytes]:
    """Return the data sets on disk."""
    return {data_set_of(path.read_bytes()) for path in gateway.stored_files()}


def came(made: list[Generated]) -> set[bytes]:
    """Return the data sets that were sent."""
    return {data_set_of(item.path.read_bytes()) for item in made}


def one_study(folder: Path, count: int) -> list[Generated]:
    """Write the objects of one study."""
    return write_files(folder, Plan(count, per_series=count))


@pytest.fixture(params=["beside the server", "without a server"])
def place(request: pytest.FixtureRequest) -> str:
    """Whether a server runs while objects are restored."""
    return str(request.param)


def test_study_becomes_what_it_was(farm: Farm, tmp_path: Path, place: str) -> None:
    rule = 'set PatientID to "T%i"; set PatientComments to "by us"; newuids; delete 0008,0070'
    gateway = farm.gateway(settings=LOGGED | {"ImportConverter0": rule})
    made = one_study(tmp_path / "in", 3)
    store(gateway.port, *(item.path for item in made))
    assert records(gateway) == 3
    assert stored(gateway).isdisjoint(came(made))
    [study] = find(gateway.port, {"StudyInstanceUID": ""}, tmp_path / "find", level="STUDY")
    if place == "without a server":
        gateway.stop()

    altered = str(study.StudyInstanceUID)
    shown = gateway.command("restore", altered, "--level", "study", "--json")
    objects = json.loads(shown.stdout)["objects"]
    assert {each["becomes"] for each in objects} == {item.sop_instance for item in made}
    assert {each["rules"] for each in objects} == {"ImportConverter0"}
    comments = [one for one in objects[0]["changes"] if one["keyword"] == "PatientComments"]
    assert comments[0]["before"] == "by us"
    assert stored(gateway).isdisjoint(came(made))

    done = gateway.command("restore", altered, "--level", "study", "--yes")
    assert "Restored: 3 object(s).\n" in done.stdout
    assert stored(gateway) == came(made)
    assert records(gateway) == 0
    if place == "without a server":
        gateway.start()
    found = find(gateway.port, {"SOPInstanceUID": ""}, tmp_path / "find2", level="IMAGE")
    assert {str(one.SOPInstanceUID) for one in found} == {item.sop_instance for item in made}


def test_single_object(farm: Farm, tmp_path: Path) -> None:
    gateway = farm.gateway(settings=LOGGED | {"ImportConverter0": 'set PatientComments to "x"'})
    made = one_study(tmp_path / "in", 2)
    store(gateway.port, *(item.path for item in made))
    gateway.command("restore", made[0].sop_instance, "--yes")
    left = stored(gateway) & came(made)
    assert left == {data_set_of(made[0].path.read_bytes())}
    assert records(gateway) == 1


def test_one_object_of_a_study_cannot_get_another_patient(farm: Farm, tmp_path: Path) -> None:
    gateway = farm.gateway(settings=LOGGED | {"ImportConverter0": 'set PatientID to "T%i"'})
    made = one_study(tmp_path / "in", 2)
    store(gateway.port, *(item.path for item in made))
    before = stored(gateway)
    failed = gateway.command("restore", made[0].sop_instance, "--yes", check=False)
    assert failed.returncode == 1
    assert stored(gateway) == before
    assert records(gateway) == 2
    gateway.command("restore", made[0].study, "--level", "study", "--yes")
    assert stored(gateway) == came(made)


def test_what_was_not_recorded_or_was_changed_later_is_refused(farm: Farm, tmp_path: Path) -> None:
    gateway = farm.gateway(settings=LOGGED | {"ImportConverter0": 'set PatientComments to "x"'})
    made = one_study(tmp_path / "in", 1)
    nothing = gateway.command("restore", made[0].sop_instance, check=False)
    assert nothing.returncode == 1
    assert "there is no image" in nothing.stdout
    store(gateway.port, made[0].path)
    changed = pydicom.dcmread(made[0].path)
    gateway.configure(ImportConverter0="nop")
    gateway.restart()
    changed.PatientComments = "a correction"
    changed.save_as(made[0].path)
    store(gateway.port, made[0].path)
    failed = gateway.command("restore", made[0].sop_instance, "--yes", check=False)
    assert failed.returncode == 1
    assert "has been changed since: (0010,4000)" in failed.stdout


def test_without_the_setting_nothing_is_recorded(farm: Farm, tmp_path: Path) -> None:
    gateway = farm.gateway(settings={"ImportConverter0": 'set PatientComments to "x"'})
    made = one_study(tmp_path / "in", 1)
    store(gateway.port, made[0].path)
    assert records(gateway) == 0
    failed = gateway.command("restore", made[0].sop_instance, check=False)
    assert "nothing is known of changes" in failed.stdout
