"""Values that say nothing, valid in their VR: what action D puts in place (PS3.15 E.3.1).

A sequence that has to stay gets one item with what its module demands in it (PS3.3), all of it
dummies; where only references stand in a sequence, their UIDs are replaced. Pure functions.
"""

from __future__ import annotations

from collections.abc import Callable

from dgate.dicom import dictionary
from dgate.dicom.table import ElementTable

REMOVED = "REMOVED"
_VALUES = {
    "AE": REMOVED,
    "AS": "000Y",
    "CS": REMOVED,
    "DA": "19000101",
    "DS": "0",
    "DT": "19000101000000",
    "IS": "0",
    "LO": REMOVED,
    "LT": REMOVED,
    "PN": "Anonymous",
    "SH": REMOVED,
    "ST": REMOVED,
    "TM": "000000",
    "UC": REMOVED,
    "UR": "urn:removed",
    "UT": REMOVED,
}
_BYTES = {"OB": 2, "UN": 2, "OW": 2, "US": 2, "SS": 2}
_FOUR = frozenset(("AT", "FL", "OF", "OL", "SL", "UL"))

_REFERENCED_CLASS = 0x00081150
_REFERENCED_INSTANCE = 0x00081155
_LAYER = 0x00700002

MapUid = Callable[[str], str]
"""Gives the replacement of a UID."""


def dummy_value(tag: int, vr: str) -> bytes:
    """Return a value that is valid for the VR and, where it is fixed, the multiplicity of a tag."""
    text = _VALUES.get(vr)
    if text is None:
        return bytes(_BYTES.get(vr) or (4 if vr in _FOUR else 8))
    row = dictionary.ROWS.get(tag)
    times = int(row[1]) if row is not None and row[1].isdecimal() else 1
    return "\\".join([text] * times).encode("ascii")


def dummy_items(table: ElementTable, tag: int, map_uid: MapUid) -> list[ElementTable]:
    """Return the items in place of those of a sequence; none where nothing can be said."""
    make = _SEQUENCES.get(tag)
    return [] if make is None else make(table, tag, map_uid)


def code_item(table: ElementTable, value: str, scheme: str, meaning: str) -> ElementTable:
    """Return an item of a code sequence (PS3.3 8.8)."""
    item = table.new_item()
    item.set_raw(0x00080100, "SH", value.encode("ascii"))
    item.set_raw(0x00080102, "SH", scheme.encode("ascii"))
    item.set_raw(0x00080104, "LO", meaning.encode("ascii"))
    return item


def _code(table: ElementTable, tag: int, map_uid: MapUid) -> list[ElementTable]:
    return [code_item(table, REMOVED, "99DGATE", REMOVED)]


def _person(table: ElementTable, tag: int, map_uid: MapUid) -> list[ElementTable]:
    """Person Identification Macro (PS3.3 table 10-1)."""
    item = table.new_item()
    item.set_items(0x00401101, _code(item, 0x00401101, map_uid))
    _put(item, 0x00080080, "LO")
    return [item]


def _verifying_observer(table: ElementTable, tag: int, map_uid: MapUid) -> list[ElementTable]:
    """SR Document General Module (PS3.3 C.17.2)."""
    item = table.new_item()
    for element, vr in ((0x0040A027, "LO"), (0x0040A030, "DT"), (0x0040A075, "PN")):
        _put(item, element, vr)
    item.set_items(0x0040A088, [])
    return [item]


def _content(table: ElementTable, tag: int, map_uid: MapUid) -> list[ElementTable]:
    """Document Content Macro: a comment (PS3.3 C.17.3)."""
    item = table.new_item()
    item.set_raw(0x0040A010, "CS", b"CONTAINS")
    item.set_raw(0x0040A040, "CS", b"TEXT")
    item.set_items(0x0040A043, [code_item(item, "121106", "DCM", "Comment")])
    _put(item, 0x0040A160, "UT")
    return [item]


def _annotation(table: ElementTable, tag: int, map_uid: MapUid) -> list[ElementTable]:
    """Graphic Annotation Module: a point on a layer that is there (PS3.3 C.10.5)."""
    layer = next((item.raw(_LAYER) for item in table.items(tag)), None)
    item = table.new_item()
    item.set_raw(_LAYER, "CS", layer or b"LAYER")
    graphic = item.new_item()
    graphic.set_raw(0x00700005, "CS", b"DISPLAY")
    graphic.set_text(0x00700020, "2")
    graphic.set_text(0x00700021, "1")
    graphic.set_text(0x00700022, "0\\0")
    graphic.set_raw(0x00700023, "CS", b"POINT")
    graphic.set_raw(0x00700024, "CS", b"N")
    item.set_items(0x00700009, [graphic])
    return [item]


def _references(table: ElementTable, tag: int, map_uid: MapUid) -> list[ElementTable]:
    """SOP Instance Reference Macro (PS3.3 10.8): the same references, by their new UIDs."""
    items = []
    for old in table.items(tag):
        item = table.new_item()
        sop_class = old.raw(_REFERENCED_CLASS)
        instance = old.text(_REFERENCED_INSTANCE)
        if sop_class is not None:
            item.set_raw(_REFERENCED_CLASS, "UI", sop_class)
        item.set_raw(_REFERENCED_INSTANCE, "UI", map_uid(instance).encode("ascii"))
        items.append(item)
    return items


def _flow(table: ElementTable, tag: int, map_uid: MapUid) -> list[ElementTable]:
    """Flow identifiers of real-time video (PS3.3 C.7.6.26)."""
    item = table.new_item()
    for element in (0x00340002, 0x00340005, 0x00340007):
        _put(item, element, "OB")
    return [item]


def _put(item: ElementTable, tag: int, vr: str) -> None:
    item.set_raw(tag, vr, dummy_value(tag, vr))


_SEQUENCES: dict[int, Callable[[ElementTable, int, MapUid], list[ElementTable]]] = {
    0x00080082: _code,
    0x00081072: _person,
    0x00081111: _references,
    0x00340001: _flow,
    0x00401101: _code,
    0x0040A073: _verifying_observer,
    0x0040A730: _content,
    0x00700001: _annotation,
}
"""The sequences with action D in table E.1-1."""
