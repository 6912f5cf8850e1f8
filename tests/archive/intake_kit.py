"""What the tests of the file half share: data sets as bytes, a whole archive on real files."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset

from dgate.archive.database import Database
from dgate.archive.devices import Devices, FolderDevice
from dgate.archive.export import Exporter
from dgate.archive.index import Index
from dgate.archive.ingest import Ingest
from dgate.archive.naming import Naming
from dgate.archive.ownership import Owner
from dgate.archive.records import Arrival, InstanceRef, Receipt
from dgate.archive.recovery import Recovered, recover
from dgate.archive.schema import prepare
from dgate.archive.spool import Spool
from dgate.archive.spoolsweep import Swept, sweep
from dgate.archive.writer import Writer
from dgate.config.layout import default_layout
from dgate.config.nodes import NodeMap
from dgate.config.settings import Engine, Settings, default_settings
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from dgate.rules.effects import Captured, ExportPlan, ImportVerdict
from dgate.rules.session import Session

CT = "1.2.840.10008.5.1.4.1.1.2"
SOP = "1.2.3.1.1.1"
PIECE_BYTES = 1 << 19


def data_set(syntax: str = EXPLICIT_LE, **elements: Any) -> bytes:
    """Return an encoded CT image with these elements, by keyword; None leaves one out."""
    values: dict[str, Any] = {
        "SOPClassUID": CT,
        "SOPInstanceUID": SOP,
        "StudyDate": "20240131",
        "Modality": "CT",
        "StudyDescription": "Thorax",
        "PatientName": "SMITH^JOHN",
        "PatientID": "P1",
        "StudyInstanceUID": "1.2.3.1",
        "SeriesInstanceUID": "1.2.3.1.1",
        "StudyID": "S1",
        "SeriesNumber": "2",
        "InstanceNumber": "3",
        "Rows": 4,
        "Columns": 4,
        "BitsAllocated": 16,
        "PixelData": bytes(range(32)),
    } | elements
    data = Dataset()
    for keyword, value in values.items():
        if value is not None:
            setattr(data, keyword, value)
    if "PixelData" in data:
        data["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    out = DicomFileLike(buffer)
    out.is_implicit_VR, out.is_little_endian = syntax == IMPLICIT_LE, True
    write_dataset(out, data)
    return buffer.getvalue()


LARGE_PIXELS = bytes(range(256)) * (768 * 768 * 2 // 256)


def large_data_set(syntax: str = EXPLICIT_LE, **elements: Any) -> bytes:
    """Return an object that is spilled to disk while it arrives."""
    return data_set(syntax, Rows=768, Columns=768, PixelData=LARGE_PIXELS, **elements)


class FixedClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def now(self) -> float:
        """Return the set time."""
        return self.seconds

    def monotonic(self) -> float:
        """Return the set time."""
        return self.seconds


@dataclass
class Hooks:
    """Rule hooks that do what a test wants, and remember what they were given."""

    on_import: Callable[[ElementTable, ImportVerdict], None] | None = None
    plans: list[ExportPlan] = field(default_factory=list)
    imported: list[Captured] = field(default_factory=list)
    exported: list[Captured] = field(default_factory=list)
    wakes: int = 0

    def run_import(
        self, table: ElementTable, captured: Captured, session: Session | None = None
    ) -> ImportVerdict:
        """Stand for the import converters."""
        self.imported.append(captured)
        verdict = ImportVerdict()
        if self.on_import is not None:
            self.on_import(table, verdict)
        return verdict

    def plan_exports(self, table: ElementTable, captured: Captured) -> list[ExportPlan]:
        """Stand for the export converters."""
        self.exported.append(captured)
        return self.plans

    def wake(self) -> None:
        """Stand for the dispatcher."""
        self.wakes += 1


@dataclass
class Station:
    """A whole archive on a temporary folder."""

    settings: Settings
    clock: FixedClock
    database: Database
    writer: Writer
    index: Index
    devices: Devices
    ingest: Ingest
    exporter: Exporter
    hooks: Hooks

    def send(self, data: bytes, **changes: Any) -> Receipt:
        """Let an object arrive as a C-STORE brings it."""
        return self.ingest.store(self.arrival(data, **changes))

    def arrival(
        self,
        data: bytes,
        *,
        syntax: str = EXPLICIT_LE,
        sop_class: str = CT,
        sop_instance: str = SOP,
        calling: str = "MODALITY",
        called: str = "DGATE",
        skip_rules: bool = False,
    ) -> Arrival:
        """Return an arrival whose payload has been filled in network-sized pieces."""
        payload = self.ingest.payload(syntax, sop_class, sop_instance, calling)
        view = memoryview(data)
        for start in range(0, len(data), PIECE_BYTES):
            payload.append(view[start : start + PIECE_BYTES])
        return Arrival(payload, syntax, calling, called, sop_class, sop_instance, skip_rules)

    def ref(self, sop_instance: str = SOP) -> InstanceRef:
        """Return the index's reference to an object; it must be there."""
        found = self.find(sop_instance)
        assert found is not None
        return found

    def find(self, sop_instance: str = SOP) -> InstanceRef | None:
        """Return the index's reference to an object."""
        return self.writer.transact(lambda tx: self.index.find(tx, sop_instance))

    def path(self, sop_instance: str = SOP) -> Path:
        """Return where the file of an object lies."""
        return Path(self.exporter.path(self.ref(sop_instance)))

    def content(self, sop_instance: str = SOP) -> bytes:
        """Return an object's data set as it goes out."""
        return self.sent(self.ref(sop_instance))

    def sent(self, ref: InstanceRef) -> bytes:
        """Return the data set behind a reference."""
        outgoing = self.exporter.open(ref)
        try:
            return b"".join(outgoing.chunks())
        finally:
            outgoing.close()

    def debts(self) -> list[dict[str, Any]]:
        """Return all debts."""
        columns = "kind, destination, rule, calling, called, sop_instance, device, name, context"
        with self.database.reader() as connection:
            rows = connection.execute(f"SELECT {columns} FROM dgate_debts ORDER BY id").fetchall()
        return [dict(zip(columns.split(", "), row, strict=True)) for row in rows]

    def rewrites(self) -> list[str]:
        """Return the instances that a note of replacement stands for."""
        return [rewrite.sop_instance for rewrite in self.index.rewrites()]

    def files(self) -> list[str]:
        """Return every file below the devices, the spool included, in order."""
        found: set[str] = set()
        for device in self.devices:
            assert isinstance(device, FolderDevice)
            found.update(_files(device.root))
        return sorted(found | set(_files(self.devices.spool.folder.parent.parent)))

    def recover(self) -> Recovered:
        """Run recovery as a start does."""
        return recover(self.devices, self.index, self.writer)

    def sweep(self) -> Swept:
        """Look through the spool as the next run does."""
        folder, owner = self.devices.spool.folder, self.devices.owner
        return sweep(Spool(folder, owner=owner), self.index)

    def close(self) -> None:
        """Close the database."""
        self.writer.close()
        self.database.close()


def _files(root: Path) -> list[str]:
    # A link to no file is a claim.
    found = (path for path in root.rglob("*") if path.is_file() or path.is_symlink())
    return [str(path.relative_to(root)) for path in found if ".db3" not in path.name]


def open_station(
    base: Path,
    *,
    hooks: Hooks | None = None,
    nodes: NodeMap | None = None,
    owner: Owner | None = None,
    **changes: Any,
) -> Station:
    """Open an archive below `base`: MAG0 in `base/mag0` unless `mag_devices` says otherwise."""
    changes = {
        "mag_devices": (base / "mag0",),
        "engine": Engine.SQLITE,
        "sql_server": str(base / "index.db3"),
        "temp_dir": base,
        "ignore_mag_device_threshold": True,
        **changes,
    }
    settings = default_settings(base, **changes)
    clock = FixedClock()
    database = Database(settings)
    database.open()
    layout = default_layout(settings.truncate_field_names, settings.max_field_length)
    index = Index(database, prepare(database, layout, settings), settings)
    writer = Writer(database, settings.durability)
    devices = Devices.from_settings(settings, clock, owner=owner)
    given = hooks or Hooks()
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
        nodes=nodes,
    )
    exporter = Exporter(devices, settings)
    return Station(settings, clock, database, writer, index, devices, ingest, exporter, given)
