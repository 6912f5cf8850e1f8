"""An object's text from one character set into UTF-8 (rulings.md 12).

Pure functions of the object that is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dgate.dicom import charset as charsets
from dgate.dicom.element import SPECIFIC_CHARACTER_SET, TEXT_VRS

if TYPE_CHECKING:
    from dgate.dicom.table import ElementTable


def to_unicode(table: ElementTable, charset: bytes | None) -> None:
    """Turn all text from a character set into UTF-8, except in items that declare their own."""
    for tag in table.tags():
        vr = table.reading_vr(tag)
        if vr in TEXT_VRS:
            raw = table.raw(tag) or b""
            if not raw.isascii() or b"\x1b" in raw:
                text = charsets.decode(raw, charset, vr)
                table.set_raw(tag, vr, text.encode())
        elif table.is_sequence(tag):
            items = table.items(tag)
            for item in items:
                if item.raw(SPECIFIC_CHARACTER_SET) is None:
                    to_unicode(item, charset)
            if any(item.revision for item in items):
                table.set_items(tag, items)
