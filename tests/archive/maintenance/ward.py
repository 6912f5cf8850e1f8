"""An archive on real files with all tools of maintenance, for their tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dgate.archive.database import Database
from dgate.archive.devices import Devices
from dgate.archive.export import Exporter
from dgate.archive.files import free_bytes
from dgate.archive.index import Index
from dgate.archive.ingest import Ingest, Traffic
from dgate.archive.maintenance.caretaker import Caretaker
from dgate.archive.maintenance.corrections import Plan
from dgate.archive.maintenance.mirror import Mirrors
from dgate.archive.maintenance.removals import Removals
from dgate.archive.maintenance.stored_rules import StoredRules
from dgate.archive.naming import Naming
from dgate.archive.query import Finder
from dgate.archive.records import DebtDraft, DebtKind, InstanceRef
from dgate.archive.recovery import recover
from dgate.archive.schema import prepare
from dgate.archive.writer import Writer
from dgate.config.settings import Configuration, Durability, Engine, load
from dgate.dicom.uids import EXPLICIT_LE
from dgate.rules.events import Event
from tests.archive.intake_kit import CT, FixedClock, Hooks, Station, data_set
from tests.rules import kit

INI = "[sscscp]\nMicroPACS = sscscp\nSQLite = 1\nSQLServer = index.db3\nMAGDevice0 = mag0\n"


@dataclass
class Disk:
    """What the devices are told about their free space: real, unless a test sets it."""

    free: dict[str, int] = field(default_factory=dict)
    """Free bytes by the name of the folder, less what lies in it."""
    stuck: bool = False
    """Removing files frees nothing, as where snapshots keep them."""

    def probe(self, folder: str) -> int:
        """Return the free bytes of a folder."""
        name = Path(folder).name
        if name not in self.free:
            return free_bytes(folder)
        if self.stuck:
            return self.free[name]
        files = (path for path in Path(folder).rglob("*") if path.is_file())
        return self.free[name] - sum(path.stat().st_size for path in files)


@dataclass
class Ward(Station):
    """A station with maintenance."""

    configuration: Configuration = field(kw_only=True)
    caretaker: Caretaker = field(kw_only=True)
    removals: Removals = field(kw_only=True)
    mirrors: Mirrors = field(kw_only=True)
    finder: Finder = field(kw_only=True)
    traffic: Traffic = field(kw_only=True)

    def add(self, number: int, *, patient: str = "P1", study: int = 1, **elements: Any) -> str:
        """Store an object of a patient's study; returns its SOP Instance UID."""
        base = f"1.2.{ord(patient[0])}{patient[1:]}.{study}"
        sop_instance = f"{base}.1.{number}"
        values = {
            "PatientID": patient,
            "StudyInstanceUID": base,
            "SeriesInstanceUID": f"{base}.1",
            "SOPInstanceUID": sop_instance,
            "InstanceNumber": str(number),
            **elements,
        }
        self.send(data_set(**values), sop_instance=values["SOPInstanceUID"])
        return str(values["SOPInstanceUID"])

    def owe(self, sop_instance: str, destination: str = "SINK") -> None:
        """Owe a delivery of a stored object."""
        ref = self.ref(sop_instance)
        drafts = [DebtDraft(DebtKind.DELIVER, destination, "rule")]
        self.writer.transact(lambda tx: self.index.add_debts(tx, ref, drafts, self.clock.now()))

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.database.reader() as connection:
            return [tuple(row) for row in connection.execute(sql, values).fetchall()]

    def counts(self) -> tuple[int, ...]:
        """Return the numbers of patients, studies, series and images."""
        return tuple(self.index.counts())

    def close(self) -> None:
        """Close all connections."""
        self.index.close()
        super().close()

    def start_over(self) -> None:
        """Recover as a start does."""
        self.recover()
        self.removals.finish()

    def recorded(self) -> list[dict[str, Any]]:
        """Return what came of each piece of work, by the journal."""
        return [record for record in self.journal() if record["state"] != "begun"]

    def journal(self) -> list[dict[str, Any]]:
        """Return all lines of the journal."""
        path = self.caretaker.journal.path
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def below(self, folder: str) -> list[str]:
        """Return the object files below a folder of the base folder."""
        root = self.settings.base_folder / folder
        found = (path for path in root.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(root)) for path in found)

    def refs(self) -> list[InstanceRef]:
        """Return all objects."""
        keys = self.rows("SELECT SOPInstanc FROM DICOMImages ORDER BY SOPInstanc")
        found = (self.find(key[0]) for key in keys)
        # One may go while the background cleans.
        return [ref for ref in found if ref is not None]


def stored_rules(lines: Mapping[Event, str]) -> StoredRules:
    """Return the converters of these lines."""
    made = kit.rules(*(kit.converter(text, event.value, 0) for event, text in lines.items()))
    return StoredRules(made.events, lambda captured, ref, path: kit.FakeEnvironment())


def open_ward(
    base: Path,
    *,
    disk: Disk | None = None,
    hooks: Hooks | None = None,
    clock: FixedClock | None = None,
    rules: Mapping[Event, str] | None = None,
    **changes: Any,
) -> Ward:
    """Open an archive below `base`: MAG0 in `base/mag0` and MAG1 in `base/mag1`.

    `rules` are lines of event converters that see stored objects.
    """
    base.mkdir(parents=True, exist_ok=True)
    (base / "dicom.ini").write_text(INI)
    configuration = load(base)
    changes = {
        "mag_devices": (base / "mag0", base / "mag1"),
        "engine": Engine.SQLITE,
        "sql_server": str(base / "index.db3"),
        "temp_dir": base,
        "mag_device_full_threshold_mb": 0,
        "durability": Durability.NONE,
        "file_name_syntax": "8",
        **changes,
    }
    settings = replace(configuration.settings, **changes)
    configuration = replace(configuration, settings=settings)
    clock = clock or FixedClock()
    database = Database(settings)
    database.open()
    schema = prepare(database, configuration.layout, settings)
    index = Index(database, schema, settings)
    writer = Writer(database, settings.durability)
    probe: Callable[[str], int] = (disk or Disk()).probe
    devices = Devices.from_settings(settings, clock, probe=probe)
    given = hooks or Hooks()
    traffic = Traffic.of(settings)
    finder = Finder(database, schema, settings)
    ingest = Ingest(
        settings,
        index,
        writer,
        devices,
        Naming(settings, clock),
        given.run_import if hooks is not None else None,
        given.plan_exports if hooks is not None else None,
        clock,
        given.wake,
        traffic,
    )
    exporter = Exporter(devices, settings, finder.instance)
    durable = settings.durability is Durability.FULL
    caretaker = Caretaker.build(
        configuration,
        database,
        schema,
        index,
        writer,
        devices,
        exporter,
        traffic,
        clock,
        given.wake,
        None if rules is None else stored_rules(rules),
    )
    return Ward(
        settings,
        clock,
        database,
        writer,
        index,
        devices,
        ingest,
        exporter,
        given,
        configuration=configuration,
        caretaker=caretaker,
        removals=Removals(database, schema, index, writer, devices, traffic.turns, durable=durable),
        mirrors=Mirrors(devices, finder.instance, traffic.turns, durable=durable),
        finder=finder,
        traffic=traffic,
    )


def carry_out(ward: Ward, plan: Plan, *, even_owed: bool = False) -> None:
    """Make the corrections of a plan, to the end."""
    for correction in plan.corrections:
        for _ in ward.caretaker.corrector.correct(
            correction, who="tester", why=plan.what, even_owed=even_owed
        ):
            pass


__all__ = ["CT", "EXPLICIT_LE", "Disk", "Ward", "carry_out", "open_ward", "recover"]
