"""What rules learn from outside: the gateway's side of `rules.run.Environment`.

Part of the composition root, because it joins what rules may not know. One instance per run of a
hook.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath

from dgate.archive.database import Database
from dgate.archive.export import Exporter
from dgate.archive.lookup import Lookup
from dgate.archive.query import Finder
from dgate.archive.records import InstanceRef
from dgate.archive.reidentification import Reidentification
from dgate.archive.uidregister import Register
from dgate.archive.writer import Writer
from dgate.clock import Clock
from dgate.config.settings import Settings
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import UidGenerator
from dgate.errors import DatabaseAway, RuleError, StoreError
from dgate.rules.actions import Archive, Files, Peers, Programs, Server, UidRegister
from dgate.rules.deidentification import Deidentification
from dgate.rules.effects import Captured, Decision
from dgate.rules.events import Event, EventHook, Events
from dgate.rules.files import ConfinedFiles
from dgate.rules.programs import SystemPrograms
from dgate.rules.run import Record
from dgate.rules.session import Session

NameFile = Callable[[ElementTable, str, str], PurePath]
"""Path that an object (table, calling, called) would be stored under now."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What rules may touch beyond the object."""

    uids: UidRegister
    files: Files
    programs: Programs
    deidentification: Deidentification

    @classmethod
    def of(cls, settings: Settings, database: Database, writer: Writer, clock: Clock) -> Reach:
        """Return the reach that a configuration gives."""
        areas = (*settings.mag_devices, *settings.mirror_devices, *settings.script_folders)
        return cls(
            Register(database, writer, clock, settings.uid_prefix),
            ConfinedFiles(
                settings.base_folder,
                areas,
                settings.temp_dir,
                unrestricted=settings.lua_unrestricted,
            ),
            SystemPrograms(
                allowed=settings.allow_system_commands,
                timeout_s=settings.system_timeout_s,
                folder=settings.base_folder,
            ),
            Reidentification(database, writer, clock, settings.reidentification_key),
        )


@dataclass(frozen=True, slots=True)
class Outreach:
    """What only Lua talks to: other nodes, the own archive, the server itself."""

    peers: Peers
    archive: Archive
    server: Callable[[], Server]
    """Raises RuleError where no server runs."""


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
    reach: Reach | None = None
    """None where rules may touch nothing, or what they touch is given in another way."""
    outreach: Outreach | None = None
    """The same for Lua."""


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

    @property
    def uids(self) -> UidRegister:
        """Return the register of replaced values."""
        return self._reach.uids

    @property
    def deidentification(self) -> Deidentification:
        """Return the key of the site, and what keeps what was replaced."""
        return self._reach.deidentification

    @property
    def peers(self) -> Peers:
        """Return the other nodes."""
        return self._outreach.peers

    @property
    def archive(self) -> Archive:
        """Return the own archive."""
        return self._outreach.archive

    @property
    def server(self) -> Server:
        """Return the server."""
        return self._outreach.server()

    @property
    def _outreach(self) -> Outreach:
        outreach = self._world.outreach
        if outreach is None:
            raise RuleError("scripts cannot reach the archive or other nodes here")
        return outreach

    @property
    def files(self) -> Files:
        """Return the files that rules may touch."""
        return self._reach.files

    @property
    def programs(self) -> Programs:
        """Return what runs programs."""
        return self._reach.programs

    @property
    def _reach(self) -> Reach:
        if self._world.reach is None:
            raise RuleError("files, programs and replaced UIDs are out of reach here")
        return self._world.reach

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

        def run(table: ElementTable, captured: Captured, session: Session | None) -> Decision:
            outside = self._surroundings(captured)
            return self._events.run(event, table, captured, outside, index=index, session=session)

        return run
