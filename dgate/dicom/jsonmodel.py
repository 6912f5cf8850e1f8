"""The DICOM JSON model: data sets to JSON values and back (PS3.18 Annex F).

Reading also takes the plain form of scripts, `{"PatientID": "1", "Rows": 4}`. Not for text
(`json.dumps` is the caller's) nor for the Lua form (`dgate.rules.lua.serial`). Pure functions.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dgate.dicom import element
from dgate.dicom.element import SPECIFIC_CHARACTER_SET, parse_tag
from dgate.dicom.table import ElementTable

BULK_VRS: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
"""VRs whose values are bulk data (PS3.18 F.2.7)."""
SINGLE_VRS: Final = frozenset(("LT", "ST", "UR", "UT"))
"""Text VRs that never hold several values (PS3.5 6.2): a backslash is a character there."""

_NAME_PARTS = ("Alphabetic", "Ideographic", "Phonetic")
_FLOATS = frozenset(("FL", "FD"))
_UNITS = {"OB": ("B", "b"), "UN": ("B", "b"), "OW": ("H", "h"), "OL": ("L", "l"), "OV": ("Q", "q")}
"""How `struct` writes lists of numbers for bulk VRs: unsigned, and where one is negative."""
_REALS = {"OF": "f", "OD": "d"}
_LONGEST_DS = 16
_UTF_8 = "ISO_IR 192"

JsonValue = Any
"""What `json` makes of a text: its types are checked here."""


def to_model(table: ElementTable, *, bulk: bool) -> dict[str, JsonValue]:
    """Return a data set in the DICOM JSON model.

    Args:
        table: the data set; group lengths are left out, as PS3.18 F.2.2 asks.
        bulk: whether bulk data is given, as InlineBinary; else its elements are left out.
    """
    model: dict[str, JsonValue] = {}
    for tag in table.tags():
        if tag & 0xFFFF == 0:
            continue
        vr = table.reading_vr(tag)
        if table.is_sequence(tag):
            items = [to_model(item, bulk=bulk) for item in table.items(tag)]
            model[f"{tag:08X}"] = _attribute("SQ", items)
        elif vr not in BULK_VRS:
            model[f"{tag:08X}"] = _attribute(vr, _values(table, tag, vr))
        elif bulk:
            raw = _little_endian(table, vr, table.raw(tag) or b"")
            inline = {"InlineBinary": base64.b64encode(raw).decode("ascii")} if raw else {}
            model[f"{tag:08X}"] = {"vr": vr, **inline}
    return model


def fill(table: ElementTable, values: Mapping[str, JsonValue]) -> None:
    """Set elements from the DICOM JSON model or from plain values by keyword or tag.

    A plain value is a text, a number, null, a list of these, or a list of objects (a sequence).
    Keywords that no dictionary has are skipped. Raises ValueError for what an element cannot hold.
    """
    known = {tag: value for key, value in values.items() if (tag := parse_tag(key)) is not None}
    # First, as it decides how the others are encoded.
    charset = known.pop(SPECIFIC_CHARACTER_SET, None)
    if charset is not None:
        _set(table, SPECIFIC_CHARACTER_SET, charset)
    for tag, value in known.items():
        try:
            _set(table, tag, value)
        except ValueError as exc:
            raise ValueError(f"{element.keyword_of(tag) or f'{tag:08X}'}: {exc}") from exc


def items_of(table: ElementTable, value: JsonValue) -> list[ElementTable]:
    """Return the items for `table` that a list of JSON objects describes; raises ValueError."""
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        raise ValueError("a sequence takes a list of objects")
    found = []
    for content in value:
        if not isinstance(content, Mapping):
            raise ValueError("a sequence takes a list of objects")
        item = table.new_item()
        fill(item, content)
        found.append(item)
    return found


def _attribute(vr: str, values: list[JsonValue]) -> dict[str, JsonValue]:
    return {"vr": vr, "Value": values} if values else {"vr": vr}


def _values(table: ElementTable, tag: int, vr: str) -> list[JsonValue]:
    raw = table.raw(tag)
    if not raw:
        return []
    if vr == "AT":
        texts = element.number_texts(vr, raw, little_endian=table.little_endian)
        return [text.replace(",", "") for text in texts]
    if vr in element.NUMERIC_VRS:
        return [_number(each) for each in numbers(table, vr, raw)]
    if tag == SPECIFIC_CHARACTER_SET:
        # The model is UTF-8, whatever the object was encoded in (PS3.18 F.2).
        return [_UTF_8]
    text = table.text(tag)
    if not text:
        return []
    if vr in SINGLE_VRS:
        return [text]
    return [_value(vr, part) for part in text.split("\\")]


def numbers(table: ElementTable, vr: str, raw: bytes) -> tuple[int | float, ...]:
    """Return the values of a binary VR in the byte order of the data set."""
    return element.numbers_of(vr, raw, little_endian=table.little_endian)


def _value(vr: str, text: str) -> JsonValue:
    text = text.strip(" ") if vr != "UC" else text.rstrip(" ")
    if not text:
        return None
    if vr == "PN":
        parts = zip(_NAME_PARTS, text.split("="), strict=False)
        return {name: part for name, part in parts if part}
    if vr not in ("DS", "IS"):
        return text
    try:
        number = int(text) if text.lstrip("+-").isdecimal() else float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _number(value: float) -> JsonValue:
    """Return a number, as text what JSON has no number for (PS3.18 F.2.3)."""
    if isinstance(value, int) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _little_endian(table: ElementTable, vr: str, raw: bytes) -> bytes:
    """Return bulk data in the byte order of the model (PS3.18 F.2.7)."""
    if table.little_endian or vr in ("OB", "UN"):
        return raw
    values = numbers(table, vr, raw)
    form = _REALS.get(vr) or _UNITS[vr][0]
    return struct.pack(f"<{len(values)}{form}", *values)


def _set(table: ElementTable, tag: int, value: JsonValue) -> None:
    vr = table.reading_vr(tag)
    if isinstance(value, Mapping) and ("vr" in value or "Value" in value):
        vr = _stated_vr(value.get("vr"), vr)
        if "BulkDataURI" in value:
            raise ValueError("bulk data that is only referred to cannot be read")
        if "InlineBinary" in value:
            table.set_raw(tag, vr, _swapped(table, vr, _decoded(value["InlineBinary"])))
            return
        value = value.get("Value")
    if vr == "SQ":
        table.set_items(tag, [] if value in (None, "") else items_of(table, value))
        return
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if vr in BULK_VRS and values and all(isinstance(each, (int, float)) for each in values):
        table.set_raw(tag, vr, _bulk(table, vr, values))
        return
    text = "\\".join(_text(vr, each) for each in values)
    table.make_fit(text, vr)
    raw = element.encode_value(vr, text, table.charset, table.little_endian)
    table.set_raw(tag, vr, raw)


def _stated_vr(stated: JsonValue, vr: str) -> str:
    if stated is None:
        return vr
    if not isinstance(stated, str) or len(stated) != 2 or not stated.isascii():
        raise ValueError(f"{stated!r} is no VR")
    if not stated.isupper():
        raise ValueError(f"{stated!r} is no VR")
    return stated


def _decoded(inline: JsonValue) -> bytes:
    if not isinstance(inline, str):
        raise ValueError("InlineBinary takes a text")
    try:
        return base64.b64decode(inline, validate=True)
    except binascii.Error as exc:
        raise ValueError(f"InlineBinary is not base64: {exc}") from exc


def _swapped(table: ElementTable, vr: str, raw: bytes) -> bytes:
    if table.little_endian or vr not in (*_REALS, "OW", "OL", "OV"):
        return raw
    form = _REALS.get(vr) or _UNITS[vr][0]
    count = len(raw) // struct.calcsize(form)
    return struct.pack(f">{count}{form}", *struct.unpack_from(f"<{count}{form}", raw))


def _bulk(table: ElementTable, vr: str, values: Sequence[float]) -> bytes:
    order = "<" if table.little_endian else ">"
    try:
        if vr in _REALS:
            return struct.pack(f"{order}{len(values)}{_REALS[vr]}", *values)
        whole = [int(each) for each in values]
        form = _UNITS[vr][any(each < 0 for each in whole)]
        return struct.pack(f"{order}{len(whole)}{form}", *whole)
    except (struct.error, OverflowError, ValueError) as exc:
        raise ValueError(f"a number does not fit into VR {vr}") from exc


def _text(vr: str, value: JsonValue) -> str:
    """Return one value as the text that `element.encode_value` takes."""
    if value is None:
        return ""
    if isinstance(value, bool):
        raise ValueError("true and false are no values of DICOM")
    if isinstance(value, Mapping):
        if vr != "PN":
            raise ValueError(f"VR {vr} cannot hold an object")
        return "=".join(str(value.get(name) or "") for name in _NAME_PARTS).rstrip("=")
    if isinstance(value, (list, tuple)):
        raise ValueError("a list within a list is no value of DICOM")
    if isinstance(value, float):
        return _real(vr, value)
    return str(value)


def _real(vr: str, value: float) -> str:
    if value.is_integer() and vr not in _FLOATS and abs(value) < 1e15:
        return str(int(value))
    text = repr(value)
    if vr == "DS" and len(text) > _LONGEST_DS:
        # The most digits that 16 characters hold beside sign, point and exponent.
        return next(
            short
            for digits in range(15, 0, -1)
            if len(short := f"{value:.{digits}g}") <= _LONGEST_DS
        )
    return text
