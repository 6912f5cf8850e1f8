"""Hears of debts that other gateways entered into a shared PostgreSQL, as soon as they did.

The trigger that tells is made by `dgate.archive.schema`. Not needed for correctness: the dispatcher
also looks from time to time. One thread of its own, which sleeps in the kernel.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable

from dgate.archive.connection import Connection
from dgate.archive.database import Database
from dgate.archive.schema import NOTICE_CHANNEL
from dgate.config.settings import Engine
from dgate.errors import StoreError

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""Pause before a lost connection is tried again."""


class Notices:
    """Calls `wake` whenever somebody entered debts; does nothing on the other engines."""

    def __init__(self, database: Database, wake: Callable[[], None]) -> None:
        self._database = database
        self._wake = wake
        self._thread: threading.Thread | None = None
        self._stop_read, self._stop_write = -1, -1

    def start(self) -> None:
        """Begin to listen."""
        if self._database.engine is not Engine.POSTGRES:
            return
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; safe to call twice, or without a start."""
        if self._thread is None:
            return
        os.write(self._stop_write, b"x")
        self._thread.join()
        self._thread = None
        os.close(self._stop_read)
        os.close(self._stop_write)

    def _run(self) -> None:
        lost: tuple[type[Exception], ...] = (StoreError, *self._database.errors)
        while True:
            try:
                connection = self._database.connect()
                try:
                    if self._listen(connection):
                        return
                finally:
                    connection.close()
            except lost as exc:
                # The dispatcher's own looks go on, and say what is wrong with the database.
                log.debug("Notices of new deliveries are interrupted: %s", exc)
            if self._stops_within(RETRY_S):
                return

    def _listen(self, connection: Connection) -> bool:
        """Pass on what is heard until told to stop; returns False when the connection ended."""
        connection.execute(f"LISTEN {NOTICE_CHANNEL}")
        # Something may have come while nobody listened.
        self._wake()
        libpq = connection.raw.pgconn
        poller = select.poll()
        poller.register(libpq.socket, select.POLLIN)
        poller.register(self._stop_read, select.POLLIN)
        while True:
            if self._stop_read in {descriptor for descriptor, _ in poller.poll()}:
                return True
            libpq.consume_input()
            heard = False
            while libpq.notifies() is not None:
                heard = True
            if heard:
                self._wake()

    def _stops_within(self, seconds: float) -> bool:
        poller = select.poll()
        poller.register(self._stop_read, select.POLLIN)
        return bool(poller.poll(seconds * 1000))
