"""Element descriptors of rules and scripts: elements inside sequences (converters.md 7.2 and 8.3).

The descriptor `(desc1)desc2`, which reads another stored object, belongs to the rules. Pure
functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dgate.dicom import element

if TYPE_CHECKING:
    from dgate.dicom.table import ElementTable

_SEQUENCE = "(sequence)"
_TOO_LONG = "(too long)"
_LONGEST = 255
_INTEGERS = frozenset(("US", "UL", "SS", "SL"))


def read(table: ElementTable, descriptor: str) -> str:
    """Return the text of the element that a descriptor names, empty when there is none.

    `gggg,eeee` or a keyword; `*elem` for the first match at any depth; `/seq.N/elem` (N from 0,
    default 0), repeatable, also ending in `*elem`. A sequence gives `(sequence)`, a long value
    `(too long)`.
    """
    if not descriptor.startswith("/"):
        return _read_last(table, descriptor, nested=False)
    *steps, last = descriptor[1:].split("/")
    for step in steps:
        tag, number = _step(step)
        if tag is None or number is None or not table.is_sequence(tag):
            return ""
        found = table.items(tag)
        if number >= len(found):
            return ""
        table = found[number]
    return _read_last(table, last, nested=True)


def _read_last(table: ElementTable, name: str, *, nested: bool) -> str:
    if name.startswith("*"):
        tag = element.parse_tag(name[1:])
        return (_search(table, tag) if tag is not None else None) or ""
    tag = element.parse_tag(name)
    return "" if tag is None else _value(table, tag, nested=nested)


def _search(table: ElementTable, tag: int) -> str | None:
    """Return the text of the first element with a tag, depth first in tag order, if any."""
    for other in sorted(table.tags()):
        if other == tag:
            return _value(table, tag, nested=True)
        if table.is_sequence(other):
            for item in table.items(other):
                found = _search(item, tag)
                if found is not None:
                    return found
    return None


def _value(table: ElementTable, tag: int, *, nested: bool) -> str:
    if tag in table and table.is_sequence(tag):
        return _SEQUENCE
    if len(table.raw(tag) or b"") > _LONGEST:
        return _TOO_LONG
    text = table.text(tag)
    if nested and table.reading_vr(tag) in _INTEGERS:
        return text.partition("\\")[0]
    # A value of one blank stays one (converters.md 7.2).
    return " " if not text and table.raw(tag) == b" " else text


def write(table: ElementTable, path: str, text: str) -> None:
    """Set an element inside a sequence to a text; raise ValueError for what is no path.

    A missing sequence is made, with one item; a number beyond the last item, or `*`, appends one.
    """
    *steps, last = path.removeprefix("/").split("/")
    tag = element.parse_tag(last)
    tags = [_step(step) for step in steps]
    if tag is None or any(step is None for step, _ in tags):
        raise ValueError(f"{path!r} names no element inside a sequence")
    # Before going down: the character set belongs to the whole object.
    table.make_fit(text, element.vr_of(tag))
    _write(table, [(step, number) for step, number in tags if step is not None], tag, text)


def _write(table: ElementTable, steps: list[tuple[int, int | None]], tag: int, text: str) -> None:
    if not steps:
        table.set_text(tag, text)
        return
    (sequence, number), *deeper = steps
    found = table.items(sequence) if sequence in table else []
    if number is None or number >= len(found):
        found.append(table.new_item())
        number = len(found) - 1
    _write(found[number], deeper, tag, text)
    table.set_items(sequence, found)


def _step(text: str) -> tuple[int | None, int | None]:
    """Return tag and item number of `seq.N`; number None for `*`, tag None for nonsense."""
    name, _, number = text.partition(".")
    tag = element.parse_tag(name)
    if number == "*":
        return tag, None
    if number and not number.isdecimal():
        return None, None
    return tag, int(number or 0)
