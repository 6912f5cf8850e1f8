"""What rules keep from one object to the next: `%x %y %z`, and the Lua state (lua-api.md 1.1).

A `Session` belongs to an association, to an export converter, to the watched folder or to the
server as a whole. The values live here; the language that uses them does not.
"""

from __future__ import annotations

import threading
from typing import Protocol


class ScriptState(Protocol):
    """A Lua state that outlives a call (`dgate.rules.lua`)."""

    def close(self) -> None:
        """Give its memory back; it cannot be used again."""
        ...


class Session:
    """The memory of rules that run one after the other.

    `lock` is held while Lua code of the session runs: a state serves one thread at a time.
    """

    __slots__ = ("called", "calling", "lock", "lua", "number", "peer", "variables")

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

    def close(self) -> None:
        """Forget everything."""
        with self.lock:
            self.variables.clear()
            if self.lua is not None:
                self.lua.close()
                self.lua = None


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
