"""`rules.actions.Server`: values of the server, settings, nodes, and the dispatch of commands.

One for the life of the gateway; any thread may ask. What depends on the configuration is asked for
anew at each call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from dgate.archive.maintenance.caretaker import Caretaker
from dgate.archive.scripting import Archive
from dgate.console.values import Globals
from dgate.errors import DgateError, RuleError
from dgate.generation import Generation
from dgate.rules.actions import Files, Peers, UidRegister


class RunLua(Protocol):
    """Runs a chunk of Lua: `lua`, `luastart` or `globallua` (spec lua-api.md 8.1)."""

    def __call__(self, kind: str, chunk: str, upload: bytes) -> bytes | None:
        """Return the response, None when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What commands work with; the functions give what counts now."""

    current: Callable[[], Generation]
    caretaker: Callable[[], Caretaker]
    """Raises DgateError where no index is kept."""
    archive: Callable[[], Archive]
    peers: Callable[[], Peers]
    files: Callable[[], Files]
    uids: Callable[[], UidRegister]
    reload: Callable[[str], Any]
    """Reads the configuration anew, for a reason that the log tells."""
    status: Callable[[], dict[str, Any]]
    """What `dgate status` shows."""
    values: Globals
    new_uid: Callable[[], str]
    rebuild: Callable[[str, str], None]
    """Enters files of a device (empty = all) and folder (empty = all of it) into the index."""
    run_lua: RunLua


Command = Callable[[Tools, str, bytes], "bytes | str | None"]
"""Runs one command: its arguments, and what came with it."""


class Console:
    """The server, for scripts."""

    def __init__(self, tools: Tools, stop: Callable[[], None]) -> None:
        """`stop` ends what commands have started."""
        # Imported here: the commands need `Tools`, and so this module.
        from dgate.console.commands import COMMANDS, REPLACED

        self._tools = tools
        self._stop = stop
        self._globals = tools.values
        self._commands = COMMANDS
        self._replaced = REPLACED

    def stop(self) -> None:
        """End what commands have started in the background; safe to call twice."""
        self._stop()

    def value(self, name: str) -> str | int | None:
        """Return what `Global.NAME` is, whatever the letter case; None when there is none."""
        return self._globals.value(name)

    def change(self, name: str, value: str) -> None:
        """Set `Global.NAME`; a key that dicom.ini has is rewritten there and takes effect.

        Raises:
            RuleError: dicom.ini would not be right afterwards, or cannot be written.
        """
        self._globals.change(name, value)

    def setting(self, section: str, key: str, default: str) -> str:
        """Return an entry of dicom.ini as it is written, `default` when it is not there."""
        return self._globals.setting(section, key, default)

    def node(self, number: int) -> tuple[str, str, str, str] | None:
        """Return a line of acrnema.map, counted from 0: AE, host, port, compression."""
        nodes = list(self._tools.current().configuration.nodes)
        if not 0 <= number < len(nodes):
            return None
        node = nodes[number]
        return node.ae_title, node.host, node.port, node.compression

    def command(self, text: str, upload: bytes = b"") -> bytes | None:
        """Run a server command; None when it has no response.

        Raises:
            RuleError: there is no such command, dgate has something else in its place, or it
                failed.
        """
        name, colon, arguments = text.strip().removeprefix("--").partition(":")
        name = name.strip().lower()
        found = self._commands.get(name)
        if found is None:
            remedy = self._replaced.get(name)
            if remedy is None:
                raise RuleError(f"there is no server command {name[:40]!r}")
            raise RuleError(f"the server command {name} is not offered", remedy=remedy)
        try:
            answer = found(self._tools, arguments if colon else "", upload)
        except RuleError:
            raise
        except (DgateError, OSError) as exc:
            raise RuleError(f"the server command {name} failed: {exc}") from exc
        return answer.encode("utf-8", "surrogateescape") if isinstance(answer, str) else answer
