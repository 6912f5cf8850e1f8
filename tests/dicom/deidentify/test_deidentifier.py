"""Whole objects: consistency, marks, nothing left in any byte, and what is refused."""

from __future__ import annotations

import struct

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dgate.dicom.deidentify import Deidentifier, Pseudonyms, SafeList
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from dgate.errors import ConfigError, DgateError, RuleError
from tests.dicom.deidentify.kit import (
    SECRET,
    SYNTAXES,
    data_set,
    deidentified,
    encoded,
    innermost,
    nested,
    profile,
    read,
    run,
)

ALL_OPTIONS = ("descriptors", "structured-content", "graphics", "modified-dates", "device",
               "patient-characteristics", "safe-private")  # fmt: skip


def reference(instance: str) -> Dataset:
    """Return an item that refers to an instance."""
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    item.ReferencedSOPInstanceUID = instance
    return item


def test_references_are_still_resolvable_over_a_set_of_objects() -> None:
    first = deidentified(data_set(SOPInstanceUID="1.2.826.0.1.8"), stage="t")
    made = data_set(SOPInstanceUID="1.2.826.0.1.9")
    made.ReferencedImageSequence = Sequence([reference("1.2.826.0.1.8")])

    second = deidentified(made, stage="t")

    cited = second.ReferencedImageSequence[0]
    assert cited.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert cited.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert second.StudyInstanceUID == first.StudyInstanceUID
    assert second.PatientID == first.PatientID == second.PatientName


def test_two_stages_are_disjoint() -> None:
    one = deidentified(data_set(), stage="trial12")
    other = deidentified(data_set(), stage="trial21")

    for keyword in ("PatientID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        assert one[keyword].value != other[keyword].value


def test_another_secret_gives_other_pseudonyms() -> None:
    table = ElementTable(encoded(data_set()), EXPLICIT_LE)
    Deidentifier(profile()).apply(table, Pseudonyms(bytes(32), ""))

    assert table.text(0x00100020) != deidentified(data_set()).PatientID


def test_new_uids_are_uuids_and_multiple_values_stay_multiple() -> None:
    made = data_set()
    made.add_new(0x00080058, "UI", ["1.2.826.0.1.8", "1.2.826.0.1.9"])

    found = deidentified(made)

    values = list(found[0x00080058].value)
    assert len(set(values)) == 2
    for uid in (*values, found.SOPInstanceUID):
        assert len(uid) <= 64
        number = int(uid.removeprefix("2.25."))
        assert number >> 76 & 0xF == 8
        assert number >> 62 & 3 == 2


@pytest.mark.parametrize(
    ("tag", "uid"),
    [
        (0x0008010C, "1.2.276.0.7230010.3"),
        (0x00080117, "1.2.276.0.7230010.4"),
        (0x00080118, "1.2.276.0.7230010.5"),
        (0x04000010, "1.2.840.10008.1.2"),
        (0x00200052, "1.2.840.10008.1.4.1.1"),
    ],
    ids=lambda value: str(value),
)
def test_uids_of_schemes_and_of_the_standard_stay(tag: int, uid: str) -> None:
    made = data_set()
    made.add_new(tag, "UI", uid)

    assert deidentified(made)[tag].value == uid


def test_marks_are_written_behind_those_that_are_there() -> None:
    made = data_set(DeidentificationMethod="by hand")
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", "Own"
    made.DeidentificationMethodCodeSequence = Sequence([code])

    found = deidentified(made, "full-dates", "device", "descriptors")

    assert found.PatientIdentityRemoved == "YES"
    assert found.DeidentificationMethod[0] == "by hand"
    assert "2024b" in found.DeidentificationMethod[1]
    codes = [item.CodeValue for item in found.DeidentificationMethodCodeSequence]
    assert codes == ["1", "113100", "113105", "113106", "113109"]
    assert found.LongitudinalTemporalInformationModified == "UNMODIFIED"
    assert "BurnedInAnnotation" not in found


@pytest.mark.parametrize(
    ("words", "said"), [((), "REMOVED"), (("modified-dates",), "MODIFIED")], ids=["basic", "shift"]
)
def test_it_says_what_became_of_dates(words: tuple[str, ...], said: str) -> None:
    assert deidentified(data_set(), *words).LongitudinalTemporalInformationModified == said


def test_a_second_run_adds_no_second_marks() -> None:
    once = deidentified(data_set())

    twice = deidentified(once)

    assert len(twice.DeidentificationMethodCodeSequence) == 1
    assert isinstance(twice.DeidentificationMethod, str)


NAMES = {
    "ISO_IR 100": ("Müller^Jörg", "latin-1"),
    "ISO_IR 192": ("Müller^Jörg=山田^太郎", "utf-8"),
    "ISO 2022 IR 6\\ISO 2022 IR 87": ("Yamada^Tarou=山田^太郎", "iso2022_jp"),
}


@pytest.mark.parametrize("charset", NAMES)
@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("words", [(), ALL_OPTIONS], ids=["basic", "options"])
def test_no_byte_of_the_result_identifies(
    charset: str, syntax: str, words: tuple[str, ...]
) -> None:
    name, codec = NAMES[charset]
    made = _telling_object(name, charset)

    table, _ = run(encoded(made, syntax), profile(*words), syntax)
    result = table.tobytes()

    parts = [part for group in name.split("=") for part in group.split("^")]
    sought = [part.encode(codec).strip(b"\x1b(B$") for part in parts]
    sought += [
        b"PAT-4711",
        b"ACC-0815",
        b"1.2.826",
        b"19540321",
        b"Zumsteg",
        b"OTHER-ID",
        b"Elm St",
    ]
    assert [each for each in sought if each in result] == []
    read(result, syntax).walk(lambda _, element: element.value)


def _telling_object(name: str, charset: str) -> Dataset:
    """Return an object that names its patient in every kind of place."""
    made = data_set(
        SpecificCharacterSet=charset.split("\\"),
        PatientName=name,
        PatientBirthDate="19540321",
        AccessionNumber="ACC-0815",
        OtherPatientNames=[name, name],
        PatientAddress="Elm Street 5",
        ReferringPhysicianName="Zumsteg^Quirin",
        StudyDescription=f"Knee of {name.split('^')[0]}, PAT-4711",
        SeriesDescription="for Dr. Zumsteg, ACC-0815, born 21.03.1954",
        RequestedProcedureDescription="seen 1954-03-21",
        ImageComments=name,
        DeviceSerialNumber="SERIAL-1",
        FrameOfReferenceUID="1.2.826.0.1.55",
    )
    other = Dataset()
    other.PatientID = "OTHER-ID"
    made.OtherPatientIDsSequence = Sequence([other])
    request = Dataset()
    request.AccessionNumber = "ACC-0815"
    request.RequestedProcedureDescription = f"Knee {name.split('^')[0]}"
    request.ReferencedStudySequence = Sequence([reference("1.2.826.0.1.66")])
    made.RequestAttributesSequence = Sequence([request])
    made.SourceImageSequence = Sequence([reference("1.2.826.0.1.67")])
    content = Dataset()
    content.RelationshipType, content.ValueType = "CONTAINS", "TEXT"
    content.TextValue = f"The patient {name.split('^')[0]} PAT-4711 was seen by Dr Zumsteg"
    person = Dataset()
    person.RelationshipType, person.ValueType = "CONTAINS", "PNAME"
    person.PersonName = name
    made.ContentSequence = Sequence([content, person])
    graphic = Dataset()
    graphic.GraphicLayer = "LAYER"
    text = Dataset()
    text.UnformattedTextValue = f"{name.split('^')[0]} 19540321"
    graphic.TextObjectSequence = Sequence([text])
    made.GraphicAnnotationSequence = Sequence([graphic])
    made.add_new(0x00090010, "LO", "GEMS_IDEN_01")
    made.add_new(0x00091001, "PN", name)
    made.add_new(0x60000010, "US", 8)
    made.add_new(0x60000022, "LO", "PAT-4711")
    return made


def test_what_is_kept_is_kept_byte_for_byte() -> None:
    made = data_set(Rows=2, Columns=2, PixelSpacing=["0.5", "0.5"], WindowCenter="40")
    made.add_new(0x7FE00010, "OW", b"\1\2\3\4\5\6\7\x08")

    found = deidentified(made)

    assert found.PixelSpacing == [0.5, 0.5]
    assert found.PixelData == b"\1\2\3\4\5\6\7\x08"
    assert found.Modality == "CT"


def test_structured_content_is_kept_where_it_is_cleaned() -> None:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.TextValue = "Nodule in Zumsteg's left lung"
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "121071", "DCM", "Finding"
    item.ConceptNameCodeSequence = Sequence([code])
    made = data_set(Modality="SR")
    made.ContentSequence = Sequence([item])

    cleaned = deidentified(made, "structured-content").ContentSequence[0]

    assert cleaned.TextValue == "Nodule in 's left lung"
    assert cleaned.ConceptNameCodeSequence[0].CodeValue == "121071"
    assert deidentified(made).ContentSequence[0].TextValue == "REMOVED"


def test_dates_of_a_patient_keep_their_distance() -> None:
    shifted = [
        deidentified(
            data_set(StudyDate=date, AcquisitionDateTime=f"{date}101112"), "modified-dates"
        )
        for date in ("20260102", "20260112")
    ]

    assert shifted[0].StudyDate < shifted[1].StudyDate < "20260112"
    assert shifted[0].AcquisitionDateTime == f"{shifted[0].StudyDate}101112"
    other = deidentified(data_set(PatientID="OTHER", StudyDate="20260102"), "modified-dates")
    assert other.StudyDate != shifted[0].StudyDate


def test_a_date_that_is_none_is_treated_as_the_basic_profile_does() -> None:
    data = encoded(data_set(StudyDate="20260102")).replace(b"20260102", b"yester^y")

    table, _ = run(data, profile("modified-dates"))

    assert table.raw(0x00080020) == b""


def test_patients_without_an_id_are_told_apart() -> None:
    found = {
        deidentified(data_set(PatientID="", PatientName=name, StudyInstanceUID=study)).PatientID
        for name, study in (("A^B", "1.2.3"), ("C^D", "1.2.3"), ("", "1.2.3"), ("", "1.2.4"))
    }

    assert len(found) == 4
    assert all(len(each) == 16 for each in found)


def test_patient_ids_inside_sequences_get_their_own_pseudonym() -> None:
    inner = Dataset()
    inner.PatientID = "PAT-4711"

    assert innermost(deidentified(nested(inner))).PatientID == deidentified(data_set()).PatientID


def test_what_was_replaced_is_told() -> None:
    made = data_set(PatientBirthDate="19540321", PatientSex="M")

    table, replaced = run(encoded(made), profile("modified-dates"), stage="t")

    assert replaced.stage == "t"
    assert replaced.patient == {
        "PatientID": "PAT-4711",
        "PatientName": "Zumsteg^Quirin",
        "PatientBirthDate": "19540321",
        "PatientSex": "M",
    }
    assert replaced.pseudonym == table.text(0x00100020)
    assert replaced.uids[table.text(0x00080018)] == "1.2.826.0.1.5"
    assert 1 <= replaced.shift_days <= 3650


# Private elements.


def _with_private() -> Dataset:
    made = data_set()
    made.add_new(0x70530010, "LO", "Philips PET Private Group")
    made.add_new(0x70530011, "LO", "Somebody else")
    made.add_new(0x70531000, "DS", "1.5")
    made.add_new(0x70531003, "ST", "Zumsteg")
    made.add_new(0x70531100, "DS", "2.5")
    return made


def test_safe_private_elements_are_kept_with_their_creator() -> None:
    found = deidentified(_with_private(), "safe-private")

    private = [element.tag for element in found if element.tag.is_private]
    assert private == [0x70530010, 0x70531000]
    assert found[0x70531000].value == 1.5


def test_safe_private_elements_of_a_list_of_ones_own() -> None:
    safe = SafeList.parse("# ours\nSomebody else | 7053,xx00 | DS\n", "safe.txt")

    found = deidentified(_with_private(), "safe-private", safe_list=safe, syntax=IMPLICIT_LE)

    assert [element.tag for element in found if element.tag.is_private] == [0x70530011, 0x70531100]


def test_a_safe_element_with_another_vr_goes() -> None:
    made = _with_private()
    made[0x70531000].VR = "LO"
    made[0x70531000].value = "Zumsteg"

    assert 0x70531000 not in deidentified(made, "safe-private")


@pytest.mark.parametrize(
    "line",
    ["Creator | 7053,xx00", "Creator | 7052,xx00 | DS", "Creator | 7053,1000 | DS",
     "| 7053,xx00 | DS", "Creator | 7053,xx00 | ZZ", "Creator | 7053,xx00 | PN"],
)  # fmt: skip
def test_a_wrong_line_of_a_safe_list_is_named(line: str) -> None:
    with pytest.raises(ConfigError, match="line 2: "):
        SafeList.parse(f"# comment\n{line}\n", "safe.txt")


# What is refused.


def test_bytes_that_belong_to_no_element_are_refused() -> None:
    data = encoded(data_set()) + bytes(8) + b"Zumsteg^Quirin"

    with pytest.raises(DgateError):
        run(data)


def test_zeros_behind_the_last_element_are_harmless() -> None:
    made = data_set()
    made.add_new(0x7FE00010, "OW", b"\1\2")

    table, _ = run(encoded(made) + bytes(8))

    assert table.raw(0x7FE00010) == b"\1\2"


def test_an_element_that_hides_another_is_refused() -> None:
    twice = b"\x08\0\x60\0CS\2\0MR"
    data = encoded(data_set()).replace(b"\x08\0\x60\0CS\2\0CT", twice + b"\x08\0\x60\0CS\2\0CT")

    with pytest.raises(RuleError, match="more than once"):
        run(data)


def test_a_second_element_that_goes_is_gone_both_times() -> None:
    name = b"\x10\0\x10\0PN\x08\0Zumsteg^"
    data = encoded(data_set())
    at = data.index(b"\x10\0\x10\0PN")

    table, _ = run(data[:at] + name + data[at:])

    assert b"Zumsteg" not in table.tobytes()


def test_cut_off_pixels_are_refused() -> None:
    made = data_set()
    made.add_new(0x7FE00010, "OW", bytes(64))

    with pytest.raises(RuleError, match="cut off"):
        run(encoded(made)[:-8])


def test_a_kept_element_that_turns_out_to_be_a_sequence_is_gone_through() -> None:
    item = encoded(data_set())
    inside = b"\xfe\xff\0\xe0" + struct.pack("<L", len(item)) + item
    sequence = b"\x08\0\x60\0SQ\0\0" + struct.pack("<L", len(inside)) + inside
    data = encoded(data_set()).replace(b"\x08\0\x60\0CS\2\0CT", sequence)

    table, _ = run(data)

    assert b"Zumsteg" not in table.tobytes()
    assert b"1.2.826" not in table.tobytes()


def test_nothing_is_left_behind_the_items_of_a_sequence() -> None:
    made = data_set()
    made.SharedFunctionalGroupsSequence = Sequence([Dataset()])
    data = encoded(made)
    head = struct.pack("<HH2sHL", 0x5200, 0x9229, b"SQ", 0, 8)
    hidden = b"\xfe\xff\xdd\xe0\0\0\0\0Zumsteg^"
    item = b"\xfe\xff\0\xe0\0\0\0\0"
    assert head + item in data
    larger = struct.pack("<HH2sHL", 0x5200, 0x9229, b"SQ", 0, 8 + len(hidden))

    table, _ = run(data.replace(head + item, larger + item + hidden))

    assert b"Zumsteg" not in table.tobytes()


@pytest.mark.parametrize("secret", [b"", b"short", SECRET[:15]])
def test_a_secret_that_can_be_guessed_is_refused(secret: bytes) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Pseudonyms(secret)
