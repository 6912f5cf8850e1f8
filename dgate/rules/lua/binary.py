"""`ConvertBinaryData`: numbers and strings of one size to bytes and back (spec lua-api.md 5.4).

Pure functions on bytes; native byte order, as scripts write files for programs of the same machine.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

from dgate.errors import RuleError
from dgate.rules.lua.api import Context, Function, Library

_FORM = re.compile(r"\s*(?:([0-9]{1,9})\s*\*\s*)?([fus])([0-9]{1,9})\s*")
_STRUCTS = {("f", 4): "f", ("f", 8): "d", ("u", 1): "B", ("u", 2): "H", ("u", 4): "I"}
_REMEDY = "write for example 'u2' or '100*f4': f4 f8, u1 u2 u3 u4, sN"


class Form(NamedTuple):
    """What a format says: `N*tS`."""

    values: int | None
    """None: as many as there are."""
    kind: str
    """`f` float, `u` unsigned integer, `s` string."""
    size: int
    """Bytes of each."""


def parse_form(text: str) -> Form:
    """Return what a format says; raises RuleError."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise RuleError(f"{text[:40]!r} is no format of binary data", remedy=_REMEDY)
    kind, size = found[2], int(found[3])
    allowed = size > 0 if kind == "s" else size in ((4, 8) if kind == "f" else (1, 2, 3, 4))
    if not allowed:
        raise RuleError(f"{text[:40]!r} has a size that cannot be", remedy=_REMEDY)
    return Form(int(found[1]) if found[1] is not None else None, kind, size)


def from_bytes(form: Form, data: bytes) -> Sequence[float] | Sequence[bytes]:
    """Return the values that stand in `data`; raises RuleError when there are fewer."""
    count = len(data) // form.size if form.values is None else form.values
    size = form.size
    if count * size > len(data):
        raise RuleError(
            f"{len(data)} bytes are not the {count} values of {size} bytes that the format asks for"
        )
    if form.kind == "s":
        return [data[at : at + size] for at in range(0, count * size, size)]
    code = _STRUCTS.get((form.kind, size))
    if code is not None:
        return list(struct.unpack_from(f"={count}{code}", data))
    order = sys.byteorder
    return [int.from_bytes(data[at : at + size], order) for at in range(0, count * size, size)]


def to_bytes(form: Form, values: Sequence[object]) -> bytes:
    """Return values as bytes; numbers wrap around, strings are cut or filled with NUL.

    Raises RuleError for a value of another kind, or fewer values than the format asks for.
    """
    if form.values is not None:
        if len(values) < form.values:
            raise RuleError(
                f"the format asks for {form.values} values, the table has {len(values)}"
            )
        values = values[: form.values]
    if form.kind == "s":
        return b"".join(_string(value, form.size) for value in values)
    numbers = [_number(value) for value in values]
    if form.kind == "f":
        try:
            return struct.pack(f"={len(numbers)}{_STRUCTS['f', form.size]}", *numbers)
        except OverflowError as exc:
            raise RuleError("a number is too large for a float of 4 bytes") from exc
    return b"".join(_integer(number, form.size) for number in numbers)


def _string(value: object, size: int) -> bytes:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = f"{value:.14g}".encode("ascii")
    if not isinstance(value, bytes):
        raise RuleError("the table holds something that is not a string")
    return value[:size].ljust(size, b"\0")


def _number(value: object) -> float:
    if isinstance(value, bytes):
        try:
            return float(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RuleError("the table holds something that is not a number")
    return value


def _integer(number: float, size: int) -> bytes:
    try:
        whole = int(number)
    except (ValueError, OverflowError) as exc:
        raise RuleError("the table holds a number that is not finite") from exc
    return (whole & (1 << 8 * size) - 1).to_bytes(size, sys.byteorder)


def _convert(context: Context) -> Function:
    def convert(form: object, data: object) -> object:
        parsed = parse_form(context.text(form, "the format"))
        if not context.is_table(data):
            return context.sequence(from_bytes(parsed, context.raw(data, "the data")))
        values = context.values(data, count=parsed.values)
        return to_bytes(parsed, [_plain(value) for value in values])

    return convert


def _plain(value: object) -> object:
    return value.encode("latin-1") if isinstance(value, str) else value


LIBRARY: Final = Library(functions={"ConvertBinaryData": _convert})
