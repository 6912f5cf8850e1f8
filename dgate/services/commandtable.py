"""Command sets as the elements that scripts read, and elements that join one (converters.md 11).

Pure functions.
"""

from __future__ import annotations

from struct import Struct

from dgate.dicom.element import vr_of
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import convert
from dgate.dicom.uids import IMPLICIT_LE
from dgate.errors import RuleError
from dgate.net import Command
from dgate.net.dimse import encode_command

_HEADER = Struct("<HHI")
"""Group, element, length: implicit VR."""


def command_table(command: Command) -> ElementTable:
    """Return a command set as the elements that scripts read."""
    # A data set cannot have group 0000, a table can be given it.
    table = ElementTable(command.extra, IMPLICIT_LE)
    data = encode_command(command)
    at, end = 0, len(data) - len(command.extra)
    while at < end:
        _, number, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        if number:
            table.set_raw(number, vr_of(number), data[at : at + length])
        at += length
    return table


def control_elements(extra: ElementTable | None) -> bytes:
    """Return the elements of group 9999 that are to join a command set, implicit little endian."""
    if extra is None or not extra.tags():
        return b""
    others = [tag for tag in extra.tags() if tag >> 16 != 0x9999]
    if others:
        raise RuleError(
            f"({others[0] >> 16:04X},{others[0] & 0xFFFF:04X}) cannot join a command set",
            remedy="only elements of group 9999 can",
        )
    data = extra.tobytes()
    return data if extra.syntax == IMPLICIT_LE else convert(data, extra.syntax, IMPLICIT_LE)
