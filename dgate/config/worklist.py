"""What the configuration says about the worklist: its character set, and what does not fit.

Not the entries (`dgate.archive.worklist`). Pure functions.
"""

from __future__ import annotations

import re

from dgate.config.layout import Table
from dgate.config.model import Engine, Value
from dgate.config.problem import Report
from dgate.config.values import Values

HL7_PLACE = re.compile(
    r"([A-Z][A-Z0-9]{2})\.([0-9]{1,3})(?:\.([0-9]{1,3}))?(?:\.(DATE|TIME))?", re.IGNORECASE
)
"""Where a value stands in an HL7 message: segment, field, component, half of a time stamp."""
HL7_NOWHERE = ("", "---")
HL7_MADE = ("*AN", "*UI")
"""In place of a place: an accession number or a UID is made."""

UTF_8 = 192
_CHARSETS = (6, 13, 100, 101, 109, 110, 126, 127, 138, 144, 148, 166, 203, UTF_8)
"""Numbers of the defined terms `ISO_IR n` (PS3.3 C.12.1.1.2)."""


def worklist_iso_ir(values: Values, report: Report) -> int:
    """Return the number of the character set of worklist answers, 0 for none (spec 5)."""
    hundreds = values.get("WorkListReturnsISO_IR_100")
    number, value = values.integer(hundreds.key.name) * 100, hundreds
    if number < 0:
        value = values.get("WorkListReturnsISO_IR")
        number = values.integer(value.key.name)
    if number and number not in _CHARSETS:
        message = f"{value.name} = {value.text}: ISO_IR {number} is no character set; UTF-8 is used"
        advice = f"use one of {', '.join(map(str, _CHARSETS))}, or 0 for none"
        report.warning(value.line, message, advice)
        return UTF_8
    return number


def look_at_worklist(
    mode: Value | None, engine: Engine, table: Table | None, ini: Report, layout: Report
) -> None:
    """Report a WorkListMode without worklist, and columns that no HL7 message can fill."""
    number = mode.text.strip()[:1] if mode is not None else ""
    if mode is not None and number in ("1", "2") and (engine is Engine.NONE or table is None):
        lacking = "SQLServer is empty" if engine is Engine.NONE else "dicom.sql has no *WorkList*"
        if number == "2":
            message = f"WorkListMode = {mode.text} refuses every object, as {lacking}"
            ini.error(mode.line, message, "write WorkListMode = 0, or give the server a worklist")
        else:
            message = f"WorkListMode = {mode.text} has no effect, as {lacking}"
            ini.warning(mode.line, message, "write WorkListMode = 0")
    for column in () if table is None else table.columns:
        place = column.hl7.upper()
        if place in HL7_NOWHERE or place in HL7_MADE or HL7_PLACE.fullmatch(place):
            continue
        message = f"{column.full_name}: {column.hl7!r} is no place in an HL7 message"
        advice = 'write "SEG.n" or "SEG.n.m", perhaps with .DATE or .TIME, or "---"'
        layout.warning(None, message, advice)
