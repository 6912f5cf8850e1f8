"""Everything that one configuration shapes: built whole, then used unchanged.

Part of the composition root. A reload builds a new `Generation` beside the one that runs and puts
it in its place with one assignment (`dgate.gateway`); what began under the old one, an association
or a delivery, ends under it. So nothing here may keep what has to outlive a configuration: that is
in `dgate.foundation`. Nor does anything here have to be closed. Immutable, used by all threads.

To add a part that follows the configuration and does not run by itself (a service, a check, a
source of rules): give it a field of `Generation`, build it in `_Builder` from `self._settings`
and `self._foundation`, and use it there. Something that runs by itself belongs to `dgate.parts`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dgate.archive.changes import ChangeLog
from dgate.archive.coercion import DEMANDING, Coercion
from dgate.archive.devices import Devices
from dgate.archive.events import IntakeEvents
from dgate.archive.export import Exporter
from dgate.archive.importer import FileResult, import_files
from dgate.archive.index import Index
from dgate.archive.ingest import Ingest
from dgate.archive.lookup import Lookup
from dgate.archive.maintenance.caretaker import Caretaker
from dgate.archive.maintenance.mirror import Mirrors
from dgate.archive.maintenance.stored_rules import StoredRules
from dgate.archive.naming import Naming
from dgate.archive.passing import PASSING_DEVICE
from dgate.archive.query import Finder
from dgate.archive.replacing import Replacing
from dgate.archive.scripting import Archive
from dgate.archive.worklist import Worklist
from dgate.committing import Commitment
from dgate.config.settings import Configuration, Durability, Settings
from dgate.delivery.performing import Performer
from dgate.delivery.records import Debt
from dgate.delivery.schedule import RetryPolicy
from dgate.delivery.sender import Sender
from dgate.delivery.worker import Toolbox
from dgate.dicom.uids import VERIFICATION, UidGenerator
from dgate.errors import RuleError
from dgate.foundation import Foundation
from dgate.hooks import Hooks
from dgate.net import STORAGE, CommandField, Handler, Policy, Router, Terms, Timeouts
from dgate.operations import Operations
from dgate.ops.log import UserLog
from dgate.rules.actions import Server
from dgate.rules.events import Event
from dgate.rules.hooks import Rules
from dgate.services.associations import AssociationLife
from dgate.services.counters import UNKNOWN
from dgate.services.identifier import PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT
from dgate.services.peers import Peers
from dgate.services.performed_steps import PerformedStepService
from dgate.services.query import QueryService
from dgate.services.retrieval import Retrieval
from dgate.services.retrieve import RetrieveService
from dgate.services.storage import StorageService
from dgate.services.verification import answer_echo
from dgate.services.virtual import Receiver, VirtualRetrieval, VirtualServers
from dgate.services.worklist import MODALITY_WORKLIST, WorklistService
from dgate.surroundings import Outreach, Reach, World

_QUERY_RETRIEVE = "1.2.840.10008.5.1.4.1.2"
_PRIVATE_RETRIEVE = "1.2.826.0.1.3680043.2.135.1066.5.1.4.1.2"
"""Aliases of the C-MOVE classes under the original vendor's root (spec dgatesop-lst.md, appendix).
"""
_MODELS = {"1": PATIENT_ROOT, "2": STUDY_ROOT, "3": PATIENT_STUDY_ONLY}


@dataclass(frozen=True, slots=True)
class Generation:
    """One configuration at work."""

    configuration: Configuration
    rules: Rules
    hooks: Hooks
    devices: Devices
    index: Index
    finder: Finder
    exporter: Exporter
    ingest: Ingest
    user_log: UserLog
    terms: Terms
    """What serves the associations that begin now."""
    toolbox: Toolbox
    """What delivers from now on."""
    worklist: Worklist

    @property
    def settings(self) -> Settings:
        """Return the settings that count."""
        return self.configuration.settings

    @classmethod
    def build(
        cls,
        foundation: Foundation,
        configuration: Configuration,
        rules: Rules,
        former: Generation | None = None,
    ) -> Generation:
        """Build everything; `former` is the generation that this one is to replace.

        Raises:
            DgateError: something in the configuration cannot be used; nothing has changed then.
        """
        return _Builder(foundation, configuration, rules, former).build()

    def import_files(self, paths: Iterable[Path]) -> Iterator[FileResult]:
        """Store files; yields the result of each."""
        return import_files(self.ingest, paths)


class _Builder:
    """Builds one generation."""

    def __init__(
        self,
        foundation: Foundation,
        configuration: Configuration,
        rules: Rules,
        former: Generation | None,
    ) -> None:
        self._foundation = foundation
        self._configuration = configuration
        self._settings = settings = configuration.settings
        self._rules = rules
        clock, database = foundation.clock, foundation.database
        shared = former.devices if former is not None else foundation.first_devices
        self._devices = Devices.from_settings(settings, clock, shared)
        self._index = foundation.index.under(settings)
        self._finder = Finder(database, foundation.schema, settings)
        passing = {PASSING_DEVICE: foundation.passing.open}
        replacing = Replacing.of(database)
        find = self._finder.instance
        self._exporter = Exporter(self._devices, settings, find, passing, replacing)
        self._hooks = Hooks(rules, self._exporter, foundation.sessions, settings)
        uids = UidGenerator(settings.uid_prefix, clock)
        self._worklist = Worklist(
            database,
            foundation.schema,
            configuration.layout.worklist,
            foundation.writer,
            settings,
            clock,
            uids.new,
        )
        self._ingest = self._make_ingest()
        self._hooks.world = World(
            settings.ae_title,
            clock,
            uids,
            self._ingest.file_name,
            self._finder,
            self._exporter,
            Lookup(database, foundation.schema, self._finder, self._worklist, settings),
            Reach.of(settings, database, foundation.writer, clock),
        )
        self._hooks.world = dataclasses.replace(self._hooks.world, outreach=self._outreach())
        self._commitment = Commitment.build(
            configuration,
            foundation,
            self._finder.instance,
            self._exporter,
            self._devices.admit_places,
        )
        same_log = former is not None and former.settings.user_log == settings.user_log
        self._user_log = (
            former.user_log if former is not None and same_log else UserLog(settings.user_log)
        )

    def build(self) -> Generation:
        """Put the parts together."""
        return Generation(
            self._configuration,
            self._rules,
            self._hooks,
            self._devices,
            self._index,
            self._finder,
            self._exporter,
            self._ingest,
            self._user_log,
            self._terms(),
            self._toolbox(),
            self._worklist,
        )

    def _make_ingest(self) -> Ingest:
        foundation, rules, hooks = self._foundation, self._rules, self._hooks
        return Ingest(
            self._settings,
            self._index,
            foundation.writer,
            self._devices,
            Naming(self._settings, foundation.clock, self._hooks.name_by_lua(self._settings)),
            None if rules.is_empty_import else hooks.run_import,
            None if rules.is_empty_export else hooks.plan_exports,
            foundation.clock,
            foundation.wake,
            foundation.traffic,
            self._intake_events(),
            ChangeLog(foundation.database),
            self._configuration.nodes,
        )

    def _intake_events(self) -> IntakeEvents:
        mode = self._settings.worklist_mode
        coercion = Coercion(self._worklist, demanding=mode == DEMANDING) if mode else None
        return IntakeEvents(self._hooks.events, coercion)

    def _terms(self) -> Terms:
        settings = self._settings
        policy = Policy(
            lists=self._configuration.sop_list,
            max_pdu=settings.pdu_size,
            allow_unknown=settings.allow_unknown,
            is_known=self._configuration.nodes.names,
            accept_unknown_sop_classes=settings.accept_unknown_sop_classes,
        )
        storage = StorageService(
            settings,
            self._ingest,
            self._user_log,
            self._foundation.fetches,
            self._foundation.expected,
        )
        router = Router(self._handlers(storage), storage.payload)
        life = AssociationLife(router.run, self._hooks.lua_events, self._hooks.surroundings)
        router.before = life.before_command
        counters = self._foundation.counters
        router.payloads = self._commitment.payloads()
        router.refused = lambda: counters.count(UNKNOWN)
        timeouts = Timeouts.of(settings.tcpip_timeout_s)
        return Terms(policy, counters.serving(life.run), settings.max_associations, timeouts)

    def _handlers(self, storage: StorageService) -> dict[tuple[CommandField, str], Handler]:
        events = self._hooks.events
        servers = VirtualServers(self._settings, self._configuration.nodes, events)
        query = QueryService(self._settings, self._finder, events, servers)
        worklist = WorklistService(self._settings, self._worklist, events)
        retrieve = RetrieveService(
            self._settings,
            self._configuration.nodes,
            self._finder,
            self._exporter,
            self._user_log,
            events,
            self._hooks.compression_script,
            virtual=self._virtual_retrieval(servers),
            statements=self._hooks.run_statements,
        )
        handlers: dict[tuple[CommandField, str], Handler] = {
            (CommandField.C_ECHO_RQ, VERIFICATION): answer_echo,
            (CommandField.C_STORE_RQ, STORAGE): storage.store,
            (CommandField.C_FIND_RQ, MODALITY_WORKLIST): worklist.find,
        }
        for number, levels in _MODELS.items():
            root = f"{_QUERY_RETRIEVE}.{number}"
            move = retrieve.move_handler(levels)
            handlers[CommandField.C_FIND_RQ, f"{root}.1"] = query.handler(levels)
            handlers[CommandField.C_MOVE_RQ, f"{root}.2"] = move
            handlers[CommandField.C_MOVE_RQ, f"{_PRIVATE_RETRIEVE}.{number}.2"] = move
            handlers[CommandField.C_GET_RQ, f"{root}.3"] = retrieve.get_handler(levels)
        handlers |= self._commitment.handlers() | self._performed_steps().handlers()
        return self._foundation.counters.counting(handlers)

    def _performed_steps(self) -> PerformedStepService:
        foundation, world = self._foundation, self._hooks.world
        assert world is not None, "it is built before"
        names = self._configuration.nodes.names
        ring, admit = foundation.bell.ring, self._devices.admit_places
        return PerformedStepService(foundation.steps, names, world.uids.new, ring, admit)

    def _virtual_retrieval(self, servers: VirtualServers) -> VirtualRetrieval:
        foundation = self._foundation
        receiver = Receiver(
            self._settings,
            foundation.fetches,
            self._ingest,
            foundation.passing,
            self._configuration.sop_list,
            self._finder.instance,
        )
        return VirtualRetrieval(servers, receiver)

    def _toolbox(self) -> Toolbox:
        settings, exporter, hooks = self._settings, self._exporter, self._hooks
        return Toolbox(
            ledger=self._foundation.ledger,
            exporter=exporter,
            settings=settings,
            nodes=self._configuration.nodes,
            clock=self._foundation.clock,
            expand=hooks.expand,
            rewrite=lambda debt: lambda table: hooks.run_script(debt, table),
            make_sender=lambda destination: Sender(
                destination, exporter, settings, compress=hooks.compression_script
            ),
            policy=RetryPolicy.of(settings),
            perform=self._performer().perform,
            halt=self._loop_of,
            mirror=self._mirrors(),
            errands=self._commitment.errands,
            mover=self._foundation.mover,
            refusals=self._foundation.refusals,
        )

    def _loop_of(self, debt: Debt) -> str:
        """Return why a delivery would go round in a loop of servers; empty when it does not."""
        foundation, called = self._foundation, debt.called or debt.destination
        now = foundation.clock.monotonic()
        return foundation.traffic.loops.reason(debt.ref.sop_instance, called, debt.id, now)

    def _outreach(self) -> Outreach:
        """Return what Lua talks to."""
        foundation, hooks, configuration = self._foundation, self._hooks, self._configuration
        world = hooks.world
        assert world is not None, "the outreach is part of it"
        assert world.reach is not None, "a generation has one"
        archive = Archive(
            self._settings,
            configuration.layout,
            foundation.database,
            foundation.schema,
            foundation.writer,
            self._index,
            self._finder,
            self._exporter,
            self._ingest,
            self._caretaker,
            world.reach.files.place,
            hooks.run_statements,
            forget_uids=world.reach.uids.forget,
        )
        peers = Peers(configuration.nodes, self._settings, configuration.sop_list)
        return Outreach(peers, archive, foundation.server or _no_server)

    def _caretaker(self) -> Caretaker:
        foundation, hooks = self._foundation, self._hooks
        return Caretaker.build(
            self._configuration,
            foundation.database,
            foundation.schema,
            self._index,
            foundation.writer,
            self._devices,
            self._exporter,
            foundation.traffic,
            foundation.clock,
            foundation.wake,
            StoredRules(self._rules.events, hooks.surroundings),
            hooks.name_by_lua(self._settings),
        )

    def _performer(self) -> Performer:
        """Return what works delayed operations off."""
        foundation, hooks = self._foundation, self._hooks
        world = hooks.world
        assert world is not None, "it is built before"
        assert world.reach is not None, "a generation has one"
        retrieval = Retrieval(self._settings, self._configuration.nodes, foundation.expected)
        retrieve = hooks.events.hook(Event.RETRIEVE)
        settings, exporter = self._settings, self._exporter
        performer = Performer(
            foundation.database,
            self._finder,
            exporter,
            settings,
            retrieve,
            foundation.clock,
            self._configuration.nodes,
        )
        operations = Operations(
            performer.select,
            self._caretaker,
            self._exporter,
            world.reach.programs,
            hooks.run_statements,
            hooks.run_lua_job,
            retrieval.fetch,
            world.uids.new,
            world.reach.files.temporary,
        )
        performer.operations.update(operations.table())
        return performer

    def _mirrors(self) -> Callable[[str], None]:
        """Return what brings the mirror copy of a stored object up to date."""
        durable = self._settings.durability is Durability.FULL
        turns = self._foundation.traffic.turns
        return Mirrors(self._devices, self._finder.instance, turns, durable=durable).pay


def _no_server() -> Server:
    raise RuleError("no server runs", remedy="`dgate serve`")
