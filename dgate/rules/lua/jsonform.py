"""JSON texts of objects, written and read (spec lua-api.md 6).

Two forms: by keyword, for scripts, and the DICOM JSON model (PS3.18 Annex F), which
`dgate.dicom.jsonmodel` makes. Pure functions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from dgate.dicom import element
from dgate.dicom.jsonmodel import fill, items_of, numbers, to_model
from dgate.dicom.table import ElementTable
from dgate.errors import RuleError

_NUMBERS = frozenset(("UL", "US", "SL", "SS", "FL", "FD", "UV", "SV"))
_BULK = frozenset(("OB", "OW", "OF", "OL", "OD", "OV"))


def json_form(table: ElementTable, *, pixels: bool = False) -> str:
    """Return `{"Keyword":value,...}` of an object."""
    return _dumped(_by_keyword(table, pixels))


def json_form_of_all(tables: Iterable[ElementTable], *, pixels: bool = False) -> str:
    """Return `[{...},{...}]` of an array."""
    return _dumped([_by_keyword(table, pixels) for table in tables])


def dicom_json(tables: Iterable[ElementTable], *, pixels: bool = False) -> str:
    """Return the DICOM JSON model of objects: always a list (PS3.18 F.2.1)."""
    return _dumped([to_model(table, bulk=pixels) for table in tables])


def read_json(table: ElementTable, text: str) -> None:
    """Set the elements that a JSON object names, in either form; raises RuleError.

    A list of one object is taken, too, as `Serialize(true, false, true)` returns one.
    """
    values = _loaded(text)
    if isinstance(values, list) and len(values) == 1:
        values = values[0]
    if not isinstance(values, Mapping):
        raise RuleError("the JSON text is not an object", remedy='write {"PatientID": "1"}')
    try:
        fill(table, values)
    except ValueError as exc:
        raise RuleError(f"the JSON text does not fit an object: {exc}") from exc


def read_json_items(table: ElementTable, text: str) -> list[ElementTable]:
    """Return the items for a sequence of `table` that a JSON list describes; raises RuleError."""
    try:
        return items_of(table, _loaded(text))
    except ValueError as exc:
        raise RuleError(f"the JSON text does not fit a sequence: {exc}") from exc


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as exc:
        raise RuleError(f"the text is not JSON: {exc}") from exc


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _by_keyword(table: ElementTable, pixels: bool) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for tag in table.tags():
        keyword = element.keyword_of(tag)
        vr = table.reading_vr(tag)
        if not keyword or tag & 0xFFFF == 0:
            continue
        if table.is_sequence(tag):
            values[keyword] = [_by_keyword(item, pixels) for item in table.items(tag)]
            continue
        if vr == "UN" or (vr in _BULK and not pixels):
            continue
        value = _value(table, tag, vr)
        if value is not None:
            values[keyword] = value
    return values


def _value(table: ElementTable, tag: int, vr: str) -> Any:
    raw = table.raw(tag) or b""
    if vr == "OB":
        return list(raw)
    if vr in _BULK:
        return _finite(numbers(table, vr, raw))
    if vr in _NUMBERS:
        found = _finite(numbers(table, vr, raw))
        return None if not found else found[0] if len(found) == 1 else found
    if vr == "AT":
        texts = element.number_texts(vr, raw, little_endian=table.little_endian)
        tags = [text.replace(",", "") for text in texts]
        return "" if not tags else tags[0] if len(tags) == 1 else tags
    if vr in ("DS", "IS"):
        return raw.rstrip(b"\0").decode("latin_1")
    return table.text(tag)


def _finite(values: Iterable[float]) -> list[float | str]:
    """Return numbers; those that JSON has no form for as text."""
    return [each if each - each == 0 else str(each) for each in values]
