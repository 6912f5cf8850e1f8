"""Objects that cannot be parsed, and are kept all the same (`NoDicomCheck = 1`).

The file gets the bytes that came. The index gets what stands before the place where reading fails,
and the UIDs that the C-STORE command named. Pure functions, safe between threads.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from dgate.dicom.element import SOP_CLASS_UID, SOP_INSTANCE_UID
from dgate.dicom.scan import (
    DELIMITERS,
    MOST_ELEMENTS,
    PIXEL_GROUP,
    UNDEFINED,
    Buffer,
    encoding_of,
    header,
    skip_undefined,
)
from dgate.dicom.table import ElementTable, Slice
from dgate.dicom.uids import EXPLICIT_LE, is_uid, transfer_syntax
from dgate.errors import NotDicom

MOST_READ_BYTES = 1 << 20
"""How far into the data set is looked; the elements of the index come early."""


class UnparsedTable(ElementTable):
    """The readable begin of a data set, standing for all of its bytes.

    Changes are seen by whoever reads it, and never reach the bytes: what cannot be parsed cannot be
    rewritten either.
    """

    unparsed_bytes: int
    """The length of the data set as it came."""

    @property
    def size(self) -> int:
        """The length of the data set."""
        return self.unparsed_bytes

    def segments(self) -> Iterator[bytes | memoryview | Slice]:
        """Yield the data set as it came."""
        yield Slice(0, self.unparsed_bytes)


def unparsed_table(buffer: Buffer, syntax: str, sop_class: str, sop_instance: str) -> UnparsedTable:
    """Return what can be known of a data set that `ElementTable` refuses.

    The UIDs are those of the command; they stand in where the data set shows none.

    Raises:
        NotDicom: the command's own UIDs are none, so that nothing could name the object.
    """
    for what, uid in (("SOP Class UID", sop_class), ("SOP Instance UID", sop_instance)):
        if not is_uid(uid):
            raise NotDicom(f"the {what} {uid[:80]!r} of the command is not a UID")
    known = transfer_syntax(syntax)
    # A deflated data set that cannot be inflated shows nothing.
    begin = b"" if known.deflated else _readable(memoryview(buffer)[:MOST_READ_BYTES], syntax)
    try:
        table = UnparsedTable(begin, EXPLICIT_LE if known.deflated else syntax)
    except NotDicom:
        table = UnparsedTable(b"", EXPLICIT_LE)
    for tag, uid in ((SOP_CLASS_UID, sop_class), (SOP_INSTANCE_UID, sop_instance)):
        if not table.text(tag):
            table.set_text(tag, uid)
    table.syntax = syntax
    table.unparsed_bytes = len(buffer)
    return table


def _readable(view: memoryview, syntax: str) -> bytes:
    """Return the elements up to the first that cannot be read, pixel data left out."""
    encoding = encoding_of(transfer_syntax(syntax))
    pos, end, count = 0, len(view), 0
    try:
        while pos < end and count < MOST_ELEMENTS:
            tag, vr, value, length = header(view, encoding, pos, end)
            group = tag >> 16
            if group in (0, DELIMITERS, 0xFFFF) or group >= PIXEL_GROUP:
                break
            if length == UNDEFINED:
                following = skip_undefined(view, encoding, value, end, vr)
            else:
                following = value + length
            if following > end:
                break
            pos = following
            count += 1
    except (NotDicom, struct.error):
        # This is where reading fails: what is before it is what there is.
        return bytes(view[:pos])
    return bytes(view[:pos])
