"""Transcoding, with pydicom reading both ends."""

from __future__ import annotations

import array
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dgate.dicom import transcode
from dgate.dicom.deflate import deflate
from dgate.dicom.part10 import file_meta
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import can_convert, convert, convert_header_only
from dgate.dicom.uids import (
    DEFLATED,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    JPEG_LOSSLESS_SV1,
    RLE_LOSSLESS,
)
from dgate.errors import CannotTranscode
from tests.dicom.samples import (
    BROKEN_SEQUENCE,
    UNDEFINED,
    Shipped,
    by_name,
    explicit,
    implicit,
    item,
    read,
    sequence,
    shipped,
    varied,
)

# pydicom complains about what is wrong in its own samples; that is what they are for.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

NATIVE = [IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED]
NATIVE_FILES = [
    file
    for file in varied()
    if file.syntax in NATIVE and file.path.name not in BROKEN_SEQUENCE | {"SC_rgb_jpeg_dcmd.dcm"}
]
TARGETS = pytest.mark.parametrize("target", NATIVE, ids=["implicit", "explicit", "big", "deflated"])
FILES = pytest.mark.parametrize("file", NATIVE_FILES, ids=repr)
STUDY_SEQUENCE = 0x00081110
PATIENT_NAME = 0x00100010
PRIVATE = 0x00111001
ROWS = 0x00280010
SIGNED = 0x00280103
SMALLEST_PIXEL = 0x00280106
PIXEL_DATA = 0x7FE00010
PADDING = 0xFFFCFFFC


def _read(data: bytes, syntax: str) -> Dataset:
    return read(file_meta("1.2", "1.2", syntax) + data)


def _values(data: bytes, syntax: str) -> dict[int, bytes | None]:
    """Return all elements but group lengths, which are wrong in some samples and corrected."""
    table = ElementTable(data, syntax)
    return {tag: table.raw(tag) for tag in table.tags() if tag & 0xFFFF}


@TARGETS
@FILES
def test_native_files_read_the_same_in_every_native_syntax(file: Shipped, target: str) -> None:
    before = _read(file.data, file.syntax)
    converted = convert(file.data, file.syntax, target)
    after = _read(converted, target)
    assert sorted(before.keys()) == sorted(after.keys())
    for element in before:
        keyword = element.keyword
        if keyword and element.VR not in ("SQ", "UN", "OB", "OW") and element.tag & 0xFFFF:
            assert after[keyword].value == element.value, keyword
    if "PixelData" in before and target != EXPLICIT_BE and file.syntax != EXPLICIT_BE:
        assert after["PixelData"].value == before["PixelData"].value


@FILES
def test_native_files_are_the_same_after_there_and_back(file: Shipped) -> None:
    original = _values(file.data, file.syntax)
    for target in NATIVE:
        back = convert(convert(file.data, file.syntax, target), target, file.syntax)
        assert _values(back, file.syntax).keys() == original.keys()
        # VRs that the dictionary does not know, or knows better, do not survive implicit VR.
        if IMPLICIT_LE not in (target, file.syntax):
            assert _values(back, file.syntax) == original


@FILES
def test_header_alone_converts_as_the_whole_does(file: Shipped) -> None:
    for target in (IMPLICIT_LE, EXPLICIT_LE):
        if file.syntax in (EXPLICIT_BE, DEFLATED, target):
            continue
        split = convert_header_only(memoryview(file.data), file.syntax, target)
        if split is None:
            assert ElementTable(file.data, file.syntax).tags()[-1] >> 16 != 0x7FE0
            continue
        head, rest = split
        assert head + file.data[rest:] == convert(file.data, file.syntax, target)


HEAD = explicit(PATIENT_NAME, "PN", b"Doe^Jane") + explicit(ROWS, "US", b"\0\2")
IMPLICIT_HEAD = implicit(PATIENT_NAME, b"Doe^Jane") + implicit(ROWS, b"\0\2")
BIG_HEAD = explicit(PATIENT_NAME, "PN", b"Doe^Jane", ">") + explicit(ROWS, "US", b"\2\0", ">")


def test_pixel_bytes_are_the_same_and_swapped_for_big_endian_only() -> None:
    pixels = bytes(range(64))
    swapped = array.array("H", pixels)
    swapped.byteswap()
    data = HEAD + explicit(PIXEL_DATA, "OW", pixels)
    assert convert(data, EXPLICIT_LE, IMPLICIT_LE) == IMPLICIT_HEAD + implicit(PIXEL_DATA, pixels)
    big = BIG_HEAD + explicit(PIXEL_DATA, "OW", swapped.tobytes(), ">")
    assert convert(data, EXPLICIT_LE, EXPLICIT_BE) == big
    assert convert(big, EXPLICIT_BE, EXPLICIT_LE) == data


def test_bytes_of_ob_are_never_swapped() -> None:
    data = explicit(PIXEL_DATA, "OB", b"123456")
    assert convert(data, EXPLICIT_LE, EXPLICIT_BE) == explicit(PIXEL_DATA, "OB", b"123456", ">")


@pytest.mark.parametrize(
    ("tag", "vr", "form"),
    [
        (0x00189004, "CS", None),
        (0x00189033, "AT", "HH"),
        (0x00080001, "UL", "L"),
        (0x00186020, "SL", "l"),
        (0x00189073, "FD", "d"),
        (0x00089459, "FL", "f"),
        (0x00660016, "OF", "ff"),
        (0x00720082, "SV", "q"),
        (0x00720083, "UV", "QQ"),
    ],
)
def test_binary_values_are_swapped_by_their_word_size(tag: int, vr: str, form: str | None) -> None:
    numbers = (7, 3)[: len(form or "")]
    little = struct.pack("<" + form, *numbers) if form else b"CODE"
    big = struct.pack(">" + form, *numbers) if form else b"CODE"
    data = explicit(tag, vr, little)
    assert convert(data, EXPLICIT_LE, EXPLICIT_BE) == explicit(tag, vr, big, ">")


@pytest.mark.parametrize("defined", [True, False])
def test_sequences_keep_their_form(defined: bool) -> None:
    def nested(order: str, *, with_vr: bool) -> bytes:
        name = (
            explicit(PATIENT_NAME, "PN", b"In^Side ", order)
            if with_vr
            else implicit(PATIENT_NAME, b"In^Side ", order)
        )
        items = item(name, order, defined=defined) + item(b"", order, defined=defined)
        value = items if defined else sequence(items, order)
        length = None if defined else UNDEFINED
        if with_vr:
            return explicit(STUDY_SEQUENCE, "SQ", value, order, length)
        return implicit(STUDY_SEQUENCE, value, order, length)

    little, big, plain = (
        nested("<", with_vr=True),
        nested(">", with_vr=True),
        nested("<", with_vr=False),
    )
    assert convert(little, EXPLICIT_LE, IMPLICIT_LE) == plain
    assert convert(plain, IMPLICIT_LE, EXPLICIT_LE) == little
    assert convert(little, EXPLICIT_LE, EXPLICIT_BE) == big
    assert convert(big, EXPLICIT_BE, IMPLICIT_LE) == plain
    assert convert(plain, IMPLICIT_LE, EXPLICIT_BE) == big


def test_un_sequence_keeps_its_implicit_content() -> None:
    inner = sequence(item(implicit(PATIENT_NAME, b"In^Side "), defined=False))
    data = explicit(PRIVATE, "UN", b"", length=UNDEFINED) + inner
    assert (
        convert(data, EXPLICIT_LE, IMPLICIT_LE) == implicit(PRIVATE, b"", length=UNDEFINED) + inner
    )
    big = explicit(PRIVATE, "UN", b"", ">", UNDEFINED) + inner
    assert convert(data, EXPLICIT_LE, EXPLICIT_BE) == big
    assert convert(big, EXPLICIT_BE, EXPLICIT_LE) == data


def test_private_sequence_without_vr_becomes_sq() -> None:
    data = implicit(PRIVATE, b"", length=UNDEFINED) + sequence(
        item(implicit(PATIENT_NAME, b"In^Side "))
    )
    expected = explicit(PRIVATE, "SQ", b"", length=UNDEFINED) + sequence(
        item(explicit(PATIENT_NAME, "PN", b"In^Side "))
    )
    assert convert(data, IMPLICIT_LE, EXPLICIT_LE) == expected


def test_private_element_without_vr_becomes_un() -> None:
    data = implicit(PRIVATE, b"secret")
    assert convert(data, IMPLICIT_LE, EXPLICIT_LE) == explicit(PRIVATE, "UN", b"secret")


def test_value_too_long_for_its_vr_becomes_un() -> None:
    data = implicit(PATIENT_NAME, b"x" * 70_000)
    expected = explicit(PATIENT_NAME, "UN", b"x" * 70_000)
    assert convert(data, IMPLICIT_LE, EXPLICIT_LE) == expected


@pytest.mark.parametrize(("signed", "vr"), [(b"\0\0", "US"), (b"\1\0", "SS")])
def test_us_or_ss_follows_pixel_representation_also_inside_items(signed: bytes, vr: str) -> None:
    data = implicit(SIGNED, signed) + implicit(SMALLEST_PIXEL, b"\1\0")
    nested = data + implicit(0x00281101, item(implicit(SMALLEST_PIXEL, b"\1\0")))
    expected = explicit(SIGNED, "US", signed) + explicit(SMALLEST_PIXEL, vr, b"\1\0")
    assert convert(data, IMPLICIT_LE, EXPLICIT_LE) == expected
    assert convert(nested, IMPLICIT_LE, EXPLICIT_LE).startswith(expected)


def test_group_length_is_corrected() -> None:
    group = explicit(PATIENT_NAME, "PN", b"Doe^Jane") + explicit(0x00104000, "LT", b"text")
    plain = implicit(PATIENT_NAME, b"Doe^Jane") + implicit(0x00104000, b"text")
    rest = explicit(ROWS, "US", b"\1\0")
    data = explicit(0x00100000, "UL", struct.pack("<L", len(group))) + group + rest
    converted = convert(data, EXPLICIT_LE, IMPLICIT_LE)
    assert converted[:12] == implicit(0x00100000, struct.pack("<L", len(plain)))
    assert convert(converted, IMPLICIT_LE, EXPLICIT_LE) == data


def test_group_length_of_the_pixels_counts_what_is_left_untouched() -> None:
    pixels = explicit(PIXEL_DATA, "OW", bytes(64))
    data = HEAD + explicit(0x7FE00000, "UL", struct.pack("<L", len(pixels))) + pixels
    split = convert_header_only(data, EXPLICIT_LE, IMPLICIT_LE)
    assert split is not None
    assert split[0] + data[split[1] :] == convert(data, EXPLICIT_LE, IMPLICIT_LE)
    assert implicit(0x7FE00000, struct.pack("<L", 72)) in split[0]


def test_what_follows_the_pixels_is_converted_too() -> None:
    data = HEAD + explicit(PIXEL_DATA, "OW", bytes(64)) + explicit(PADDING, "OB", bytes(6))
    assert convert_header_only(data, EXPLICIT_LE, IMPLICIT_LE) is None
    converted = convert(data, EXPLICIT_LE, IMPLICIT_LE)
    assert converted.endswith(implicit(PIXEL_DATA, bytes(64)) + implicit(PADDING, bytes(6)))


def test_cut_pixels_stay_cut() -> None:
    data = HEAD + explicit(PIXEL_DATA, "OW", b"1234", length=4000)
    expected = IMPLICIT_HEAD + implicit(PIXEL_DATA, b"1234", length=4000)
    assert convert(data, EXPLICIT_LE, IMPLICIT_LE) == expected
    split = convert_header_only(data, EXPLICIT_LE, IMPLICIT_LE)
    assert split is not None
    assert split[0] + data[split[1] :] == expected


def test_same_syntax_leaves_everything_untouched() -> None:
    data = HEAD + explicit(PIXEL_DATA, "OW", bytes(64))
    assert convert(data, EXPLICIT_LE, EXPLICIT_LE) == data
    assert convert_header_only(data, EXPLICIT_LE, EXPLICIT_LE) == (b"", 0)


def test_too_deep_nesting_is_refused() -> None:
    data = b""
    for _ in range(500):
        data = implicit(STUDY_SEQUENCE, item(data))
    with pytest.raises(CannotTranscode, match="nested"):
        convert(data, IMPLICIT_LE, EXPLICIT_LE)


# Compressed


def _claiming(rows: int, columns: int, frames: int, fragments: int = 1) -> bytes:
    return (
        explicit(0x00280002, "US", struct.pack("<H", 1))
        + explicit(0x00280008, "IS", f"{frames:4}".encode())
        + explicit(ROWS, "US", struct.pack("<H", rows))
        + explicit(0x00280011, "US", struct.pack("<H", columns))
        + explicit(0x00280100, "US", struct.pack("<H", 16))
        + explicit(PIXEL_DATA, "OB", b"", length=UNDEFINED)
        + item(b"")
        + item(bytes(62) + b"\xff\xd9") * fragments
        + implicit(0xFFFEE0DD, b"")
    )


@pytest.mark.parametrize(
    "claim",
    [_claiming(65535, 65535, 1), _claiming(1024, 1024, 300), _claiming(1024, 1024, 2, 300)],
    ids=["rows and columns", "frames", "frames that are there"],
)
def test_pixels_that_claim_to_be_huge_are_not_decompressed(claim: bytes) -> None:
    with pytest.raises(CannotTranscode, match="MiB, more than the limit of 512 MiB"):
        convert(claim, RLE_LOSSLESS, EXPLICIT_LE)


def test_deflated_object_that_would_be_huge_is_not_inflated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transcode, "EXPANSION_LIMIT_BYTES", 1 << 20)
    bomb = deflate([HEAD, explicit(PIXEL_DATA, "OW", bytes(2 << 20))])
    with pytest.raises(CannotTranscode, match="exceeds 1 MiB"):
        convert(bomb, DEFLATED, EXPLICIT_LE)


RLE_FILES = pytest.mark.parametrize(
    "file", [file for file in shipped() if file.syntax == RLE_LOSSLESS], ids=repr
)


@RLE_FILES
@pytest.mark.parametrize("target", NATIVE)
def test_rle_becomes_the_same_pixels(file: Shipped, target: str) -> None:
    before = _read(file.data, RLE_LOSSLESS)
    after = _read(convert(file.data, RLE_LOSSLESS, target), target)
    if target == EXPLICIT_BE and before.BitsAllocated == 32:
        # Two words, lower first, each swapped by itself (PS3.5 6.2, OW); pydicom differs.
        words = after.PixelData
        pixels = np.frombuffer(words, ">u2").astype("<u2").view("<u4")
        assert np.array_equal(before.pixel_array.ravel(), pixels)
        return
    assert np.array_equal(before.pixel_array, after.pixel_array)
    changed = {"PixelData", "PlanarConfiguration"}
    names = {element.keyword for element in before} - changed
    assert {name for name in names if before[name] != after[name]} == set()


def test_compressed_syntax_without_pixel_data_needs_no_codec() -> None:
    assert convert(HEAD, JPEG_LOSSLESS_SV1, IMPLICIT_LE) == IMPLICIT_HEAD


def test_what_nothing_can_decode_is_refused_with_a_remedy() -> None:
    data = HEAD + explicit(PIXEL_DATA, "OB", b"", length=UNDEFINED)
    data += sequence(item(b"") + item(b"frame "))
    for source in (RLE_LOSSLESS, "1.2.840.10008.1.2.4.100", "1.2.3.4"):
        with pytest.raises(CannotTranscode) as caught:
            convert(data, source, EXPLICIT_LE)
        assert caught.value.remedy


def test_there_is_no_encoder() -> None:
    with pytest.raises(CannotTranscode, match="encoder"):
        convert(HEAD, EXPLICIT_LE, JPEG_LOSSLESS_SV1)


@pytest.mark.parametrize(
    ("source", "target", "possible"),
    [
        (IMPLICIT_LE, EXPLICIT_BE, True),
        (DEFLATED, IMPLICIT_LE, True),
        (RLE_LOSSLESS, EXPLICIT_LE, True),
        (JPEG_LOSSLESS_SV1, JPEG_LOSSLESS_SV1, True),
        (EXPLICIT_LE, JPEG_LOSSLESS_SV1, False),
        ("1.2.840.10008.1.2.4.100", EXPLICIT_LE, False),
        ("1.2.3.4", IMPLICIT_LE, False),
    ],
)
def test_possible_conversions_are_known_beforehand(
    source: str, target: str, possible: bool
) -> None:
    assert can_convert(source, target) is possible


@given(
    data=st.binary(max_size=200),
    source=st.sampled_from([*NATIVE, RLE_LOSSLESS]),
    target=st.sampled_from(NATIVE),
)
def test_any_bytes_are_converted_or_refused(data: bytes, source: str, target: str) -> None:
    try:
        convert(data, source, target)
        convert_header_only(data, source, target)
    except CannotTranscode:
        return


def test_multi_frame_file_survives_a_round_trip_by_way_of_every_syntax() -> None:
    file = by_name("liver_1frame.dcm")
    data, syntax = file.data, file.syntax
    for target in (DEFLATED, EXPLICIT_BE, EXPLICIT_LE, file.syntax):
        data, syntax = convert(data, syntax, target), target
    assert data == file.data
