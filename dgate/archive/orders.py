"""From HL7 messages and JSON to worklist entries (spec dicom-sql.md 3, operator-surface.md 8).

Where a column's value stands in a message says the 7th field of its row in dicom.sql. Not for the
table (`dgate.archive.worklist`). Pure functions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dgate.archive.worklist import (
    NEW_ACCESSION,
    NO_WORKLIST,
    NO_WORKLIST_REMEDY,
    Columns,
    Entered,
    Entry,
    Named,
    Worklist,
)
from dgate.config.layout import Column
from dgate.config.worklist import HL7_MADE, HL7_PLACE
from dgate.dicom.element import vr_of
from dgate.errors import DgateError

_MOMENT = re.compile(r"([0-9]{4,8})([0-9]*(?:\.[0-9]+)?)(?:[+-][0-9]{4})?")
_CANCELLED = frozenset(("CA", "OC", "CR", "DC", "OD", "DR"))
"""Order control codes (HL7 table 0119) that end an order."""
_PERSONS = frozenset(
    f"{segment}.{number}"
    for segment, numbers in (
        ("OBR", (10, 16, 28, 32, 33, 34, 35)),
        ("ORC", (10, 11, 12, 19)),
        ("PV1", (7, 8, 9, 17, 52)),
    )
    for number in numbers
)
"""Fields of type XCN: an identifier stands before the name."""
_CHARSETS = {
    "UNICODE UTF-8": "utf_8",
    "UNICODE": "utf_8",
    "UTF-8": "utf_8",
    "ASCII": "latin_1",
    "8859/1": "latin_1",
    "8859/2": "iso8859_2",
    "8859/3": "iso8859_3",
    "8859/4": "iso8859_4",
    "8859/5": "iso8859_5",
    "8859/6": "iso8859_6",
    "8859/7": "iso8859_7",
    "8859/8": "iso8859_8",
    "8859/9": "iso8859_9",
    "8859/15": "iso8859_15",
    "ISO IR14": "shift_jis",
    "ISO IR87": "iso2022_jp",
    "ISO IR159": "iso2022_jp_1",
    "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr",
    "BIG-5": "big5",
}
"""MSH-18 (HL7 table 0211) to codecs."""


@dataclass(frozen=True, slots=True)
class Order:
    """What one order, or one JSON object, asks of the worklist."""

    values: dict[str, str]
    """Column names to values, as `Worklist.put` takes them."""
    ends: bool = False
    """The order was cancelled: its entry goes."""
    control: str = ""

    def change(self, columns: Columns) -> Entry | Named:
        """Return what `Worklist.change` has to do for the order.

        Raises DgateError for a cancelled order that does not say which.
        """
        if not self.ends:
            return self.values
        accession = self.values.get(columns.key.name, "")
        if not accession or accession == NEW_ACCESSION:
            raise DgateError("a cancelled order has no accession number, so no entry is meant")
        step = columns.step
        return Named(accession, self.values.get(step.name) if step is not None else None)


def load_orders(data: bytes, worklist: Worklist, name: str = "") -> list[Entered | int]:
    """Take the orders of a file into the worklist, all or none; see `Worklist.change`.

    Raises DgateError for what cannot be understood or entered, DatabaseAway.
    """
    columns = worklist.columns
    orders = read_orders(data, columns, name)
    return worklist.change([order.change(columns) for order in orders])


@dataclass(slots=True)
class _Message:
    """One HL7 message, split."""

    delimiters: str
    """Field, component, repetition, escape and subcomponent separator."""
    segments: list[list[str]] = field(default_factory=list)


def read_orders(data: bytes, columns: Columns, name: str = "") -> list[Order]:
    """Return the orders of a file: JSON when it begins with a bracket or brace, else HL7.

    Raises DgateError, naming the place, for what cannot be understood; nothing is half read.
    """
    if not columns:
        raise DgateError(NO_WORKLIST, remedy=NO_WORKLIST_REMEDY)
    try:
        if data.lstrip(b" \t\r\n\xef\xbb\xbf")[:1] in (b"{", b"["):
            return list(_from_json(data, columns))
        return list(_from_hl7(data, columns.all))
    except DgateError as exc:
        raise DgateError(exc.what, where=exc.where or name, remedy=exc.remedy) from exc


# JSON.


def _from_json(data: bytes, columns: Columns) -> Iterator[Order]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise DgateError(f"the JSON cannot be read: {exc}") from exc
    for number, each in enumerate(content if isinstance(content, list) else [content], 1):
        if not isinstance(each, dict):
            raise DgateError(f"entry {number} is not an object with columns and values")
        yield Order(dict(_flat(each, columns, number)))


def _flat(content: Mapping[str, Any], columns: Columns, number: int) -> Iterator[tuple[str, str]]:
    """Yield column names and values; sequences, as objects or lists of one, are taken apart."""
    for name, value in content.items():
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, dict):
            yield from _flat(value, columns, number)
            continue
        column = columns.named(name)
        if column is None:
            known = ", ".join(each.full_name for each in columns.all)
            raise DgateError(f"entry {number}: the worklist has no column {name!r}", remedy=known)
        if value is None:
            value = ""
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise DgateError(f"entry {number}: {name} must be a text")
        yield column.name, str(value)


# HL7 version 2.


def _from_hl7(data: bytes, columns: Sequence[Column]) -> Iterator[Order]:
    count = 0
    for message in _messages(data):
        for segments in _groups(message.segments):
            control = _value(segments, message.delimiters, "ORC", 1, 0)
            values = dict(_mapped(segments, message.delimiters, columns))
            yield Order(values, control.upper() in _CANCELLED, control.upper())
            count += 1
    if not count:
        raise DgateError(
            "the file holds no HL7 message", remedy="an HL7 file begins with MSH, JSON with [ or {"
        )


def _messages(data: bytes) -> Iterator[_Message]:
    """Split a file at its MSH segments; framing bytes of MLLP and batch headers are skipped."""
    message = None
    lines = re.split(rb"[\r\n\x0b\x1c]+", data.removeprefix(b"\xef\xbb\xbf"))
    codec = ""
    for number, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        if raw[:3] == b"MSH":
            if message is not None:
                yield message
            codec = _codec(raw)
            message = _begin(raw, codec)
        elif message is not None and raw[:3] not in (b"FTS", b"BTS", b"FHS", b"BHS"):
            name = raw[:3]
            if not (name.isalnum() and raw[3:4].decode("latin_1") in ("", message.delimiters[0])):
                shown = raw[:20].decode("latin_1")
                raise DgateError(f"line {number} is no HL7 segment: {shown!r}")
            message.segments.append(_decode(raw, codec).split(message.delimiters[0]))
        elif message is None and raw[:3] not in (b"FHS", b"BHS"):
            raise DgateError(
                "the file does not begin with an HL7 message header",
                remedy="an HL7 file begins with MSH, JSON with [ or {",
            )
    if message is not None:
        yield message


def _begin(raw: bytes, codec: str) -> _Message:
    text = _decode(raw, codec)
    delimiters = text[3:8]
    if len(delimiters) < 5 or len(set(delimiters)) < 5:
        # The subcomponent separator may be left out.
        delimiters = (delimiters[:4] + "&")[:5]
    if len(set(delimiters)) < 5 or any(letter.isalnum() for letter in delimiters):
        raise DgateError(f"the message header {text[:12]!r} names no separators")
    # As it is counted here, MSH.6 is the date: HL7 itself takes the first separator for a field.
    return _Message(delimiters, [text.split(delimiters[0])])


def _codec(header: bytes) -> str:
    fields = header[4:].split(header[3:4] or b"|")
    named = fields[16].split(b"~")[0].strip().decode("ascii", "replace") if len(fields) > 16 else ""
    return _CHARSETS.get(named.upper(), "")


def _decode(raw: bytes, codec: str) -> str:
    for attempt in (codec, "utf_8"):
        try:
            return raw.decode(attempt or "utf_8")
        except UnicodeDecodeError:
            # Declared wrongly or not at all: the next guess, at last Latin-1, which takes all.
            continue
    return raw.decode("latin_1")


def _groups(segments: Sequence[list[str]]) -> Iterator[list[list[str]]]:
    """Yield the segments of each order: an OBR with its ORC, and what the whole message shares."""
    shared: list[list[str]] = []
    groups: list[list[list[str]]] = []
    for segment in segments:
        name = segment[0]
        fresh = name == "ORC" or (name == "OBR" and not (groups and _lacks(groups[-1], "OBR")))
        if fresh:
            groups.append([])
        (groups[-1] if groups else shared).append(segment)
    for group in groups or [[]]:
        yield [*group, *shared]


def _lacks(group: Sequence[list[str]], name: str) -> bool:
    return all(segment[0] != name for segment in group)


def _mapped(
    segments: Sequence[list[str]], delimiters: str, columns: Sequence[Column]
) -> Iterator[tuple[str, str]]:
    """Yield the columns that the message has a value for; `""` in HL7 removes one."""
    for column in columns:
        special = column.hl7.upper()
        if special in HL7_MADE:
            yield column.name, special
            continue
        place = HL7_PLACE.fullmatch(column.hl7)
        if place is None:
            continue
        segment, number = place[1].upper(), int(place[2])
        component = None if place[3] is None else int(place[3])
        if component is None and vr_of(column.tag) == "PN":
            value = _name(segments, delimiters, segment, number)
        else:
            value = _value(segments, delimiters, segment, number, component or 0)
        if place[4]:
            value = _moment(value, place[4].upper())
        if value == '""':
            yield column.name, ""
        elif value:
            yield column.name, value


def _moment(value: str, part: str) -> str:
    found = _MOMENT.fullmatch(value.strip())
    if found is None:
        return value if value == '""' else ""
    return found[1] if part == "DATE" else found[2]


def _field(segments: Sequence[list[str]], name: str, number: int) -> str:
    segment = next((each for each in segments if each[0] == name), None)
    return segment[number] if segment is not None and number < len(segment) else ""


def _components(
    segments: Sequence[list[str]], delimiters: str, name: str, number: int
) -> list[str]:
    """Return the components of a field's first repetition, unescaped."""
    text = _field(segments, name, number)
    _, component, repetition, _, subcomponent = tuple(delimiters)
    if name != "MSH" or number > 1:
        text = text.split(repetition)[0]
    parts = text.split(component)
    return [_unescaped(part.split(subcomponent)[0], delimiters).strip() for part in parts]


def _value(
    segments: Sequence[list[str]], delimiters: str, name: str, number: int, component: int
) -> str:
    parts = _components(segments, delimiters, name, number)
    return parts[component] if component < len(parts) else ""


def _name(segments: Sequence[list[str]], delimiters: str, name: str, number: int) -> str:
    """Return a person's name as DICOM has it: HL7 puts the suffix before the prefix."""
    parts = _components(segments, delimiters, name, number)
    if parts == ['""']:
        return '""'
    if f"{name}.{number}" in _PERSONS and len(parts) > 1:
        parts = parts[1:]
    family, given, middle, suffix, prefix = (*parts, "", "", "", "", "")[:5]
    listed = [part.replace("^", " ") for part in (family, given, middle, prefix, suffix)]
    return "^".join(listed).rstrip("^")


def _unescaped(text: str, delimiters: str) -> str:
    """Return the text that escape sequences stand for (HL7 v2 chapter 2.7)."""
    separator, component, repetition, escape, subcomponent = tuple(delimiters)
    if escape not in text:
        return text
    known = {"F": separator, "S": component, "T": subcomponent, "R": repetition, "E": escape}
    mark = re.escape(escape)

    def replace(found: re.Match[str]) -> str:
        code = found[1]
        if code in known:
            return known[code]
        if code[:1] == "X" and len(code) % 2 and re.fullmatch("[0-9A-Fa-f]+", code[1:]):
            return _decode(bytes.fromhex(code[1:]), "")
        # Formatting, such as .br and H: a blank keeps words apart.
        return " " if code[:1] == "." else ""

    return re.sub(f"{mark}([^{mark}]*){mark}", replace, text)
