"""MoveDeviceConverter0: what a rule makes of objects that move to another device."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from dgate.archive.levels import Level
from dgate.archive.maintenance.move_device import Moved
from dgate.archive.query import QueryKey
from dgate.config.layout import PATIENT_ID
from dgate.dicom.part10 import read_meta
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from dgate.rules.events import Event
from tests.archive.intake_kit import data_set, large_data_set
from tests.archive.maintenance.ward import Ward, open_ward

DESCRIBE = 'set 0008,1030 to "moved"'


def ward_with(base: Path, rule: str, **changes: object) -> Ward:
    return open_ward(base, rules={Event.MOVE_DEVICE: rule}, **changes)


def move(ward: Ward) -> Moved:
    *_, moved = ward.caretaker.mover.move("MAG0", "MAG1")
    return moved


def read(ward: Ward, sop_instance: str) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(ward.path(sop_instance).read_bytes()))


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = ward_with(tmp_path, DESCRIBE)
    yield ward
    ward.close()


def test_the_rule_changes_file_and_rows_of_each_object(ward: Ward) -> None:
    objects = [ward.add(number, StudyDescription="stored") for number in (1, 2)]
    names = {sop: ward.ref(sop).name for sop in objects}

    moved = move(ward)

    assert (moved.objects, moved.skipped) == (2, 0)
    for sop_instance in objects:
        assert read(ward, sop_instance).StudyDescription == "moved"
        ref = ward.ref(sop_instance)
        assert (ref.device, ref.name) == ("MAG1", names[sop_instance])
    assert ward.rows("SELECT StudyDescr FROM DICOMStudies") == [("moved",)]
    assert ward.below("mag0") == []
    assert ward.counts() == (1, 1, 1, 2)
    assert ward.rows("SELECT * FROM dgate_removals") == []


def test_what_the_rule_does_not_name_stays_byte_for_byte(tmp_path: Path) -> None:
    ward = ward_with(tmp_path, 'set 0008,1030 to "movED"')
    for sop, make in {"1.2.8": data_set, "1.2.9": large_data_set}.items():
        ward.send(make(SOPInstanceUID=sop, StudyDescription="MOVed"), sop_instance=sop)
    before = {sop: ward.path(sop).read_bytes() for sop in ("1.2.8", "1.2.9")}

    move(ward)

    for sop_instance, content in before.items():
        assert ward.path(sop_instance).read_bytes() == content.replace(b"MOVed", b"movED")
    assert [name for name in ward.below("mag1") if "incoming" in name] == []
    ward.close()


@pytest.mark.parametrize("result", ["destroy", "reject"])
def test_an_object_that_the_rule_destroys_or_rejects_moves_as_it_was(
    tmp_path: Path, result: str
) -> None:
    rule = f'{DESCRIBE}; ifequal "%V0020,0013", "1"; {result}'
    ward = ward_with(tmp_path, rule)
    objects = [ward.add(number, StudyDescription="stored") for number in (1, 2)]
    before = {sop: ward.path(sop).read_bytes() for sop in objects}

    moved = move(ward)

    assert (moved.objects, moved.skipped) == (2, 0)
    assert {ref.device for ref in ward.refs()} == {"MAG1"}
    assert ward.path(objects[0]).read_bytes() == before[objects[0]]
    assert read(ward, objects[1]).StudyDescription == "moved"
    ward.close()


def test_a_rule_that_changes_nothing_copies_the_file(tmp_path: Path) -> None:
    ward = ward_with(tmp_path, 'ifequal "%i", "other"; set 0008,1030 to "moved"')
    sop_instance = ward.add(1)
    before = ward.path(sop_instance).read_bytes()

    move(ward)

    assert ward.path(sop_instance).read_bytes() == before
    ward.close()


def test_an_object_whose_rule_fails_stays_and_the_rest_moves(tmp_path: Path) -> None:
    """A number that US cannot hold."""
    rule = 'ifequal "%V0020,0013", "1"; set 0028,0010 to "99999999"'
    ward = ward_with(tmp_path, rule)
    broken, other = ward.add(1), ward.add(2)

    moved = move(ward)

    assert (moved.objects, moved.skipped) == (1, 1)
    assert broken in moved.problems[0]
    assert (ward.ref(broken).device, ward.ref(other).device) == ("MAG0", "MAG1")
    ward.close()


def test_a_rule_that_gives_another_patient_moves_rows_name_and_debts(tmp_path: Path) -> None:
    ward = ward_with(tmp_path, 'set PatientID to "ANON7"; set PatientName to "ANON"')
    objects = [ward.add(number, PatientName="REAL^NAME") for number in (1, 2)]
    ward.owe(objects[0])
    stale = ward.ref(objects[0])

    moved = move(ward)

    assert (moved.objects, moved.skipped) == (2, 0)
    assert {ref.patient_id for ref in ward.refs()} == {"ANON7"}
    assert ward.rows("SELECT PatientID, PatientNam FROM DICOMPatients") == [("ANON7", "ANON")]
    assert all("REAL" not in name and "P1" not in name for name in ward.below("mag1"))
    assert ward.below("mag0") == []
    assert b"ANON7" in ward.sent(stale)
    assert len(ward.finder.select([QueryKey(PATIENT_ID, "ANON7")])) == 2
    ward.close()


def test_an_object_that_gets_anothers_uid_stays(tmp_path: Path) -> None:
    ward = ward_with(tmp_path, 'ifequal "%V0020,0013", "1"; set 0008,0018 to "1.2.801.1.1.2"')
    one, two = ward.add(1), ward.add(2)
    before = {sop: ward.content(sop) for sop in (one, two)}

    moved = move(ward)

    assert (moved.objects, moved.skipped) == (1, 1)
    assert {sop: ward.content(sop) for sop in (one, two)} == before
    assert (ward.ref(one).device, ward.ref(two).device) == ("MAG0", "MAG1")
    assert [name for name in ward.below("mag1") if "incoming" in name] == []
    ward.close()


def test_an_object_that_the_rule_leaves_without_uid_stays(tmp_path: Path) -> None:
    ward = ward_with(tmp_path, 'set 0008,0018 to "no uid"')
    sop_instance = ward.add(1)
    before = ward.content(sop_instance)

    moved = move(ward)

    assert (moved.objects, moved.skipped) == (0, 1)
    assert ward.content(sop_instance) == before
    ward.close()


def test_the_rule_runs_before_archive_compression(tmp_path: Path) -> None:
    ward = ward_with(tmp_path, DESCRIBE, archive_compression="ul")
    made = {"1.2.8": data_set, "1.2.9": large_data_set}
    for sop, make in made.items():
        ward.send(make(IMPLICIT_LE, SOPInstanceUID=sop), syntax=IMPLICIT_LE, sop_instance=sop)

    move(ward)

    for sop in made:
        assert read_meta(ward.path(sop).read_bytes()).syntax == EXPLICIT_LE
        assert read(ward, sop).StudyDescription == "moved"
    ward.close()


def test_the_mirror_gets_the_changed_object(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror1"
    ward = ward_with(tmp_path, DESCRIBE, mirror_devices=(tmp_path / "mirror0", mirror))
    sop_instance = ward.add(1, StudyDescription="stored")
    ward.mirrors.pay(sop_instance)

    move(ward)

    owed = ward.rows("SELECT destination FROM dgate_debts WHERE kind = 'mirror' ORDER BY id")
    assert owed[-1] == ("MIRROR1",)
    ward.mirrors.pay(sop_instance)
    [copy] = [path for path in mirror.rglob("*.dcm") if path.is_file()]
    assert pydicom.dcmread(copy).StudyDescription == "moved"
    assert list((tmp_path / "mirror0").rglob("*.dcm")) == []
    ward.close()


def test_moving_makes_nothing_less_recently_used_than_it_is(ward: Ward) -> None:
    ward.add(1)
    accessed = ward.rows("SELECT AccessTime FROM DICOMPatients")
    ward.clock.seconds += 1_000_000

    move(ward)

    assert ward.rows("SELECT AccessTime FROM DICOMPatients") == accessed


CHANGES = "SELECT sop, former, rules FROM dgate_changes"


@pytest.mark.parametrize("compression", ["", "ui"])
def test_what_the_rule_changed_is_recorded_and_taken_back(tmp_path: Path, compression: str) -> None:
    ward = ward_with(tmp_path, DESCRIBE, change_log=True, archive_compression=compression)
    sop_instance = ward.add(1, StudyDescription="stored")

    move(ward)

    assert ward.rows(CHANGES) == [(sop_instance, sop_instance, "MoveDeviceConverter0")]
    assert read(ward, sop_instance).StudyDescription == "moved"
    restorer = ward.caretaker.restorer
    for _ in restorer.restore(restorer.plan(Level.IMAGE, sop_instance), who="tester"):
        pass
    assert read(ward, sop_instance).StudyDescription == "stored"
    assert ward.ref(sop_instance).device == "MAG1"
    assert ward.rows(CHANGES) == []
    ward.close()


def test_object_that_stays_has_no_record(tmp_path: Path) -> None:
    """Two objects would get one UID: the second stays as it was."""
    ward = ward_with(tmp_path, 'set 0008,0018 to "1.2.99"', change_log=True)
    for number in (1, 2):
        ward.add(number)

    moved = move(ward)

    assert (moved.objects, moved.skipped) == (1, 1)
    assert [row[0] for row in ward.rows(CHANGES)] == ["1.2.99"]
    ward.close()


def test_without_the_setting_nothing_is_recorded(ward: Ward) -> None:
    ward.add(1, StudyDescription="stored")

    move(ward)

    assert ward.rows(CHANGES) == []
