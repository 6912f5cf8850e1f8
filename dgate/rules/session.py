"""What rules keep from one object to the next: `%x %y %z`, and the Lua state (lua-api.md 1.1).

A `Session` belongs to an association, to an export converter, to the watched folder or to the
server as a whole. The values live here; the language that uses them does not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from struct import Struct
from typing import Protocol

from dgate.dicom.element import vr_of
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import IMPLICIT_LE
from dgate.errors import Busy

_LONGEST_WAIT_S = 2.0
_HEADER = Struct("<HHL")


class ScriptState(Protocol):
    """A Lua state that outlives a call (`dgate.rules.lua`)."""

    def close(self) -> None:
        """Give its memory back; it cannot be used again."""
        ...


class Session:
    """The memory of rules that run one after the other.

    `lock` is held while Lua code of the session runs: a state serves one thread at a time.
    """

    __slots__ = (
        "_command",
        "_command_table",
        "called",
        "calling",
        "file_name",
        "lock",
        "lua",
        "number",
        "peer",
        "variables",
    )

    def __init__(
        self, calling: str = "", called: str = "", peer: str = "", number: int = 0
    ) -> None:
        """Begin with nothing; the arguments are what `Association` in Lua says.

        Args:
            calling: AE title of who called; empty where there is no association.
            called: AE title that was called.
            peer: IP address of who called.
            number: of the association, counted from the start of the server.
        """
        self.calling = calling
        self.called = called
        self.peer = peer
        self.number = number
        self.variables: dict[str, str] = {}
        self.lua: ScriptState | None = None
        """Made when the first Lua code runs; thrown away after a limit was exceeded."""
        self.lock = threading.RLock()
        self.file_name: str | None = None
        """`Filename` in Lua: where the object comes from, of watched folders and rebuilds."""
        self._command: Callable[[], bytes] | None = None
        self._command_table: ElementTable | None = None

    def begin_command(self, encode: Callable[[], bytes]) -> None:
        """Take note of the command set that is being worked on, encoded as PS3.7 6.3.1 says when
        somebody asks for it."""
        self._command = encode
        self._command_table = None

    def command_table(self) -> ElementTable | None:
        """Return `Command`, which scripts may change; None when there is no command."""
        if self._command_table is None and self._command is not None:
            self._command_table = _table_of(self._command())
        return self._command_table

    def changed_command(self) -> bytes | None:
        """Return the command set as scripts have changed it; None when they have not."""
        table = self._command_table
        return None if table is None or not table.revision else table.tobytes()

    @contextmanager
    def held(self, patience_s: float) -> Iterator[None]:
        """Hold the lock; scripts that wait for each other must not do so for ever.

        Args:
            patience_s: how long to wait for others; 0 waits as long as it takes.

        Raises:
            Busy: the others did not end in time.
        """
        if not self.lock.acquire(timeout=patience_s if patience_s > 0 else -1):
            raise Busy(
                f"the Lua state was busy for {patience_s:g} s: another script of it has not ended",
                remedy="let the scripts not wait for each other",
            )
        try:
            yield
        finally:
            self.lock.release()

    def close(self) -> None:
        """Forget everything, unless code that does not end still uses it."""
        if not self.lock.acquire(timeout=_LONGEST_WAIT_S):
            return
        try:
            self.variables.clear()
            if self.lua is not None:
                self.lua.close()
                self.lua = None
        finally:
            self.lock.release()


def _table_of(encoded: bytes) -> ElementTable:
    """Return a command set as a table; a scan would take group 0000 for rubbish."""
    table = ElementTable(b"", IMPLICIT_LE)
    at = 0
    while at + _HEADER.size <= len(encoded):
        group, number, length = _HEADER.unpack_from(encoded, at)
        at += _HEADER.size
        tag = group << 16 | number
        if tag:
            # The length of the group is that of what scripts make of it.
            table.set_raw(tag, vr_of(tag), encoded[at : at + length])
        at += length
    table.revision = 0
    return table


class Sessions:
    """The sessions that live as long as the server: of export converters, of folders, the global.

    Any thread may ask for one.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._known: dict[str, Session] = {}

    def named(self, name: str) -> Session:
        """Return the session of that name (`ExportConverter0`, `global`), a new one at first."""
        with self._guard:
            return self._known.setdefault(name, Session())

    def close(self) -> None:
        """Close them all."""
        with self._guard:
            for session in self._known.values():
                session.close()
            self._known.clear()
