"""Identifiers of C-FIND, C-MOVE and C-GET: from a data set to typed keys, and from matches back to
data sets (PS3.4 C.2.2 and C.4). Pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dgate.archive.levels import Level
from dgate.archive.query import EVERYTHING, Page, QueryKey
from dgate.dicom.charset import encode
from dgate.dicom.encode import QUERY_RETRIEVE_LEVEL, SPECIFIC_CHARACTER_SET, UTF_8
from dgate.dicom.table import ElementTable
from dgate.errors import DataSetMismatch, NotDicom
from dgate.net import Message
from dgate.services.question import CONTROL_TAGS, NOBODY, Question

RETRIEVE_AE_TITLE = 0x00080054
INSTANCE_AVAILABILITY = 0x00080056
FAILED_SOP_INSTANCE_UID_LIST = 0x00080058

LATIN_1 = "ISO_IR 100"

PATIENT_ROOT = frozenset({Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE})
STUDY_ROOT = frozenset({Level.STUDY, Level.SERIES, Level.IMAGE})
PATIENT_STUDY_ONLY = frozenset({Level.PATIENT, Level.STUDY})

UNIQUE_KEYS = {
    Level.PATIENT: 0x00100020,
    Level.STUDY: 0x0020000D,
    Level.SERIES: 0x0020000E,
    Level.IMAGE: 0x00080018,
}

MOST_ELEMENTS = 1000
"""How many elements an identifier may have; each becomes part of a question to the index."""

_CONTROL_GROUP = 0x9999
"""Private elements of the original program that say how to answer (spec converters.md 11)."""
_SORT, _LIMIT, _OFFSET = 0x99990C00, 0x99990C01, 0x99990C02
_CONTROL_TAGS = CONTROL_TAGS | {SPECIFIC_CHARACTER_SET, QUERY_RETRIEVE_LEVEL}


@dataclass(frozen=True, slots=True)
class Identifier:
    """The identifier of a request, decoded."""

    level: Level
    keys: tuple[QueryKey, ...]
    charset: str
    """Specific Character Set of the request, all its values; empty when absent."""
    sequences: tuple[int, ...]
    """Sequence keys: not matched, answered empty."""
    question: Question = NOBODY
    """Who asks, and who may be asked in turn."""
    page: Page = EVERYTHING
    """Which answers are wanted, by the original's private elements."""
    asks_items: bool = False
    """A sequence key has items with values, which are not matched: answers are wider than asked
    for."""


def identifier_table(message: Message) -> ElementTable:
    """Return the elements of a request's identifier.

    Raises:
        NotDicom: the identifier is missing, too large or not a data set, or has too many elements.
    """
    if message.payload is None or message.payload.overflowed:
        raise NotDicom("the identifier is missing or larger than 1 MiB")
    table = ElementTable(message.payload.view(), message.context.transfer_syntax)
    if len(table.tags()) > MOST_ELEMENTS:
        raise NotDicom(f"the identifier has more than {MOST_ELEMENTS} elements")
    return table


def read_keys(table: ElementTable, levels: frozenset[Level], calling: str = "") -> Identifier:
    """Return the keys of an identifier for an information model that has `levels`.

    Raises:
        DataSetMismatch: its query/retrieve level is missing or not one of the model.
    """
    name = table.text(QUERY_RETRIEVE_LEVEL).strip().upper()
    try:
        level = Level(name)
    except ValueError:
        level = None
    if level is None or level not in levels:
        allowed = ", ".join(sorted(each.value for each in levels))
        what = (
            f"query/retrieve level {name!r} is not one of {allowed}" if name else "no level given"
        )
        raise DataSetMismatch(what)
    keys = []
    sequences = []
    for tag in table.tags():
        if tag & 0xFFFF == 0 or tag in _CONTROL_TAGS or tag >> 16 == _CONTROL_GROUP:
            continue
        if table.is_sequence(tag):
            sequences.append(tag)
        else:
            keys.append(QueryKey(tag, table.text(tag) or None))
    charset = plain_charset(table.text(SPECIFIC_CHARACTER_SET))
    asks_items = any(_has_values(table, tag) for tag in sequences)
    question = Question.of(table, calling)
    page = _page(table)
    return Identifier(level, tuple(keys), charset, tuple(sequences), question, page, asks_items)


def plain_charset(text: str) -> str:
    """Return a value of (0008,0005) without blanks around its terms."""
    return "\\".join(term.strip() for term in text.split("\\"))


def _has_values(table: ElementTable, tag: int) -> bool:
    return any(item.raw(inner) for item in table.items(tag) for inner in item.tags())


def _page(table: ElementTable) -> Page:
    """Return order, limit and offset; what is no number counts as absent."""
    limit, offset = _number(table.text(_LIMIT)), _number(table.text(_OFFSET))
    return Page(table.text(_SORT).strip(), limit, offset or 0)


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def check_unique_keys(identifier: Identifier) -> None:
    """Demand the unique key of the level, as C-MOVE and C-GET need it (PS3.4 C.4.2.2.1).

    Without it the request would mean the whole archive.

    Raises:
        DataSetMismatch: the unique key is missing, empty or a wildcard.
    """
    wanted = UNIQUE_KEYS[identifier.level]
    value = next((key.value for key in identifier.keys if key.tag == wanted), None)
    if not value or "*" in value or "?" in value:
        raise DataSetMismatch(
            f"the identifier lacks the unique key of level {identifier.level.value}"
        )


def answer_charset(
    values: Mapping[int, str | None], requested: str, configured_iso_ir: int = 0
) -> str:
    """Return the character set for an answer (PS3.4 C.2.2.2 leaves the choice to the provider).

    UTF-8 when the request is in UTF-8. Else, of QueriesReturnISO_IR, the request's own and ISO_IR
    100, the first that can hold the text; UTF-8 when none can. Plain ASCII needs none, unless
    QueriesReturnISO_IR names one.
    """
    if requested == UTF_8:
        return UTF_8
    configured = f"ISO_IR {configured_iso_ir}" if configured_iso_ir else ""
    text = "".join(value for value in values.values() if value)
    if text.isascii():
        return configured
    for candidate in (configured, requested, LATIN_1):
        if candidate and holds(candidate, text):
            return candidate
    return UTF_8


def holds(charset: str, text: str) -> bool:
    """Tell whether a character set, one defined term, can hold a text."""
    try:
        encode(text, charset.encode("ascii"), "LO")
    except (UnicodeError, LookupError, ValueError):
        return False
    return True
