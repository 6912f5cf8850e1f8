"""All maintenance that changes what is stored, put together for one configuration.

Not for rebuilding or verifying the index. Immutable; any thread may use the parts, each operation
runs in its caller's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from dgate.archive.changes import ChangeLog
from dgate.archive.database import Database
from dgate.archive.devices import Devices
from dgate.archive.export import Exporter
from dgate.archive.index import Index
from dgate.archive.ingest import Traffic
from dgate.archive.levels import Schema
from dgate.archive.maintenance.clean import Cleaner, Lru
from dgate.archive.maintenance.corrections import Planner
from dgate.archive.maintenance.delete import Deleter
from dgate.archive.maintenance.holdings import Holdings
from dgate.archive.maintenance.identity import Corrector
from dgate.archive.maintenance.journal import JOURNAL_NAME, Journal
from dgate.archive.maintenance.move_device import Mover
from dgate.archive.maintenance.recast import Recaster
from dgate.archive.maintenance.relocate import Relocator
from dgate.archive.maintenance.removals import Removals
from dgate.archive.maintenance.restore import Restorer
from dgate.archive.maintenance.stored_rules import StoredRules
from dgate.archive.maintenance.uncommitted import Uncommitted
from dgate.archive.naming import EvaluateName, Naming
from dgate.archive.writer import Writer
from dgate.clock import Clock
from dgate.config.settings import Configuration, Durability, Settings
from dgate.dicom.uids import UidGenerator


@dataclass(frozen=True, slots=True)
class Caretaker:
    """The tools of maintenance."""

    settings: Settings
    devices: Devices
    journal: Journal
    lru: Lru
    deleter: Deleter
    cleaner: Cleaner
    mover: Mover
    planner: Planner
    corrector: Corrector
    restorer: Restorer

    @classmethod
    def build(
        cls,
        configuration: Configuration,
        database: Database,
        schema: Schema,
        index: Index,
        writer: Writer,
        devices: Devices,
        exporter: Exporter,
        traffic: Traffic,
        clock: Clock,
        wake: Callable[[], None],
        rules: StoredRules | None = None,
        name: EvaluateName | None = None,
    ) -> Self:
        """Put the tools together; `rules` see objects that move or are merged, `name` makes the
        names of a `lua:` FileNameSyntax.

        Raises:
            DgateError: no index is kept.
        """
        settings = configuration.settings
        durable = settings.durability is Durability.FULL
        holdings = Holdings(database, schema, configuration.layout, index)
        removals = Removals(
            database, schema, index, writer, devices, traffic.turns, durable=durable
        )
        relocator = Relocator(writer, removals, devices, traffic.names, traffic.turns)
        journal = Journal(settings.base_folder / "dgate" / JOURNAL_NAME, clock)
        uncommitted = Uncommitted(database, settings.peers)
        deleter = Deleter(holdings, removals, writer, devices, journal, clock, uncommitted)
        lru = Lru(database, schema, settings.lru_sort)
        uids = UidGenerator(settings.uid_prefix, clock)
        naming = Naming(settings, clock, name)
        changes = ChangeLog(database)
        recaster = Recaster(settings, index, exporter, naming, rules)
        stored = (holdings, relocator, devices)
        corrector = Corrector(
            settings, database, index, *stored, naming, uids, journal, clock, wake, changes, rules
        )
        return cls(
            settings,
            devices,
            journal,
            lru,
            deleter,
            Cleaner(lru, holdings, deleter, devices, clock),
            Mover(database, schema, index, writer, *stored, recaster, clock, wake, changes),
            Planner(holdings, corrector, uids),
            corrector,
            Restorer(holdings, corrector, exporter, changes, writer, clock),
        )
