"""What the tests of the database half share: settings, data sets, an open index."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset

from dgate.archive.database import Database
from dgate.archive.index import Index
from dgate.archive.levels import Schema
from dgate.archive.records import InstanceRef
from dgate.archive.repair import repair
from dgate.archive.schema import prepare
from dgate.archive.writer import Transaction, Writer
from dgate.config.layout import Layout, default_layout
from dgate.config.settings import Durability, Engine, MissingUids
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE

if TYPE_CHECKING:
    from tests.servers import DatabaseServer

CT = "1.2.840.10008.5.1.4.1.1.2"


@dataclass(frozen=True)
class Setup:
    """The settings that the database half reads, with their defaults."""

    base_folder: Path
    engine: Engine = Engine.SQLITE
    sql_server: str = ""
    sql_host: str = "localhost"
    username: str = ""
    password: str = ""
    sqlite_startup: str = ""
    mysql_startup: str = ""
    postgres_startup: str = ""
    durability: Durability = Durability.NONE
    patient_table: str = "DICOMPatients"
    study_table: str = "DICOMStudies"
    series_table: str = "DICOMSeries"
    image_table: str = "DICOMImages"
    worklist_table: str = "DICOMWorkList"
    max_field_length: int = 0
    truncate_field_names: int = 10
    allow_truncate: frozenset[str] = field(default_factory=frozenset)
    allow_empty_patient_id: bool = False
    fix_philips: bool = False
    fix_kodak: bool = False
    missing_uids: MissingUids = MissingUids.GENERATE
    uid_prefix: str = "1.2.826.0.1.3680043.2.135"
    match_case: bool = False
    enable_computed_fields: bool = True
    patient_query_sort_order: str = ""
    study_query_sort_order: str = ""
    series_query_sort_order: str = ""
    image_query_sort_order: str = ""


def setup(folder: Path, **changes: Any) -> Setup:
    """Return settings for a database in `folder`."""
    return replace(Setup(folder, sql_server=str(folder / "index.db3")), **changes)


@dataclass
class Archive:
    """An open index over an empty or existing database."""

    settings: Setup
    database: Database
    schema: Schema
    writer: Writer
    index: Index

    def store(
        self, table: ElementTable, *, device: str = "MAG0", name: str = "", now: float = 1000.0
    ) -> InstanceRef | None:
        """Enter an object as ingest does; returns what was stored before."""
        entry = self.index.entry(table, repair(table, self.settings))

        def work(transaction: Transaction) -> InstanceRef | None:
            before = self.index.stored(transaction, entry)
            place = name or (before.name if before else f"{entry.sop_instance}.dcm")
            self.index.enter(transaction, entry, device, place, before, now)
            return before

        return self.writer.transact(work)

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.database.reader() as connection:
            rows = connection.execute(self.database.sql(sql), parameters).fetchall()
            return [tuple(row) for row in rows]

    def value(self, sql: str, *parameters: Any) -> Any:
        """Return the first value of a query."""
        return self.rows(sql, *parameters)[0][0]

    def close(self) -> None:
        """Close all connections."""
        self.writer.close()
        self.index.close()
        self.database.close()


@dataclass(frozen=True)
class Place:
    """Where a test keeps its database, on whichever engine it runs."""

    folder: Path
    server: DatabaseServer | None = None
    """None: an SQLite file in the folder."""
    shared: dict[str, Any] = field(default_factory=dict)

    def __call__(self, **changes: Any) -> Setup:
        """Return the settings; all of one place mean the same database."""
        if self.server is None:
            return setup(self.folder, **changes)
        if not self.shared:
            self.shared.update(self.server.settings())
        return replace(Setup(self.folder), **(self.shared | changes))

    def fresh(self) -> Place:
        """Return a place with another database."""
        return Place(Path(tempfile.mkdtemp(dir=self.folder)), self.server)


def place_of(request: pytest.FixtureRequest, folder: Path) -> Place:
    """Return the place for the engine that a fixture's parameter names."""
    name = request.param
    return Place(folder, None if name == "sqlite" else request.getfixturevalue(name))


ENGINES = ("sqlite", "postgres")
"""The engines on which all tests of the archive, of queries and of the ledger run."""
ALL_ENGINES = (*ENGINES, "mariadb")
"""Those for the smaller set."""


def open_archive(
    settings: Setup, layout: Layout | None = None, clock_sql: str | None = None
) -> Archive:
    """Open the database and create what is missing; `clock_sql` is what a server's time comes
    from, where not from its clock."""
    database = Database(settings)
    database.open()
    if clock_sql is not None and not database.embedded:
        database.clock_sql = clock_sql
    layout = layout or default_layout(settings.truncate_field_names, settings.max_field_length)
    schema = prepare(database, layout, settings)
    writer = Writer(database, settings.durability)
    return Archive(settings, database, schema, writer, Index(database, schema, settings))


def image(**elements: Any) -> ElementTable:
    """Return a CT image with these elements, by keyword; None leaves one out."""
    values: dict[str, Any] = {
        "SOPClassUID": CT,
        "SOPInstanceUID": "1.2.3.1.1.1",
        "StudyInstanceUID": "1.2.3.1",
        "SeriesInstanceUID": "1.2.3.1.1",
        "PatientID": "P1",
        "PatientName": "SMITH^JOHN",
        "PatientBirthDate": "19600102",
        "PatientSex": "M",
        "StudyDate": "20240131",
        "StudyTime": "101500",
        "StudyID": "S1",
        "StudyDescription": "Thorax",
        "AccessionNumber": "A100",
        "Modality": "CT",
        "SeriesNumber": "1",
        "SeriesDescription": "Lung",
        "InstanceNumber": "1",
        "Rows": 512,
        "Columns": 512,
        "SamplesPerPixel": 1,
        "BitsStored": 12,
    } | elements
    data = Dataset()
    # Odd values are what many tests are about.
    with disable_value_validation():
        for keyword, value in values.items():
            if value is not None:
                setattr(data, keyword, value)
        return table_of(data)


def table_of(data: Dataset) -> ElementTable:
    """Return the element table of a data set, encoded explicit little endian."""
    buffer = io.BytesIO()
    out = DicomFileLike(buffer)
    out.is_implicit_VR, out.is_little_endian = False, True
    write_dataset(out, data)
    return ElementTable(buffer.getvalue(), EXPLICIT_LE)
