"""What control elements make of each copy that a retrieval sends (spec converters.md 11): a single
frame, a smaller image, without some elements, and whatever a script does.

What they ask for is read in `dgate.services.controls`. A copy that cannot be made so is not sent.
Stateless; the rewrite belongs to the thread of its association.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dgate.archive.export import Rewrite
from dgate.dicom.element import SOP_CLASS_UID, SOP_INSTANCE_UID, keyword_of
from dgate.dicom.extract import single_frame
from dgate.dicom.recompress import smaller
from dgate.dicom.table import PIXEL_DATA, ElementTable
from dgate.dicom.uids import is_uid
from dgate.errors import RuleError
from dgate.net import Association
from dgate.rules.effects import Captured, ImportVerdict, Outcome
from dgate.rules.hooks import capture
from dgate.services.controls import SCRIPT, SCRUB, Controls, named

Statements = Callable[[str, ElementTable, Captured], ImportVerdict]
"""Runs import statements over an object, which is changed in place; raises RuleError."""


def no_statements(text: str, table: ElementTable, captured: Captured) -> ImportVerdict:
    """Raise RuleError: there is nothing that runs statements."""
    raise RuleError("nothing runs scripts here")


def copy_rewrite(
    controls: Controls,
    result: Rewrite | None,
    statements: Statements,
    association: Association,
    destination: str = "",
) -> Rewrite | None:
    """Return what is to be done to each copy, None for nothing.

    First `result` (RetrieveResultConverter0), then frame, size, scrub list and script. The copy
    must not be sent where it raises: RuleError, NotDicom or CannotTranscode.

    Args:
        destination: the destination of a C-MOVE, which rules see as `%s`.
    """
    if not controls.changes_copies:
        return result

    def rewrite(table: ElementTable) -> None:
        if result is not None:
            result(table)
        _change_pixels(controls, table)
        called = association.called.partition("~")[0]
        captured = capture(table, association.calling, called)
        if destination:
            captured = replace(captured, station=destination)
        if controls.scrub:
            _run(statements, f"scrub {controls.scrub}", SCRUB, table, captured)
        if controls.script:
            _run(statements, controls.script, SCRIPT, table, captured)
        for tag in (SOP_CLASS_UID, SOP_INSTANCE_UID):
            if not is_uid(table.text(tag)):
                raise RuleError(f"the control elements leave a copy without {keyword_of(tag)}")

    return rewrite


def _change_pixels(controls: Controls, table: ElementTable) -> None:
    """Take one frame out and make it smaller; what has no pixels has neither."""
    if PIXEL_DATA not in table:
        return
    if controls.frame is not None:
        copy = single_frame(table, controls.frame)
        table.replace(copy.tobytes(), copy.syntax)
    if controls.most_pixels is not None:
        smaller(table, controls.most_pixels)


def _run(
    statements: Statements, text: str, tag: int, table: ElementTable, captured: Captured
) -> None:
    verdict = statements(text, table, captured)
    if verdict.outcome is not Outcome.KEEP:
        raise RuleError(verdict.reason or f"the script of {named(tag)} refused the object")
