"""Logging set-up and the user log: who hears about what. Not for metrics.

Operator messages go to standard error, warnings and worse also to the trouble log, and one line per
object transfer command to the user log (spec dimse.md section 11). Handlers are thread-safe;
`UserLog` guards its file with one lock.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from logging.handlers import WatchedFileHandler
from pathlib import Path

_MOST_TAILS = 1000
_VISIBLE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_FORMAT = "%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s"


def set_up_logging(trouble_log: Path | None, *, verbose: bool = False) -> None:
    """Send dgate's messages to standard error, and warnings to the trouble log as well."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    formatter = _OneLine(_FORMAT)
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(formatter)
    root.addHandler(console)
    logging.getLogger("dgate").setLevel(logging.DEBUG if verbose else logging.INFO)
    # pydicom reports on data that dgate judges itself.
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    if trouble_log is None:
        return
    try:
        trouble = WatchedFileHandler(trouble_log, encoding="utf-8", errors="backslashreplace")
    except OSError as exc:
        logging.getLogger(__name__).warning(
            "The trouble log %s cannot be written (%s); its messages go to the console only.",
            trouble_log,
            exc.strerror,
        )
        return
    trouble.setLevel(logging.WARNING)
    trouble.setFormatter(formatter)
    root.addHandler(trouble)


class _OneLine(logging.Formatter):
    """Keeps header values, which strangers write, from forging log lines.

    Tracebacks stay as they are.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        return text if text.isprintable() else text.translate(_VISIBLE)


class UserLog:
    """One time-stamped line per C-STORE, C-MOVE and C-GET, as evaluation scripts read it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._second = 0
        self._stamp = ""
        self._tails: dict[tuple[str, str], str] = {}

    def write(self, operation: str, calling: str) -> None:
        """Note that `calling` ran `operation` (`C-Store`, `C-Move `, `C-Get `, six characters or
        more).

        A log that cannot be written is reported once and then given up: it must not stop images.
        """
        second = int(time.time())
        with self._lock:
            if self._descriptor == -1:
                return
            if second != self._second:
                self._second = second
                self._stamp = time.strftime("[%Y%m%d %H:%M:%S] ", time.localtime(second))
            line = self._stamp + self._tail(operation, calling)
            try:
                if self._descriptor is None:
                    self._descriptor = os.open(
                        self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644
                    )
                os.write(self._descriptor, line.encode())
            except OSError as exc:
                self._descriptor = -1
                logging.getLogger(__name__).warning(
                    "The user log %s cannot be written (%s) and is off until the next start.",
                    self._path,
                    exc.strerror,
                )

    def _tail(self, operation: str, calling: str) -> str:
        """Return the line behind its time stamp; made once per sender, not once per object."""
        tail = self._tails.get((operation, calling))
        if tail is None:
            if len(self._tails) >= _MOST_TAILS:
                self._tails.clear()
            tail = f'"{operation}","{_printable(calling):<16}"\n'
            self._tails[operation, calling] = tail
        return tail

    def close(self) -> None:
        """Close the file; a later line opens it again."""
        with self._lock:
            if self._descriptor is not None and self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = None


def _printable(text: str) -> str:
    """Keep a title from forging log lines."""
    return "".join(c if c.isprintable() and c != '"' else "_" for c in text)
