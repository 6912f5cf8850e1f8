"""What may happen to an arriving object beside import and export rules: event converters, worklist.

Part of the way in (`dgate.archive.ingest`), which says when. Not for the converters themselves
(`dgate.rules.events`). Stateless, any thread.
"""

from __future__ import annotations

import logging

from dgate.archive.coercion import Coercion
from dgate.dicom.table import ElementTable
from dgate.errors import Refused, RuleError
from dgate.rules.effects import Captured, Decision, Outcome
from dgate.rules.events import Event, EventHook, EventHooks, NoEvents
from dgate.rules.hooks import capture
from dgate.rules.session import Session

log = logging.getLogger(__name__)

Kept = Session | None


class IntakeEvents:
    """The event converters of intake, and WorkListMode; without arguments there is none."""

    def __init__(self, hooks: EventHooks | None = None, coercion: Coercion | None = None) -> None:
        """`coercion` is None for WorkListMode = 0."""
        self._hooks = hooks or NoEvents()
        self.coercion = coercion
        self._rejected = self._hooks.hook(Event.REJECTED_IMAGE)
        self._rejected_by_worklist = self._hooks.hook(Event.REJECTED_WORKLIST)

    def compress(
        self, code: str, table: ElementTable, calling: str, called: str, session: Kept
    ) -> None:
        """Run CompressionConverterN where the code is sN; the table is changed in place.

        Raises Refused when it fails.
        """
        hook = compression_hook(self._hooks, code)
        if hook is None:
            return
        try:
            hook(table, capture(table, calling, called), session)
        except RuleError as exc:
            raise Refused(str(exc)) from exc

    def coerce(
        self, table: ElementTable, calling: str, called: str, session: Kept
    ) -> Decision | None:
        """Fill the object from the worklist; a decision is returned where it is refused.

        With WorkListMode = 2 an object without entry is shown to RejectedImageWorkListConverter0,
        which may have it tried once more, and is refused then; the decision holds what is to be
        forwarded.

        Raises:
            DatabaseAway: the worklist cannot be asked.
            Refused: the entry cannot be put into the object.
        """
        coercion = self.coercion
        if coercion is None or coercion.fill(table) or not coercion.demanding:
            return None
        captured = capture(table, calling, called)
        decision = _asked(self._rejected_by_worklist, table, captured, session)
        if decision.retry and coercion.fill(table):
            return None
        reason = "the worklist has no entry with the object's accession number"
        return Decision(Outcome.REJECT, reason, forwards=decision.forwards)

    def refused(
        self, table: ElementTable, calling: str, called: str, session: Kept
    ) -> Decision | None:
        """Run RejectedImageConverter0 over an object that the index refused; None without one."""
        if self._rejected is None:
            return None
        return _asked(self._rejected, table, capture(table, calling, called), session)


def compression_hook(hooks: EventHooks, code: str) -> EventHook | None:
    """Return the converter of a compression code s0 to s9, None for all other codes."""
    text = code.strip().lower()
    if len(text) != 2 or text[0] != "s" or text[1] not in "0123456789":
        return None
    return hooks.hook(Event.COMPRESSION, int(text[1]))


def _asked(
    hook: EventHook | None, table: ElementTable, captured: Captured, session: Kept
) -> Decision:
    """Run the converter of a refused object; when it fails the object stays refused."""
    if hook is None:
        return Decision()
    try:
        return hook(table, captured, session)
    except RuleError as exc:
        log.error("The rule for a refused object failed: %s", exc)
        return Decision()
