"""How commands reach the archive: through the running server, or directly when none runs.

A server holds the lock file of its base folder and names its control socket in it (rulings.md 20).
Not for what is asked (`dgate.cli.queue`, `dgate.delivery.commands`). Used by the one thread of a
command.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dgate.archive.database import Database
from dgate.archive.devices import Devices
from dgate.archive.schema import prepare
from dgate.archive.writer import Writer
from dgate.clock import SystemClock
from dgate.config.settings import Configuration, Settings, load
from dgate.delivery.commands import QueueAccess, RemoteDesk
from dgate.delivery.desk import Desk
from dgate.delivery.leases import recover_leases
from dgate.errors import ConfigError, DgateError
from dgate.ops.control import ControlClient
from dgate.ops.lock import FolderLock, Holder, holder_of


def running_server(settings: Settings) -> ControlClient | None:
    """Return the server that runs on this configuration, None when there is none.

    Raises DgateError when another command is at work on the folder.
    """
    return server_in(settings.base_folder)


def server_in(base_folder: Path) -> ControlClient | None:
    """Return the server that runs on a base folder, None when there is none.

    Looks, and never takes the lock: a server that starts at this moment must find it free. Raises
    DgateError when another command is at work on the folder.
    """
    holder = holder_of(base_folder)
    if holder is None or not holder.is_alive():
        return None
    client = client_of(holder, base_folder)
    return client if client.is_served() else None


@contextmanager
def open_ledger(config_path: Path) -> Iterator[QueueAccess]:
    """Give access to the ledger: the running server's, or the database opened here.

    Raises DgateError (ConfigError for an unusable configuration or database).
    """
    configuration = load(config_path)
    settings = configuration.settings
    if not settings.base_folder.is_dir():
        raise ConfigError("the base folder does not exist", where=str(settings.base_folder))
    lock = FolderLock(settings.base_folder)
    holder = lock.acquire()
    if holder is not None:
        yield RemoteDesk(client_of(holder, settings.base_folder))
        return
    try:
        with _own_desk(configuration) as desk:
            yield desk
    finally:
        lock.release()


@contextmanager
def _own_desk(configuration: Configuration) -> Iterator[Desk]:
    settings = configuration.settings
    database = Database(settings)
    if database.path is not None and not database.path.exists():
        raise DgateError(
            "there is no database yet, so nothing is owed",
            where=str(database.path),
            remedy="dgate serve creates it",
        )
    database.open()
    database.identify()
    writer = Writer(database, settings.durability)
    try:
        prepare(database, configuration.layout, settings)
        clock = SystemClock()
        # We hold the lock, so whoever left debts leased is gone: a person may change them.
        recover_leases(database, writer, clock, shared=not database.embedded, starting=True)

        def release_spool(name: str) -> None:
            # Only now: a listing must not need devices that can be written.
            Devices.from_settings(settings, clock).spool.remove(name)

        yield Desk(database, writer, clock, release_spool)
    finally:
        writer.close()
        database.close()


def client_of(holder: Holder, base_folder: Path) -> ControlClient:
    """Return the way to the server that holds a folder; raises DgateError when it is none."""
    if holder.socket is None:
        raise DgateError(
            f"{holder} is at work there",
            where=str(base_folder),
            remedy="try again when it has ended",
        )
    return ControlClient(holder.socket)
