"""Log files that lines are appended to, and the user log that is one of them.

A file may be moved away (rotation), its disk may fill up or vanish: lines that cannot be written
are counted, not waited for, and writing goes on by itself when it can. Nothing here knows what the
lines mean. Any thread may write; each file has one lock.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often a log file looks whether it was moved away, or whether a lost disk is back."""
_MOST_TAILS = 1000
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
"""Not blocking: a pipe without a reader must not stop the server."""


class LogFile:
    """A file that grows by whole lines.

    `report` is told once, in a sentence, when lines begin to get lost, and once when the file can
    be written again. It is called without the file's lock.
    """

    def __init__(
        self, path: Path, report: Callable[[str], None] = log.warning, *, mode: int = 0o644
    ) -> None:
        self._path = path
        self._report = report
        self._mode = mode
        self._lock = threading.Lock()
        """Guards everything below."""
        self._descriptor = -1
        self._identity = (0, 0)
        self._look_at = 0.0
        self._lost = 0
        self._torn = False
        """The last line was written in part only."""

    @property
    def path(self) -> Path:
        """Where the lines go."""
        return self._path

    def write(self, line: str) -> None:
        """Append a line, which ends in a line end. Never raises for a file that cannot be
        written."""
        data = line.encode("utf-8", "backslashreplace")
        with self._lock:
            news = self._append(data)
        if news:
            self._report(news)

    def use(self, path: Path) -> None:
        """Write to another file from now on."""
        with self._lock:
            if path != self._path:
                self._close()
                self._path = path

    def reopen(self) -> None:
        """Close the file, so that the next line goes to whatever has its name then."""
        with self._lock:
            self._close()

    close = reopen

    # With the lock held.

    def _append(self, data: bytes) -> str:
        """Write a line; returns what there is to report, mostly nothing."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            if self._descriptor >= 0 and self._was_moved():
                self._close(now)
        elif self._descriptor < 0 and self._lost:
            # It is tried once a second: a disk that is full must not cost each line an attempt.
            self._lost += 1
            return ""
        try:
            if self._descriptor < 0:
                self._open()
            self._write_all(data)
        except OSError as exc:
            self._close(now)
            self._lost += 1
            if self._lost > 1:
                return ""
            reason = exc.strerror or str(exc)
            return f"The log file {self._path} cannot be written: {reason}. Lines get lost."
        lost, self._lost = self._lost, 0
        if lost:
            return f"The log file {self._path} can be written again; {lost} line(s) were lost."
        return ""

    def _open(self) -> None:
        self._descriptor = os.open(self._path, _FLAGS, self._mode)
        status = os.fstat(self._descriptor)
        self._identity = (status.st_dev, status.st_ino)

    def _write_all(self, data: bytes) -> None:
        if self._torn:
            data = b"\n" + data
        written = os.write(self._descriptor, data)
        self._torn = written < len(data)
        while self._torn:
            written += os.write(self._descriptor, data[written:])
            self._torn = written < len(data)

    def _was_moved(self) -> bool:
        try:
            status = os.stat(self._path)  # noqa: PTH116 - a Path costs more than the look
        except OSError:
            return True
        return (status.st_dev, status.st_ino) != self._identity

    def _close(self, now: float = 0.0) -> None:
        self._look_at = now + LOOK_S if now else 0.0
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class UserLog:
    """One time-stamped line per C-STORE, C-MOVE and C-GET, as evaluation scripts read it."""

    def __init__(self, path: Path) -> None:
        self._file = LogFile(path)
        self._lock = threading.Lock()
        """Guards the time stamp and the tails."""
        self._second = 0
        self._stamp = ""
        self._tails: dict[tuple[str, str], str] = {}

    def write(self, operation: str, calling: str) -> None:
        """Note that `calling` ran `operation` (`C-Store`, `C-Move `, `C-Get `, six characters or
        more).

        A log that cannot be written is reported once: it must not stop images.
        """
        second = int(time.time())
        with self._lock:
            if second != self._second:
                self._second = second
                self._stamp = time.strftime("[%Y%m%d %H:%M:%S] ", time.localtime(second))
            line = self._stamp + self._tail(operation, calling)
        self._file.write(line)

    def use(self, path: Path) -> None:
        """Write to another file from now on (`UserLog` was changed)."""
        self._file.use(path)

    def reopen(self) -> None:
        """Let the next line open the file anew, after it was moved away."""
        self._file.reopen()

    def close(self) -> None:
        """Close the file; a later line opens it again."""
        self._file.close()

    def _tail(self, operation: str, calling: str) -> str:
        """Return the line behind its time stamp; made once per sender, not once per object."""
        tail = self._tails.get((operation, calling))
        if tail is None:
            if len(self._tails) >= _MOST_TAILS:
                self._tails.clear()
            tail = f'"{operation}","{_printable(calling):<16}"\n'
            self._tails[operation, calling] = tail
        return tail


def _printable(text: str) -> str:
    """Keep a title from forging log lines."""
    return "".join(c if c.isprintable() and c != '"' else "_" for c in text)
