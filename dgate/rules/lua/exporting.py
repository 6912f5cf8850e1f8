"""What Lua changes in export lines, for the copy that is sent.

An export line never changes what is stored. Its forwards are owed and sent later, from the stored
file; so the changes that were made before a forward go with it as a script: one line of Lua for the
elements that differ.
"""

from __future__ import annotations

import json
from typing import Final

from dgate.dicom.jsonmodel import to_model
from dgate.dicom.table import ElementTable
from dgate.errors import RuleError
from dgate.rules.lua.serial import literal
from dgate.rules.run import Run

_LONGEST: Final = 48 << 10
"""Characters of a line that carries changes."""


class Changes:
    """Follows an object through Lua code of an export line."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._before = run.table.snapshot()

    def note(self) -> None:
        """Add what changed since the last time to what the following forwards carry."""
        run = self._run
        if run.table.revision == self._before.revision:
            return
        line = _line(self._before, run.table)
        if len(line) > _LONGEST:
            raise RuleError(
                "Lua changed more of the object than a forward of an export line can carry",
                remedy="change it in an import line, or in the script clause of the forward",
            )
        if line:
            run.prelude.append(line)
        self._before = run.table.snapshot()


def _line(before: ElementTable, after: ElementTable) -> str:
    """Return the statement that makes the one object the other; empty when they are equal."""
    tags = sorted({*before.tags(), *after.tags()})
    code = [_statement(after, tag) for tag in tags if before.raw(tag) != after.raw(tag)]
    # In rules a percent sign begins a token.
    return "lua:" + " ".join(code).replace("%", "%%") if code else ""


def _statement(table: ElementTable, tag: int) -> str:
    group, number = tag >> 16, tag & 0xFFFF
    if tag not in table:
        return f'Data["{group:04x},{number:04x}"]=nil'
    if table.is_sequence(tag):
        items = [to_model(item, bulk=True) for item in table.items(tag)]
        value = json.dumps(items, ensure_ascii=True).encode("ascii")
    else:
        value = table.raw(tag) or b""
    return f"Data:SetVR({group},{number},{_ascii(value)})"


def _ascii(value: bytes) -> str:
    """Return a Lua string literal of ASCII characters."""
    quoted = literal(value)
    return "".join([chr(byte) if byte < 0x80 else f"\\{byte:03d}" for byte in quoted])
