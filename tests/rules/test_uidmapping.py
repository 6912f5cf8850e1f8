"""Which UIDs are replaced: all that name instances, at every depth, and no others."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dgate.dicom.element import keyword_of, tag_of
from dgate.dicom.table import ElementTable
from dgate.errors import RuleError
from dgate.rules.uidmapping import Exceptions, mapped_tags, replace_uids, restore_uids
from tests.rules import kit

NONE = Exceptions()
PREFIX = "1.2.3.7."


def item(**values: object) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def nested() -> Dataset:
    """Return an object with UIDs at three depths, code systems and private elements among them."""
    code = item(
        CodeValue="T-1", CodingSchemeUID="1.2.840.10008.2.16.4", ContextUID="1.2.840.10008.6.1.2"
    )
    image = item(
        ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2",
        ReferencedSOPInstanceUID="1.2.3.4.5",
        PurposeOfReferenceCodeSequence=Sequence([code]),
    )
    series = item(SeriesInstanceUID="1.2.3.4.6", ReferencedImageSequence=Sequence([image, image]))
    made = kit.data_set(
        FrameOfReferenceUID="1.2.3.4.7",
        MappingResourceUID="1.2.840.10008.8.1.1",
        ReferencedSeriesSequence=Sequence([series]),
        IrradiationEventUID=["1.9.1", "1.9.2", "1.2.3.4.7"],
    )
    block = made.private_block(0x0029, "SITE", create=True)
    block.add_new(0x01, "UI", "1.7.7")
    block.add_new(0x02, "SQ", [item(ReferencedSOPInstanceUID="1.2.3.4.5")])
    return made


def text(table: ElementTable, path: str) -> str:
    return table.element_path(path)


def test_every_uid_of_an_instance_is_replaced_and_references_still_meet() -> None:
    table = kit.table_of(nested())
    register = kit.FakeRegister()

    replace_uids(table, register, "st", NONE)

    sop, study = table.text(0x00080018), table.text(0x0020000D)
    assert sop.startswith(PREFIX)
    assert study.startswith(PREFIX)
    assert sop != study
    path = "/ReferencedSeriesSequence/ReferencedImageSequence.1"
    assert text(table, f"{path}/ReferencedSOPInstanceUID") == sop
    assert text(table, "/ReferencedSeriesSequence/SeriesInstanceUID") == table.text(0x0020000E)
    assert text(table, "/0029,1002/ReferencedSOPInstanceUID") == sop


def test_each_value_of_an_element_is_replaced_by_itself() -> None:
    table = kit.table_of(nested())

    replace_uids(table, kit.FakeRegister(), "", NONE)

    first, second, third = text(table, "0008,3010").split("\\")
    assert len({first, second, third}) == 3
    assert third == table.text(0x00200052)


def test_classes_code_systems_and_private_elements_stay() -> None:
    table = kit.table_of(nested())

    replace_uids(table, kit.FakeRegister(), "", NONE)

    assert table.text(0x00080016) == "1.2.840.10008.5.1.4.1.1.2"
    assert table.text(0x00080118) == "1.2.840.10008.8.1.1"
    assert table.text(0x00291001) == "1.7.7"
    path = "/ReferencedSeriesSequence/ReferencedImageSequence"
    code = f"{path}/PurposeOfReferenceCodeSequence"
    assert text(table, f"{path}/ReferencedSOPClassUID") == "1.2.840.10008.5.1.4.1.1.2"
    assert text(table, f"{code}/CodingSchemeUID") == "1.2.840.10008.2.16.4"
    assert text(table, f"{code}/ContextUID") == "1.2.840.10008.6.1.2"


@pytest.mark.parametrize(
    "keyword",
    [
        "SOPClassUID",
        "ReferencedSOPClassUID",
        "RelatedGeneralSOPClassUID",
        "TransferSyntaxUID",
        "ReferencedTransferSyntaxUIDInFile",
        "MACCalculationTransferSyntaxUID",
        "EncryptedContentTransferSyntaxUID",
        "AvailableTransferSyntaxUID",
        "CodingSchemeUID",
        "ContextUID",
        "ContextGroupExtensionCreatorUID",
        "MappingResourceUID",
        "MediaStorageSOPInstanceUID",
        "PatientID",
    ],
)
def test_elements_that_name_no_instance_are_not_replaced(keyword: str) -> None:
    assert tag_of(keyword) not in mapped_tags()


@pytest.mark.parametrize(
    "keyword",
    [
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "FrameOfReferenceUID",
        "InstanceCreatorUID",
        "ReferencedSOPInstanceUID",
        "ReferencedFrameOfReferenceUID",
        "StorageMediaFileSetUID",
        "UID",
        "SynchronizationFrameOfReferenceUID",
        "ConcatenationUID",
        "IrradiationEventUID",
        "TrackingUID",
        "DimensionOrganizationUID",
        "DeviceUID",
        "TransactionUID",
    ],
)
def test_elements_that_name_an_instance_are_replaced(keyword: str) -> None:
    assert tag_of(keyword) in mapped_tags()


def test_the_kind_is_the_keyword_of_the_first_element() -> None:
    register = kit.FakeRegister()

    replace_uids(kit.table_of(nested()), register, "", NONE)

    kinds = {old: kind for (old, _), (_, kind) in register.rows.items()}
    assert kinds["1.2.3.4.5"] == "SOPInstanceUID"
    assert kinds["1.9.2"] == "IrradiationEventUID"


def test_empty_and_missing_uids_stay_so() -> None:
    table = kit.table(FrameOfReferenceUID="", StudyInstanceUID="")

    replace_uids(table, kit.FakeRegister(), "#h", NONE)

    assert table.raw(0x00200052) == b""
    assert table.raw(0x0020000D) == b""
    assert 0x00200200 not in table


def test_restoring_gives_every_byte_back() -> None:
    table = kit.table_of(nested())
    before = table.tobytes()
    register = kit.FakeRegister()
    replace_uids(table, register, "st", NONE)
    assert table.tobytes() != before

    unknown = restore_uids(table, register, "st", NONE)

    assert unknown == []
    restored = kit.table_of(nested())
    assert {tag: table.text(tag) for tag in table.tags()} == {
        tag: restored.text(tag) for tag in restored.tags()
    }
    path = "/ReferencedSeriesSequence/ReferencedImageSequence.1/ReferencedSOPInstanceUID"
    assert text(table, path) == "1.2.3.4.5"


def test_unknown_replacements_stay_and_are_named() -> None:
    table = kit.table()
    register = kit.FakeRegister()
    register.forward("1.1", "st", "", "1.2.3.4")

    unknown = restore_uids(table, register, "st", NONE)

    assert unknown == ["SOPInstanceUID", "SeriesInstanceUID"]
    assert table.text(0x0020000D) == "1.1"
    assert table.text(0x00080018) == "1.2.3.4.5"


def test_code_systems_that_the_original_replaced_come_back() -> None:
    table = kit.table_of(nested())
    register = kit.FakeRegister()
    register.forward("1.2.840.1", "", "", "1.2.840.10008.2.16.4")

    restore_uids(table, register, "", NONE)

    path = "/ReferencedSeriesSequence/ReferencedImageSequence/PurposeOfReferenceCodeSequence"
    assert text(table, f"{path}/CodingSchemeUID") == "1.2.840.1"
    assert text(table, f"{path}/ContextUID") == "1.2.840.10008.6.1.2"


def test_values_that_the_original_replaced_together_come_back() -> None:
    table = kit.table(IrradiationEventUID="9.9")
    register = kit.FakeRegister()
    register.forward("1.1\\1.2", "", "", "9.9")

    restore_uids(table, register, "", NONE)

    assert table.text(0x00083010) == "1.1\\1.2"


def test_hashed_stages_have_no_way_back() -> None:
    with pytest.raises(RuleError, match="no way back"):
        restore_uids(kit.table(), kit.FakeRegister(), "#h", NONE)


def test_exceptions_stay_at_every_depth() -> None:
    table = kit.table_of(nested())
    excepted = Exceptions(
        frozenset((tag_of("ReferencedSOPInstanceUID") or 0,)),
        frozenset(("1.2.3.4",)),
        {tag_of("SeriesInstanceUID") or 0: "5.5"},
    )

    replace_uids(table, kit.FakeRegister(), "", excepted)

    path = "/ReferencedSeriesSequence"
    assert table.text(0x0020000D) == "1.2.3.4"
    assert table.text(0x0020000E) == text(table, f"{path}/SeriesInstanceUID") == "5.5"
    assert text(table, f"{path}/ReferencedImageSequence/ReferencedSOPInstanceUID") == "1.2.3.4.5"
    assert table.text(0x00080018).startswith(PREFIX)


@pytest.mark.parametrize("change", [replace_uids, restore_uids])
def test_a_register_that_fails_leaves_the_object_as_it_was(change: object) -> None:
    table = kit.table_of(nested())
    before = table.tobytes()
    register = kit.FakeRegister()
    register.fault = RuleError("the register is away")

    with pytest.raises(RuleError, match="away"):
        change(table, register, "", NONE)  # type: ignore[operator]

    assert table.tobytes() == before
    assert table.revision == 0


def test_a_sequence_that_cannot_be_read_leaves_the_object_as_it_was() -> None:
    table = kit.table()
    table.set_raw(0x00081110, "SQ", b"\xfe\xff\x00\xe0\x40\x00\x00\x00broken")
    before = table.tobytes()

    with pytest.raises(RuleError, match="sequence"):
        replace_uids(table, kit.FakeRegister(), "", NONE)

    assert table.tobytes() == before


def test_every_replaced_element_has_a_keyword() -> None:
    """It becomes the kind of the mapping, which a column of 32 characters holds."""
    names = [keyword_of(tag) for tag in mapped_tags()]

    assert all(names)
    assert max(map(len, names)) > 32, "the register has to cut them"
