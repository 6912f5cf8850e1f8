"""The composition root: builds every part from a configuration, starts and stops them in order.

The only module that knows all parts. Owned by the thread that calls `start` and `stop`; the
commands of the control socket run in threads of their own.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from dgate.archive.database import Database
from dgate.archive.devices import Devices
from dgate.archive.export import Exporter
from dgate.archive.importer import import_files
from dgate.archive.index import Index
from dgate.archive.ingest import Ingest
from dgate.archive.naming import Naming
from dgate.archive.query import Finder
from dgate.archive.records import InstanceRef
from dgate.archive.recovery import recover
from dgate.archive.schema import prepare
from dgate.archive.writer import Writer
from dgate.clock import Clock, SystemClock
from dgate.config.settings import Configuration
from dgate.delivery.commands import queue_commands
from dgate.delivery.desk import Desk
from dgate.delivery.dispatcher import Dispatcher
from dgate.delivery.ledger import Ledger
from dgate.delivery.records import Debt
from dgate.delivery.schedule import RetryPolicy
from dgate.delivery.sender import Sender
from dgate.delivery.worker import Toolbox
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import VERIFICATION, UidGenerator
from dgate.errors import DgateError, RuleError
from dgate.net import STORAGE, CommandField, Handler, Listener, Policy, Router, Timeouts
from dgate.ops.control import Answer, Command, ControlServer, socket_path
from dgate.ops.lock import FolderLock
from dgate.ops.log import UserLog
from dgate.rules.effects import Captured, ExportPlan, Forward, ImportVerdict
from dgate.rules.effects import Outcome as RuleOutcome
from dgate.rules.hooks import Rules, capture
from dgate.rules.problems import Gravity
from dgate.services.identifier import PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT
from dgate.services.query import QueryService
from dgate.services.retrieve import RetrieveService
from dgate.services.storage import StorageService
from dgate.services.verification import answer_echo
from dgate.surroundings import Surroundings, World

log = logging.getLogger(__name__)

DRAIN_S = 5.0
"""How long running operations may go on after a stop was asked for."""
MEGABYTE = 1 << 20

_OWN_FOLDERS = frozenset({"dgate", "dbase", "incoming", "printer_files", "bin", "lost+found"})
_QUERY_RETRIEVE = "1.2.840.10008.5.1.4.1.2"
_PRIVATE_RETRIEVE = "1.2.826.0.1.3680043.2.135.1066.5.1.4.1.2"
"""Aliases of the C-MOVE classes under the original vendor's root (spec dgatesop-lst.md, appendix).
"""
_MODELS = {"1": PATIENT_ROOT, "2": STUDY_ROOT, "3": PATIENT_STUDY_ONLY}


@dataclass(frozen=True, slots=True)
class _Archive:
    """The open archive: everything below the services."""

    writer: Writer
    index: Index
    finder: Finder
    devices: Devices
    exporter: Exporter
    ingest: Ingest
    world: World


class Gateway:
    """One archive with its services, on one base folder.

    `start` serves; `offline` opens the archive for a command while no server runs.
    """

    def __init__(self, configuration: Configuration, clock: Clock | None = None) -> None:
        """Build every part; opens nothing.

        Raises:
            ConfigError: a setting cannot be used.
        """
        settings = configuration.settings
        self._configuration = configuration
        self._settings = settings
        self._clock = clock or SystemClock()
        self._started_at = 0.0
        self._lock = FolderLock(settings.base_folder)
        self._socket = socket_path(settings.base_folder)
        self._rules = Rules.build(settings)
        self._user_log = UserLog(settings.user_log)
        self._database = Database(settings)
        self._archive: _Archive | None = None
        self._listener: Listener | None = None
        self._dispatcher: Dispatcher | None = None
        self._control: ControlServer | None = None

    @property
    def port(self) -> int:
        """The DICOM port that is listened on."""
        assert self._listener is not None, "the gateway has not been started"
        return self._listener.port

    def start(self) -> None:
        """Take the folder, recover what a crash left, and serve.

        Raises:
            DgateError: the folder is taken, the database cannot be opened, or a port is in use;
            nothing runs then.
        """
        self._take_folder(self._socket)
        try:
            self._log_rule_problems()
            archive = self._open_archive()
            self._dispatcher = Dispatcher(self._toolbox(archive))
            self._listener = self._make_listener(archive)
            self._control = ControlServer(self._socket, self._commands(archive, self._dispatcher))
            # The port first: when it is taken, no delivery may have begun.
            self._listener.start()
            self._dispatcher.start()
            self._control.start()
            counts = archive.index.counts()
        except BaseException:
            self.stop()
            raise
        self._started_at = self._clock.monotonic()
        log.info(
            "%s is listening on port %d for %s; %d objects in the archive.",
            self._settings.ae_title,
            self._listener.port,
            self._settings.base_folder,
            counts.instances,
        )
        if self._database.has_index and not counts.instances:
            self._warn_of_files_without_index()

    def stop(self) -> None:
        """Stop everything in the order in which work flows; safe to call twice, or after a failed
        start.
        """
        if self._control is not None:
            self._control.stop()
            self._control = None
        if self._listener is not None:
            self._listener.stop(DRAIN_S)
            self._listener = None
        if self._dispatcher is not None:
            self._dispatcher.stop(DRAIN_S)
            self._dispatcher = None
        self._close_archive()
        self._lock.release()

    @contextmanager
    def offline(self) -> Iterator[Gateway]:
        """Open the archive without serving, for a command; the folder is locked meanwhile.

        Raises:
            DgateError: a server has the folder, or the database cannot be opened.
        """
        self._take_folder(None)
        try:
            self._open_archive()
            yield self
        finally:
            self._close_archive()
            self._lock.release()

    def import_files(self, paths: Iterable[Path]) -> Iterator[Answer]:
        """Store files; yields path and error (empty when stored) of each."""
        assert self._archive is not None, "the archive is not open"
        for result in import_files(self._archive.ingest, paths):
            yield {"path": str(result.path), "error": result.error}

    # building

    def _take_folder(self, socket: Path | None) -> None:
        holder = self._lock.acquire(socket)
        if holder is not None:
            raise DgateError(
                f"{holder} is working on this folder already",
                where=str(self._settings.base_folder),
                remedy="stop it first, or give this server a folder of its own",
            )

    def _open_archive(self) -> _Archive:
        settings = self._settings
        self._database.open()
        schema = prepare(self._database, self._configuration.layout, settings)
        for note in schema.notes:
            log.info("Database: %s.", note)
        clock = self._clock
        writer = Writer(self._database, settings.durability)
        index = Index(self._database, schema, settings)
        finder = Finder(self._database, schema, settings)
        devices = Devices.from_settings(settings, clock)
        ingest = Ingest(
            settings,
            index,
            writer,
            devices,
            Naming(settings, clock),
            None if self._rules.is_empty_import else self._import_rules,
            None if self._rules.is_empty_export else self._export_plans,
            clock,
            self._wake,
        )
        uids = UidGenerator(settings.uid_prefix, clock)
        world = World(settings.ae_title, clock, uids, ingest.file_name, finder)
        exporter = Exporter(devices, settings, finder.instance)
        self._archive = _Archive(writer, index, finder, devices, exporter, ingest, world)
        log.info("Recovery: %s.", recover(devices, index, writer))
        return self._archive

    def _wake(self) -> None:
        """Tell the dispatcher of new debts; without one they wait for the next server."""
        if self._dispatcher is not None:
            self._dispatcher.wake()

    def _close_archive(self) -> None:
        if self._archive is not None:
            self._archive.writer.close()
            self._archive.index.close()
            self._archive = None
        self._database.close()
        self._user_log.close()

    def _make_listener(self, archive: _Archive) -> Listener:
        settings = self._settings
        policy = Policy(
            lists=self._configuration.sop_list,
            max_pdu=settings.pdu_size,
            allow_unknown=settings.allow_unknown,
            is_known=self._configuration.nodes.names,
            accept_unknown_sop_classes=settings.accept_unknown_sop_classes,
        )
        storage = StorageService(settings, archive.ingest, self._user_log)
        router = Router(self._handlers(archive, storage), storage.payload)
        timeouts = Timeouts.of(settings.tcpip_timeout_s)
        return Listener(
            "",
            settings.tcp_port,
            policy,
            router.run,
            max_associations=settings.max_associations,
            timeouts=timeouts,
        )

    def _handlers(
        self, archive: _Archive, storage: StorageService
    ) -> dict[tuple[CommandField, str], Handler]:
        query = QueryService(self._settings, archive.finder)
        retrieve = RetrieveService(
            self._settings,
            self._configuration.nodes,
            archive.finder,
            archive.exporter,
            self._user_log,
        )
        handlers: dict[tuple[CommandField, str], Handler] = {
            (CommandField.C_ECHO_RQ, VERIFICATION): answer_echo,
            (CommandField.C_STORE_RQ, STORAGE): storage.store,
        }
        for number, levels in _MODELS.items():
            root = f"{_QUERY_RETRIEVE}.{number}"
            move = retrieve.move_handler(levels)
            handlers[CommandField.C_FIND_RQ, f"{root}.1"] = query.handler(levels)
            handlers[CommandField.C_MOVE_RQ, f"{root}.2"] = move
            handlers[CommandField.C_MOVE_RQ, f"{_PRIVATE_RETRIEVE}.{number}.2"] = move
            handlers[CommandField.C_GET_RQ, f"{root}.3"] = retrieve.get_handler(levels)
        return handlers

    def _warn_of_files_without_index(self) -> None:
        """Say so when a device is full of files that an empty index does not know."""
        for device in self._settings.mag_devices:
            found = {entry.name for entry in device.iterdir() if entry.is_dir()} - _OWN_FOLDERS
            if found:
                log.warning(
                    "The index is empty, but %s holds folders (%s, ...): if they are images of "
                    "this archive, restore the index, or see docs/back-up.md.",
                    device,
                    min(found),
                )

    def _log_rule_problems(self) -> None:
        for problem in self._rules.problems:
            level = logging.WARNING if problem.gravity is Gravity.WARNING else logging.ERROR
            log.log(level, "%s", problem)

    # rules

    def _surroundings(
        self, captured: Captured, ref: InstanceRef | None = None, path: PurePath | None = None
    ) -> Surroundings:
        assert self._archive is not None, "the archive is not open"
        return Surroundings(self._archive.world, captured, ref, path)

    def _import_rules(self, table: ElementTable, captured: Captured) -> ImportVerdict:
        return self._rules.run_import(table, captured, self._surroundings(captured))

    def _export_plans(self, table: ElementTable, captured: Captured) -> list[ExportPlan]:
        return self._rules.plan_exports(table, captured, self._surroundings(captured))

    # deliveries

    def _toolbox(self, archive: _Archive) -> Toolbox:
        settings = self._settings
        exporter = archive.exporter
        return Toolbox(
            ledger=Ledger(
                self._database,
                archive.writer,
                self._clock,
                archive.index.add_debts,
                exporter.release_spool,
            ),
            exporter=exporter,
            settings=settings,
            nodes=self._configuration.nodes,
            clock=self._clock,
            expand=self._expand,
            rewrite=lambda debt: lambda table: self._run_script(debt, table),
            make_sender=lambda destination: Sender(destination, exporter, settings),
            policy=RetryPolicy.of(settings),
        )

    def _expand(self, debt: Debt) -> list[Forward]:
        """Run the export converter that an EXPORT debt names over the stored object.

        Raises:
            RuleError: the converter failed; the debt has to wait for a person.
            StoreError: the object or the database cannot be read.
        """
        assert self._archive is not None
        exporter = self._archive.exporter
        number = int(debt.destination.removeprefix("ExportConverter"))
        captured = Captured(**json.loads(debt.context))
        surroundings = self._surroundings(captured, debt.ref, exporter.path(debt.ref))
        with exporter.table(debt.ref) as table:
            return self._rules.expand(number, table, captured, surroundings)

    def _run_script(self, debt: Debt, table: ElementTable) -> None:
        """Run the `script` clause of a forward over the copy that is sent.

        Raises:
            RuleError: the script failed or refused the copy, which must then not be sent.
        """
        captured = capture(table, debt.calling, debt.called)
        verdict = self._rules.run_script(debt.script, table, captured, self._surroundings(captured))
        if verdict.outcome is not RuleOutcome.KEEP:
            raise RuleError(
                verdict.reason or "the script of the forward refused the object",
                where=debt.rule,
            )

    # the control socket

    def _commands(self, archive: _Archive, dispatcher: Dispatcher) -> dict[str, Command]:
        desk = Desk(self._database, archive.writer, self._clock, archive.exporter.release_spool)

        def import_command(arguments: Answer) -> Iterator[Answer]:
            return self.import_files(Path(path) for path in arguments["paths"])

        return {
            "import": import_command,
            "status": lambda arguments: self._status(archive, desk),
            **queue_commands(desk, dispatcher.retry_now),
        }

    def _status(self, archive: _Archive, desk: Desk) -> Answer:
        listener = self._listener
        return {
            "ae_title": self._settings.ae_title,
            "port": listener.port if listener else None,
            "pid": os.getpid(),
            "up_s": self._clock.monotonic() - self._started_at,
            "associations": listener.active if listener else 0,
            "max_associations": self._settings.max_associations,
            "archive": archive.index.counts()._asdict(),
            "devices": [
                {"name": device.name, "free_mb": device.free_bytes() // MEGABYTE}
                for device in archive.devices
            ],
            "queue": [count.as_dict() for count in desk.counts()],
        }
