"""Merging, splitting and correcting: whose images they are, in files, index and debts alike."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dgate.archive.changes import ChangeLog
from dgate.archive.levels import PATIENT_NAME, Level
from dgate.archive.maintenance.corrections import BIRTH_DATE, SEX
from dgate.archive.maintenance.delete import StillOwed
from dgate.archive.query import QueryKey
from dgate.config.layout import PATIENT_ID
from dgate.errors import DgateError, OutOfSpace, Refused, RuleError, StoreError, Unreadable
from dgate.rules.effects import ExportPlan, Forward
from dgate.rules.events import Event
from tests.archive.intake_kit import Hooks, data_set
from tests.archive.maintenance.ward import Disk, Ward, carry_out, open_ward


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = open_ward(tmp_path)
    yield ward
    ward.close()


def read(ward: Ward, sop_instance: str) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(ward.path(sop_instance).read_bytes()))


def patients(ward: Ward) -> list[tuple[Any, ...]]:
    return ward.rows(
        "SELECT PatientID, PatientNam, PatientBir, PatientSex FROM DICOMPatients ORDER BY PatientID"
    )


def test_merging_patients_gives_all_studies_the_others_identity(ward: Ward) -> None:
    first, second = ward.add(1, PatientName="WRONG"), ward.add(1, study=2, PatientName="WRONG")
    known = ward.add(
        1, patient="P2", PatientName="RIGHT^ANNA", PatientBirthDate="19700101", PatientSex="F"
    )

    carry_out(ward, ward.caretaker.planner.merge_patient("P1", "P2"))

    assert patients(ward) == [("P2", "RIGHT^ANNA", "19700101", "F")]
    assert ward.counts() == (1, 3, 3, 3)
    for sop_instance in (first, second):
        data = read(ward, sop_instance)
        assert (data.PatientID, data.PatientName) == ("P2", "RIGHT^ANNA")
        assert (data.PatientBirthDate, data.PatientSex) == ("19700101", "F")
        assert ward.ref(sop_instance).patient_id == "P2"
    found = ward.finder.select([QueryKey(PATIENT_ID, "P2")])
    assert {ref.sop_instance for ref in found} == {first, second, known}


def test_what_a_correction_does_not_name_stays_byte_for_byte(ward: Ward) -> None:
    sop_instance = ward.add(1)
    before = ward.content(sop_instance)

    carry_out(ward, ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9"}))

    assert ward.content(sop_instance) == before.replace(b"P1", b"P9")


def test_file_header_stays_too(ward: Ward) -> None:
    sop_instance = ward.add(1)
    size = len(ward.content(sop_instance))
    header = ward.path(sop_instance).read_bytes()[:-size]

    carry_out(ward, ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_NAME: "NEW^N"}))

    assert ward.path(sop_instance).read_bytes().startswith(header)


def test_correcting_a_patient_changes_files_rows_and_names(ward: Ward) -> None:
    first, second = ward.add(1), ward.add(1, study=2)
    changes = {PATIENT_ID: "X77", PATIENT_NAME: "NEW^N", BIRTH_DATE: "19800229", SEX: "O"}

    carry_out(ward, ward.caretaker.planner.correct(Level.PATIENT, "P1", changes))

    assert patients(ward) == [("X77", "NEW^N", "19800229", "O")]
    assert all(ward.ref(sop).name.startswith("X77/") for sop in (first, second))
    assert len(ward.below("mag0")) == 2
    assert not (ward.settings.base_folder / "mag0" / "P1").exists()
    assert ward.rows("SELECT DISTINCT SeriesPat FROM DICOMSeries") == [("X77",)]
    assert ward.rows("SELECT DISTINCT ImagePat FROM DICOMImages") == [("X77",)]


def test_a_name_beyond_the_character_set_makes_the_object_unicode(ward: Ward) -> None:
    sop_instance = ward.add(1, SpecificCharacterSet="ISO_IR 100", PatientComments="größer")

    plan = ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_NAME: "Иванов^Иван"})
    carry_out(ward, plan)

    data = read(ward, sop_instance)
    assert data.SpecificCharacterSet == "ISO_IR 192"
    assert (str(data.PatientName), data.PatientComments) == ("Иванов^Иван", "größer")
    found = ward.finder.find(Level.PATIENT, [QueryKey(PATIENT_NAME, "иванов*")])
    assert [answer[PATIENT_NAME] for answer in found] == ["Иванов^Иван"]


def test_a_study_joins_a_known_patient_by_the_id_alone(ward: Ward) -> None:
    wrong, kept = ward.add(1, study=2), ward.add(1)
    ward.add(1, patient="P2", PatientName="OTHER^O", PatientSex="F")

    study = ward.ref(wrong).study
    carry_out(ward, ward.caretaker.planner.correct(Level.STUDY, study, {PATIENT_ID: "P2"}))

    assert (ward.ref(wrong).patient_id, ward.ref(kept).patient_id) == ("P2", "P1")
    assert read(ward, wrong).PatientName == "OTHER^O"
    assert read(ward, kept).PatientName == "SMITH^JOHN"


def test_merging_studies_moves_all_series_under_one_uid(ward: Ward) -> None:
    moved = ward.add(1, StudyDescription="Second try", AccessionNumber="A2")
    target = ward.add(1, study=2, StudyDescription="The study", AccessionNumber="A1")
    into = ward.ref(target).study

    carry_out(ward, ward.caretaker.planner.merge_study(ward.ref(moved).study, into))

    assert ward.counts() == (1, 1, 2, 2)
    data = read(ward, moved)
    assert (data.StudyInstanceUID, data.AccessionNumber) == (into, "A1")
    assert data.StudyDescription == "The study"
    assert data.SOPInstanceUID == moved
    assert ward.rows("SELECT StudyDescr, AccessionN FROM DICOMStudies") == [("The study", "A1")]


def test_studies_of_different_patients_are_not_merged(ward: Ward) -> None:
    one, other = ward.ref(ward.add(1)).study, ward.ref(ward.add(1, patient="P2")).study

    with pytest.raises(DgateError, match="different patients"):
        ward.caretaker.planner.merge_study(one, other)


def test_splitting_gives_series_a_study_of_their_own(ward: Ward) -> None:
    stays = ward.add(1)
    leaves = ward.add(2, SeriesInstanceUID="1.2.801.1.2", SOPInstanceUID="1.2.801.1.2.1")
    study = ward.ref(stays).study

    plan = ward.caretaker.planner.split_study(study, ["1.2.801.1.2"])
    carry_out(ward, plan)

    new = ward.ref(leaves).study
    assert new == plan.after["study"] != study
    assert read(ward, leaves).StudyInstanceUID == new
    assert ward.ref(stays).study == study
    assert ward.counts() == (1, 2, 2, 2)


def test_new_uids_change_every_reference_and_are_registered(ward: Ward) -> None:
    item = pydicom.Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    item.ReferencedSOPInstanceUID = "1.2.801.1.1.2"
    one = ward.add(1, SourceImageSequence=pydicom.Sequence([item]))
    two = ward.add(2)

    plan = ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9"}, new_uids=True)
    carry_out(ward, plan)

    register = dict(ward.rows("SELECT OldUID, NewUID FROM UIDMODS WHERE Stage = 'correction'"))
    assert set(register) == {one, two, "1.2.801.1", "1.2.801.1.1"}
    assert {ref.sop_instance for ref in ward.refs()} == {register[one], register[two]}
    data = read(ward, register[one])
    assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID == register[one]
    assert data.StudyInstanceUID == register["1.2.801.1"]
    assert data.SeriesInstanceUID == register["1.2.801.1.1"]
    assert data.SourceImageSequence[0].ReferencedSOPInstanceUID == register[two]
    assert ward.find(one) is None
    assert len(ward.below("mag0")) == 2
    kinds = dict(ward.rows("SELECT OldUID, MODType FROM UIDMODS"))
    assert (kinds[one], kinds["1.2.801.1"]) == ("SOPInstanceUID", "StudyInstanceUID")


def test_open_deliveries_follow_the_corrected_object(ward: Ward) -> None:
    sop_instance = ward.add(1)
    ward.owe(sop_instance)

    carry_out(ward, ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9"}))

    columns = "sop_instance, patient_id, study, device, name"
    ref = ward.ref(sop_instance)
    [row] = ward.rows(f"SELECT {columns} FROM dgate_debts")
    assert row == (sop_instance, "P9", ref.study, ref.device, ref.name)


def test_new_uids_wait_for_open_deliveries(ward: Ward) -> None:
    ward.owe(ward.add(1))
    plan = ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9"}, new_uids=True)

    with pytest.raises(StillOwed, match="1 deliveries"):
        carry_out(ward, plan)
    assert patients(ward)[0][0] == "P1"

    carry_out(ward, plan, even_owed=True)
    [row] = ward.rows("SELECT sop_instance FROM dgate_debts")
    assert row[0] == ward.refs()[0].sop_instance


def test_no_export_rule_runs_for_a_correction(tmp_path: Path) -> None:
    hooks = Hooks(plans=[ExportPlan(0, (Forward("DEST", "R"),))])
    ward = open_ward(tmp_path, hooks=hooks)
    ward.add(1)

    carry_out(ward, ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9"}))

    assert len(ward.debts()) == 1
    ward.close()


def test_a_study_that_is_wider_than_the_disk_is_not_begun(tmp_path: Path) -> None:
    disk = Disk({"mag0": 1 << 30})
    ward = open_ward(tmp_path, disk=disk)
    sop_instance = ward.add(1)
    before = ward.path(sop_instance).read_bytes()
    disk.free["mag0"] = len(before) + 100

    with pytest.raises(OutOfSpace, match="no room for the corrected study"):
        carry_out(ward, ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9"}))

    assert ward.path(sop_instance).read_bytes() == before
    assert ward.below("mag0") == [ward.ref(sop_instance).name]
    ward.close()


def test_a_study_with_a_lost_file_stays_as_it_was(ward: Ward) -> None:
    lost, there = ward.add(1), ward.add(2)
    ward.path(lost).unlink()
    before = ward.path(there).read_bytes()
    plan = ward.caretaker.planner.correct(Level.STUDY, ward.ref(there).study, {PATIENT_ID: "P9"})

    with pytest.raises(StoreError, match="cannot be opened"):
        carry_out(ward, plan)

    assert patients(ward)[0][0] == "P1"
    assert ward.path(there).read_bytes() == before
    assert len(ward.below("mag0")) == 1


def test_an_id_that_the_index_would_repair_is_refused(tmp_path: Path) -> None:
    ward = open_ward(tmp_path, fix_kodak=True)
    ward.add(1)
    plan = ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "02345678"})

    with pytest.raises(Refused, match="would enter the patient ID as '2345678'"):
        carry_out(ward, plan)

    assert patients(ward)[0][0] == "P1"
    assert len(ward.below("mag0")) == 1
    ward.close()


def test_an_image_that_arrives_meanwhile_is_corrected_too(ward: Ward) -> None:
    first = ward.add(1)
    [correction] = ward.caretaker.planner.correct(
        Level.PATIENT, "P1", {PATIENT_ID: "P9"}
    ).corrections
    second = ""
    for step in ward.caretaker.corrector.correct(correction, who="t", why="t"):
        if not second and not step.committed:
            second = ward.add(2)

    assert {ward.ref(sop).patient_id for sop in (first, second)} == {"P9"}
    assert ward.counts() == (1, 1, 1, 2)
    assert len(ward.below("mag0")) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "nothing to change"),
        ({PATIENT_ID: "A"}, "2 to 64"),
        ({PATIENT_ID: "A" * 65}, "2 to 64"),
        ({PATIENT_ID: "A\\B"}, "character that DICOM does not allow"),
        ({PATIENT_ID: " AB"}, "blank"),
        ({PATIENT_NAME: "A\nB"}, "character that DICOM does not allow"),
        ({PATIENT_NAME: " "}, "empty or too long"),
        ({BIRTH_DATE: "19700230"}, "no date"),
        ({BIRTH_DATE: "1970-01-01"}, "no date"),
        ({SEX: "X"}, "no sex"),
        ({PATIENT_ID: "P2", PATIENT_NAME: "ELSE^E"}, "dgate merge patient"),
    ],
)
def test_values_that_cannot_be_are_refused(ward: Ward, changes: dict[int, str], words: str) -> None:
    ward.add(1)
    ward.add(1, patient="P2")

    with pytest.raises(DgateError, match=words):
        ward.caretaker.planner.correct(Level.PATIENT, "P1", changes)


@pytest.mark.parametrize(
    ("source", "into", "words"),
    [("P1", "P1", "the same"), ("P9", "P1", "no objects of patient"), ("P1", "P*", "wildcard")],
)
def test_patients_that_are_not_known_are_not_merged(
    ward: Ward, source: str, into: str, words: str
) -> None:
    ward.add(1)

    with pytest.raises(DgateError, match=words):
        ward.caretaker.planner.merge_patient(source, into)


@pytest.mark.parametrize(
    ("series", "words"),
    [
        (["1.2.3.9"], "not in study"),
        (["1.2.801.1.1"], "leaves some"),
        ([], "leaves some"),
        (["1.2.*"], "not a UID"),
    ],
)
def test_a_split_that_is_none_is_refused(ward: Ward, series: list[str], words: str) -> None:
    study = ward.ref(ward.add(1)).study

    with pytest.raises(DgateError, match=words):
        ward.caretaker.planner.split_study(study, series)


def test_each_correction_is_written_down_with_before_and_after(ward: Ward) -> None:
    ward.add(1)

    carry_out(ward, ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9"}))

    [record] = ward.recorded()
    assert (record["action"], record["who"], record["images"]) == ("correct", "tester", 1)
    assert record["before"]["patient"] == "P1"
    assert record["after"]["0010,0020"] == "P9"


def test_the_sent_object_is_the_corrected_one(ward: Ward) -> None:
    sop_instance = ward.add(1)
    stale = ward.ref(sop_instance)

    carry_out(ward, ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9"}))

    assert ward.sent(stale) == data_set(
        PatientID="P9",
        StudyInstanceUID=stale.study,
        SeriesInstanceUID=stale.series,
        SOPInstanceUID=sop_instance,
        InstanceNumber="1",
    )


def series_of(ward: Ward, number: int, series: str, **elements: Any) -> str:
    """Store an object of another series of the study."""
    uid = f"1.2.801.1.{series}"
    return ward.add(number, SeriesInstanceUID=uid, SOPInstanceUID=f"{uid}.{number}", **elements)


def test_merging_series_gives_all_images_to_the_other_one(ward: Ward) -> None:
    first = series_of(ward, 1, "7", SeriesDescription="scout", SeriesNumber="3")
    second = series_of(ward, 1, "8", SeriesDescription="axial", SeriesNumber="4")
    before = ward.content(first)

    carry_out(ward, ward.caretaker.planner.merge_series("1.2.801.1.7", "1.2.801.1.8"))

    assert ward.counts() == (1, 1, 1, 2)
    data = read(ward, first)
    assert (data.SeriesInstanceUID, data.SeriesDescription) == ("1.2.801.1.8", "axial")
    assert (data.SeriesNumber, data.SOPInstanceUID) == (4, first)
    assert {ref.series for ref in ward.refs()} == {"1.2.801.1.8"}
    # The UID that the SOP instance UID begins with is another value, and stays.
    changed = before.replace(b"1.2.801.1.7\0", b"1.2.801.1.8\0").replace(b"scout ", b"axial ")
    assert len(ward.content(first)) == len(changed)
    assert second in {ref.sop_instance for ref in ward.refs()}
    [record] = ward.recorded()
    assert (record["why"], record["images"]) == ("merge series", 1)


def test_merged_series_may_get_new_object_uids(ward: Ward) -> None:
    first = series_of(ward, 1, "7")
    series_of(ward, 1, "8")

    plan = ward.caretaker.planner.merge_series("1.2.801.1.7", "1.2.801.1.8", new_uids=True)
    carry_out(ward, plan)

    assert {ref.series for ref in ward.refs()} == {"1.2.801.1.8"}
    assert first not in {ref.sop_instance for ref in ward.refs()}
    registered = dict(ward.rows("SELECT OldUID, NewUID FROM UIDMODS"))
    assert registered[first] in {ref.sop_instance for ref in ward.refs()}


def test_series_that_do_not_belong_together_are_not_merged(ward: Ward) -> None:
    series_of(ward, 1, "7", Modality="CT")
    series_of(ward, 1, "8", Modality="SR")
    ward.add(1, study=2)
    planner = ward.caretaker.planner

    for into, words in (
        ("1.2.801.1.7", "the same"),
        ("1.2.801.1.8", "different modalities"),
        ("1.2.801.2.1", "different studies"),
        ("1.2.3", "no objects of series"),
        ("*", "is not a UID"),
    ):
        with pytest.raises(DgateError, match=words):
            planner.merge_series("1.2.801.1.7", into)


DESCRIBE = 'set 0008,1030 to "by a rule"'
LEAVE_ONE_OUT = f'{DESCRIBE}; ifequal "%V0020,0013", "1"; reject'


def with_rule(base: Path, event: Event, rule: str) -> Ward:
    return open_ward(base, rules={event: rule})


def merge_studies(ward: Ward, *, new_uids: bool = False) -> None:
    carry_out(ward, ward.caretaker.planner.merge_study("1.2.801.1", "1.2.801.2", new_uids=new_uids))


def test_merge_studies_converter_changes_what_is_merged(tmp_path: Path) -> None:
    """It sees the UIDs that the objects have in the end."""
    rule = 'set 0008,1030 to "was in %V0020,000d"'
    ward = with_rule(tmp_path, Event.MERGE_STUDIES, rule)
    first, second = ward.add(1), ward.add(1, study=2)

    merge_studies(ward)

    assert read(ward, first).StudyDescription == "was in 1.2.801.2"
    assert "was in" not in read(ward, second).StudyDescription
    assert ward.rows("SELECT StudyDescr FROM DICOMStudies") == [("was in 1.2.801.2",)]
    ward.close()


def test_merge_series_converter_changes_what_is_merged(tmp_path: Path) -> None:
    ward = with_rule(tmp_path, Event.MERGE_SERIES, 'set 0008,103e to "%V0020,000e"')
    first, second = series_of(ward, 1, "7"), series_of(ward, 1, "8")

    carry_out(ward, ward.caretaker.planner.merge_series("1.2.801.1.7", "1.2.801.1.8"))

    assert read(ward, first).SeriesDescription == "1.2.801.1.8"
    assert read(ward, second).get("SeriesDescription") != "1.2.801.1.8"
    ward.close()


@pytest.mark.parametrize("event", [Event.MERGE_SERIES, Event.MOVE_DEVICE])
def test_converters_of_other_events_do_not_see_studies_that_are_merged(
    tmp_path: Path, event: Event
) -> None:
    ward = with_rule(tmp_path, event, DESCRIBE)
    first, _ = ward.add(1), ward.add(1, study=2)

    merge_studies(ward)
    carry_out(ward, ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9"}))

    assert read(ward, first).StudyDescription != "by a rule"
    ward.close()


@pytest.mark.parametrize("result", ["destroy", "reject"])
def test_an_object_that_the_rule_destroys_or_rejects_is_left_as_it_was(
    tmp_path: Path, result: str
) -> None:
    rule = LEAVE_ONE_OUT.replace("reject", result)
    ward = with_rule(tmp_path, Event.MERGE_SERIES, rule)
    left, merged, other = (
        series_of(ward, 1, "7"),
        series_of(ward, 2, "7"),
        series_of(ward, 3, "8"),
    )
    before = ward.path(left).read_bytes()

    carry_out(ward, ward.caretaker.planner.merge_series("1.2.801.1.7", "1.2.801.1.8"))

    assert ward.path(left).read_bytes() == before
    series = {ref.sop_instance: ref.series for ref in ward.refs()}
    assert series == {left: "1.2.801.1.7", merged: "1.2.801.1.8", other: "1.2.801.1.8"}
    assert ward.counts() == (1, 1, 2, 3)
    assert read(ward, merged).StudyDescription == "by a rule"
    [record] = ward.recorded()
    assert (record["images"], record["left_out"]) == (1, [left])
    ward.close()


def test_a_series_is_not_torn_between_two_studies(tmp_path: Path) -> None:
    ward = with_rule(tmp_path, Event.MERGE_STUDIES, LEAVE_ONE_OUT)
    for number in (1, 2):
        ward.add(number)
    ward.add(1, study=2)
    before = {ref: ward.path(ref.sop_instance).read_bytes() for ref in ward.refs()}

    with pytest.raises(Refused, match="cannot be in two studies"):
        merge_studies(ward)

    assert {ref: ward.path(ref.sop_instance).read_bytes() for ref in ward.refs()} == before
    ward.close()


def test_with_new_uids_a_part_of_a_series_can_be_left_out(tmp_path: Path) -> None:
    """What is merged names the object that is left by the UID that it keeps."""
    ward = with_rule(tmp_path, Event.MERGE_STUDIES, LEAVE_ONE_OUT)
    left = ward.add(1)
    merged = ward.add(2, FrameOfReferenceUID=left)
    ward.add(1, study=2)

    merge_studies(ward, new_uids=True)

    refs = {ref.sop_instance: ref for ref in ward.refs()}
    assert refs[left].study == "1.2.801.1"
    assert merged not in refs
    registered = dict(ward.rows("SELECT OldUID, NewUID FROM UIDMODS"))
    assert left not in registered
    named = read(ward, registered[merged])
    assert (named.FrameOfReferenceUID, named.StudyInstanceUID) == (left, "1.2.801.2")
    ward.close()


def test_a_rule_that_leaves_all_out_changes_nothing(tmp_path: Path) -> None:
    ward = with_rule(tmp_path, Event.MERGE_STUDIES, "reject")
    for study in (1, 2):
        ward.add(1, study=study)
    before = ward.refs()

    merge_studies(ward)

    assert ward.refs() == before
    ward.close()


def test_a_rule_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    ward = with_rule(tmp_path, Event.MERGE_STUDIES, 'set 0028,0010 to "99999999"')
    for study in (1, 2):
        ward.add(1, study=study)
    before = {ref: ward.path(ref.sop_instance).read_bytes() for ref in ward.refs()}

    with pytest.raises(RuleError):
        merge_studies(ward)

    assert {ref: ward.path(ref.sop_instance).read_bytes() for ref in ward.refs()} == before
    assert [name for name in ward.below("mag0") if "incoming" in name] == []
    assert [record["state"] for record in ward.recorded()] == ["failed"]
    ward.close()


def test_a_file_that_cannot_be_read_is_named(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.add(1)
    plan = ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9"})

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(Unreadable, match="Input/output"):
        carry_out(ward, plan)


CHANGES = "SELECT sop, former, rules FROM dgate_changes ORDER BY sop"


def take_back(ward: Ward, level: Level, key: str) -> None:
    restorer = ward.caretaker.restorer
    for _ in restorer.restore(restorer.plan(level, key), who="tester"):
        pass


def test_merge_is_recorded_with_what_its_converter_changed_and_taken_back(tmp_path: Path) -> None:
    ward = open_ward(tmp_path, rules={Event.MERGE_STUDIES: DESCRIBE}, change_log=True)
    first, second = ward.add(1), ward.add(1, study=2)
    contents = {sop: ward.content(sop) for sop in (first, second)}

    merge_studies(ward)

    assert ward.rows(CHANGES) == [(first, first, "merge study, MergeStudiesConverter0")]
    assert read(ward, first).StudyDescription == "by a rule"
    take_back(ward, Level.IMAGE, first)
    assert {sop: ward.content(sop) for sop in (first, second)} == contents
    assert ward.ref(first).study == "1.2.801.1"
    assert ward.rows(CHANGES) == []
    ward.close()


def test_each_correction_is_taken_back_for_itself(tmp_path: Path) -> None:
    ward = open_ward(tmp_path, change_log=True)
    first = ward.add(1)
    second = ward.add(2, SeriesInstanceUID="1.2.999")
    contents = {sop: ward.content(sop) for sop in (first, second)}
    planner = ward.caretaker.planner

    carry_out(ward, planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9", PATIENT_NAME: "N^N"}))
    ward.clock.seconds += 1
    carry_out(ward, planner.split_study("1.2.801.1", ["1.2.999"]))
    assert [row[2] for row in ward.rows(CHANGES)].count("split study") == 1
    take_back(ward, Level.IMAGE, second)
    assert {ward.ref(sop).study for sop in (first, second)} == {"1.2.801.1"}
    take_back(ward, Level.STUDY, "1.2.801.1")

    assert {sop: ward.content(sop) for sop in (first, second)} == contents
    assert ward.counts() == (1, 1, 2, 2)
    assert ward.rows(CHANGES) == []
    ward.close()


def test_new_uids_are_taken_back(tmp_path: Path) -> None:
    ward = open_ward(tmp_path, change_log=True)
    first = ward.add(1)
    content = ward.content(first)
    plan = ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9"}, new_uids=True)
    carry_out(ward, plan)
    [ref] = ward.refs()
    assert ref.sop_instance != first
    take_back(ward, Level.STUDY, ref.study)
    assert ward.content(first) == content
    ward.close()


@pytest.mark.parametrize("is_before", [True, False], ids=["before the commit", "after it"])
def test_restore_that_is_broken_off_leaves_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_before: bool
) -> None:
    """The record goes in the very transaction that takes the change back."""
    ward = open_ward(tmp_path, change_log=True)
    first = ward.add(1)
    content = ward.content(first)
    carry_out(ward, ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9"}))
    ward.clock.seconds += 1
    carry_out(ward, ward.caretaker.planner.correct(Level.PATIENT, "P9", {PATIENT_ID: "P8"}))
    restorer = ward.caretaker.restorer
    plan = restorer.plan(Level.IMAGE, first)

    class Broken(Exception):
        pass

    def fail(*_: Any) -> None:
        raise Broken

    if is_before:
        monkeypatch.setattr(ChangeLog, "forget", fail)
        with pytest.raises(Broken):
            list(restorer.restore(plan, who="tester"))
        monkeypatch.undo()
        assert (ward.ref(first).patient_id, len(ward.rows(CHANGES))) == ("P8", 2)
    else:
        # As a kill just after the commit: the caller gets no further.
        steps = restorer.restore(plan, who="tester")
        while not next(steps).committed:
            pass
        steps.close()
        assert (ward.ref(first).patient_id, len(ward.rows(CHANGES))) == ("P9", 1)
    ward.start_over()
    while ward.rows(CHANGES):
        take_back(ward, Level.IMAGE, first)
    assert ward.content(first) == content
    ward.close()


def test_merge_that_comes_to_nothing_leaves_no_record(tmp_path: Path) -> None:
    rules = {Event.MERGE_STUDIES: LEAVE_ONE_OUT}
    ward = open_ward(tmp_path, rules=rules, change_log=True)
    for number in (1, 2):
        ward.add(number)
    ward.add(1, study=2)

    with pytest.raises(Refused, match="cannot be in two studies"):
        merge_studies(ward)

    assert ward.rows(CHANGES) == []
    ward.close()


@pytest.mark.parametrize("rule", [None, DESCRIBE])
def test_merge_without_the_setting_is_not_recorded(tmp_path: Path, rule: str | None) -> None:
    rules = None if rule is None else {Event.MERGE_STUDIES: rule}
    ward = open_ward(tmp_path, rules=rules)
    for study in (1, 2):
        ward.add(1, study=study)

    merge_studies(ward)

    assert ward.rows(CHANGES) == []
    ward.close()
