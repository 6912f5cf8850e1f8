"""A small configured folder with a ledger, for tests of commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dgate.archive.database import Database
from dgate.archive.index import Index
from dgate.archive.schema import prepare
from dgate.archive.writer import Writer
from dgate.clock import SystemClock
from dgate.config.settings import Configuration, load
from dgate.delivery.desk import Desk
from dgate.delivery.ledger import Ledger
from dgate.ops.lock import FolderLock

INI = """[sscscp]
MicroPACS = sscscp
MyACRNema = GATE
SQLite = 1
SQLServer = ./index.db3
MAGDevice0 = ./data
Durability = none
"""
MAP = """SINK 127.0.0.1 10400 as
OTHER 127.0.0.1 10401 as
"""


@dataclass
class Shop:
    """The ledger's parts, opened as the server opens them."""

    index: Index
    writer: Writer
    ledger: Ledger
    desk: Desk


class Site:
    """A folder with the configuration files and nothing running on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "dicom.ini").write_text(INI)
        (folder / "acrnema.map").write_text(MAP)
        (folder / "data" / "dgate" / "spool").mkdir(parents=True)
        self.configuration: Configuration = load(folder)

    @contextmanager
    def opened(self) -> Iterator[Shop]:
        """Open the database beside everybody else, without the folder's lock."""
        settings = self.configuration.settings
        database = Database(settings)
        database.open()
        writer = Writer(database, settings.durability)
        schema = prepare(database, self.configuration.layout, settings)
        index = Index(database, schema, settings)
        clock = SystemClock()
        ledger = Ledger(database, writer, clock, index.add_debts, lambda name: None)
        yield Shop(index, writer, ledger, Desk(database, writer, clock, lambda name: None))
        writer.close()
        database.close()

    @contextmanager
    def locked(self, socket: Path | None = None) -> Iterator[None]:
        """Hold the lock as a server does, or as a command without a control socket."""
        lock = FolderLock(self.folder)
        assert lock.acquire(socket) is None
        yield
        lock.release()
