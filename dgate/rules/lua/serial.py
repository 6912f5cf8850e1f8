"""The Lua form of objects: text that `loadstring('return ' .. text)()` turns into tables.

Exactly the form of spec lua-api.md 6.1, as scripts exchange it. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from dgate.dicom import element
from dgate.dicom.table import ElementTable
from dgate.errors import RuleError
from dgate.rules.lua.api import ArrayHandle, Context, Function, Library, Method, ObjectHandle
from dgate.rules.lua.jsonform import dicom_json, json_form, json_form_of_all

BYTES_LIMIT = 100 << 20
"""The longest form that is made (spec lua-api.md 6.1)."""

_NUMBERS = frozenset(("UL", "US", "SL", "SS", "FL", "FD", "UV", "SV"))
_REALS = frozenset(("FL", "FD", "OF", "OD"))
_WORDS = frozenset(("OW", "OF", "OL", "OD", "OV"))
_PADDED = frozenset(("DS", "IS"))
"""Kept with the blank that makes their length even."""
_SPECIAL = re.compile(rb'[\x00-\x1f"\\\x7f]')
_NAMED = {0x22: rb"\"", 0x5C: rb"\\", 0x0A: rb"\n", 0x0D: rb"\r", 0x09: rb"\t"}


def lua_form(table: ElementTable, *, pixels: bool = False) -> bytes:
    """Return `{Keyword=value,...}` of an object, text as UTF-8; raises ValueError if too long."""
    out = bytearray()
    _write(out, table, pixels)
    return bytes(out)


def lua_form_of_all(tables: Iterable[ElementTable], *, pixels: bool = False) -> bytes:
    """Return `{ {..},{..} }` of an array; raises ValueError if it is too long."""
    out = bytearray()
    _write_all(out, tables, pixels)
    return bytes(out)


def literal(value: bytes) -> bytes:
    """Return a Lua string literal that means these bytes, on one line."""
    # Three digits, so that a digit behind is not taken for one of the escape.
    return b'"' + _SPECIAL.sub(lambda m: _NAMED.get(m[0][0]) or b"\\%03d" % m[0][0], value) + b'"'


def _write_all(out: bytearray, tables: Iterable[ElementTable], pixels: bool) -> None:
    out += b"{ "
    for number, table in enumerate(tables):
        if number:
            out += b","
        _write(out, table, pixels)
    out += b" }"


def _write(out: bytearray, table: ElementTable, pixels: bool) -> None:
    out += b"{"
    skipped = 0
    first = True
    for tag in table.tags():
        keyword = element.keyword_of(tag)
        vr = table.reading_vr(tag)
        if not keyword or vr == "UN" or tag & 0xFFFF == 0:
            skipped += vr == "UN"
            continue
        start = len(out)
        if not first:
            out += b","
        out += keyword.encode("ascii") + b"="
        before = len(out)
        if table.is_sequence(tag):
            _write_all(out, table.items(tag), pixels)
        else:
            for piece in _value(table, tag, vr, pixels):
                out += piece
        if len(out) == before:
            del out[start:]
        else:
            first = False
        if len(out) > BYTES_LIMIT:
            raise ValueError(f"the object is longer than {BYTES_LIMIT >> 20} MiB as text")
    if skipped:
        out += b"--[[skipped %d UN elements]]" % skipped
    out += b"}"


def _value(table: ElementTable, tag: int, vr: str, pixels: bool) -> Iterator[bytes]:
    """Yield the text of a value; nothing for what is left out."""
    if vr == "OB":
        if pixels:
            yield b"nil --[[OB not serialized]]"
        return
    if vr in _WORDS and not pixels:
        yield b"nil --[[%s not serialized]]" % vr.encode("ascii")
        return
    raw = table.raw(tag) or b""
    if vr in _NUMBERS or vr in _WORDS:
        yield from _numbers(table, vr, raw)
    elif vr == "AT" and len(raw) > 4:
        texts = element.number_texts(vr, raw, little_endian=table.little_endian)
        yield b"{%s}" % b",".join(literal(text.encode("ascii")) for text in texts)
    elif vr == "AT":
        yield literal(raw)
    elif vr in _PADDED:
        yield literal(raw.rstrip(b"\0"))
    else:
        yield literal(table.text(tag).encode("utf-8", "surrogateescape"))


def _numbers(table: ElementTable, vr: str, raw: bytes) -> Iterator[bytes]:
    values = element.numbers_of(vr, raw, little_endian=table.little_endian)
    if not values:
        return
    texts = map(_real if vr in _REALS else str, values)
    text = ",".join(texts).encode("ascii")
    yield text if len(values) == 1 and vr in _NUMBERS else b"{%s}" % text


def _real(value: float) -> str:
    """Return six decimals; what is no number as an expression that is none."""
    if value != value:
        return "0/0"
    if value in (float("inf"), float("-inf")):
        return "1/0" if value > 0 else "-1/0"
    return f"{value:f}"


# What Lua calls.


def _serialize(context: Context) -> Function:
    def serialize(given: object = None, *options: object) -> str | bytes:
        if not isinstance(given, (ObjectHandle, ArrayHandle)):
            if given is not None:
                options = (given, *options)
            given = context.data
        # Only booleans count (spec lua-api.md 6.1).
        flags = [value if isinstance(value, bool) else False for value in options[:3]]
        json, pixels, model = flags + [False] * (3 - len(flags))
        tables = context.tables(given)
        return _form(tables, json, pixels, model, single=isinstance(given, ObjectHandle))

    return serialize


def _form(
    tables: list[ElementTable], json: bool, pixels: bool, model: bool, *, single: bool
) -> str | bytes:
    try:
        if json and model:
            return dicom_json(tables, pixels=pixels)
        if single:
            table = tables[0]
            return json_form(table, pixels=pixels) if json else lua_form(table, pixels=pixels)
        if json:
            return json_form_of_all(tables, pixels=pixels)
        return lua_form_of_all(tables, pixels=pixels)
    except ValueError as exc:
        raise RuleError(str(exc)) from exc


LIBRARY: Final = Library(
    functions={"serialize": _serialize},
    methods={"Serialize": Method(_serialize)},
    array_methods={"Serialize": Method(_serialize)},
)
