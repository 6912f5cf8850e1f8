"""Single elements: dictionary, text forms, encoding."""

from __future__ import annotations

import struct

import pytest

from dgate.dicom.element import (
    encode_element,
    encode_value,
    keyword_of,
    number_texts,
    pad,
    parse_tag,
    tag_of,
    text_of,
    vr_of,
)
from dgate.dicom.scan import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Encoding
from tests.dicom.samples import explicit, implicit


@pytest.mark.parametrize(
    ("tag", "vr"),
    [
        (0x00100010, "PN"),
        (0x00080018, "UI"),
        (0x00080000, "UL"),
        (0x00280106, "US"),
        (0x00283006, "OW"),
        (0x7FE00010, "OW"),
        (0x60003000, "OW"),
        (0x60020010, "US"),
        (0x00110010, "LO"),
        (0x00111001, "UN"),
        (0x00091000, "UN"),
        (0x12345678, "UN"),
        (0x99990201, "US"),
        (0xFFFEE000, "UN"),
    ],
)
def test_dictionary_gives_the_vr(tag: int, vr: str) -> None:
    assert vr_of(tag) == vr


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("0010,0010", 0x00100010),
        ("(0010,0010)", 0x00100010),
        ("7fe0,0010", 0x7FE00010),
        ("00100010", 0x00100010),
        ("PatientName", 0x00100010),
        ("ConquestSplit", 0x99990B00),
        ("patientname", None),
        ("0010,00", None),
        ("0010,0010x", None),
        ("", None),
    ],
)
def test_tags_are_read_as_rules_write_them(text: str, tag: int | None) -> None:
    assert parse_tag(text) == tag


def test_keywords_and_tags_belong_together() -> None:
    assert tag_of("StudyInstanceUID") == 0x0020000D
    assert keyword_of(0x0020000D) == "StudyInstanceUID"
    assert tag_of("NoSuchKeyword") is None
    assert keyword_of(0x00111001) == ""
    assert keyword_of(0x99990900) == "ConquestScript"


@pytest.mark.parametrize(
    ("vr", "raw", "text"),
    [
        ("US", b"\1\0\2\0", "1\\2"),
        ("SS", b"\xff\xff", "-1"),
        ("UL", b"\1\0\0\0", "1"),
        ("SL", b"\xff\xff\xff\xff", "-1"),
        ("UV", b"\1" + bytes(7), "1"),
        ("SV", b"\xff" * 8, "-1"),
        ("FL", struct.pack("<f", 1.5), "1.500000"),
        ("FD", struct.pack("<2d", -0.25, 3), "-0.250000\\3.000000"),
        ("OF", struct.pack("<f", 2), "2.000000"),
        ("OW", b"\1\0\2\0", "1\\2"),
        ("AT", b"\x10\0\x20\0", "0010,0020"),
        ("US", b"\1\0\2", "1"),
        ("US", b"", ""),
        ("LO", b"text  ", "text"),
        ("LO", b"text\0more", "text"),
        ("LO", b" text", " text"),
        ("UI", b"1.2\0", "1.2"),
        ("OB", b"\0\1", ""),
        ("SQ", b"\xfe\xff\0\xe0\0\0\0\0", ""),
        ("PN", b"M\xfcller", "Müller"),
    ],
)
def test_values_read_as_text(vr: str, raw: bytes, text: str) -> None:
    assert text_of(vr, raw, b"ISO_IR 100") == text


def test_big_endian_numbers_read_as_text() -> None:
    assert number_texts("US", b"\1\0", little_endian=False) == ["256"]
    assert number_texts("AT", b"\0\x10\0\x20", little_endian=False) == ["0010,0020"]


@pytest.mark.parametrize(
    ("vr", "text", "raw"),
    [
        ("LO", "odd", b"odd "),
        ("UI", "1.2", b"1.2\0"),
        ("UI", "", b""),
        ("US", "512", b"\0\2"),
        ("US", "1\\2", b"\1\0\2\0"),
        ("US", "12 apples", b"\x0c\0"),
        ("US", "apples", b"\0\0"),
        ("US", "", b""),
        ("SS", "-2", b"\xfe\xff"),
        ("UL", "70000", b"\x70\x11\1\0"),
        ("FD", "0.5", struct.pack("<d", 0.5)),
        ("FL", "1e2x", struct.pack("<f", 100)),
        ("AT", "0010,0020\\PatientName", b"\x10\0\x20\0\x10\0\x10\0"),
        ("SQ", "", b""),
        ("DS", "1.5", b"1.5 "),
    ],
)
def test_text_is_encoded_by_its_vr(vr: str, text: str, raw: bytes) -> None:
    assert encode_value(vr, text, None) == raw


def test_numbers_are_encoded_big_endian() -> None:
    assert encode_value("US", "512", None, False) == b"\2\0"
    assert encode_value("AT", "0010,0020", None, False) == b"\0\x10\0\x20"


@pytest.mark.parametrize(
    ("vr", "text"),
    [("US", "70000"), ("US", "-1"), ("SS", "40000"), ("AT", "no tag"), ("SQ", "x"), ("FL", "1e99")],
)
def test_what_does_not_fit_is_an_error(vr: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode_value(vr, text, None)


@pytest.mark.parametrize("number", ["9" * 400, "9" * 5000])
def test_absurd_numbers_are_an_error_too(number: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode_value("US", number, None)


@pytest.mark.parametrize(
    ("vr", "padded"), [("LO", b"x "), ("UI", b"x\0"), ("OB", b"x\0"), ("UN", b"x\0"), ("CS", b"x ")]
)
def test_padding_depends_on_the_vr(vr: str, padded: bytes) -> None:
    assert pad(vr, b"x") == padded
    assert pad(vr, b"xx") == b"xx"


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        (EXPLICIT_LITTLE, explicit(0x00100010, "PN", b"A^B ")),
        (EXPLICIT_BIG, explicit(0x00100010, "PN", b"A^B ", ">")),
        (IMPLICIT_LITTLE, implicit(0x00100010, b"A^B ")),
    ],
    ids=["explicit", "big", "implicit"],
)
def test_elements_are_framed_by_the_encoding(encoding: Encoding, expected: bytes) -> None:
    assert encode_element(0x00100010, "PN", b"A^B ", encoding) == expected


def test_long_form_is_used_where_the_vr_or_the_length_wants_it() -> None:
    assert encode_element(0x7FE00010, "OB", b"12", EXPLICIT_LITTLE) == explicit(
        0x7FE00010, "OB", b"12"
    )
    long = b"x" * 65536
    assert encode_element(0x00204000, "LT", long, EXPLICIT_LITTLE) == explicit(
        0x00204000, "UN", long
    )
