"""What rules learn from outside: the gateway's side of `rules.run.Environment`.

Part of the composition root, because it joins what rules may not know. One instance per run of a
hook.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath

from dgate.archive.export import Exporter
from dgate.archive.lookup import Lookup
from dgate.archive.query import Finder
from dgate.archive.records import InstanceRef
from dgate.clock import Clock
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import UidGenerator
from dgate.errors import DatabaseAway, RuleError, StoreError
from dgate.rules.effects import Captured, Decision
from dgate.rules.events import Event, EventHook, Events
from dgate.rules.run import Record
from dgate.rules.session import Session

NameFile = Callable[[ElementTable, str, str], PurePath]
"""Path that an object (table, calling, called) would be stored under now."""


@dataclass(frozen=True, slots=True)
class World:
    """What is the same for every run."""

    own_ae: str
    clock: Clock
    uids: UidGenerator
    name_file: NameFile
    finder: Finder
    exporter: Exporter
    lookup: Lookup


class Surroundings:
    """The outside of one run: of an arriving object, or of a stored one when `ref` and `path` are
    given.
    """

    __slots__ = ("_captured", "_path", "_ref", "_world")

    def __init__(
        self,
        world: World,
        captured: Captured,
        ref: InstanceRef | None = None,
        path: PurePath | None = None,
    ) -> None:
        self._world = world
        self._captured = captured
        self._ref = ref
        self._path = path

    @property
    def own_ae(self) -> str:
        """Return MyACRNema."""
        return self._world.own_ae

    @property
    def clock(self) -> Clock:
        """Return the server's clock."""
        return self._world.clock

    def new_uid(self) -> str:
        """Return a new UID below UIDPrefix."""
        return self._world.uids.new()

    def file_name(self, table: ElementTable) -> PurePath:
        """Return the stored object's path, or the one that an arriving object would get now."""
        if self._path is not None:
            return self._path
        return self._world.name_file(table, self._captured.calling, self._captured.called)

    def sql_filter(self, condition: str, captured: Captured) -> bool:
        """Return whether the stored object passes an ExportFilter; an object that is not stored
        fails the rule.
        """
        if self._ref is None:
            raise RuleError(
                "an SQL filter needs a stored object", remedy="use it with export converters only"
            )
        return self._world.finder.sql_filter(condition, self._ref)

    def record(self, record: Record, table: ElementTable, tag: int) -> str:
        """Return a column of the index row that the object belongs to (`%QP` and its like)."""
        return self._world.lookup.value(record, table, tag)

    @contextmanager
    def stored(self, sop_instance: str, patient_id: str) -> Iterator[ElementTable | None]:
        """Lend a stored object of the same patient, None when there is none."""
        ref = self._world.lookup.of_patient(sop_instance, patient_id)
        if ref is None:
            yield None
            return
        try:
            with self._world.exporter.table(ref) as table:
                yield table
        except DatabaseAway:
            raise
        except StoreError as exc:
            raise RuleError(f"the object {sop_instance} cannot be read: {exc}") from exc


class RuleEvents:
    """The event converters of one configuration, each run with what it may learn from outside."""

    def __init__(self, events: Events, surroundings: Callable[[Captured], Surroundings]) -> None:
        self._events = events
        self._surroundings = surroundings

    def hook(self, event: Event, index: int = 0) -> EventHook | None:
        """Return what runs the converter of an event, None when none is configured."""
        if not self._events.has(event, index):
            return None

        def run(
            table: ElementTable, captured: Captured, session: Session | None
        ) -> Decision:
            outside = self._surroundings(captured)
            return self._events.run(
                event, table, captured, outside, index=index, session=session
            )

        return run
