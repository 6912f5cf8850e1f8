"""What differs between two states of an object, element by element, items of sequences included.

For people and for records of change, not for the path of an object. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dgate.dicom.element import keyword_of
from dgate.dicom.table import ElementTable
from dgate.errors import StoreError

LONGEST_SHOWN = 200
"""Characters of a value that are shown."""
_BINARY_VRS = frozenset(("OB", "OW", "OD", "OF", "OL", "OV", "UN"))


@dataclass(frozen=True, slots=True)
class Difference:
    """One element that is not the same in both states."""

    path: str
    """`(0010,0010)`, inside a sequence `(0008,1110)[0](0008,1155)`; items count from 0."""
    keyword: str
    """Empty for elements that the dictionary does not know."""
    vr: str
    before: str | None
    """The value as people read it, cut at `LONGEST_SHOWN`; None: the element was not there."""
    after: str | None

    def line(self) -> str:
        """Return the difference as one line."""
        return change_line(self.path, self.keyword, self.before, self.after)


def change_line(path: str, keyword: str, before: str | None, after: str | None) -> str:
    """Return a changed element as one line, for people."""
    name = f"{path} {keyword}".rstrip()
    old = "(absent)" if before is None else repr(before)
    new = "(absent)" if after is None else repr(after)
    return f"{name}: {old} -> {new}"


def differences(before: ElementTable, after: ElementTable, path: str = "") -> Iterator[Difference]:
    """Yield what differs, by tag; a sequence is taken apart where both states have its items."""
    for tag in sorted(_candidates(before, after)):
        old, new = before.raw(tag), after.raw(tag)
        if old == new and before.vr(tag) == after.vr(tag):
            continue
        here = f"{path}({tag >> 16:04X},{tag & 0xFFFF:04X})"
        if old is not None and new is not None and _is_sequence(before, after, tag):
            items = _items(before, tag), _items(after, tag)
            if None not in items:
                yield from _by_item(items[0] or [], items[1] or [], here)
                continue
        table = before if new is None else after
        yield Difference(
            here, keyword_of(tag), table.reading_vr(tag), _shown(before, tag), _shown(after, tag)
        )


def _candidates(before: ElementTable, after: ElementTable) -> set[int]:
    """Return the tags that may differ: of two states of one data set those that were touched, so
    that nobody compares pixels with themselves."""
    tags = {*before.tags(), *after.tags()}
    if before.buffer is after.buffer and before.touched is not None and after.touched is not None:
        return tags & (before.touched | after.touched)
    return tags


def _by_item(
    before: list[ElementTable], after: list[ElementTable], here: str
) -> Iterator[Difference]:
    for number in range(max(len(before), len(after))):
        place = f"{here}[{number}]"
        if number >= len(after):
            yield Difference(place, "", "SQ", _item_text(before[number]), None)
        elif number >= len(before):
            yield Difference(place, "", "SQ", None, _item_text(after[number]))
        else:
            yield from differences(before[number], after[number], place)


def _is_sequence(before: ElementTable, after: ElementTable, tag: int) -> bool:
    return before.is_sequence(tag) and after.is_sequence(tag)


def _items(table: ElementTable, tag: int) -> list[ElementTable] | None:
    try:
        return table.items(tag)
    except StoreError:
        # Not to be taken apart: it is compared as bytes.
        return None


def _shown(table: ElementTable, tag: int) -> str | None:
    raw = table.raw(tag)
    if raw is None:
        return None
    vr = table.reading_vr(tag)
    if table.is_sequence(tag):
        items = _items(table, tag)
        return f"({len(raw)} bytes)" if items is None else f"({len(items)} item(s))"
    if vr in _BINARY_VRS:
        return f"({len(raw)} bytes)"
    return _cut(table.text(tag))


def _item_text(item: ElementTable) -> str:
    parts = [f"{keyword_of(tag) or f'{tag:08X}'}={_shown(item, tag)}" for tag in item.tags()]
    return _cut(" ".join(parts))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
