"""`ConvertBinaryData`."""

from __future__ import annotations

import struct

import pytest

from dgate.errors import RuleError
from dgate.rules.lua.binary import from_bytes, parse_form, to_bytes
from tests.rules.lua.library_kit import Bench


@pytest.mark.parametrize(
    ("form", "data", "values"),
    [
        ("f4", struct.pack("=2f", 1.5, -2), [1.5, -2]),
        ("1*f8", struct.pack("=2d", 1.5, -2), [1.5]),
        ("u1", b"\x01\xff", [1, 255]),
        ("u2", struct.pack("=H", 513), [513]),
        ("u4", struct.pack("=I", 2**32 - 1), [2**32 - 1]),
        ("s3", b"abcdefg", [b"abc", b"def"]),
        ("2*s1", b"abc", [b"a", b"b"]),
        ("u2", b"", []),
        ("0*u2", b"ab", []),
    ],
)
def test_bytes_become_values(form: str, data: bytes, values: list[object]) -> None:
    assert list(from_bytes(parse_form(form), data)) == values


def test_three_bytes_are_a_number_and_nothing_behind_them_is_read() -> None:
    form = parse_form("u3")

    data = to_bytes(form, [1, 0xABCDEF])

    assert len(data) == 6
    assert list(from_bytes(form, data)) == [1, 0xABCDEF]


@pytest.mark.parametrize("form", ["f4", "f8", "u1", "u2", "u3", "u4"])
def test_values_come_back(form: str) -> None:
    parsed = parse_form(form)

    assert list(from_bytes(parsed, to_bytes(parsed, [0, 1, 200]))) == [0, 1, 200]


def test_strings_are_cut_or_filled() -> None:
    assert to_bytes(parse_form("s3"), [b"abcd", b"e", 7]) == b"abce\0\x007\0\0"


def test_numbers_wrap_around() -> None:
    assert to_bytes(parse_form("u1"), [257, -1, 3.9]) == b"\x01\xff\x03"


@pytest.mark.parametrize("form", ["", "x4", "f2", "u5", "u0", "s0", "u", "3*", "-1*u1", "u2x"])
def test_format_that_makes_no_sense_is_an_error(form: str) -> None:
    with pytest.raises(RuleError):
        parse_form(form)


def test_fewer_values_than_asked_for_are_an_error() -> None:
    with pytest.raises(RuleError):
        from_bytes(parse_form("3*u2"), b"abcd")
    with pytest.raises(RuleError):
        to_bytes(parse_form("3*u2"), [1])


@pytest.mark.parametrize("value", [None, b"x", True, float("nan"), float("inf")])
def test_what_is_no_number_is_an_error(value: object) -> None:
    with pytest.raises(RuleError):
        to_bytes(parse_form("u2"), [value])


def test_float_that_is_too_large_is_an_error() -> None:
    with pytest.raises(RuleError):
        to_bytes(parse_form("f4"), [1e300])


def test_scripts_convert_both_ways(bench: Bench) -> None:
    code = """
        local s = ConvertBinaryData('3*u2', {1, 513, 65535})
        local t = ConvertBinaryData('3*u2', s)
        local words = ConvertBinaryData('s2', 'abcd')
        return table.concat({#s, t[1], t[2], t[3], #t, words[2], #words}, ' ')
    """

    assert bench.run(code) == "6 1 513 65535 3 cd 2"


def test_large_data_is_converted(bench: Bench) -> None:
    code = """
        local s = string.rep('\\1\\2', 100000)
        local t = ConvertBinaryData('u2', s)
        return #t .. ' ' .. tostring(ConvertBinaryData('u2', t) == s)
    """

    assert bench.run(code) == "100000 true"


def test_mistakes_are_lua_errors(bench: Bench) -> None:
    assert bench.run("return pcall(ConvertBinaryData, 'u2', nil)") is False
    assert bench.run("return pcall(ConvertBinaryData, 'x', 'ab')") is False
    assert bench.run("return pcall(ConvertBinaryData, 'u2', {'a'})") is False
