"""Opens an archive for tracing: its index for reading only, and an index of its own beside it.

An object that is not stored has no rows that an SQL filter could look at; for the moment of the
question it gets some in a throw-away index.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path, PurePath

from dgate.archive.database import Database
from dgate.archive.devices import Devices
from dgate.archive.export import Exporter, read_head
from dgate.archive.files import FileReader
from dgate.archive.index import Index
from dgate.archive.ingest import Ingest
from dgate.archive.levels import Schema
from dgate.archive.lookup import Lookup
from dgate.archive.maintenance.caretaker import Caretaker
from dgate.archive.maintenance.catalog import read_catalog
from dgate.archive.maintenance.readonly import LentDatabase, open_read_only
from dgate.archive.naming import EvaluateName, Naming
from dgate.archive.query import Finder, QueryKey
from dgate.archive.records import InstanceRef
from dgate.archive.repair import repair
from dgate.archive.schema import prepare
from dgate.archive.scripting import Archive
from dgate.archive.worklist import Worklist
from dgate.archive.writer import Transaction, Writer
from dgate.clock import Clock
from dgate.config.settings import Configuration, Durability, Engine, Settings
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import UidGenerator, transfer_syntax
from dgate.errors import DgateError, NotDicom, RuleError
from dgate.rules.effects import Captured, ImportVerdict
from dgate.rules.hooks import Rules, capture
from dgate.rules.recorder import Recorder
from dgate.rules.run import Environment
from dgate.rules.session import Session
from dgate.surroundings import Surroundings, World
from dgate.tracing.overlay import Note, layer
from dgate.tracing.reach import traced_outreach, traced_reach
from dgate.tracing.tracer import Subject, Surround, Tracer


class _Scratch:
    """An index that lives as long as the trace."""

    def __init__(self, configuration: Configuration, folder: Path) -> None:
        settings = dataclasses.replace(
            configuration.settings,
            engine=Engine.SQLITE,
            sql_server=str(folder / "index.db3"),
            sqlite_startup="",
            durability=Durability.NONE,
        )
        self.settings = settings
        self.database = Database(settings)
        self.database.open()
        self.schema = prepare(self.database, configuration.layout, settings)
        self.writer = Writer(self.database, settings.durability)
        self.index = Index(self.database, self.schema, settings)
        self.finder = Finder(self.database, self.schema, settings)

    def passes(self, condition: str, table: ElementTable) -> bool:
        """Tell whether a condition holds for the rows that an object would have."""
        entry = self.index.entry(table, repair(table, self.settings))
        ref = InstanceRef("", entry.sop_instance, entry.patient_id, "", "", "MAG0", "")

        def enter(transaction: Transaction) -> None:
            self.index.enter(transaction, entry, "MAG0", "traced.dcm", None, 0.0)

        def remove(transaction: Transaction) -> None:
            self.index.delete_instance(transaction, entry.sop_instance)

        self.writer.transact(enter)
        try:
            return self.finder.sql_filter(condition, ref)
        finally:
            self.writer.transact(remove)

    def ingest(self, devices: Devices, naming: Naming, clock: Clock) -> Ingest:
        """Return what stores objects, for parts that want one though nothing is stored here."""
        return Ingest(
            self.settings, self.index, self.writer, devices, naming, None, None, clock, _nobody
        )

    def close(self) -> None:
        """Close the connections."""
        self.writer.close()
        self.index.close()
        self.database.close()


def _nobody() -> None:
    """Wake nobody: nothing is owed."""


class _Outside(Surroundings):
    """What rules learn from outside while they are traced."""

    def __init__(
        self,
        world: World,
        captured: Captured,
        scratch: _Scratch,
        table: ElementTable,
        path: PurePath | None,
    ) -> None:
        super().__init__(world, captured, None, path)
        self._scratch = scratch
        self._table = table

    def sql_filter(self, condition: str, captured: Captured) -> bool:
        """Return whether the object passes, by the rows that it has or would have."""
        return self._scratch.passes(condition, self._table)


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """A configuration that is ready to be traced."""

    tracer: Tracer
    finder: Finder
    exporter: Exporter
    settings: Settings
    note: str
    """Why the archive's index is not looked at; empty as a rule."""
    folder: Path
    """For temporary files."""

    def file(self, path: Path, calling: str, called: str) -> Subject:
        """Return the object in a file.

        Raises:
            NotDicom: it is none.
            OSError, StoreError: it cannot be read.
        """
        with closing(FileReader.of(str(path))) as reader:
            if not reader.size:
                raise NotDicom("the file is empty")
            meta, _ = read_head(reader)
            table = ElementTable(reader.data(meta.data_offset, self.folder), meta.syntax)
        return Subject(str(path), table, calling, called or self.settings.ae_title)

    def select(self, keys: Sequence[QueryKey]) -> list[InstanceRef]:
        """Return the objects of the archive that match."""
        return self.finder.select(keys)

    @contextmanager
    def stored(self, ref: InstanceRef, calling: str, called: str) -> Iterator[Subject]:
        """Lend an object of the archive; raises StoreError when its file cannot be read."""
        with self.exporter.table(ref) as table:
            path = Path(self.exporter.path(ref))
            called = called or self.settings.ae_title
            yield Subject(ref.sop_instance, table, calling, called, path)


@contextmanager
def open_trace(
    configuration: Configuration, clock: Clock, *, in_use: bool, network: bool = False
) -> Iterator[Opened]:
    """Prepare to trace objects under a configuration.

    Args:
        in_use: a server works with the archive now.
        network: scripts may ask other nodes; without it they are told that nobody answers.

    Raises:
        DgateError: the rules or the archive cannot be used.
    """
    recorder = Recorder()
    rules = Rules.build(configuration.settings, recorder)
    with ExitStack() as stack:
        names = _LuaNames(rules, configuration.settings)
        parts = _Parts.open(configuration, clock, stack, names, in_use=in_use)
        world = parts.world(recorder.note)
        archive = parts.archive(world)
        outreach = traced_outreach(configuration, archive, recorder.note, network=network)
        world = dataclasses.replace(world, outreach=outreach)

        def surround(captured: Captured, table: ElementTable, path: PurePath | None) -> Environment:
            return _Outside(world, captured, parts.scratch, table, path)

        names.surround = surround
        tracer = Tracer(configuration, recorder, rules, surround)
        yield Opened(
            tracer, parts.finder, parts.exporter, configuration.settings, parts.note, parts.layered
        )


class _LuaNames:
    """Gives the names of `FileNameSyntax = lua:...`, once there is what its code may ask."""

    def __init__(self, rules: Rules, settings: Settings) -> None:
        self.surround: Surround | None = None
        self._rules = rules
        self._code = f"return {settings.file_name_syntax.strip()[4:]}"
        self._session = Session()

    def __call__(
        self, table: ElementTable, calling: str, called: str, session: Session | None
    ) -> str | None:
        """Return the name for an object, None where there is none."""
        if self.surround is None:
            return None
        captured, copy = capture(table, calling, called), table.snapshot()
        outside = self.surround(captured, copy, None)
        return self._rules.lua_text(
            self._code, "FileNameSyntax", copy, captured, outside, session or self._session
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _Parts:
    """What a trace reads, and what it writes in the archive's place."""

    configuration: Configuration
    clock: Clock
    layered: Path
    """An empty folder, for the files that rules write."""
    scratch: _Scratch
    database: Database
    schema: Schema
    note: str
    finder: Finder
    devices: Devices
    exporter: Exporter
    naming: Naming

    @classmethod
    def open(
        cls,
        configuration: Configuration,
        clock: Clock,
        stack: ExitStack,
        names: EvaluateName,
        *,
        in_use: bool,
    ) -> _Parts:
        """Open the archive for reading; `stack` closes it."""
        settings = configuration.settings
        folder = Path(stack.enter_context(layer()))
        layered = folder / "files"
        layered.mkdir()
        scratch = _Scratch(configuration, folder)
        stack.callback(scratch.close)
        database, schema, note = _index(configuration, scratch, stack, in_use=in_use)
        finder = Finder(database, schema, settings)
        devices = Devices.from_settings(settings, clock, prepare=False)
        own = dataclasses.replace(settings, temp_dir=layered)
        exporter = Exporter(devices, own, finder.instance)
        naming = Naming(settings, clock, names)
        return cls(
            configuration, clock, layered, scratch, database, schema, note, finder, devices,
            exporter, naming,
        )  # fmt: skip

    def world(self, note: Note) -> World:
        """Return what rules see and act on; `note` hears of what they would have done."""
        settings, scratch = self.configuration.settings, self.scratch
        uids = UidGenerator(settings.uid_prefix, self.clock)
        worklist = Worklist(
            self.database,
            self.schema,
            self.configuration.layout.worklist,
            scratch.writer,
            settings,
            self.clock,
            uids.new,
        )
        return World(
            settings.ae_title,
            self.clock,
            uids,
            self._name_file,
            self.finder,
            self.exporter,
            Lookup(self.database, self.schema, self.finder, worklist, settings),
            traced_reach(
                settings,
                self.database,
                scratch.database,
                scratch.writer,
                self.clock,
                self.layered,
                note,
            ),
        )

    def _name_file(self, table: ElementTable, calling: str, called: str) -> PurePath:
        """Return the path that an object would get now."""
        entry = self.scratch.index.entry(table, repair(table, self.configuration.settings))
        encapsulated = transfer_syntax(table.syntax).encapsulated
        name = self.naming.name(table, entry, calling, called, encapsulated=encapsulated)
        return self.devices.choose().path(name)

    def archive(self, world: World) -> Archive:
        """Return the archive as scripts use it."""
        return Archive(
            self.configuration.settings,
            self.configuration.layout,
            self.database,
            self.schema,
            self.scratch.writer,
            self.scratch.index,
            self.finder,
            self.exporter,
            self.scratch.ingest(self.devices, self.naming, self.clock),
            _no_caretaker,
            world.reach.files.place if world.reach is not None else Path,
            _no_script,
        )


def _no_caretaker() -> Caretaker:
    raise DgateError("nothing is changed while rules are traced")


def _no_script(text: str, table: ElementTable) -> ImportVerdict:
    raise RuleError("nothing is changed while rules are traced")


def _index(
    configuration: Configuration, scratch: _Scratch, stack: ExitStack, *, in_use: bool
) -> tuple[Database, Schema, str]:
    """Return the archive's index, or the empty one when there is none yet."""
    settings = configuration.settings
    try:
        opened = stack.enter_context(open_read_only(settings, in_use=in_use))
        catalog = read_catalog(opened.connection, opened.database, configuration.layout, settings)
        schema = catalog.required()
    except DgateError as exc:
        return scratch.database, scratch.schema, str(exc)
    return LentDatabase(settings, opened.connection), schema, opened.note
