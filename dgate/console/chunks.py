"""`lua:`, `luastart:` and `globallua:`: chunks of Lua that scripts hand to the server (spec 8.1).

Only scripts of this machine get here, never the network (spec L23). Any thread; what is started in
the background runs in threads of its own, which `stop` waits for.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
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
        """Run a chunk; return what it returned, else the file that it named in `returnfile`.

        `globallua` shares its globals with the other code of the server as a whole, `lua` has its
        own, and `luastart` returns at once.

        Raises:
            RuleError: it fails, an upload came with it, or too many run already.
        """
        if upload:
            raise RuleError(
                f"{kind}: takes no upload", remedy="pass the name of a file, and read that"
            )
        if kind == "luastart":
            self._start(chunk)
            return b""
        if kind == "globallua":
            return self._in(self._sessions().named("global"), kind, chunk)
        return self._in_fresh(kind, chunk)

    def stop(self) -> None:
        """Start nothing more and wait for what runs, which LuaSeconds ends at the latest."""
        with self._guard:
            self._is_stopping = True
            threads = list(self._threads)
        for thread in threads:
            thread.join(_JOIN_S)

    def _in_fresh(self, kind: str, chunk: str) -> bytes | None:
        session = Session()
        try:
            return self._in(session, kind, chunk)
        finally:
            session.close()

    def _in(self, session: Session, kind: str, chunk: str) -> bytes | None:
        generation = self._current()
        library = generation.rules.library
        outside = generation.hooks.surroundings(NOBODY)
        run = Run(ElementTable(b"", EXPLICIT_LE), NOBODY, outside, session=session)
        run.enter(kind, "servercommand")
        with session.held(library.lua.limits.seconds):
            value = library.lua.evaluate(run, library, _encoded(chunk), f"={kind}")
            if isinstance(value, str):
                return _encoded(value)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return f"{value:.14g}".encode("ascii")
            name = library.lua.evaluate(run, library, _RETURN_FILE, f"={kind}")
        if not isinstance(name, str):
            return None
        content = outside.files.read(name)
        outside.files.remove(name)
        return content

    def _start(self, chunk: str) -> None:
        thread = threading.Thread(target=self._work, args=(chunk,), name="luastart", daemon=True)
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

    def _work(self, chunk: str) -> None:
        try:
            self._in_fresh("luastart", chunk)
        except DgateError as exc:
            log.error("A chunk of Lua in the background failed: %s", exc)
        except Exception:
            # The thread boundary; no object depends on what runs here.
            log.exception("A chunk of Lua in the background failed by an error of dgate itself.")
        finally:
            with self._guard:
                self._threads.discard(threading.current_thread())


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
