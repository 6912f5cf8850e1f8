"""`lua:`, `luastart:` and `globallua:`: chunks of Lua that scripts hand to the server (spec 8.1).

Only scripts of this machine get here, never the network (spec L23). Any thread; what is started in
the background runs in threads of its own, which `stop` waits for.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from struct import Struct
from typing import Final

from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import DgateError, RuleError
from dgate.generation import Generation
from dgate.rules.hooks import NOBODY
from dgate.rules.run import Run
from dgate.rules.session import Session, Sessions

log = logging.getLogger(__name__)

MOST_AT_ONCE: Final = 16
"""Chunks in the background; each has a thread and a Lua state."""
_JOIN_S: Final = 5.0
_HEADER: Final = Struct("<HHL")
_GROUP: Final = 0x9999
_TEXT, _UPLOAD, _IS_PADDED = 0x0400, 0x0402, 0x0404
_ANSWER: Final = 0x99990401
_RETURN_FILE: Final = (
    b"local name = returnfile returnfile = nil if type(name) == 'string' then return name end"
)


class Chunks:
    """Runs chunks under the configuration that counts."""

    def __init__(self, current: Callable[[], Generation], sessions: Callable[[], Sessions]) -> None:
        self._current = current
        self._sessions = sessions
        self._guard = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._is_stopping = False

    def run(self, kind: str, chunk: str, upload: bytes) -> bytes | None:
        """Run a chunk; return what it returned, else the file that it named in `returnfile`, else
        what it left in (9999,0401) of `Command`.

        `Command` has what was uploaded in (9999,0402), and 1 in (9999,0404) where its last byte is
        padding. `globallua` shares its globals with the other code of the server as a whole, `lua`
        has its own, and `luastart` returns at once.

        Raises:
            RuleError: it fails, or too many run already.
        """
        if kind == "luastart":
            self._start(chunk, upload)
            return b""
        if kind == "globallua":
            return self._in(self._sessions().named("global"), kind, chunk, upload)
        return self._in_fresh(kind, chunk, upload)

    def stop(self) -> None:
        """Start nothing more and wait for what runs, which LuaSeconds ends at the latest."""
        with self._guard:
            self._is_stopping = True
            threads = list(self._threads)
        for thread in threads:
            thread.join(_JOIN_S)

    def _in_fresh(self, kind: str, chunk: str, upload: bytes) -> bytes | None:
        session = Session()
        try:
            return self._in(session, kind, chunk, upload)
        finally:
            session.close()

    def _in(self, session: Session, kind: str, chunk: str, upload: bytes) -> bytes | None:
        generation = self._current()
        library = generation.rules.library
        outside = generation.hooks.surroundings(NOBODY)
        run = Run(ElementTable(b"", EXPLICIT_LE), NOBODY, outside, session=session)
        run.enter(kind, "servercommand")
        with session.held(library.lua.limits.seconds):
            session.begin_command(lambda: _command(kind, chunk, upload))
            value = library.lua.evaluate(run, library, _encoded(chunk), f"={kind}")
            if isinstance(value, str):
                return _encoded(value)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return f"{value:.14g}".encode("ascii")
            name = library.lua.evaluate(run, library, _RETURN_FILE, f"={kind}")
            command = session.command_table()
        if not isinstance(name, str):
            return None if command is None else command.raw(_ANSWER)
        content = outside.files.read(name)
        outside.files.remove(name)
        return content

    def _start(self, chunk: str, upload: bytes) -> None:
        arguments = (chunk, upload)
        thread = threading.Thread(target=self._work, args=arguments, name="luastart", daemon=True)
        with self._guard:
            if self._is_stopping:
                raise RuleError("the server is stopping")
            if len(self._threads) >= MOST_AT_ONCE:
                raise RuleError(
                    f"{MOST_AT_ONCE} chunks run in the background already",
                    remedy="wait until one has ended",
                )
            self._threads.add(thread)
        thread.start()

    def _work(self, chunk: str, upload: bytes) -> None:
        try:
            self._in_fresh("luastart", chunk, upload)
        except DgateError as exc:
            log.error("A chunk of Lua in the background failed: %s", exc)
        except Exception:
            # The thread boundary; no object depends on what runs here.
            log.exception("A chunk of Lua in the background failed by an error of dgate itself.")
        finally:
            with self._guard:
                self._threads.discard(threading.current_thread())


def _command(kind: str, chunk: str, upload: bytes) -> bytes:
    """Return the elements that the original's command set has (spec operator-surface.md 4)."""
    values = {_TEXT: _encoded(f"{kind}:{chunk}")}
    if upload:
        values[_UPLOAD] = upload
        if len(upload) % 2:
            values[_IS_PADDED] = b"1"
    parts = []
    for number, value in sorted(values.items()):
        padded = value + b"\0" * (len(value) % 2)
        parts += [_HEADER.pack(_GROUP, number, len(padded)), padded]
    return b"".join(parts)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
