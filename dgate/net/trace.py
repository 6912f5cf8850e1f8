"""What `DebugLevel` adds to the log on the network's side: commands, questions, answers.

Never the data sets of C-STORE, which are images. Names and IDs of patients get into the log from
level 2 on. Pure functions, called only where the level asks for them.
"""

from __future__ import annotations

import logging

from dgate.dicom.element import keyword_of
from dgate.dicom.payload import Payload
from dgate.dicom.table import ElementTable
from dgate.errors import NotDicom
from dgate.net.dimse import Command, CommandField
from dgate.net.negotiation import PresentationContext
from dgate.ops.log import COMMANDS, QUERIES, RESULTS

_commands = logging.getLogger(COMMANDS)
_queries = logging.getLogger(QUERIES)
_results = logging.getLogger(RESULTS)

_STORES = (int(CommandField.C_STORE_RQ), int(CommandField.C_STORE_RSP))
_LONGEST_VALUE = 64
_MOST_ELEMENTS = 200


def is_on() -> bool:
    """Tell whether commands are to be logged; asked for each of them, so it costs next to
    nothing."""
    return _commands.isEnabledFor(logging.DEBUG)


def received(
    label: str, context: PresentationContext, command: Command, payload: Payload | None
) -> None:
    """Log a message that has arrived."""
    _commands.debug("%s received %s", label, describe(command))
    if payload is not None and not payload.overflowed:
        _data_set(label, "received", context, command, payload.view())


def sent(label: str, context: PresentationContext, command: Command, data: object) -> None:
    """Log a message that is about to be sent; `data` is shown when it is there as a whole."""
    _commands.debug("%s sends %s", label, describe(command))
    if isinstance(data, list) and data and all(isinstance(part, bytes) for part in data):
        _data_set(label, "sends", context, command, b"".join(data))


def describe(command: Command) -> str:
    """Return a command in one line, with what is set in it."""
    try:
        name = CommandField(command.command_field).name.replace("_", "-", 1).replace("_", "-")
    except ValueError:
        name = f"command {command.command_field:04X}"
    parts = [name]
    for field, value in (
        ("message", command.message_id),
        ("answering", command.message_id_responded),
        ("class", command.service_class),
        ("instance", command.sop_instance or command.requested_sop_instance),
        ("to", command.move_destination),
        ("for", command.originator),
        ("remaining", command.remaining),
        ("completed", command.completed),
        ("failed", command.failed),
        ("warning", command.warning),
        ("comment", command.error_comment),
    ):
        if value not in (None, "", 0) or (field in ("remaining", "completed") and value == 0):
            parts.append(f"{field} {value}")
    if command.status is not None:
        parts.append(f"status {command.status:04X}")
    return ", ".join(parts)


def _data_set(
    label: str,
    verb: str,
    context: PresentationContext,
    command: Command,
    data: bytes | memoryview,
) -> None:
    if command.command_field in _STORES:
        return
    topic = _results if command.is_response else _queries
    if topic.isEnabledFor(logging.DEBUG):
        topic.debug("%s %s %s", label, verb, shown(data, context.transfer_syntax))


def shown(data: bytes | memoryview, syntax: str) -> str:
    """Return a small data set in one line."""
    try:
        table = ElementTable(data, syntax)
        tags = table.tags()
        parts = [_element(table, tag) for tag in tags[:_MOST_ELEMENTS]]
    except NotDicom as exc:
        return f"a data set that cannot be read: {exc}"
    more = [] if len(tags) <= _MOST_ELEMENTS else [f"and {len(tags) - _MOST_ELEMENTS} more"]
    return "; ".join(parts + more) or "an empty data set"


def _element(table: ElementTable, tag: int) -> str:
    name = keyword_of(tag)
    where = f"({tag >> 16:04X},{tag & 0xFFFF:04X})" + (f" {name}" if name else "")
    if table.is_sequence(tag):
        return f"{where} sequence"
    value = table.text(tag)
    cut = value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}..."
    return f"{where} [{cut}]"
