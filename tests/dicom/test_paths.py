"""Element descriptors: reading and setting inside sequences."""

from __future__ import annotations

import pytest

from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from tests.dicom.samples import UNDEFINED, explicit, implicit, item, sequence

CHARSET = explicit(0x00080005, "CS", b"ISO_IR 100")
REFERENCES = 0x00081140
PURPOSE = 0x0040A170
CODE_VALUE = 0x00080100
MEANING = 0x00080104
SOP_REFERENCE = 0x00081155
ROWS = 0x00280010


def _reference(uid: bytes, code: bytes, rows: bytes = b"\1\0\2\0") -> bytes:
    purpose = item(explicit(CODE_VALUE, "SH", code))
    return item(
        explicit(SOP_REFERENCE, "UI", uid)
        + explicit(ROWS, "US", rows)
        + explicit(PURPOSE, "SQ", purpose)
    )


OBJECT = (
    CHARSET
    + explicit(0x00081030, "LO", b"M\xfcller")
    + explicit(REFERENCES, "SQ", _reference(b"1.1\0", b"A1") + _reference(b"1.2\0", b"B2"))
    + explicit(0x00100020, "LO", b" ")
    + explicit(0x00204000, "LT", b"x" * 256)
    + explicit(ROWS, "US", b"\3\0\4\0")
)


@pytest.mark.parametrize(
    ("descriptor", "text"),
    [
        ("0008,1030", "Müller"),
        ("StudyDescription", "Müller"),
        ("0028,0010", "3\\4"),
        ("PatientName", ""),
        ("0010,0020", " "),
        ("0008,1140", "(sequence)"),
        ("ImageComments", "(too long)"),
        ("/0008,1140/0008,1155", "1.1"),
        ("/0008,1140.1/0008,1155", "1.2"),
        ("/ReferencedImageSequence.1/ReferencedSOPInstanceUID", "1.2"),
        ("/0008,1140.2/0008,1155", ""),
        ("/0008,1140/0028,0010", "1"),
        ("/0008,1140.1/0040,A170", "(sequence)"),
        ("/0008,1140.1/0040,A170/0008,0100", "B2"),
        ("/0008,1140.1/*0008,0100", "B2"),
        ("*0008,0100", "A1"),
        ("*CodeValue", "A1"),
        ("*0028,0010", "1"),
        ("*0010,0010", ""),
        ("/0008,1140.x/0008,1155", ""),
        ("/0010,0020/0008,1155", ""),
        ("/PatientName/0008,1155", ""),
        ("NoSuchKeyword", ""),
        ("*", ""),
        ("/", ""),
        ("", ""),
    ],
)
def test_descriptor_reads_its_element(descriptor: str, text: str) -> None:
    assert ElementTable(OBJECT, EXPLICIT_LE).element_path(descriptor) == text


def test_text_in_items_follows_the_character_set_of_the_object() -> None:
    data = CHARSET + explicit(REFERENCES, "SQ", item(explicit(MEANING, "LO", b"M\xfcller")))
    assert ElementTable(data, EXPLICIT_LE).element_path("*CodeMeaning") == "Müller"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("ReferencedImageSequence/0008,1155", ["9.9", "1.2"]),
        ("/ReferencedImageSequence/0008,1155", ["9.9", "1.2"]),
        ("0008,1140.0/0008,1155", ["9.9", "1.2"]),
        ("0008,1140.1/0008,1155", ["1.1", "9.9"]),
        ("0008,1140.7/0008,1155", ["1.1", "1.2", "9.9"]),
        ("0008,1140.*/0008,1155", ["1.1", "1.2", "9.9"]),
    ],
)
def test_element_in_an_item_is_set(path: str, expected: list[str]) -> None:
    table = ElementTable(OBJECT, EXPLICIT_LE)
    table.set_path(path, "9.9")
    again = ElementTable(table.tobytes(), EXPLICIT_LE)
    assert [each.text(SOP_REFERENCE) for each in again.items(REFERENCES)] == expected
    assert again.text(ROWS) == "3\\4"


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, IMPLICIT_LE])
def test_missing_sequences_are_made_at_every_level(syntax: str) -> None:
    table = ElementTable(b"", syntax)
    table.set_path("ReferencedImageSequence/PurposeOfReferenceCodeSequence.*/CodeValue", "C3")
    again = ElementTable(table.tobytes(), syntax)
    assert (
        again.element_path("/ReferencedImageSequence/PurposeOfReferenceCodeSequence/CodeValue")
        == "C3"
    )


def test_item_beside_the_changed_one_stays_as_it_was() -> None:
    inner = item(implicit(SOP_REFERENCE, b"1.1 "), defined=False)
    data = implicit(REFERENCES, b"", length=UNDEFINED) + sequence(inner * 2)
    table = ElementTable(data, IMPLICIT_LE)
    table.set_path("0008,1140.0/0008,1155", "9.9")
    assert implicit(SOP_REFERENCE, b"1.1 ") in table.tobytes()


def test_text_that_does_not_fit_turns_the_object_and_not_the_item_to_utf_8() -> None:
    table = ElementTable(OBJECT, EXPLICIT_LE)
    table.set_path("ReferencedImageSequence/CodeMeaning", "Łódź")
    again = ElementTable(table.tobytes(), EXPLICIT_LE)
    assert again.text(0x00080005) == "ISO_IR 192"
    assert again.text(0x00081030) == "Müller"
    assert 0x00080005 not in again.items(REFERENCES)[0]
    assert again.element_path("/ReferencedImageSequence/CodeMeaning") == "Łódź"


@pytest.mark.parametrize(
    "path", ["", "/", "NoSuchSequence/0008,1155", "0008,1140/Nonsense", "0008,1140.x/0008,1155"]
)
def test_nonsense_is_no_path(path: str) -> None:
    with pytest.raises(ValueError, match="names no element"):
        ElementTable(OBJECT, EXPLICIT_LE).set_path(path, "x")
