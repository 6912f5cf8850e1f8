"""The element table against every file that pydicom ships, with pydicom as the judge."""

from __future__ import annotations

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from dgate.dicom.table import ElementTable, Slice
from dgate.dicom.uids import transfer_syntax
from dgate.errors import NotDicom
from tests.dicom.samples import (
    BROKEN_SEQUENCE,
    CUT_IN_HEADER,
    Shipped,
    by_name,
    read,
    shipped,
    varied,
    whole,
)

# pydicom complains about what is wrong in its own samples; that is what they are for.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
FILES = pytest.mark.parametrize("file", whole(), ids=repr)
VARIED = pytest.mark.parametrize("file", varied(), ids=repr)
SOUND = pytest.mark.parametrize(
    "file", [file for file in varied() if file.path.name not in BROKEN_SEQUENCE], ids=repr
)
STUDY_DESCRIPTION = 0x00081030
PATIENT_NAME = 0x00100010
PATIENT_ID = 0x00100020
COMMENTS = 0x00204000
PIXEL_DATA = 0x7FE00010


def _table(file: Shipped) -> ElementTable:
    return ElementTable(memoryview(file.data), file.syntax)


def _tags(data_set: Dataset) -> set[int]:
    return {int(tag) for tag in list(data_set.keys())}


def _group_lengths(data_set: Dataset) -> set[int]:
    return {tag for tag in _tags(data_set) if tag & 0xFFFF == 0}


def _differences(before: Dataset, after: Dataset) -> set[int]:
    changed = _tags(before) ^ _tags(after)
    for tag in _tags(before) & _tags(after):
        old, new = before.get_item(tag), after.get_item(tag)
        if isinstance(old, RawDataElement) and isinstance(new, RawDataElement):
            if (old.VR, old.value or b"") != (new.VR, new.value or b""):
                changed.add(tag)
        elif before[tag] != after[tag]:
            changed.add(tag)
    return changed


def test_there_are_enough_files_to_be_worth_it() -> None:
    assert len(shipped()) > 150


@FILES
def test_tags_and_raw_values_are_those_of_pydicom(file: Shipped) -> None:
    table = _table(file)
    expected = read(file.head + file.data)
    assert sorted(table.tags()) == sorted(_tags(expected))
    for tag in _tags(expected):
        judge = expected.get_item(tag)
        if isinstance(judge, RawDataElement):
            assert table.raw(tag) == (judge.value or b""), hex(tag)


@FILES
def test_untouched_table_is_the_data_set_as_it_came(file: Shipped) -> None:
    table = _table(file)
    for tag in table.tags():
        table.text(tag)
    assert list(table.segments()) == [Slice(0, len(file.data))]
    assert table.size == len(file.data)
    assert table.tobytes() == file.data
    assert table.revision == 0


@VARIED
def test_patched_table_has_the_change_and_all_else_the_same(file: Shipped) -> None:
    table = _table(file)
    table.set_text(PATIENT_NAME, "Anonymous^Somebody")
    table.set_text(COMMENTS, "added")
    table.delete(PATIENT_ID)
    content = table.tobytes()
    assert table.size == len(content)
    before, after = read(file.head + file.data), read(file.head + content)
    assert after.PatientName == "Anonymous^Somebody"
    assert after[COMMENTS].value == "added"
    assert PATIENT_ID not in after
    changed = {PATIENT_NAME, COMMENTS, PATIENT_ID}
    assert _differences(before, after) - _group_lengths(after) <= changed


@SOUND
def test_sequence_rewritten_item_by_item_reads_the_same(file: Shipped) -> None:
    table = _table(file)
    sequences = [tag for tag in table.tags() if table.is_sequence(tag)]
    for tag in sequences:
        table.set_items(tag, table.items(tag))
    before, after = read(file.head + file.data), read(file.head + table.tobytes())
    assert _differences(before, after) <= _group_lengths(after)


@SOUND
def test_object_is_never_harmed_by_becoming_utf_8(file: Shipped) -> None:
    table = _table(file)
    before = read(file.head + file.data)
    table.set_text(STUDY_DESCRIPTION, "\N{SNOWMAN}")
    after = read(file.head + table.tobytes())
    assert after.StudyDescription == "\N{SNOWMAN}"
    assert after.get("PatientName") == before.get("PatientName")


@VARIED
def test_without_pixel_data_the_rest_reads_the_same(file: Shipped) -> None:
    table = _table(file)
    table.delete(PIXEL_DATA)
    before, after = read(file.head + file.data), read(file.head + table.tobytes())
    assert _differences(before, after) <= {PIXEL_DATA}


def test_object_cut_in_its_header_is_refused() -> None:
    for name in CUT_IN_HEADER:
        with pytest.raises(NotDicom):
            _table(by_name(name))


def test_object_with_cut_pixel_data_is_kept_and_known_as_such() -> None:
    table = _table(by_name("MR_truncated.dcm"))
    assert table.truncated
    assert table.raw(PIXEL_DATA) == by_name("MR_truncated.dcm").data[table_pixels(table) :]


def table_pixels(table: ElementTable) -> int:
    start = table.pixel_offset
    assert start is not None
    return start + 12


@VARIED
def test_every_prefix_of_the_header_is_read_or_refused(file: Shipped) -> None:
    if transfer_syntax(file.syntax).deflated:
        return
    stop = _table(file).pixel_offset or len(file.data)
    for length in range(0, min(stop, 3000), 31):
        try:
            ElementTable(file.data[:length], file.syntax).tags()
        except NotDicom:
            continue
