"""The files that pydicom ships, and damaged ones: de-identified, or refused for a reason."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgate.dicom.deidentify import Deidentifier, Pseudonyms
from dgate.dicom.part10 import read_meta
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import DgateError, NotDicom, RuleError
from tests.dicom.deidentify.kit import SECRET, data_set, deidentified, encoded, profile, read, run

FILES = sorted((Path(pydicom.__file__).parent / "data" / "test_files").rglob("*.dcm"))
OPTIONS = ("descriptors", "structured-content", "graphics", "modified-dates", "safe-private")
IDENTIFYING = (0x00100010, 0x00100020, 0x00080050, 0x00080090, 0x00080018, 0x0020000D, 0x0020000E)
TOO_COMMON = 6
"""Shorter values, such as patient ID 1CT1, may be anywhere in pixels by chance."""
REFUSED = {"MR_truncated.dcm", "rtplan_truncated.dcm"}
DEFLATED = "image_dfl.dcm"


def objects() -> list[Path]:
    found = []
    for path in FILES:
        try:
            read_meta(path.read_bytes())
        except NotDicom:
            continue
        found.append(path)
    return found


@pytest.mark.parametrize("words", [(), OPTIONS], ids=["basic", "options"])
@pytest.mark.parametrize("path", objects(), ids=lambda path: path.name)
def test_shipped_file(path: Path, words: tuple[str, ...]) -> None:
    content = path.read_bytes()
    meta = read_meta(content)
    data = content[meta.data_offset :]
    if path.name in REFUSED:
        with pytest.raises(DgateError):
            run(data, profile(*words, allow_burned_in=True), meta.syntax)
        return
    before = ElementTable(data, meta.syntax)
    values = [(before.raw(tag) or b"").strip(b" \0") for tag in IDENTIFYING]

    table, _ = run(data, profile(*words, allow_burned_in=True), meta.syntax)

    result = table.tobytes()
    after = ElementTable(result, table.syntax)
    now = {after.raw(tag) for tag in IDENTIFYING}
    header = b"".join(after.raw(tag) or b"" for tag in after.tags() if tag >> 16 != 0x7FE0)
    sought = [value for value in values if len(value) > TOO_COMMON and value not in now]
    # `Anonymous` is what we put in place of other names too.
    assert [v for v in sought if v in header and v != b"Anonymous"] == []
    assert after.text(0x00120062) == "YES"
    assert not any(tag >> 16 & 1 for tag in after.tags()) or "safe-private" in words
    assert after.raw(0x7FE00010) == before.raw(0x7FE00010)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_objects_are_deidentified_or_refused(data: st.DataObject) -> None:
    whole = bytearray(encoded(_rich()))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(len(whole) // 2, len(whole)))
    deidentifier = Deidentifier(profile(*OPTIONS))
    try:
        table = ElementTable(bytes(whole[:cut]), EXPLICIT_LE)
        deidentifier.apply(table, Pseudonyms(SECRET))
        again = ElementTable(table.tobytes(), EXPLICIT_LE)
    except DgateError:
        return
    assert again.text(0x00120062) == "YES"


def _rich() -> pydicom.Dataset:
    """Return an object with something of every kind."""
    item = pydicom.Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3.4"
    item.PatientName = "Zumsteg^Quirin"
    made = data_set(StudyDate="20260102", AcquisitionDateTime="20260102101112.5+0100")
    made.StudyDescription = "Knee of Zumsteg"
    made.ReferencedImageSequence = pydicom.Sequence([item, item])
    made.ContentSequence = pydicom.Sequence([item])
    made.GraphicAnnotationSequence = pydicom.Sequence([item])
    made.RequestAttributesSequence = pydicom.Sequence([item])
    made.SharedFunctionalGroupsSequence = pydicom.Sequence([item])
    made.add_new(0x70530010, "LO", "Philips PET Private Group")
    made.add_new(0x70531000, "DS", "1.5")
    made.Rows = made.Columns = 2
    made.BitsAllocated = 8
    made.add_new(0x7FE00010, "OW", b"\1\2\3\4")
    return made


def test_nesting_without_end_is_refused() -> None:
    made = data_set()
    for _ in range(70):
        outer = data_set()
        outer.SharedFunctionalGroupsSequence = pydicom.Sequence([made])
        made = outer

    with pytest.raises((NotDicom, RuleError), match="nested"):
        run(encoded(made))


def test_an_item_that_comes_without_a_character_set_uses_that_around_it() -> None:
    item = pydicom.Dataset()
    item.CodeMeaning = "Knie von Müller"
    made = data_set(PatientName="Müller^Jörg")
    made.AdmittingDiagnosesCodeSequence = pydicom.Sequence([item])

    found = deidentified(made, "descriptors")

    assert found.AdmittingDiagnosesCodeSequence[0].CodeMeaning == "Knie von"
    assert "Müller".encode("latin-1") not in encoded(found)
    assert read(encoded(found)).PatientIdentityRemoved == "YES"
