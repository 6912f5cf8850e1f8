"""What RegenConverter0 and RegenFailConverter0 do to a rebuild of the index (spec dicom-ini.md 9).

Not for the converters themselves (`dgate.rules.events`). Any thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path, PurePath

from dgate.archive.maintenance.scanner import Keep
from dgate.archive.records import InstanceRef
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import DgateError
from dgate.rules.effects import Captured, Outcome
from dgate.rules.events import Event, Events
from dgate.rules.hooks import capture
from dgate.rules.run import Environment
from dgate.rules.session import Session

log = logging.getLogger(__name__)

Outside = Callable[[Captured, InstanceRef | None, PurePath | None], Environment]
"""Returns what one run of a converter may learn from outside, the file's path among it."""


class RegenHooks:
    """The two converters, as a rebuild calls them; None where one is not configured."""

    def __init__(self, events: Events, outside: Outside) -> None:
        self._events = events
        self._outside = outside
        self.keep: Keep | None = self._keep if events.has(Event.REGEN) else None
        self.failed: Callable[[Path, str], None] | None = (
            self._failed if events.has(Event.REGEN_FAIL) else None
        )

    def _keep(self, table: ElementTable, path: str) -> bool:
        """Run RegenConverter0 over an object, whose index rows then show what it changed; False
        when it said `destroy`. Raises RuleError."""
        captured = capture(table, "", "")
        outside = self._outside(captured, None, PurePath(path))
        session = _session_of(path)
        try:
            decision = self._events.run(Event.REGEN, table, captured, outside, session=session)
        finally:
            session.close()
        return decision.outcome is Outcome.KEEP

    def _failed(self, path: Path, text: str) -> None:
        """Run RegenFailConverter0, on no elements, for a file that cannot be read."""
        captured = Captured("", "", "", "", "", "")
        outside = self._outside(captured, None, path)
        session = _session_of(str(path))
        try:
            empty = ElementTable(b"", EXPLICIT_LE)
            self._events.run(Event.REGEN_FAIL, empty, captured, outside, session=session)
        except DgateError as exc:
            # The rebuild goes on: there is no object that a failing rule could spoil.
            log.error("RegenFailConverter0 failed for %s: %s", path, exc)
        finally:
            session.close()


def _session_of(path: str) -> Session:
    """Return what rules know of a file; each begins with nothing (spec lua-api.md 1.1)."""
    session = Session()
    session.file_name = path
    return session
