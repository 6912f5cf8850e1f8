"""Identifiers as data sets."""

from __future__ import annotations

import io

import pydicom
import pytest

from dgate.dicom.encode import encode_data_set

SYNTAXES = {
    "1.2.840.10008.1.2": (True, True),
    "1.2.840.10008.1.2.1": (False, True),
    "1.2.840.10008.1.2.2": (False, False),
}


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_identifier_is_what_another_toolkit_reads(syntax: str) -> None:
    implicit, little = SYNTAXES[syntax]
    data = encode_data_set(
        {
            0x0020000D: "1.2.3",
            0x00100010: "Müller^Jürgen",
            0x00280010: "512",
            0x00081199: None,
            0x00080052: "STUDY",
        },
        syntax,
        "ISO_IR 192",
    )
    found = pydicom.filereader.read_dataset(io.BytesIO(data), implicit, little)
    found.decode()
    assert [element.tag for element in found] == sorted(element.tag for element in found)
    assert str(found.PatientName) == "Müller^Jürgen"
    assert found.StudyInstanceUID == "1.2.3"
    assert found.Rows == 512
    assert len(found.ReferencedSOPSequence) == 0


def test_text_that_the_character_set_cannot_hold_is_refused() -> None:
    with pytest.raises(UnicodeError):
        encode_data_set({0x00100010: "Жуков"}, "1.2.840.10008.1.2", "ISO_IR 100")
