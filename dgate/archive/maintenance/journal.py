"""The journal of maintenance: who deleted, moved or changed what, when and why.

A file of its own with one JSON object a line, as it names patients, which the log must not. Only
the server's user can read it. Thread-safe.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

from dgate.clock import Clock

log = logging.getLogger(__name__)

JOURNAL_NAME = "maintenance.log"


class Journal:
    """Appends records; what cannot be written goes to the log without the patient's data."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        """Guards the file."""

    def write(self, action: str, *, who: str, why: str, **what: Any) -> None:
        """Append one record, on disk when this returns; never raises."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock.now()))
        record = {"time": now, "action": action, "who": who, "why": why, **what}
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
