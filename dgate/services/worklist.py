"""Modality worklist service: C-FIND over what is scheduled (PS3.4 annex K).

Where the entries come from is not known here (`dgate.archive.worklist`). Association threads run
the handler; the service holds no state of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from dgate.archive.worklist import Columns, Entry, Worklist, WorklistKey
from dgate.config.settings import Settings
from dgate.dicom.encode import (
    QUERY_RETRIEVE_LEVEL,
    SPECIFIC_CHARACTER_SET,
    UTF_8,
    Content,
    encode_data_set,
)
from dgate.dicom.table import ElementTable
from dgate.errors import NotDicom, RuleError, StoreError
from dgate.net import Association, Message, Status
from dgate.rules.events import Event, EventHooks, NoEvents
from dgate.services.events import converted, refusal
from dgate.services.identifier import MOST_ELEMENTS, holds, identifier_table
from dgate.services.statuses import comment

log = logging.getLogger(__name__)

MODALITY_WORKLIST = "1.2.840.10008.5.1.4.31"
REFERENCED_STUDY = 0x00081110
REFERENCED_PATIENT = 0x00081120
_ALWAYS_EMPTY = (REFERENCED_STUDY, REFERENCED_PATIENT)
_NO_KEYS = frozenset((SPECIFIC_CHARACTER_SET, QUERY_RETRIEVE_LEVEL))
_CONTROL_GROUP = 0x9999


@dataclass(frozen=True, slots=True)
class Wanted:
    """One attribute of the request, as it is to be answered."""

    key: WorklistKey
    items: tuple[Wanted, ...] | None = None
    """The attributes wanted of a sequence; None for what is no sequence."""

    def matched(self) -> Iterator[WorklistKey]:
        """Yield what the worklist has to match."""
        if self.items is None:
            yield self.key
        else:
            for item in self.items:
                yield from item.matched()


class WorklistService:
    """Answers worklist requests."""

    def __init__(
        self, settings: Settings, worklist: Worklist, events: EventHooks | None = None
    ) -> None:
        self._settings = settings
        self._worklist = worklist
        events = events or NoEvents()
        self._request_hook = events.hook(Event.WORKLIST_QUERY)
        self._result_hook = events.hook(Event.WORKLIST_RESULT)

    def find(self, association: Association, message: Message) -> None:
        """Answer a C-FIND; a C-CANCEL between two answers ends the search."""
        try:
            table = identifier_table(message)
            refused = refusal(self._request_hook, association, table)
            if refused is not None:
                association.respond(message, Status.BLOCKED_QUERY, comment=refused[:64])
                return
            wanted = tuple(read_wanted(table, self._worklist.columns))
        except StoreError as exc:
            association.respond(message, Status.UNABLE_TO_PROCESS, comment=comment(exc))
            return
        try:
            cancelled = self._stream(association, message, wanted)
        except (RuleError, StoreError) as exc:
            log.error("A worklist query of %s could not be answered: %s", association.calling, exc)
            is_away = isinstance(exc, StoreError) and not self._settings.classic_status_codes
            status = Status.OUT_OF_RESOURCES if is_away else Status.UNABLE_TO_PROCESS
            association.respond(message, status, comment=comment(exc))
            return
        association.respond(message, Status.CANCEL if cancelled else Status.SUCCESS)

    def _stream(
        self, association: Association, message: Message, wanted: tuple[Wanted, ...]
    ) -> bool:
        """Send every match; return whether the peer cancelled."""
        keys = [key for each in wanted for key in each.matched()]
        columns = self._worklist.columns
        unknown = any(key.value and columns.of(key.tag, key.path) is None for key in keys)
        pending = Status.PENDING_KEYS_UNSUPPORTED if unknown else Status.PENDING
        message_id = message.command.message_id
        syntax = message.context.transfer_syntax
        for entry in self._worklist.find(keys):
            if association.cancelled(message_id):
                return True
            encoded = self._encode(entry, wanted, syntax)
            answer = converted(self._result_hook, association, encoded, syntax)
            if answer is not None:
                association.respond(message, pending, data=[answer])
        return False

    def _encode(self, entry: Entry, wanted: tuple[Wanted, ...], syntax: str) -> bytes:
        """Return one answer as data set in the context's transfer syntax."""
        content = packed(entry, wanted, self._worklist.columns)
        for tag in _ALWAYS_EMPTY:
            content.setdefault(tag, ())
        charset = answer_charset(entry, self._settings.worklist_iso_ir)
        return encode_data_set(content, syntax, charset)


def read_wanted(
    table: ElementTable, columns: Columns, path: tuple[int, ...] = ()
) -> Iterator[Wanted]:
    """Yield the attributes of a worklist identifier; a sequence with one item is taken apart.

    A sequence without item means all that the worklist has of it. Sequences of several items are
    dropped (spec dicom-sql.md section 7). Raises NotDicom for a sequence that cannot be read, or
    for more attributes than anybody needs.
    """
    tags = table.tags()
    if len(tags) > MOST_ELEMENTS:
        raise NotDicom(f"the identifier has more than {MOST_ELEMENTS} elements")
    for tag in tags:
        if tag & 0xFFFF == 0 or tag >> 16 == _CONTROL_GROUP or tag in _NO_KEYS:
            continue
        if not table.is_sequence(tag):
            yield Wanted(WorklistKey(path, tag, table.text(tag) or None))
            continue
        items = table.items(tag)
        inside = (*path, tag)
        if len(items) == 1 and items[0].tags():
            yield Wanted(WorklistKey(path, tag), tuple(read_wanted(items[0], columns, inside)))
        elif len(items) <= 1:
            yield Wanted(WorklistKey(path, tag), tuple(_everything(columns, inside)))


def _everything(columns: Columns, path: tuple[int, ...]) -> Iterator[Wanted]:
    """Yield what the worklist has of a sequence (universal matching, PS3.4 C.2.2.2.6)."""
    deeper: dict[int, None] = {}
    for column in columns.all:
        if column.sequence == path:
            yield Wanted(WorklistKey(path, column.tag))
        elif column.sequence[: len(path)] == path:
            deeper[column.sequence[len(path)]] = None
    for tag in deeper:
        yield Wanted(WorklistKey(path, tag), tuple(_everything(columns, (*path, tag))))


def packed(entry: Entry, wanted: tuple[Wanted, ...], columns: Columns) -> dict[int, Content]:
    """Return an entry in the form in which it was asked for; unknown attributes are empty.

    A sequence of which the worklist knows nothing at all has no item.
    """
    content: dict[int, Content] = {}
    for each in wanted:
        key = each.key
        if each.items is None:
            column = columns.of(key.tag, key.path)
            content[key.tag] = None if column is None else entry[column.name]
            continue
        known = any(columns.of(inner.tag, inner.path) is not None for inner in each.matched())
        content[key.tag] = (packed(entry, each.items, columns),) if known else ()
    return content


def answer_charset(entry: Entry, iso_ir: int) -> str:
    """Return the character set of an answer: ISO_IR `iso_ir` if it can hold the text, else UTF-8.

    0 means none at all, which only ASCII can do without.
    """
    text = "".join(value for value in entry.values() if value)
    configured = f"ISO_IR {iso_ir}" if iso_ir else ""
    if text.isascii() or (configured and holds(configured, text)):
        return configured
    return UTF_8
