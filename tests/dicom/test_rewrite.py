"""Data sets in another encoding: generated ones, read again by pydicom; files: test_transcode."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomFileLike
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from dgate.dicom.rewrite import rewrite, rewrite_head
from dgate.dicom.scan import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Encoding
from dgate.errors import NotDicom

ENCODINGS = {"implicit": IMPLICIT_LITTLE, "little": EXPLICIT_LITTLE, "big": EXPLICIT_BIG}
PAIRS = [(a, b) for a in ENCODINGS for b in ENCODINGS if a != b]
SEQUENCE, PIXELS = 0x00081115, 0x7FE00010

ASCII = st.text("ABCxyz 123^", max_size=9).map(str.strip)
VALUES: dict[int, tuple[str, st.SearchStrategy[Any]]] = {
    0x00080008: ("CS", st.lists(st.sampled_from(["ORIGINAL", "AXIAL", "X"]), max_size=3)),
    0x00080060: ("CS", st.sampled_from(["CT", "MR", ""])),
    0x00100010: ("PN", ASCII),
    0x00180050: ("DS", st.sampled_from(["1.5", "", "22"])),
    0x00186011: ("SQ", st.just([])),
    0x00186024: ("US", st.integers(0, 65535)),
    0x0018602A: ("FD", st.floats(allow_nan=False)),
    0x00186020: ("SL", st.integers(-(2**31), 2**31 - 1)),
    # pydicom leaves the order of bytes in these words to its caller: here it makes no difference.
    0x00281201: ("OW", st.binary(max_size=6).map(lambda b: bytes(x for c in b for x in (c, c)))),
    0x00189087: ("FD", st.lists(st.floats(allow_nan=False), min_size=2, max_size=3)),
    0x00720026: ("AT", st.integers(0, 2**32 - 1)),
    0x00204000: ("LT", ASCII),
}


@st.composite
def data_sets(draw: st.DrawFn, depth: int = 2) -> Dataset:
    """Return a data set of some elements, with sequences in it down to a depth."""
    found = Dataset()
    for tag in draw(st.sets(st.sampled_from(sorted(VALUES)), max_size=6)):
        vr, values = VALUES[tag]
        found.add(DataElement(tag, vr, draw(values)))
    if depth and draw(st.booleans()):
        items = Sequence(draw(st.lists(data_sets(depth - 1), max_size=2)))
        found.add(DataElement(SEQUENCE, "SQ", items))
        found[SEQUENCE].is_undefined_length = draw(st.booleans())
        for item in items:
            item.is_undefined_length_sequence_item = draw(st.booleans())
    return found


def encoded(data: Dataset, form: str) -> bytes:
    """Write a data set by pydicom."""
    buffer = io.BytesIO()
    out = DicomFileLike(buffer)
    out.is_implicit_VR, out.is_little_endian = form == "implicit", form != "big"
    write_dataset(out, data)
    return buffer.getvalue()


def decoded(data: bytes, form: str) -> Dataset:
    """Read a data set by pydicom."""
    return read_dataset(io.BytesIO(data), form == "implicit", form != "big")


def changed(data: bytes, source: str, target: str) -> bytes:
    pieces = rewrite(memoryview(data), ENCODINGS[source], ENCODINGS[target])
    return b"".join(bytes(piece) for piece in pieces)


@given(data_sets(), st.sampled_from(PAIRS))
def test_pydicom_reads_the_same_and_the_way_back_gives_the_same_bytes(
    data: Dataset, pair: tuple[str, str]
) -> None:
    source, target = pair
    before = encoded(data, source)

    after = changed(before, source, target)

    assert decoded(after, target) == decoded(before, source)
    assert changed(after, target, source) == before


@given(data_sets(), st.sampled_from(PAIRS), st.binary(min_size=2, max_size=40))
def test_head_and_untouched_pixels_are_what_the_whole_would_be(
    data: Dataset, pair: tuple[str, str], pixels: bytes
) -> None:
    source, target = pair
    if "big" in pair:
        # Words are swapped then: there is no untouched rest, and nobody asks for one.
        source, target = "implicit", "little"
    data.add(DataElement(PIXELS, "OW", pixels + pixels))
    before = encoded(data, source)

    found = rewrite_head(memoryview(before), ENCODINGS[source], ENCODINGS[target])

    assert found is not None
    head, rest = found
    assert before[rest:] == pixels + pixels
    assert head + before[rest:] == changed(before, source, target)


@given(data_sets(), st.sampled_from(PAIRS), st.integers(1, 12))
def test_cut_data_set_is_converted_or_refused(
    data: Dataset, pair: tuple[str, str], missing: int
) -> None:
    source, target = pair
    before = encoded(data, source)[:-missing]
    try:
        changed(before, source, target)
    except NotDicom:
        return


def test_nothing_stays_nothing() -> None:
    assert changed(b"", "little", "big") == b""
    assert rewrite_head(memoryview(b""), EXPLICIT_LITTLE, IMPLICIT_LITTLE) is None


def test_head_without_pixels_has_no_rest() -> None:
    data = Dataset()
    data.PatientName = "A"
    assert (
        rewrite_head(memoryview(encoded(data, "little")), EXPLICIT_LITTLE, IMPLICIT_LITTLE) is None
    )


@pytest.mark.parametrize("encoding", [IMPLICIT_LITTLE, EXPLICIT_BIG])
def test_compressed_pixels_cannot_be_called_native(encoding: Encoding) -> None:
    compressed = (
        b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    )
    with pytest.raises(NotDicom, match="encapsulated"):
        rewrite(memoryview(compressed), EXPLICIT_LITTLE, encoding)
