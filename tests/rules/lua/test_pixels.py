"""`GetPixel`, `SetPixel`, rows, columns and images (spec lua-api.md 7, fixes L4 to L6)."""

from __future__ import annotations

import array
import struct
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dgate.dicom.frames import Frames, put_frames
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, JPEG_2000, RLE_LOSSLESS
from dgate.errors import RuleError
from tests.archive.intake_kit import data_set
from tests.rules.lua.library_kit import Bench

PIXELS = 0x7FE00010


def image(
    values: list[int],
    *,
    rows: int = 2,
    columns: int = 3,
    bits: int = 16,
    code: str = "H",
    **elements: Any,
) -> ElementTable:
    """Return an object with these pixel values."""
    form = {
        "Rows": rows,
        "Columns": columns,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "PixelData": struct.pack(f"<{len(values)}{code}", *values),
    } | elements
    return ElementTable(data_set(**form), EXPLICIT_LE)


def values_of(table: ElementTable, code: str = "H") -> list[int]:
    raw = table.raw(PIXELS) or b""
    return list(struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw))


def run(table: ElementTable, code: str) -> Any:
    bench = Bench(table)
    try:
        return bench.run(code)
    finally:
        bench.close()


GREY = [10, 20, 30, 40, 50, 65535]


@pytest.mark.parametrize(
    ("x", "y", "value"), [(0, 0, 10), (2, 0, 30), (0, 1, 40), (2, 1, 65535), ("'1'", "1.9", 50)]
)
def test_pixel_is_read(x: object, y: object, value: int) -> None:
    assert run(image(GREY), f"return Data:GetPixel({x}, {y})") == value
    assert run(image(GREY), f"return getpixel({x}, {y}, 0)") == value
    assert run(image(GREY), f"return getpixel(Data, {x}, {y})") == value


@pytest.mark.parametrize(
    "call",
    [
        "GetPixel(3, 0)",
        "GetPixel(-1, 1)",
        "GetPixel(0, 2)",
        "GetPixel(0, -1)",
        "GetPixel(0, 0, 1)",
        "GetPixel(0, 0, -1)",
        "GetRow(2)",
        "GetRow(-1)",
        "GetRow(0, 1)",
        "GetColumn(3)",
        "GetColumn(-1)",
        "GetImage(1)",
        "GetImage(-1)",
        "SetPixel(9, 0, 0, 1)",
        "SetRow(7, 0, {})",
        "SetColumn(7, 0, {})",
    ],
)
def test_outside_the_image_is_nothing(call: str) -> None:
    table = image(GREY)

    assert run(table, f"return Data:{call}") is None
    assert values_of(table) == GREY


def test_object_without_pixels_has_none() -> None:
    table = ElementTable(data_set(PixelData=None), EXPLICIT_LE)

    assert run(table, "return Data:GetPixel(0, 0)") is None
    assert run(table, "return Data:GetImage()") is None
    assert run(table, "return DicomObject:new():GetRow(0)") is None


def test_written_pixels_are_in_the_object() -> None:
    table = image(GREY)

    result = run(
        table,
        "Data:SetPixel(1, 0, 0, 7) Data:SetPixel(0, 1, 0, 65536 + 8) Data:SetPixel(2, 1, 0, -1)"
        " setpixel(2, 0, 0, 9.9) return Data:GetPixel(1, 0) + Data:GetPixel(0, 1)",
    )

    assert result == 15
    assert values_of(table) == [10, 7, 9, 8, 50, 65535]


def test_reading_changes_nothing() -> None:
    table = image(GREY)

    run(table, "for y = 0, 1 do for x = 0, 2 do Data:GetPixel(x, y) end end Data:GetRow(0)")

    assert table.revision == 0


def test_whole_image_is_changed_in_a_loop() -> None:
    size = 512
    before = array.array("H", [(number * 7) % 4096 for number in range(size * size)])
    table = ElementTable(
        data_set(
            Rows=size,
            Columns=size,
            BitsStored=12,
            HighBit=11,
            PixelData=before.tobytes(),
        ),
        EXPLICIT_LE,
    )

    run(
        table,
        """
        for y = 0, Data.Rows - 1 do
          for x = 0, Data.Columns - 1 do
            local v = Data:GetPixel(x, y)
            if v > 1000 then Data:SetPixel(x, y, 0, 1000) end
          end
        end
        """,
    )

    assert values_of(table) == [min(value, 1000) for value in before]


def test_object_is_up_to_date_whoever_looks() -> None:
    table = image(GREY)

    result = run(
        table,
        """
        Data:SetPixel(0, 0, 0, 99)
        local copy = Data:Copy()
        Data:SetPixel(0, 0, 0, 98)
        local bytes = Data:GetVR(0x7fe0, 0x0010, true)
        Data:SetPixel(1, 0, 0, 97)
        return table.concat({copy:GetPixel(0, 0), bytes:byte(1), Data:GetImage():byte(3)}, ' ')
        """,
    )

    assert result == "99 98 97"
    assert values_of(table)[:2] == [98, 97]


def test_pixels_that_change_otherwise_are_seen() -> None:
    table = image(GREY)

    result = run(
        table,
        """
        local before = Data:GetPixel(0, 0)
        Data:SetVR(0x7fe0, 0x0010, string.char(1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0))
        local after = Data:GetPixel(0, 0)
        Data.Columns = 2; Data.Rows = 3
        local outside = tostring((Data:GetPixel(2, 0)))
        return table.concat({before, after, Data:GetPixel(0, 1), outside}, ' ')
        """,
    )

    assert result == "10 1 3 nil"


def test_two_objects_may_be_used_in_turn() -> None:
    table = image(GREY)

    result = run(
        table,
        """
        local other = Data:Copy()
        for x = 0, 2 do
          other:SetPixel(x, 0, 0, Data:GetPixel(x, 1))
          Data:SetPixel(x, 1, 0, 1)
        end
        return table.concat({other:GetPixel(0, 0), other:GetPixel(2, 0), other:GetPixel(0, 1)}, ' ')
        """,
    )

    assert result == "40 65535 40"
    assert values_of(table) == [10, 20, 30, 1, 1, 1]


def test_pixels_written_before_an_error_stay() -> None:
    table = image(GREY)

    with pytest.raises(RuleError, match="stop"):
        run(table, "Data:SetPixel(0, 0, 0, 5) error('stop')")

    assert values_of(table)[0] == 5


def test_rows_and_columns_count_from_nothing() -> None:
    code = "local t = Data:{} return #t .. ' ' .. tostring(t[0]) .. ' ' .. tostring(t[#t])"

    assert run(image(GREY), code.format("GetRow(1)")) == "2 40 65535"
    assert run(image(GREY), code.format("GetColumn(2)")) == "1 30 65535"
    assert run(image(GREY), "return getrow(0)[1] + getcolumn(1)[1]") == 70


def test_rows_and_columns_are_written_whole() -> None:
    table = image(GREY)

    run(
        table,
        "Data:SetRow(0, 0, {[0] = 1, 2}) setcolumn(2, 0, {[0] = 8, 9}) Data:GetRow(1)[0] = 77",
    )

    assert values_of(table) == [1, 2, 8, 40, 50, 9]


def test_row_that_is_returned_is_a_copy() -> None:
    table = image(GREY)

    assert run(table, "local r = Data:GetRow(0) r[0] = 5 return Data:GetPixel(0, 0)") == 10


@pytest.mark.parametrize(
    ("bits", "code", "written", "read"),
    [(8, "B", 300, 44), (16, "H", -1, 65535), (32, "i", -5, -5), (32, "i", 2**31, -(2**31))],
)
def test_values_fit_their_cells(bits: int, code: str, written: int, read: int) -> None:
    table = image([1, 2, 3, 4, 5, 6], bits=bits, code=code)

    assert run(table, f"Data:SetPixel(1, 1, 0, {written}) return Data:GetPixel(1, 1)") == read
    assert values_of(table, code) == [1, 2, 3, 4, read, 6]


def test_signed_words_are_read_unsigned() -> None:
    table = image([-1, -2, 3, 4, 5, 6], code="h", PixelRepresentation=1)

    assert run(table, "return Data:GetPixel(0, 0)") == 65535


COLOUR = [1, 2, 3, 11, 12, 13, 21, 22, 23, 31, 32, 33]


def colour(**elements: Any) -> ElementTable:
    return image(
        COLOUR,
        columns=2,
        bits=8,
        code="B",
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        **elements,
    )


def test_colour_pixels_have_three_values() -> None:
    table = colour()

    code = (
        "Data:SetPixel(0, 1, 0, 7, 8, 9) local r, g, b = Data:GetPixel(1, 0)"
        " local row, column, whole = Data:GetRow(0), Data:GetColumn(1), Data:GetImage()"
        " return table.concat({r, g, b, #row, column[5], #whole}, ' ')"
    )

    assert run(table, code) == "11 12 13 5 33 12"
    assert values_of(table, "B") == [*COLOUR[:6], 7, 8, 9, *COLOUR[9:]]


def test_colour_by_plane_is_read_and_written_as_colour_by_pixel() -> None:
    planes = bytes([1, 11, 21, 31, 2, 12, 22, 32, 3, 13, 23, 33])
    table = colour()
    table.set_text(0x00280006, "1")
    table.set_raw(PIXELS, "OB", planes)

    code = "Data:SetPixel(0, 0, 0, 7, 8, 9) local r, g, b = Data:GetPixel(1, 1) return r + g + b"

    assert run(table, code) == 96
    assert table.raw(PIXELS) == bytes([7, 11, 21, 31, 8, 12, 22, 32, 9, 13, 23, 33])


FRAMES = [1, 2, 3, 4, 101, 102, 103, 104]


def frames(**elements: Any) -> ElementTable:
    return image(FRAMES, rows=2, columns=2, NumberOfFrames="2", **elements)


def test_second_frame_begins_where_the_first_ends() -> None:
    """L4: the original counts in pixels what are bytes."""
    code = "local s = Data:GetImage(1) return #s .. ' ' .. s:byte() .. ' ' .. getpixel(1, 1, 1)"

    assert run(frames(), code) == "8 101 104"


def test_image_of_one_frame_leaves_the_others() -> None:
    """L5: the original cuts the pixel data to one frame, and writes floats into the first."""
    table = frames()

    run(table, "Data:SetImage(1, string.char(9, 0, 9, 0, 9, 0, 9, 0))")
    assert values_of(table) == [1, 2, 3, 4, 9, 9, 9, 9]

    code = "Data:SetImage(1, ConvertBinaryData('f4', {1.5, 2, 3, 40000}), 2) setpixel(0, 0, 0, 5)"
    run(table, code)
    assert values_of(table) == [5, 2, 3, 4, 3, 4, 6, 65535]


def test_frames_are_used_in_turn() -> None:
    table = frames()

    run(table, "for f = 0, 1 do Data:SetPixel(0, 0, f, Data:GetPixel(1, 1, 1 - f)) end")

    assert values_of(table) == [104, 2, 3, 4, 4, 102, 103, 104]


@pytest.mark.parametrize("size", [0, 7, 9, 15])
def test_image_of_another_size_is_refused(size: int) -> None:
    table = frames()

    with pytest.raises(RuleError, match="dimensions incompatible"):
        run(table, f"Data:SetImage(0, string.rep('x', {size}))")
    assert values_of(table) == FRAMES


def test_big_endian_pixels_are_numbers() -> None:
    table = ElementTable(b"", EXPLICIT_BE)
    source = image(GREY)
    for tag in source.tags():
        if tag >> 16 == 0x0028:
            table.set_text(tag, source.text(tag))
    table.set_raw(PIXELS, "OW", struct.pack(">6H", *GREY))

    assert run(table, "Data:SetPixel(0, 0, 0, 258) return Data:GetPixel(2, 1)") == 65535
    assert table.raw(PIXELS) == struct.pack(">6H", 258, *GREY[1:])


def test_compressed_pixels_are_read_and_become_uncompressed_when_written() -> None:
    table = frames()
    put_frames(table, Frames(table).layout, [*Frames(table)], RLE_LOSSLESS)

    assert run(table, "return Data:GetPixel(0, 0, 1)") == 101
    assert table.syntax == RLE_LOSSLESS
    run(table, "Data:SetPixel(0, 0, 1, 7)")
    assert table.syntax == EXPLICIT_LE
    assert values_of(table) == [1, 2, 3, 4, 7, 102, 103, 104]


def test_compressed_copy_leaves_the_object_as_it_is() -> None:
    table = frames()

    code = (
        "local c = Data:Compress('rl') local back = compressdicom(c, 'un')"
        " return tostring(back:GetImage(1) == Data:GetImage(1)) .. #c"
    )

    assert run(table, code) == "true1"
    assert table.syntax == EXPLICIT_LE
    assert values_of(table) == FRAMES


def test_copy_that_cannot_be_made_is_nothing(caplog: pytest.LogCaptureFixture) -> None:
    damaged = ElementTable(image(GREY).tobytes(), JPEG_2000)

    assert run(damaged, "return tostring(Data:Compress('un'))") == "nil"
    assert "Compress" in caplog.text


def test_what_cannot_be_decoded_names_its_transfer_syntax() -> None:
    damaged = ElementTable(image(GREY).tobytes(), JPEG_2000)

    with pytest.raises(RuleError, match="JPEG 2000"):
        run(damaged, "return Data:GetPixel(0, 0)")


@pytest.mark.parametrize(
    "call",
    [
        "SetPixel(0, 0, 0)",
        "SetPixel(0, 0, 0, 'x')",
        "SetPixel(0, 0, 0, 0 / 0)",
        "SetPixel('a', 0, 0, 1)",
        "GetPixel({}, 0)",
        "SetRow(0, 0)",
        "SetRow(0, 0, {[0] = 'x'})",
        "SetColumn(0, 0, 5)",
        "SetImage(0, nil)",
        "GetPixel(0, 0, 'x')",
    ],
)
def test_wrong_arguments_are_errors(call: str) -> None:
    table = image(GREY)

    assert run(table, f"return pcall(function() Data:{call} end)") is False
    assert values_of(table) == GREY


def test_pixels_that_contradict_their_description_are_an_error() -> None:
    table = image(GREY[:2])

    with pytest.raises(RuleError, match="pixels cannot be read"):
        run(table, "return Data:GetPixel(0, 0)")


def test_image_larger_than_what_is_kept_as_tables() -> None:
    """More rows than are kept as tables are packed and unpacked again."""
    rows, columns = 1100, 4000
    table = ElementTable(
        data_set(
            Rows=rows,
            Columns=columns,
            BitsAllocated=8,
            BitsStored=8,
            HighBit=7,
            PixelData=bytes(rows * columns),
        ),
        EXPLICIT_LE,
    )

    code = """
        for y = 0, 1099 do Data:SetPixel(y, y, 0, 1 + y % 255) end
        local sum = 0
        for y = 0, 1099 do sum = sum + Data:GetPixel(y, y) end
        return sum
    """

    assert run(table, code) == sum(1 + y % 255 for y in range(1100))
    raw = table.raw(PIXELS) or b""
    assert [raw[y * columns + y] for y in range(rows)] == [1 + y % 255 for y in range(rows)]
    assert sum(raw) == sum(1 + y % 255 for y in range(1100))


def test_item_of_a_sequence_has_pixels_of_its_own() -> None:
    icon = Dataset()
    icon.Rows, icon.Columns, icon.BitsAllocated, icon.BitsStored = 1, 2, 8, 8
    icon.HighBit, icon.SamplesPerPixel, icon.PixelRepresentation = 7, 1, 0
    icon.PixelData = b"\x01\x02"
    icon["PixelData"].VR = "OB"
    table = ElementTable(data_set(IconImageSequence=[icon]), EXPLICIT_LE)

    code = "local i = Data.IconImageSequence[0] i:SetPixel(0, 0, 0, 9) return i:GetPixel(1, 0)"

    assert run(table, code) == 2
    assert table.items(0x00880200)[0].raw(PIXELS) == b"\x09\x02"


# An object whose frame is open finds its methods in another way than the others.

PAIR = """
local other = Data:Copy()
Data:SetPixel(0, 0, 0, 7)
other:SetPixel(1, 0, 0, 8)
Data:SetPixel(2, 0, 0, 9)
"""


def test_two_objects_take_turns() -> None:
    code = PAIR + (
        "return Data:GetPixel(0, 0) .. ' ' .. other:GetPixel(0, 0) .. ' ' .. "
        "other:GetPixel(1, 0) .. ' ' .. Data:GetPixel(2, 0)"
    )
    table = image(GREY)
    assert run(table, code) == "7 10 8 9"
    assert values_of(table) == [7, 20, 9, 40, 50, 65535]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("Data.Rows", "2"),
        ("Data.Nope", None),
        ("#Data", 1),
        ("tostring(Data)", "Dicom Data Object"),
        ("getmetatable(Data)", False),
        ("type(Data.Write)", "function"),
        ("other.Columns", "3"),
        ("getpixel(Data, 0, 0)", 7),
        ("getpixel(other, 1, 0)", 8),
        ("#Data:GetImage()", 12),
    ],
)
@pytest.mark.parametrize("last", ["Data", "other"])
def test_object_is_what_it_was_while_its_frame_is_open(
    expression: str, value: object, last: str
) -> None:
    assert run(image(GREY), f"{PAIR} {last}:GetPixel(0, 0) return {expression}") == value


def test_elements_are_written_while_a_frame_is_open() -> None:
    table = image(GREY)
    run(table, PAIR + "Data.PatientName = 'A' Data:GetPixel(0, 0) Data.PatientID = 'B'")
    assert (table.text(0x00100010), table.text(0x00100020)) == ("A", "B")
    assert values_of(table)[:3] == [7, 20, 9]


def test_object_that_was_freed_while_its_frame_was_open_reads_as_nil() -> None:
    code = "local other = Data:Copy() other:GetPixel(0, 0) other:free() return other.Rows"
    assert run(image(GREY), code) is None


@pytest.mark.parametrize("columns", [1, 2, 7, 8, 9, 16, 17, 4001])
@pytest.mark.parametrize(("bits", "code"), [(8, "B"), (16, "H"), (32, "i")])
def test_rows_of_every_width_come_back(columns: int, bits: int, code: str) -> None:
    most = (1 << min(bits, 31)) - 1
    values = [(number * 2654435761) % (most + 1) for number in range(2 * columns)]
    table = image(values, columns=columns, bits=bits, code=code)
    loop = (
        "local sum = 0 for y = 0, 1 do for x = 0, Data.Columns - 1 do "
        "local v = Data:GetPixel(x, y) sum = sum + v Data:SetPixel(x, y, 0, v) end end return sum"
    )
    assert run(table, loop) == sum(values)
    assert values_of(table, code)[: 2 * columns] == values
    assert run(table, f"return Data:GetPixel({columns}, 0)") is None


def test_pixels_of_three_colours_are_set_one_by_one() -> None:
    table = image(list(range(12)), bits=8, code="B", rows=2, columns=2, SamplesPerPixel=3,
                  PhotometricInterpretation="RGB", PlanarConfiguration=0)  # fmt: skip
    run(table, "Data:SetPixel(1, 0, 0, 100, 101, 102) Data:SetPixel(0, 1, 0, 200)")
    assert values_of(table, "B") == [0, 1, 2, 100, 101, 102, 200, 7, 8, 9, 10, 11]
