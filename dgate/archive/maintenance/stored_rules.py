"""The converters that see stored objects on their way through maintenance: MoveDeviceConverter0,
MergeSeriesConverter0, MergeStudiesConverter0 (spec converters.md 3).

Says what a converter made of an object; writing it is `move_device`'s and `identity`'s. Not for the
converters themselves (`dgate.rules.events`). Immutable, any thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import PurePath

from dgate.archive.records import InstanceRef
from dgate.dicom.table import ElementTable
from dgate.rules.effects import Captured, Outcome
from dgate.rules.events import Event, Events
from dgate.rules.hooks import capture
from dgate.rules.run import Environment

log = logging.getLogger(__name__)

Outside = Callable[[Captured, InstanceRef | None, PurePath | None], Environment]
"""Returns what one run of a converter may learn from outside, the file's path among it."""


class StoredRules:
    """The converters of stored objects of one configuration."""

    def __init__(self, events: Events, outside: Outside) -> None:
        self._events = events
        self._outside = outside

    def has(self, event: Event) -> bool:
        """Tell whether a converter is configured, so that `run` is worth its preparation."""
        return self._events.has(event)

    def run(self, event: Event, table: ElementTable, ref: InstanceRef, path: PurePath) -> bool:
        """Run the converter over an object, which it changes in place; False when it says that the
        object is to be left as it was.

        Raises RuleError when it fails, StoreError when it asks the index, which does not answer.
        """
        captured = capture(table, "", "")
        outside = self._outside(captured, ref, path)
        decision = self._events.run(event, table, captured, outside)
        if decision.outcome is Outcome.KEEP:
            return True
        log.info(
            "%sConverter0 left object %s as it was%s.",
            event.value,
            ref.sop_instance,
            f": {decision.reason}" if decision.reason else "",
        )
        return False
