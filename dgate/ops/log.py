"""Logging of this process: who hears about what. Not for the user log nor for metrics.

Operator messages go to standard error, with the server's name in front, and by UDP to a console;
warnings and worse also to the trouble log (spec dimse.md section 11). `Logs` belongs to the thread
that starts the server; the handlers are thread-safe.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from dgate.clock import Clock, SystemClock
from dgate.ops.console import UdpConsole, console_address
from dgate.ops.logfile import LogFile, UserLog
from dgate.ops.packing import Packer, first_match

__all__ = ["COMMANDS", "QUERIES", "RESULTS", "SQL", "LogSettings", "Logs", "UserLog"]

log = logging.getLogger(__name__)

COMMANDS = "dgate.debug.commands"
"""Logger of DIMSE commands, on from `DebugLevel = 1`."""
QUERIES = "dgate.debug.queries"
"""Logger of the data sets of queries and retrievals, on from `DebugLevel = 2`."""
RESULTS = "dgate.debug.results"
"""Logger of what is found, on from `DebugLevel = 3`."""
SQL = "dgate.debug.sql"
"""Logger of statements to the database, on from `DebugLevel = 4`. Never of a login."""
_TOPICS = (COMMANDS, QUERIES, RESULTS, SQL)

_FORMAT = "%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s"
_NEVER_PACKED = ("", "invalid", "off", "never", "-")
"""What people write for a `ziptime` that is off."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The settings of dicom.ini that decide about logs."""

    base_folder: Path
    """Packed logs go to the folder `logs` in it."""
    trouble_log: Path | None = None
    user_log: Path | None = None
    pacs_name: str = ""
    debug_level: int = 0
    operator_console: str = ""
    zip_time: str = ""


class Logs:
    """The handlers of the process, set up once and changed while it runs.

    `start` puts them in place, `stop` takes them away again.
    """

    def __init__(
        self, settings: LogSettings, *, verbose: bool = False, clock: Clock | None = None
    ) -> None:
        self._settings = settings
        self._verbose = verbose
        self._clock = clock or SystemClock()
        self._console = _Console(sys.stderr)
        self._trouble: _Trouble | None = None
        self._udp: UdpConsole | None = None
        self._packer: Packer | None = None

    def start(self) -> None:
        """Take over the log of this process."""
        root = logging.getLogger()
        root.setLevel(logging.INFO)
        root.addHandler(self._console)
        logging.getLogger("dgate").setLevel(logging.DEBUG if self._verbose else logging.INFO)
        # pydicom reports on data that dgate judges itself.
        logging.getLogger("pydicom").setLevel(logging.ERROR)
        self._apply(self._settings, None)

    def apply(self, settings: LogSettings) -> None:
        """Follow changed settings, and open the log files anew: they may have been moved away."""
        before, self._settings = self._settings, settings
        self._apply(settings, before)
        self.reopen()

    def reopen(self) -> None:
        """Open the files anew at the next line."""
        if self._trouble is not None:
            self._trouble.file.reopen()

    def stop(self) -> None:
        """Take the handlers away; a packing that has begun is finished."""
        if self._packer is not None:
            self._packer.stop()
            self._packer = None
        self._use_udp("")
        self._use_trouble(None)
        logging.getLogger().removeHandler(self._console)

    def _apply(self, settings: LogSettings, before: LogSettings | None) -> None:
        for handler in (self._console, self._udp):
            if handler is not None:
                handler.setFormatter(_OneLine(settings.pacs_name))
        for level, topic in enumerate(_TOPICS, 1):
            on = settings.debug_level >= level
            logging.getLogger(topic).setLevel(logging.DEBUG if on else logging.WARNING)
        self._use_trouble(settings.trouble_log)
        if before is None or before.operator_console != settings.operator_console:
            self._use_udp(settings.operator_console)
        self._use_packer(settings, before)

    def _use_trouble(self, path: Path | None) -> None:
        root = logging.getLogger()
        if self._trouble is not None and path is not None:
            self._trouble.file.use(path)
        elif path is not None:
            self._trouble = _Trouble(path)
            root.addHandler(self._trouble)
        elif self._trouble is not None:
            root.removeHandler(self._trouble)
            self._trouble.close()
            self._trouble = None

    def _use_udp(self, text: str) -> None:
        root = logging.getLogger()
        if self._udp is not None:
            root.removeHandler(self._udp)
            self._udp.close()
            self._udp = None
        try:
            address = console_address(text)
        except ValueError as exc:
            log.warning("OperatorConsole = %s has no effect: %s.", text, exc)
            return
        if address is not None:
            self._udp = UdpConsole(*address)
            self._udp.setFormatter(_OneLine(self._settings.pacs_name))
            root.addHandler(self._udp)

    def _use_packer(self, settings: LogSettings, before: LogSettings | None) -> None:
        files = [path for path in (settings.trouble_log, settings.user_log) if path is not None]
        if before is not None:
            same = before.zip_time == settings.zip_time
            if same and files == [before.trouble_log, before.user_log]:
                return
        if self._packer is not None:
            self._packer.stop()
            self._packer = None
        prefix = settings.zip_time.strip()
        if first_match(prefix) is None:
            if prefix.lower() not in _NEVER_PACKED:
                log.warning(
                    "ziptime = %s is the begin of no time of day (HH:MM:SS); the logs are not "
                    "packed away.",
                    prefix,
                )
            return
        self._packer = Packer(settings.base_folder / "logs", files, prefix, self._clock)
        self._packer.start()


class _OneLine(logging.Formatter):
    """Keeps header values, which strangers write, from forging log lines.

    A record is one line, a traceback that comes with it is indented, and what cannot be printed is
    shown by its number.
    """

    def __init__(self, name: str = "") -> None:
        name = visible(name.strip()).replace("%", "%%")
        super().__init__(f"[{name}] {_FORMAT}" if name else _FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        # Not the standard one: it takes a traceback as another formatter has written it.
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        lines = [visible(self.formatMessage(record))]
        if record.exc_info:
            lines += _indented(self.formatException(record.exc_info))
        if record.stack_info:
            lines += _indented(record.stack_info)
        return "\n".join(lines)


def _indented(text: str) -> list[str]:
    return [f"    {visible(line)}" for line in text.split("\n")]


def visible(text: str) -> str:
    """Return a text with what cannot be printed shown by its number: control characters, line
    ends, marks that change the direction of writing."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


class _Console(logging.StreamHandler):  # type: ignore[type-arg]
    """Standard error. When it is gone or full there is nobody left to tell."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


class _Trouble(logging.Handler):
    """The trouble log: warnings and worse, without the server's name in front."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.WARNING)
        # Reported through the log itself; this handler then counts the line as lost.
        self.file = LogFile(path)
        self.setFormatter(_OneLine())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:
            # A log call whose arguments do not fit: the standard report goes to the console.
            self.handleError(record)
            return
        self.file.write(f"{line}\n")

    def close(self) -> None:
        self.file.close()
        super().close()
