"""The elements of an object as lines of text."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dgate.dicom.listing import listing
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from tests.archive.intake_kit import data_set


def test_each_element_is_a_line_and_items_are_indented() -> None:
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    table = ElementTable(data_set(ReferencedStudySequence=[item]), EXPLICIT_LE)

    lines = listing(table).splitlines()

    assert "0010,0020 LO PatientID 2 P1" in lines
    assert "0008,1110 SQ ReferencedStudySequence 1 item(s)" in lines
    assert "    0008,1155 UI ReferencedSOPInstanceUID 6 1.2.3" in lines
    assert "7fe0,0010 OW PixelData 32 (32 bytes)" in lines


def test_values_cannot_fake_lines() -> None:
    table = ElementTable(data_set(PatientComments="one\r\n0010,0020 LO PatientID 1 X"), EXPLICIT_LE)

    assert len(listing(table).splitlines()) == len(table.tags())


def test_long_values_are_cut() -> None:
    table = ElementTable(data_set(PatientComments="x" * 10000), EXPLICIT_LE)

    assert max(map(len, listing(table).splitlines())) < 150
