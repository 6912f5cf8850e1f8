"""The element table: reading, patching and writing back."""

from __future__ import annotations

import mmap
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.dicom import deflate
from dgate.dicom.table import ElementTable, Slice
from dgate.dicom.uids import DEFLATED, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, RLE_LOSSLESS
from dgate.errors import NotDicom
from tests.dicom.samples import UNDEFINED, explicit, implicit, item, sequence

CHARSET = 0x00080005
SOP_CLASS = 0x00080016
STUDY_DESCRIPTION = 0x00081030
STUDY_SEQUENCE = 0x00081110
SOP_REFERENCE = 0x00081155
PATIENT_NAME = 0x00100010
PATIENT_ID = 0x00100020
PRIVATE = 0x00111001
ROWS = 0x00280010
SMALLEST_PIXEL = 0x00280106
SIGNED = 0x00280103
COMMENTS = 0x00204000
FLOAT_PIXELS = 0x7FE00008
DOUBLE_PIXELS = 0x7FE00009
PIXEL_DATA = 0x7FE00010
PADDING = 0xFFFCFFFC

HEAD = (
    explicit(SOP_CLASS, "UI", b"1.2\0")
    + explicit(PATIENT_NAME, "PN", b"Doe^Jane")
    + explicit(PATIENT_ID, "LO", b"4711")
    + explicit(ROWS, "US", b"\x00\x02")
)
PIXELS = explicit(PIXEL_DATA, "OW", bytes(range(64)))
OBJECT = HEAD + PIXELS


def _table(data: bytes = OBJECT, syntax: str = EXPLICIT_LE) -> ElementTable:
    return ElementTable(data, syntax)


# Reading


def test_text_loses_padding_and_what_follows_a_nul() -> None:
    data = (
        explicit(SOP_CLASS, "UI", b"1.2\0")
        + explicit(PATIENT_NAME, "PN", b"Doe^J\0../x")
        + explicit(PATIENT_ID, "LO", b" 47   ")
    )
    table = _table(data)
    assert table.text(SOP_CLASS) == "1.2"
    assert table.text(PATIENT_NAME) == "Doe^J"
    assert table.text(PATIENT_ID) == " 47"


def test_absent_and_empty_elements_differ_in_raw_only() -> None:
    table = _table(explicit(PATIENT_ID, "LO", b""))
    assert (table.raw(PATIENT_ID), table.text(PATIENT_ID), PATIENT_ID in table) == (b"", "", True)
    assert (table.raw(PATIENT_NAME), table.text(PATIENT_NAME)) == (None, "")
    assert PATIENT_NAME not in table


@pytest.mark.parametrize(
    ("syntax", "data"),
    [
        (EXPLICIT_LE, explicit(ROWS, "US", b"\x00\x02\x01\x00")),
        (EXPLICIT_BE, explicit(ROWS, "US", b"\x02\x00\x00\x01", ">")),
        (IMPLICIT_LE, implicit(ROWS, b"\x00\x02\x01\x00")),
        (EXPLICIT_LE, explicit(ROWS, "UN", b"\x00\x02\x01\x00")),
    ],
)
def test_numbers_read_as_decimal_text(syntax: str, data: bytes) -> None:
    assert _table(data, syntax).text(ROWS) == "512\\1"


@pytest.mark.parametrize(("signed", "expected"), [(b"\0\0", "65535"), (b"\1\0", "-1")])
def test_implicit_us_or_ss_follows_pixel_representation(signed: bytes, expected: str) -> None:
    data = implicit(SIGNED, signed) + implicit(SMALLEST_PIXEL, b"\xff\xff")
    assert _table(data, IMPLICIT_LE).text(SMALLEST_PIXEL) == expected


def test_vr_is_that_of_the_element_else_that_of_the_dictionary() -> None:
    assert _table(explicit(PATIENT_ID, "SH", b"4711")).vr(PATIENT_ID) == "SH"
    assert _table(implicit(PATIENT_ID, b"4711"), IMPLICIT_LE).vr(PATIENT_ID) == "LO"
    assert _table().vr(STUDY_DESCRIPTION) == "LO"
    assert _table(implicit(PRIVATE, b"4711"), IMPLICIT_LE).vr(PRIVATE) == "UN"


def test_pixel_data_and_what_follows_are_found_on_demand() -> None:
    table = _table(OBJECT + explicit(PADDING, "OB", b"\0\0"))
    assert table.pixel_offset == len(HEAD)
    assert table.tags()[-2:] == [PIXEL_DATA, PADDING]
    assert table.raw(PIXEL_DATA) == bytes(range(64))
    assert PADDING in table
    assert not table.truncated


@pytest.mark.parametrize(("tag", "vr"), [(FLOAT_PIXELS, "OF"), (DOUBLE_PIXELS, "OD")])
def test_float_pixel_data_is_pixel_data(tag: int, vr: str) -> None:
    table = _table(HEAD + explicit(tag, vr, b"\0" * 16))
    assert table.pixel_offset == len(HEAD)
    assert table.raw(tag) == b"\0" * 16


def test_data_set_without_pixel_data_has_no_pixel_offset() -> None:
    table = _table(HEAD)
    assert table.pixel_offset is None
    assert PIXEL_DATA not in table
    assert table.raw(PIXEL_DATA) is None


def test_encapsulated_pixel_data_is_given_without_its_delimiter() -> None:
    fragments = item(b"") + item(b"frame ")
    data = HEAD + explicit(PIXEL_DATA, "OB", b"", length=UNDEFINED) + sequence(fragments)
    assert _table(data, RLE_LOSSLESS).raw(PIXEL_DATA) == fragments


def test_huge_object_is_read_from_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_bytes(HEAD + explicit(PIXEL_DATA, "OW", bytes(1 << 20)))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        table = ElementTable(memoryview(mapped), EXPLICIT_LE)
        table.set_text(PATIENT_NAME, "Changed")
        parts = list(table.segments())
        assert table.text(PATIENT_ID) == "4711"
        del table
    assert [len(part) for part in parts if isinstance(part, bytes)] == [16]
    assert sum(part.length for part in parts if isinstance(part, Slice)) > 1 << 20


def test_header_longer_than_what_is_copied_is_read_all_the_same() -> None:
    long = explicit(PRIVATE, "UN", b"x" * 100_000)
    table = _table(HEAD[: -len(explicit(ROWS, "US", b"12"))] + long + explicit(ROWS, "US", b"\1\0"))
    assert table.text(ROWS) == "1"
    assert table.text(PATIENT_NAME) == "Doe^Jane"
    assert len(table.raw(PRIVATE) or b"") == 100_000


def test_data_set_without_vr_in_an_explicit_syntax_stays_without() -> None:
    data = implicit(PATIENT_NAME, b"Doe^Jane") + implicit(PATIENT_ID, b"4711")
    table = _table(data)
    table.set_text(PATIENT_NAME, "X")
    assert table.tobytes() == implicit(PATIENT_NAME, b"X ") + implicit(PATIENT_ID, b"4711")


# Changing


def test_many_values_at_once_are_those_one_gets_singly() -> None:
    tags = (0x00100010, 0x00081140, 0x00100020, 0x00100030)
    parts = [
        explicit(0x00081140, "SQ", b"\xfe\xff\xdd\xe0\0\0\0\0", length=UNDEFINED),
        explicit(0x00100010, "PN", b"A^B "),
        explicit(0x00100020, "LO", b""),
    ]
    table = ElementTable(b"".join(parts), EXPLICIT_LE)
    for wanted in (tags, (tags[0], *tags[2:])):
        assert table.raws(wanted) == tuple(table.raw(tag) for tag in wanted)
    table.set_text(0x00100010, "C")
    table.delete(0x00100020)
    assert table.raws(tags) == tuple(table.raw(tag) for tag in tags)


def test_revision_counts_changes_only() -> None:
    table = _table()
    table.set_text(PATIENT_NAME, "Doe^Jane")
    table.delete(STUDY_DESCRIPTION)
    assert table.revision == 0
    table.set_text(PATIENT_NAME, "Roe^Jane")
    table.delete(PATIENT_ID)
    assert table.revision == 2


def test_only_what_changed_is_new_bytes() -> None:
    table = _table()
    table.set_text(PATIENT_ID, "0815")
    before = len(explicit(SOP_CLASS, "UI", b"1.2\0")) + len(explicit(PATIENT_NAME, "PN", b"x" * 8))
    new = explicit(PATIENT_ID, "LO", b"0815")
    rest = before + len(new)
    assert list(table.segments()) == [
        Slice(0, before),
        new,
        Slice(rest, len(OBJECT) - rest),
    ]


def test_new_elements_stand_in_tag_order() -> None:
    table = _table()
    for tag in (PADDING, COMMENTS, CHARSET, STUDY_DESCRIPTION):
        table.set_raw(tag, "LO", b"")
    tags = ElementTable(table.tobytes(), EXPLICIT_LE).tags()
    assert tags == sorted(tags)
    assert set(table.tags()) == set(tags)


def test_patches_are_seen_by_every_reader() -> None:
    table = _table()
    table.set_text(PATIENT_NAME, "Roe^Jane")
    table.set_text(COMMENTS, "new")
    table.delete(PATIENT_ID)
    assert (table.text(PATIENT_NAME), table.text(COMMENTS), table.text(PATIENT_ID)) == (
        "Roe^Jane",
        "new",
        "",
    )
    assert COMMENTS in table
    assert PATIENT_ID not in table
    assert table.raw(PATIENT_ID) is None
    assert table.tags() == [SOP_CLASS, PATIENT_NAME, COMMENTS, ROWS, PIXEL_DATA]


def test_deleted_element_can_be_set_again() -> None:
    table = _table()
    table.delete(PATIENT_ID)
    table.set_text(PATIENT_ID, "1")
    assert ElementTable(table.tobytes(), EXPLICIT_LE).text(PATIENT_ID) == "1"


def test_snapshot_keeps_what_it_was_taken_of() -> None:
    table = _table()
    table.set_text(PATIENT_NAME, "Roe")
    snapshot = table.snapshot()
    table.set_text(PATIENT_NAME, "Poe")
    snapshot.delete(PATIENT_ID)
    assert (snapshot.text(PATIENT_NAME), table.text(PATIENT_NAME)) == ("Roe", "Poe")
    assert PATIENT_ID in table


def test_deleting_removes_every_element_with_the_tag() -> None:
    twice = explicit(PATIENT_NAME, "PN", b"First ") + explicit(PATIENT_NAME, "PN", b"Second")
    table = _table(HEAD + twice + PIXELS)
    assert table.text(PATIENT_NAME) == "Second"
    table.delete(PATIENT_NAME)
    content = table.tobytes()
    for name in (b"Doe", b"First", b"Second"):
        assert name not in content


def test_element_hidden_behind_the_pixel_data_is_deleted_too() -> None:
    table = _table(OBJECT + explicit(STUDY_DESCRIPTION, "LO", b"hidden"))
    table.delete(STUDY_DESCRIPTION)
    table.set_text(PATIENT_NAME, "X")
    assert b"hidden" not in table.tobytes()


def test_what_is_set_replaces_a_hidden_element_at_the_right_place() -> None:
    table = _table(OBJECT + explicit(STUDY_DESCRIPTION, "LO", b"hidden"))
    table.set_text(STUDY_DESCRIPTION, "shown")
    again = ElementTable(table.tobytes(), EXPLICIT_LE)
    assert again.tags() == [
        SOP_CLASS,
        STUDY_DESCRIPTION,
        PATIENT_NAME,
        PATIENT_ID,
        ROWS,
        PIXEL_DATA,
    ]
    assert again.text(STUDY_DESCRIPTION) == "shown"


def test_pixel_data_can_be_replaced_and_removed() -> None:
    table = _table(OBJECT + explicit(PADDING, "OB", b"\0\0"))
    table.set_raw(PIXEL_DATA, "OB", b"new")
    assert ElementTable(table.tobytes(), EXPLICIT_LE).raw(PIXEL_DATA) == b"new\0"
    table.delete(PIXEL_DATA)
    assert table.tobytes() == HEAD + explicit(PADDING, "OB", b"\0\0")


def test_numbers_are_set_in_the_byte_order_of_the_object() -> None:
    table = _table(explicit(ROWS, "US", b"\2\0", ">"), EXPLICIT_BE)
    table.set_text(ROWS, "256")
    assert table.raw(ROWS) == b"\1\0"


def test_text_too_long_for_its_vr_is_written_as_un() -> None:
    table = _table()
    table.set_text(COMMENTS, "x" * 70_000)
    again = ElementTable(table.tobytes(), EXPLICIT_LE)
    assert again.vr(COMMENTS) == "UN"
    assert again.text(COMMENTS) == "x" * 70_000


def test_group_length_follows_a_change() -> None:
    group = explicit(PATIENT_NAME, "PN", b"Doe^Jane") + explicit(PATIENT_ID, "LO", b"4711")
    data = explicit(0x00100000, "UL", struct.pack("<L", len(group))) + group
    table = _table(data + explicit(ROWS, "US", b"\1\0"))
    table.set_text(PATIENT_NAME, "Doe")
    table.set_text(STUDY_DESCRIPTION, "other group")
    assert ElementTable(table.tobytes(), EXPLICIT_LE).text(0x00100000) == str(len(group) - 4)


def test_sequence_cannot_be_set_to_text() -> None:
    with pytest.raises(ValueError, match="sequence"):
        _table().set_text(STUDY_SEQUENCE, "x")


# Character sets


def test_text_that_fits_is_written_in_the_objects_own_character_set() -> None:
    table = _table(explicit(CHARSET, "CS", b"ISO_IR 100") + HEAD)
    table.set_text(PATIENT_NAME, "Müller")
    assert table.raw(PATIENT_NAME) == b"M\xfcller"
    assert table.text(CHARSET) == "ISO_IR 100"


def test_text_that_does_not_fit_turns_the_whole_object_to_utf_8() -> None:
    inner = explicit(PATIENT_NAME, "PN", b"In\xe4n")
    own = explicit(CHARSET, "CS", b"ISO_IR 144") + explicit(PATIENT_NAME, "PN", b"\xbf\xe0")
    data = (
        explicit(CHARSET, "CS", b"ISO_IR 100")
        + explicit(STUDY_SEQUENCE, "SQ", item(inner) + item(own))
        + explicit(PATIENT_NAME, "PN", b"M\xfcller")
        + explicit(PATIENT_ID, "LO", b"47\xe4")
    )
    table = _table(data)
    table.set_text(STUDY_DESCRIPTION, "Łódź")
    again = ElementTable(table.tobytes(), EXPLICIT_LE)
    assert again.text(CHARSET) == "ISO_IR 192"
    assert again.text(STUDY_DESCRIPTION) == "Łódź"
    assert again.text(PATIENT_NAME) == "Müller"
    assert again.text(PATIENT_ID) == "47ä"
    first, second = again.items(STUDY_SEQUENCE)
    assert first.text(PATIENT_NAME) == "Inän"
    assert (second.text(PATIENT_NAME), second.text(CHARSET)) == ("Пр", "ISO_IR 144")


def test_undeclared_text_survives_the_turn_to_utf_8() -> None:
    table = _table(explicit(PATIENT_NAME, "PN", b"M\xfcller"))
    table.set_text(COMMENTS, "ß")
    assert table.text(CHARSET) == "ISO_IR 192"
    assert table.raw(PATIENT_NAME) == "Müller ".encode()


# Sequences


@pytest.mark.parametrize("defined", [True, False])
def test_items_are_tables_that_can_be_put_back(defined: bool) -> None:
    inner = item(explicit(SOP_REFERENCE, "UI", b"1.2\0"), defined=defined)
    length = None if defined else UNDEFINED
    value = inner * 2 if defined else sequence(inner * 2)
    table = _table(explicit(STUDY_SEQUENCE, "SQ", value, length=length) + HEAD)
    first, second = table.items(STUDY_SEQUENCE)
    second.set_text(SOP_REFERENCE, "1.2.3")
    table.set_items(STUDY_SEQUENCE, [first, second, table.new_item()])
    again = ElementTable(table.tobytes(), EXPLICIT_LE).items(STUDY_SEQUENCE)
    assert [each.text(SOP_REFERENCE) for each in again] == ["1.2", "1.2.3", ""]


def test_private_sequence_encoded_as_un_is_still_a_sequence_after_a_change() -> None:
    inner = item(implicit(SOP_REFERENCE, b"1.2\0"), defined=False)
    table = _table(explicit(PRIVATE, "UN", b"", length=UNDEFINED) + sequence(inner))
    assert table.is_sequence(PRIVATE)
    (only,) = table.items(PRIVATE)
    only.set_text(SOP_REFERENCE, "1.2.3")
    table.set_items(PRIVATE, [only])
    assert table.is_sequence(PRIVATE)
    again = ElementTable(table.tobytes(), EXPLICIT_LE)
    assert again.vr(PRIVATE) == "UN"
    assert again.is_sequence(PRIVATE)
    assert again.items(PRIVATE)[0].text(SOP_REFERENCE) == "1.2.3"


def test_hostile_depth_is_refused_without_a_crash() -> None:
    data = b""
    for _ in range(3000):
        data = explicit(STUDY_SEQUENCE, "SQ", item(data))
    table = _table(data + HEAD)
    with pytest.raises(NotDicom, match="nested"):
        table.element_path("*CodeValue")
    with pytest.raises(NotDicom, match="nested"):
        table.set_text(PATIENT_NAME, "Ж")


# Deflated


@pytest.mark.parametrize("charset", [b"", b"ISO_IR 192"], ids=["ASCII", "UTF-8"])
def test_a_name_is_cut_where_no_honest_one_is_so_long(charset: bytes) -> None:
    value = "Жa".encode() * (1 << 20)
    head = implicit(CHARSET, charset)
    table = ElementTable(head + implicit(PATIENT_NAME, value), IMPLICIT_LE)
    assert 20_000 < len(table.text(PATIENT_NAME)) <= 1 << 16
    assert len(table.raw(PATIENT_NAME) or b"") == len(value)


@pytest.mark.parametrize("tag", [0x0040A160, 0x30060050], ids=["text value", "contour data"])
def test_text_that_may_be_long_is_not_cut(tag: int) -> None:
    value = b"1.5\\" * 30_000
    table = ElementTable(implicit(tag, value), IMPLICIT_LE)
    assert len(table.text(tag)) == len(value)


def _deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


def test_deflated_object_is_read_and_left_as_it_is() -> None:
    data = _deflated(OBJECT)
    table = _table(data, DEFLATED)
    assert table.text(PATIENT_NAME) == "Doe^Jane"
    assert table.raw(PIXEL_DATA) == bytes(range(64))
    assert list(table.segments()) == [Slice(0, len(data))]


def test_changed_deflated_object_is_deflated_again() -> None:
    table = _table(_deflated(OBJECT), DEFLATED)
    table.set_text(PATIENT_NAME, "Roe")
    content = table.tobytes()
    assert table.size == len(content)
    inflated = zlib.decompress(content, -15)
    assert inflated == OBJECT.replace(
        explicit(PATIENT_NAME, "PN", b"Doe^Jane"), explicit(PATIENT_NAME, "PN", b"Roe ")
    )


def test_pixels_of_a_deflated_object_are_not_inflated_for_its_header() -> None:
    pixels = explicit(PIXEL_DATA, "OW", bytes(8 << 20))
    table = _table(_deflated(HEAD + pixels), DEFLATED)
    assert len(table._data) < 1 << 20
    table.set_text(PATIENT_NAME, "Doe^Jim ")
    changed = zlib.decompress(table.tobytes(), -15)
    assert changed == (HEAD + pixels).replace(b"Doe^Jane", b"Doe^Jim ")


def test_inflating_ends_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflate, "LIMIT_BYTES", 1 << 20)
    bomb = _deflated(HEAD + explicit(PRIVATE, "UN", bytes(16 << 20)))
    with pytest.raises(NotDicom):
        _table(bomb, DEFLATED)


@pytest.mark.parametrize("data", [b"", b"no deflate stream", _deflated(OBJECT)[:20]])
def test_damaged_deflated_object_is_read_or_refused(data: bytes) -> None:
    try:
        _table(data, DEFLATED).tags()
    except NotDicom:
        return


# Properties

TAGS = st.sampled_from(
    [
        CHARSET,
        SOP_CLASS,
        STUDY_DESCRIPTION,
        PATIENT_NAME,
        PATIENT_ID,
        COMMENTS,
        ROWS,
        PIXEL_DATA,
        PADDING,
    ]
)
CHANGES = st.lists(st.tuples(TAGS, st.none() | st.binary(max_size=9)), max_size=12)


@given(changes=CHANGES, syntax=st.sampled_from([EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE, DEFLATED]))
def test_what_was_set_is_there_after_writing_and_reading(
    changes: list[tuple[int, bytes | None]], syntax: str
) -> None:
    values = {SOP_CLASS: b"1.2\0", PATIENT_NAME: b"A^B ", ROWS: b"\1\0", PIXEL_DATA: b"123456"}
    order = ">" if syntax == EXPLICIT_BE else "<"
    data = b"".join(
        implicit(tag, value) if syntax == IMPLICIT_LE else explicit(tag, "UN", value, order)
        for tag, value in values.items()
    )
    table = ElementTable(_deflated(data) if syntax == DEFLATED else data, syntax)
    for tag, change in changes:
        if change is None:
            table.delete(tag)
            values.pop(tag, None)
        else:
            table.set_raw(tag, "UN", change)
            values[tag] = change + b"\0" * (len(change) % 2)
    content = table.tobytes()
    assert table.size == len(content)
    again = ElementTable(content, syntax)
    assert again.tags() == sorted(values)
    assert {tag: again.raw(tag) for tag in values} == values


@given(
    data=st.binary(max_size=300),
    syntax=st.sampled_from([EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE, DEFLATED, "1.9"]),
)
def test_any_bytes_make_a_table_or_are_refused(data: bytes, syntax: str) -> None:
    try:
        table = ElementTable(data, syntax)
        for tag in table.tags():
            table.text(tag)
            if table.is_sequence(tag):
                table.items(tag)
        table.set_text(PATIENT_NAME, "Ж")
        table.tobytes()
    except NotDicom:
        return
