"""The journal of maintenance: who deleted, moved or changed what, when and why.

A file of its own with one JSON object a line, as it names patients, which the log must not. Each
piece of work has two lines of the same `entry`: what is about to be done, on disk before anything
is, and what came of it. A first line without a second is work that a crash ended; how much of it
was done, the index shows. Only the server's user can read the file. Thread-safe.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dgate.clock import Clock
from dgate.errors import OutcomeUnknown

log = logging.getLogger(__name__)

JOURNAL_NAME = "maintenance.log"


class Journal:
    """Appends records; what cannot be written goes to the log without the patient's data."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        """Guards the file."""

    @contextmanager
    def work(self, action: str, *, who: str, why: str, **what: Any) -> Iterator[dict[str, Any]]:
        """Write what is about to be done, and at the end what came of it, however it ends.

        What the caller puts into the dictionary goes into the second line, which also has a
        `state`: `done`, `stopped` (between two steps), `failed`, or `unknown` where the database
        went away in the middle of the commit.
        """
        entry = secrets.token_hex(4)
        head: dict[str, Any] = {"entry": entry, "who": who, "why": why, **what}
        self._write(action, "begun", head)
        result: dict[str, Any] = {}
        state = "stopped"
        try:
            yield result
            state = "done"
        except OutcomeUnknown as exc:
            state = "unknown"
            result["error"] = str(exc)
            raise
        except Exception as exc:
            state = "failed"
            result["error"] = str(exc)
            raise
        finally:
            self._write(action, state, {**head, **result})

    def _write(self, action: str, state: str, what: dict[str, Any]) -> None:
        """Append one line, on disk when this returns; never raises."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock.now()))
        record = {"time": now, "action": action, "state": state, **what}
        line = json.dumps(record, ensure_ascii=False, default=str).encode("utf-8", "replace")
        try:
            with self._lock:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                descriptor = os.open(self.path, flags, 0o600)
                try:
                    os.write(descriptor, line + b"\n")
                    os.fdatasync(descriptor)
                finally:
                    os.close(descriptor)
        except OSError as exc:
            log.error("The journal %s cannot be written: %s.", self.path, exc.strerror)
