"""The structural scan: sound, odd and hostile encodings."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.dicom.scan import (
    DEEPEST,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    MOST_ELEMENTS,
    Encoding,
    items,
    scan,
    scan_tail,
)
from dgate.errors import NotDicom
from tests.dicom.samples import (
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    explicit,
    implicit,
    item,
    sequence,
)

SOP_CLASS = 0x00080016
STUDY_SEQUENCE = 0x00081110
PATIENT_NAME = 0x00100010
PRIVATE = 0x00111001
ROWS = 0x00280010
PIXEL_DATA = 0x7FE00010
PADDING = 0xFFFCFFFC

ENCODINGS = pytest.mark.parametrize(
    "encoding",
    [EXPLICIT_LITTLE, EXPLICIT_BIG, IMPLICIT_LITTLE],
    ids=["explicit", "big", "implicit"],
)


def _element(
    encoding: Encoding, tag: int, vr: str, value: bytes, length: int | None = None
) -> bytes:
    if encoding.explicit:
        return explicit(tag, vr, value, encoding.order, length)
    return implicit(tag, value, encoding.order, length)


def _values(data: bytes, encoding: Encoding) -> dict[int, bytes]:
    layout = scan(data, encoding)
    return {tag: data[entry[1] : entry[2]] for tag, entry in layout.entries.items()}


def _open_sequence(value: bytes) -> bytes:
    return implicit(STUDY_SEQUENCE, value, length=UNDEFINED)


@ENCODINGS
def test_elements_are_found_with_their_values(encoding: Encoding) -> None:
    data = _element(encoding, SOP_CLASS, "UI", b"1.2\0") + _element(encoding, ROWS, "US", b"\1\2")
    assert _values(data, encoding) == {SOP_CLASS: b"1.2\0", ROWS: b"\1\2"}


@ENCODINGS
def test_scan_stops_before_pixel_data(encoding: Encoding) -> None:
    head = _element(encoding, PATIENT_NAME, "PN", b"A^B ")
    data = head + _element(encoding, PIXEL_DATA, "OW", b"\0" * 64)
    layout = scan(data, encoding)
    assert list(layout.entries) == [PATIENT_NAME]
    assert layout.stop == len(head)


@ENCODINGS
def test_empty_data_set_has_no_elements(encoding: Encoding) -> None:
    assert scan(b"", encoding).entries == {}


@ENCODINGS
def test_odd_length_is_kept(encoding: Encoding) -> None:
    data = _element(encoding, PATIENT_NAME, "PN", b"A^B") + _element(encoding, ROWS, "US", b"\1\2")
    assert _values(data, encoding)[PATIENT_NAME] == b"A^B"


@ENCODINGS
@pytest.mark.parametrize("cut", [1, 4, 7, 9, 13])
def test_cut_element_is_refused(encoding: Encoding, cut: int) -> None:
    data = _element(encoding, PATIENT_NAME, "PN", b"Name^Of^X ")
    with pytest.raises(NotDicom):
        scan(data[:cut], encoding)


@ENCODINGS
def test_length_beyond_the_end_is_refused(encoding: Encoding) -> None:
    data = _element(encoding, PRIVATE, "UN", b"12", 0x7FFFFFFF)
    with pytest.raises(NotDicom, match="longer than the data set"):
        scan(data, encoding)


@ENCODINGS
def test_nested_sequences_of_undefined_length_are_skipped(encoding: Encoding) -> None:
    order = encoding.order
    name = _element(encoding, PATIENT_NAME, "PN", b"In^Side ")
    inner = _element(encoding, STUDY_SEQUENCE, "SQ", b"", UNDEFINED) + sequence(
        item(name, order) + item(name, order, defined=False), order
    )
    value = sequence(item(b"", order, defined=False) + item(inner, order, defined=False), order)
    data = _element(encoding, STUDY_SEQUENCE, "SQ", b"", UNDEFINED) + value
    data += _element(encoding, ROWS, "US", b"\1\2")
    layout = scan(data, encoding)
    assert list(layout.entries) == [STUDY_SEQUENCE, ROWS]
    assert layout.undefined == {STUDY_SEQUENCE}
    assert layout.stop == len(data)


def test_hostile_depth_costs_neither_stack_nor_crash() -> None:
    step = implicit(STUDY_SEQUENCE, b"", length=UNDEFINED) + implicit(ITEM, b"", length=UNDEFINED)
    with pytest.raises(NotDicom, match="nested"):
        scan(step * 100_000, IMPLICIT_LITTLE)
    close = implicit(ITEM_END, b"") + implicit(SEQUENCE_END, b"")
    assert len(scan(step * DEEPEST + close * DEEPEST, IMPLICIT_LITTLE).entries) == 1
    with pytest.raises(NotDicom, match="nested"):
        scan(step * (DEEPEST + 1) + close * (DEEPEST + 1), IMPLICIT_LITTLE)


def _many(encoding: Encoding, count: int, group: int) -> bytes:
    return b"".join(
        _element(
            encoding, (group << 16) + 0x00010000 * (number >> 16) + (number & 0xFFFF), "LO", b""
        )
        for number in range(count)
    )


@ENCODINGS
@pytest.mark.parametrize("scanner", ["header", "tail"])
def test_a_level_has_no_more_than_65536_elements(encoding: Encoding, scanner: str) -> None:
    def count(data: bytes) -> int:
        if scanner == "tail":
            return len(scan_tail(data, encoding, 0).entries)
        return len(scan(data, encoding).entries)

    group = 0x7FE0 if scanner == "tail" else 0x0010
    assert count(_many(encoding, MOST_ELEMENTS, group)) == MOST_ELEMENTS
    for excess in (MOST_ELEMENTS + 1, 3 * MOST_ELEMENTS):
        with pytest.raises(NotDicom, match="65,536 elements"):
            count(_many(encoding, excess, group))


@ENCODINGS
def test_one_tag_again_and_again_counts_as_many_elements(encoding: Encoding) -> None:
    data = _element(encoding, PATIENT_NAME, "PN", b"") * (MOST_ELEMENTS + 1)
    with pytest.raises(NotDicom, match="65,536 elements"):
        scan(data, encoding)
    with pytest.raises(NotDicom, match="65,536 elements"):
        scan_tail(data, encoding, 0)


@ENCODINGS
def test_few_elements_behind_a_large_value_are_found(encoding: Encoding) -> None:
    data = _element(encoding, 0x00091001, "OB", bytes(2 << 20))
    data += _element(encoding, ROWS, "US", b"\1\2")
    assert list(scan(data, encoding).entries) == [0x00091001, ROWS]


def test_un_of_undefined_length_holds_implicit_elements() -> None:
    inner = implicit(PATIENT_NAME, b"In^Side ")
    data = explicit(PRIVATE, "UN", b"", length=UNDEFINED) + sequence(item(inner, defined=False))
    data += explicit(ROWS, "US", b"\1\2")
    assert list(scan(data, EXPLICIT_LITTLE).entries) == [PRIVATE, ROWS]


def test_un_in_big_endian_is_little_endian_inside() -> None:
    inner = implicit(PATIENT_NAME, b"In^Side ")
    data = explicit(PRIVATE, "UN", b"", ">", UNDEFINED) + sequence(item(inner, defined=False))
    data += explicit(ROWS, "US", b"\1\2", ">")
    assert list(scan(data, EXPLICIT_BIG).entries) == [PRIVATE, ROWS]


def test_un_with_explicit_elements_inside_is_understood() -> None:
    inner = explicit(PATIENT_NAME, "PN", b"In^Side ")
    data = explicit(PRIVATE, "UN", b"", length=UNDEFINED) + sequence(item(inner, defined=False))
    data += explicit(ROWS, "US", b"\1\2")
    assert list(scan(data, EXPLICIT_LITTLE).entries) == [PRIVATE, ROWS]


def test_sequence_with_implicit_elements_in_explicit_data_set_is_understood() -> None:
    inner = implicit(PATIENT_NAME, b"In^Side ")
    data = explicit(STUDY_SEQUENCE, "SQ", b"", length=UNDEFINED)
    data += sequence(item(inner, defined=False)) + explicit(ROWS, "US", b"\1\2")
    assert list(scan(data, EXPLICIT_LITTLE).entries) == [STUDY_SEQUENCE, ROWS]


def test_element_without_vr_in_explicit_data_set_is_understood() -> None:
    data = explicit(SOP_CLASS, "UI", b"1.2\0") + implicit(PATIENT_NAME, b"A^B ")
    entries = scan(data, EXPLICIT_LITTLE).entries
    assert entries[PATIENT_NAME][3] is None


@pytest.mark.parametrize("long_form", [True, False])
def test_vr_of_the_future_is_read_with_either_length(long_form: bool) -> None:
    if long_form:
        odd = struct.pack("<HH2sxxL", 0x0011, 0x1001, b"QQ", 6) + b"future"
    else:
        odd = struct.pack("<HH2sH", 0x0011, 0x1001, b"QQ", 6) + b"future"
    assert _values(odd + explicit(ROWS, "US", b"\1\2"), EXPLICIT_LITTLE)[PRIVATE] == b"future"


@ENCODINGS
def test_tags_out_of_order_are_kept_in_their_order(encoding: Encoding) -> None:
    data = _element(encoding, ROWS, "US", b"\1\2") + _element(encoding, SOP_CLASS, "UI", b"1.2\0")
    layout = scan(data, encoding)
    assert list(layout.entries) == [ROWS, SOP_CLASS]
    assert not layout.ordered


@ENCODINGS
def test_of_a_repeated_tag_the_last_counts_and_the_first_is_remembered(encoding: Encoding) -> None:
    data = b"".join(
        _element(encoding, PATIENT_NAME, "PN", value) for value in (b"First ", b"Second", b"Third ")
    )
    layout = scan(data, encoding)
    assert _values(data, encoding) == {PATIENT_NAME: b"Third "}
    assert [tag for tag, _ in layout.shadowed] == [PATIENT_NAME, PATIENT_NAME]


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        pytest.param(bytes(512), IMPLICIT_LITTLE, id="zeros"),
        pytest.param(bytes(512), EXPLICIT_LITTLE, id="zeros, explicit"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n", IMPLICIT_LITTLE, id="text"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n", EXPLICIT_BIG, id="text, big"),
        pytest.param(b"\xff" * 64, IMPLICIT_LITTLE, id="ones"),
        pytest.param(b"\xff" * 64, EXPLICIT_LITTLE, id="ones, explicit"),
        pytest.param(item(b"12"), IMPLICIT_LITTLE, id="item at the top"),
        pytest.param(implicit(0x00000002, b"1.2\0"), IMPLICIT_LITTLE, id="command"),
        pytest.param(_open_sequence(implicit(ROWS, b"12")), IMPLICIT_LITTLE, id="no item"),
        pytest.param(_open_sequence(item(b"12")), IMPLICIT_LITTLE, id="no end"),
        pytest.param(_open_sequence(implicit(ITEM_END, b"")), IMPLICIT_LITTLE, id="wrong end"),
        pytest.param(_open_sequence(b"\xfe\xff"), IMPLICIT_LITTLE, id="cut in item"),
        pytest.param(implicit(PADDING, b"12", length=99), IMPLICIT_LITTLE, id="cut padding"),
    ],
)
def test_what_is_not_dicom_is_refused(data: bytes, encoding: Encoding) -> None:
    with pytest.raises(NotDicom):
        scan(data, encoding)


def test_tail_holds_encapsulated_pixel_data_and_what_follows() -> None:
    value = sequence(item(b"") + item(b"\xff\xd8" + b"\xfe\xff\xdd\xe0" * 4))
    data = explicit(PIXEL_DATA, "OB", b"", length=UNDEFINED) + value
    data += explicit(PADDING, "OB", b"\0" * 6)
    tail = scan_tail(data, EXPLICIT_LITTLE, 0)
    assert list(tail.entries) == [PIXEL_DATA, PADDING]
    assert tail.undefined == {PIXEL_DATA}
    assert not tail.truncated


def test_cut_pixel_data_is_an_entry_up_to_the_end() -> None:
    data = explicit(PIXEL_DATA, "OW", b"1234", length=4000)
    assert scan(data, EXPLICIT_LITTLE).stop == 0
    tail = scan_tail(data, EXPLICIT_LITTLE, 0)
    assert tail.entries[PIXEL_DATA][2] == len(data)
    assert tail.truncated


def test_pixel_data_without_end_is_an_entry_up_to_the_end() -> None:
    data = explicit(PIXEL_DATA, "OB", b"", length=UNDEFINED) + item(b"frame ")
    tail = scan_tail(data, EXPLICIT_LITTLE, 0)
    assert tail.entries[PIXEL_DATA][2] == len(data)
    assert tail.truncated


@pytest.mark.parametrize("rubbish", [b"\0", b"\0" * 40, b"rubbish", b"\xfe\xff\xdd\xe0\0\0\0\0"])
def test_rubbish_behind_the_pixel_data_is_nobodys(rubbish: bytes) -> None:
    pixels = explicit(PIXEL_DATA, "OW", b"1234")
    tail = scan_tail(pixels + rubbish, EXPLICIT_LITTLE, 0)
    assert list(tail.entries) == [PIXEL_DATA]
    assert tail.stop == len(pixels)


@ENCODINGS
def test_items_are_found_in_both_forms(encoding: Encoding) -> None:
    order = encoding.order
    name = _element(encoding, PATIENT_NAME, "PN", b"In^Side ")
    value = item(name, order) + item(name, order, defined=False) + item(b"", order)
    found = [value[start:stop] for start, stop, _ in items(value, encoding, 0, len(value), b"SQ")]
    assert found == [name, name, b""]


@pytest.mark.parametrize(
    "value",
    [
        b"\1",
        implicit(ROWS, b"12"),
        implicit(ITEM, b"12", length=90),
        implicit(ITEM, b"", length=UNDEFINED),
    ],
    ids=["cut", "no item", "too long", "no end"],
)
def test_broken_items_are_refused(value: bytes) -> None:
    with pytest.raises(NotDicom):
        list(items(value, IMPLICIT_LITTLE, 0, len(value), b"SQ"))


@ENCODINGS
@given(data=st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(encoding: Encoding, data: bytes) -> None:
    try:
        layout = scan(data, encoding)
    except NotDicom:
        return
    assert 0 <= layout.stop <= len(data)
    scan_tail(data, encoding, layout.stop)


_FRAGMENTS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                implicit(ITEM, b"", length=UNDEFINED),
                implicit(ITEM, b""),
                implicit(ITEM_END, b""),
                implicit(SEQUENCE_END, b""),
                explicit(STUDY_SEQUENCE, "SQ", b"", length=UNDEFINED),
                explicit(PRIVATE, "UN", b"", length=UNDEFINED),
                implicit(STUDY_SEQUENCE, b"", length=UNDEFINED),
                explicit(PATIENT_NAME, "PN", b"A^B "),
                implicit(PATIENT_NAME, b"A^B "),
                explicit(PIXEL_DATA, "OB", b"", length=UNDEFINED),
                explicit(PIXEL_DATA, "OW", b"1234"),
            ]
        ),
        st.binary(max_size=12),
    ),
    max_size=14,
).map(b"".join)


@ENCODINGS
@given(data=_FRAGMENTS)
def test_any_mixture_of_parts_is_read_or_refused(encoding: Encoding, data: bytes) -> None:
    try:
        layout = scan(data, encoding)
    except NotDicom:
        return
    tail = scan_tail(data, encoding, layout.stop)
    for found in (layout, tail):
        for pos, value, end, _ in found.entries.values():
            assert pos < value <= end <= len(data)
