"""Runs Lua for rules: keeps a state with each session, and throws it away when a limit was passed.

What the code decided is a result code as statements have it. An engine belongs to one
configuration, the states live as long as their sessions. Any thread may run code; that of one
session runs one after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from dgate.rules.lua import exporting
from dgate.rules.lua.objects import ObjectHandle
from dgate.rules.lua.state import Frame, Limits, LuaState
from dgate.rules.lua.watchdog import Watchdog
from dgate.rules.run import CONTINUE, DESTROY, REJECT, Run
from dgate.rules.session import Session
from dgate.rules.statements.base import Library

log = logging.getLogger("dgate.lua")

_DROPPED: Final = frozenset((DESTROY, REJECT))

Scalar = str | float | bool | None


class LuaEngine:
    """Lua under one configuration."""

    def __init__(self, limits: Limits, watchdog: Watchdog | None = None) -> None:
        self.limits = limits
        self._watchdog = watchdog or Watchdog()

    def run(
        self,
        run: Run,
        scripts: Library,
        code: bytes,
        name: str,
        values: Sequence[str] = (),
        *,
        command_line: str | None = None,
    ) -> int:
        """Run code over the object of a run and return its result code.

        Args:
            scripts: what `script()` calls.
            name: what messages call the code: `=NAME`, or `@FILE`.
            values: the arguments of the chunk.
            command_line: the global of that name.

        Raises:
            RuleError: it cannot be compiled, fails, or passes a limit.
            StoreError: something that it needed does not answer.
        """
        frame = self._evaluate(run, scripts, code, name, values, command_line)[0]
        log.debug("%s ended with result %d", name[1:], frame.outcome)
        if run.export and frame.outcome in _DROPPED:
            return CONTINUE
        return frame.outcome

    def evaluate(self, run: Run, scripts: Library, code: bytes, name: str) -> Scalar:
        """Run code and return its value, where that is a text, a number or a boolean."""
        return self._evaluate(run, scripts, code, name, (), None)[1]

    def _evaluate(
        self,
        run: Run,
        scripts: Library,
        code: bytes,
        name: str,
        values: Sequence[str],
        command_line: str | None,
    ) -> tuple[Frame, Scalar]:
        session = run.session
        if session is None:
            fresh = Session()
            try:
                return self._in_session(fresh, run, scripts, code, name, values, command_line)
            finally:
                fresh.close()
        with session.held(self.limits.seconds):
            return self._in_session(session, run, scripts, code, name, values, command_line)

    def _in_session(
        self,
        session: Session,
        run: Run,
        scripts: Library,
        code: bytes,
        name: str,
        values: Sequence[str],
        command_line: str | None,
    ) -> tuple[Frame, Scalar]:
        state = self._state(session)
        data = ObjectHandle(run.table, is_data=True)
        frame = Frame(run, scripts, data, command_line=command_line, file_name=session.file_name)
        frame.name = name[1:]
        changes = exporting.Changes(run) if run.export and not run.callers else None
        frame.changes = changes
        watched = 0 if state.is_running else self._watch(session, state, frame.name)
        try:
            value = state.run_chunk(frame, code, name, values)
        finally:
            if watched:
                self._watchdog.leave(watched)
            if state.is_broken and not state.is_running:
                state.close()
                session.lua = None
        if changes is not None:
            changes.note()
        return frame, value

    def _watch(self, session: Session, state: LuaState, name: str) -> int:
        whose = f"{session.calling} at {session.peer}" if session.peer else session.calling
        return self._watchdog.enter(name, whose, state.is_waiting)

    def _state(self, session: Session) -> LuaState:
        state = session.lua
        if isinstance(state, LuaState) and not state.is_broken:
            if state.is_running or state.suits(self.limits):
                return state
            state.close()
        session.lua = state = LuaState(session, self.limits)
        return state


def check_syntax(code: bytes, name: str) -> str:
    """Return what is wrong with Lua source, as Lua says it; empty when nothing is."""
    state = LuaState(Session(), Limits())
    try:
        return state.syntax_error(code, name)
    finally:
        state.close()
