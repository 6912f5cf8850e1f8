"""`string.pack`, `string.unpack` and `string.reshape` of `require('pack')` (spec lua-api.md 10).

Not the functions of the same name in later versions of Lua. Pure functions on bytes; numbers that
do not fit wrap around, as in C.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

from dgate.errors import RuleError
from dgate.rules.lua.api import Context, Function, Library

_PIECE = re.compile(r"([A-Za-z<>=])([0-9]*)|([ ,])|(.)", re.DOTALL)

_INTEGERS: Final = {
    "c": (1, True),
    "b": (1, False),
    "h": (2, True),
    "H": (2, False),
    "i": (4, True),
    "I": (4, False),
    "l": (8, True),
    "L": (8, False),
}
"""Size and sign by code, as on 64 bit Unix."""
_REALS: Final = {"f": "f", "d": "d", "n": "d"}
_COUNTED: Final = {"p": 1, "P": 2, "a": 8}
"""Strings behind their length, and its size."""
_ORDERS: Final = {"<": "<", ">": ">", "=": "="}
_MOST = 1 << 24
"""The most values of one code: more is a mistake, not a format."""

Endian = Literal["big", "little"]
_NATIVE: Endian = "big" if sys.byteorder == "big" else "little"

Packed = bytes | float | int
"""What stands in a packed string."""


class _Code(NamedTuple):
    letter: str
    times: int


def pack(form: str, values: Sequence[object]) -> bytes:
    """Return values as bytes; raises RuleError for a bad code, or a value that does not suit."""
    rest = iter(enumerate(values, 2))
    out = bytearray()
    order = "="
    for code in _codes(form):
        if code.letter in _ORDERS:
            order = _ORDERS[code.letter]
        elif code.letter in ("z", "A", *_COUNTED):
            # A count says how long an `A` is when it is read; written, it is as long as it is.
            out += _string(code.letter, _next(rest, "pack"), order)
        else:
            for _ in range(code.times):
                out += _number(code.letter, _next(rest, "pack"), order)
    return bytes(out)


def unpack(data: bytes, form: str, position: int = 1) -> tuple[int, list[Packed]]:
    """Return the position behind what was read, from 1, and the values.

    Ends early where the data does. Raises RuleError for a bad code.
    """
    at = max(0, position - 1)
    values: list[Packed] = []
    order = "="
    for code in _codes(form):
        if code.letter in _ORDERS:
            order = _ORDERS[code.letter]
            continue
        repeats = 1 if code.letter == "A" else code.times
        for _ in range(repeats):
            found = _read(code, data, at, order)
            if found is None:
                return at + 1, values
            value, at = found
            values.append(value)
    return at + 1, values


def reshape(data: bytes, width: int, fields: int) -> bytes:
    """Return records of `fields` fields of `width` bytes regrouped field by field."""
    if width < 1 or fields < 1:
        raise RuleError("string.reshape takes two numbers above 0")
    if len(data) % (width * fields):
        raise RuleError(
            f"string.reshape: {len(data)} bytes are not records of {fields} times {width} bytes"
        )
    out = bytearray(len(data))
    plane = len(data) // fields
    for field in range(fields):
        for byte in range(width):
            start = field * plane
            out[start + byte : start + plane : width] = data[field * width + byte :: width * fields]
    return bytes(out)


def _codes(form: str) -> Iterator[_Code]:
    for found in _PIECE.finditer(form):
        letter, count = found[1], found[2]
        if found[3]:
            continue
        known = letter in _INTEGERS or letter in _REALS or letter in _COUNTED
        if letter is None or not (known or letter in _ORDERS or letter in ("z", "A")):
            raise RuleError(f"bad code '{letter or found[4]}'")
        number = int(count[:10]) if count else 1
        if number > _MOST:
            raise RuleError(f"the count {count[:20]} of code '{letter}' is too large")
        yield _Code(letter, number)


def _next(values: Iterator[tuple[int, object]], name: str) -> tuple[int, object]:
    try:
        return next(values)
    except StopIteration:
        raise RuleError(f"string.{name}: there are fewer values than the format asks for") from None


def _string(letter: str, argument: tuple[int, object], order: str) -> bytes:
    number, value = argument
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = f"{value:.14g}".encode("ascii")
    if not isinstance(value, bytes):
        raise RuleError(f"string.pack: argument {number} is not a string")
    if letter == "z":
        return value + b"\0"
    if letter == "A":
        return value
    size = _COUNTED[letter]
    if len(value) >> 8 * size:
        raise RuleError(f"string.pack: argument {number} is too long for code '{letter}'")
    return len(value).to_bytes(size, _endian(order)) + value


def _number(letter: str, argument: tuple[int, object], order: str) -> bytes:
    number, value = argument
    if isinstance(value, bytes):
        try:
            value = float(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RuleError(f"string.pack: argument {number} is not a number")
    if letter in _REALS:
        try:
            return struct.pack(order + _REALS[letter], value)
        except OverflowError:
            return struct.pack(order + _REALS[letter], float("inf") if value > 0 else float("-inf"))
    try:
        whole = int(value)
    except (ValueError, OverflowError) as exc:
        raise RuleError(f"string.pack: argument {number} is no finite number") from exc
    size = _INTEGERS[letter][0]
    return (whole & (1 << 8 * size) - 1).to_bytes(size, _endian(order))


def _read(code: _Code, data: bytes, at: int, order: str) -> tuple[Packed, int] | None:
    """Return a value and where it ends; None when the data ends before."""
    letter = code.letter
    if letter == "z":
        end = data.find(b"\0", at)
        if at >= len(data):
            return None
        return (data[at:], len(data)) if end < 0 else (data[at:end], end + 1)
    if letter == "A":
        return _slice(data, at, code.times)
    if letter in _COUNTED:
        size = _COUNTED[letter]
        if at + size > len(data):
            return None
        length = int.from_bytes(data[at : at + size], _endian(order))
        return _slice(data, at + size, length)
    if letter in _REALS:
        form = order + _REALS[letter]
        end = at + struct.calcsize(form)
        return None if end > len(data) else (struct.unpack_from(form, data, at)[0], end)
    size, signed = _INTEGERS[letter]
    end = at + size
    if end > len(data):
        return None
    return int.from_bytes(data[at:end], _endian(order), signed=signed), end


def _slice(data: bytes, at: int, length: int) -> tuple[bytes, int] | None:
    end = at + length
    return None if end > len(data) else (data[at:end], end)


def _endian(order: str) -> Endian:
    return "big" if order == ">" else "little" if order == "<" else _NATIVE


# What Lua calls.

_SOURCE = r"""
local kit = ...
local native, strings = kit.native, string
package.preload.pack = function()
  strings.pack, strings.unpack, strings.reshape = native.pack, native.unpack, native.reshape
  return strings
end
"""


def _pack(context: Context) -> Function:
    def packed(form: object, *values: object) -> bytes:
        text = context.text(form, "the format")
        return pack(text, [_plain(value) for value in values])

    return packed


def _unpack(context: Context) -> Function:
    def unpacked(data: object, form: object, position: object = 1) -> tuple[Packed, ...]:
        at = 1 if position is None else context.integer(position, "the position")
        text = context.text(form, "the format")
        end, values = unpack(context.raw(data, "the string"), text, at)
        return end, *values

    return unpacked


def _reshape(context: Context) -> Function:
    def reshaped(data: object, width: object, fields: object) -> bytes:
        return reshape(
            context.raw(data, "the string"), context.integer(width), context.integer(fields)
        )

    return reshaped


def _plain(value: object) -> object:
    return value.encode("latin-1") if isinstance(value, str) else value


LIBRARY: Final = Library(
    natives={"pack": _pack, "unpack": _unpack, "reshape": _reshape}, source=_SOURCE
)
