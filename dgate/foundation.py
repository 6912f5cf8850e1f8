"""The parts that stay as long as the gateway runs, whatever its configuration says meanwhile.

Part of the composition root. What follows the configuration is `dgate.generation`. Opened and
closed by the thread that owns the gateway; used by all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from dgate.archive.aside import Aside
from dgate.archive.database import Database
from dgate.archive.devices import Devices
from dgate.archive.index import Index
from dgate.archive.ingest import Traffic
from dgate.archive.levels import Schema
from dgate.archive.maintenance.removals import Removals
from dgate.archive.ownership import Owner
from dgate.archive.passing import Passing
from dgate.archive.recovery import recover
from dgate.archive.schema import prepare
from dgate.archive.steps import Steps
from dgate.archive.writer import Writer, database_time
from dgate.clock import Clock
from dgate.config.settings import Configuration, Durability
from dgate.delivery.desk import Desk
from dgate.delivery.expected import Bell
from dgate.delivery.leases import refuse_twin
from dgate.delivery.ledger import Ledger
from dgate.delivery.moving import Mover
from dgate.delivery.reconcile.results import Comparisons, results_file
from dgate.delivery.refusals import Refusals
from dgate.rules.actions import Server
from dgate.rules.session import Sessions
from dgate.services.counters import Counters
from dgate.services.retrieval import Expected
from dgate.services.virtual import Fetches

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Foundation:
    """The open archive below everything that settings shape."""

    clock: Clock
    database: Database
    schema: Schema
    writer: Writer
    index: Index
    """Under the settings of the start; `Index.under` gives it others."""
    first_devices: Devices
    """The devices by the settings of the start; a generation has its own, which share these."""
    traffic: Traffic
    ledger: Ledger
    desk: Desk
    mover: Mover
    refusals: Refusals
    wake: Callable[[], None]
    """Tells the dispatcher that debts were committed."""
    passing: Passing = field(default_factory=Passing)
    """Objects of virtual servers that are only passed on."""
    fetches: Fetches = field(default_factory=Fetches)
    """Retrievals that wait for objects of virtual servers."""
    sessions: Sessions = field(default_factory=Sessions)
    """What rules keep as long as the server runs: export converters, jobs, the global state."""
    expected: Expected = field(default_factory=Expected)
    """C-MOVEs to ourselves that rules have asked for."""
    counters: Counters = field(default_factory=Counters)
    """What `Global` counts."""
    bell: Bell = field(default_factory=Bell)
    """Rings when debts were committed, for who waits for studies to be complete."""
    comparisons: Comparisons = field(default_factory=Comparisons)
    """What came of comparisons with other archives."""
    server: Callable[[], Server] | None = None
    """The server as scripts see it; None where none runs."""

    @classmethod
    def open(
        cls,
        configuration: Configuration,
        database: Database,
        clock: Clock,
        wake: Callable[[], None],
        server: Callable[[], Server] | None = None,
    ) -> Foundation:
        """Open the archive and recover what a crash left.

        Raises:
            DgateError: the database or a device cannot be used.
        """
        settings = configuration.settings
        database.open()
        database.identify()
        schema = prepare(database, configuration.layout, settings)
        refuse_twin(database, clock)
        for note in schema.notes:
            log.info("Database: %s.", note)
        writer = Writer(database, settings.durability)
        index = Index(database, schema, settings)
        owner = Owner.named(database.home, shared=not database.embedded)
        devices = Devices.from_settings(settings, clock, owner=owner)
        release = devices.spool.remove
        ledger = Ledger(database, writer, clock, index.add_debts, release)
        foundation = cls(
            clock,
            database,
            schema,
            writer,
            index,
            devices,
            Traffic.of(settings),
            ledger,
            Desk(database, writer, clock, release, ledger.recalled),
            Mover(database, writer, partial(database_time, database, clock)),
            Refusals(database, writer, partial(database_time, database, clock)),
            wake,
            comparisons=Comparisons(results_file(settings.base_folder)),
            server=server,
        )
        log.info("Recovery: %s.", recover(devices, index, writer))
        Aside.below(settings.base_folder).tidy()
        durable = settings.durability is Durability.FULL
        turns = foundation.traffic.turns
        Removals(database, schema, index, writer, devices, turns, durable=durable).finish()
        return foundation

    @property
    def steps(self) -> Steps:
        """The procedure steps that modalities tell of."""
        return Steps(self.database, self.schema, self.writer, self.clock)

    def close(self) -> None:
        """Close the connections; the database itself belongs to the gateway."""
        self.sessions.close()
        self.writer.close()
        self.index.close()
