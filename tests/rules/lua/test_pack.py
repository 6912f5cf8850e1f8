"""`require('pack')`."""

from __future__ import annotations

import math

import pytest

from dgate.errors import RuleError
from dgate.rules.lua.pack import pack, reshape, unpack
from tests.rules.lua.library_kit import Bench


@pytest.mark.parametrize(
    ("form", "values", "packed"),
    [
        ("<h", [258], b"\x02\x01"),
        (">h", [258], b"\x01\x02"),
        ("<hH", [-1, 65535], b"\xff\xff\xff\xff"),
        ("<b2 c,b", [1, 255, -1, 300], b"\x01\xff\xff\x2c"),
        ("<i>I", [-2, 2], b"\xfe\xff\xff\xff\x00\x00\x00\x02"),
        ("<lL", [-1, 1], b"\xff" * 8 + b"\x01" + b"\0" * 7),
        ("z", [b"abc"], b"abc\0"),
        ("<p", [b"abc"], b"\x03abc"),
        ("<P", [b"abc"], b"\x03\x00abc"),
        ("<a", [b"abc"], b"\x03" + b"\0" * 7 + b"abc"),
        ("A3A", [b"abc", b"d"], b"abcd"),
        ("<f", [1.5], b"\x00\x00\xc0\x3f"),
        (">d", [1.5], b"\x3f\xf8" + b"\0" * 6),
        ("<n", [1.5], b"\0" * 6 + b"\xf8\x3f"),
        ("<H", [b"7"], b"\x07\x00"),
        ("", [], b""),
    ],
)
def test_values_are_packed(form: str, values: list[object], packed: bytes) -> None:
    assert pack(form, values) == packed


@pytest.mark.parametrize(
    ("data", "form", "position", "expected"),
    [
        (b"\x02\x01\x03", "<hb", 1, (4, [258, 3])),
        (b"\x02\x01\x03", "<h", 2, (4, [769])),
        (b"\xff\xff", "<h", 1, (3, [-1])),
        (b"\xff\xff", "<H", 1, (3, [65535])),
        (b"abc\0d", "zA1", 1, (6, [b"abc", b"d"])),
        (b"abc", "z", 1, (4, [b"abc"])),
        (b"\x03abcd", "p", 1, (5, [b"abc"])),
        (b"\x03\x00abcd", "<P", 1, (6, [b"abc"])),
        (b"abcdef", "A2A4", 1, (7, [b"ab", b"cdef"])),
        (b"\x00\x00\xc0\x3f", "<f", 1, (5, [1.5])),
        # The data ends before the format does.
        (b"\x01\x02\x03", "<h2", 1, (3, [513])),
        (b"\x05ab", "p", 1, (1, [])),
        (b"", "z", 1, (1, [])),
        (b"", "h", 9, (9, [])),
    ],
)
def test_values_are_unpacked_behind_the_next_position(
    data: bytes, form: str, position: int, expected: tuple[int, list[object]]
) -> None:
    assert unpack(data, form, position) == expected


def test_numbers_beyond_floats_are_infinite() -> None:
    assert unpack(pack("<f", [1e300]), "<f")[1] == [math.inf]


@pytest.mark.parametrize(
    ("form", "values"),
    [("q", [1]), ("h", []), ("h", [b"x"]), ("h", [None]), ("z", [None]), ("p", [b"x" * 256])],
)
def test_what_cannot_be_packed_is_an_error(form: str, values: list[object]) -> None:
    with pytest.raises(RuleError):
        pack(form, values)


def test_what_is_not_finite_is_no_integer() -> None:
    with pytest.raises(RuleError, match="finite"):
        pack("h", [math.nan])


def test_senseless_counts_are_refused() -> None:
    with pytest.raises(RuleError, match="too large"):
        unpack(b"abc", "b99999999999")


def test_records_are_regrouped_field_by_field() -> None:
    assert reshape(b"RGBrgb", 1, 3) == b"RrGgBb"
    assert reshape(b"aabbAABB", 2, 2) == b"aaAAbbBB"
    with pytest.raises(RuleError):
        reshape(b"abc", 2, 1)
    with pytest.raises(RuleError):
        reshape(b"abc", 0, 3)


def test_functions_are_there_once_they_are_required(bench: Bench) -> None:
    code = """
        local before = tostring(string.pack) .. tostring(string.unpack) .. tostring(string.reshape)
        require('pack')
        local s = string.pack('<hz', 258, 'text')
        local next, number, text = string.unpack(s, '<hz')
        return table.concat({before, #s, next, number, text, ('RGBrgb'):reshape(1, 3)}, ' ')
    """

    assert bench.run(code) == "nilnilnil 7 8 258 text RrGgBb"


def test_every_byte_gets_through(bench: Bench) -> None:
    code = """
        require 'pack'
        for i = 0, 255 do
          local s = string.pack('b', i)
          local _, back = string.unpack(s, 'b')
          if #s ~= 1 or s:byte() ~= i or back ~= i then return i end
        end
        return 'all'
    """

    assert bench.run(code) == "all"


def test_bad_code_is_a_lua_error(bench: Bench) -> None:
    code = "require 'pack' local ok, text = pcall(string.pack, 'q', 1) return text"

    assert "bad code 'q'" in bench.run(code)
