"""One Lua state: its limits, what it calls in Python, and how code runs in it.

The Lua side is `prelude.lua`. Lua's allocator may not fail while Python hands something over: the
process would end. So scripts are stopped at a soft limit, and what lies between it and the hard one
is for Python (`_room_bytes`). A state serves one thread at a time: whoever uses it holds the lock
of its session.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from dgate.dicom.table import ElementTable
from dgate.errors import Deferred, DgateError, RuleError, StoreError, Unsafe
from dgate.rules.lua.api import Factory, LuaTable, Method, Value, decoded
from dgate.rules.lua.arguments import Arguments
from dgate.rules.lua.bridge import Bridge, on_handle
from dgate.rules.lua.catalogue import LIBRARIES
from dgate.rules.lua.command import CommandHandle
from dgate.rules.lua.exporting import Changes
from dgate.rules.lua.objects import ArrayHandle, Holdings, ObjectHandle, new_table
from dgate.rules.lua.runtime import (
    FAILURES,
    bytes_of,
    compiled,
    message_of,
    name_of,
    new_runtime,
    plain,
    prelude,
    size_of,
)
from dgate.rules.lua.text import utf8
from dgate.rules.run import CONTINUE, Environment, Run
from dgate.rules.session import Session
from dgate.rules.statements.base import Library as Scripts

log = logging.getLogger("dgate.lua")

_LEAST_ROOM_BYTES: Final = 256 << 10
_MOST_ROOM_BYTES: Final = 16 << 20
_NO_LIMIT_BYTES: Final = 1 << 40
_ENTRY_BYTES: Final = 100
"""An entry of a table, while the table grows."""
_WAITING_COUNTS: Final = 0.01
_DEEPEST: Final = 16
_MOST_CHUNKS: Final = 256
_SLICE: Final = 200
_SYNTAX: Final = "lua syntax error "


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call of Lua may use; 0 is no limit."""

    instructions: int = 1_000_000_000
    memory_bytes: int = 256 << 20
    seconds: float = 30.0
    unrestricted: bool = False
    """`LuaUnrestricted`."""
    base_folder: str = ""
    """`Global.BaseDir`, where `require` looks for modules; ends with a slash."""


@dataclass(slots=True)
class Frame:
    """One call of Lua code, perhaps from within another one."""

    run: Run
    scripts: Scripts
    """What `script()` calls."""
    data: ObjectHandle
    outcome: int = CONTINUE
    """The result code that the code has set."""
    deferred: Deferred | None = None
    command_line: str | None = None
    file_name: str | None = None
    name: str = ""
    """How messages call the code."""
    changes: Changes | None = None
    """In export lines: what is to be carried by the forwards."""


class LuaState(Arguments):
    """The state of one session."""

    def __init__(self, session: Session, limits: Limits) -> None:
        """Make the state; what a call may use can change from call to call."""
        self._session = session
        self.limits = limits
        self._frames: list[Frame] = []
        self.is_broken = False
        """A limit was exceeded: nothing may run here any more."""
        self._exceeded = ""
        self._waited_s = 0.0
        self._is_waiting = False
        self._deadline = 0.0
        self._charged = 0
        self._chunks: dict[tuple[bytes, str], Any] = {}
        self._lua: Any = new_runtime()
        hard = limits.memory_bytes or _NO_LIMIT_BYTES
        room = max(_LEAST_ROOM_BYTES, min(hard // 4, _MOST_ROOM_BYTES))
        self._soft_bytes, self._hard_bytes = hard - room, hard
        self._room_bytes = room
        self.holdings = Holdings(limits.memory_bytes, self.tidy)
        self._bridge = Bridge(self.require, self.holdings)
        start = self._lua.globals().loadstring(compiled(prelude()))
        made = start(self._natives(), self._soft_bytes / 1024, limits.unrestricted)
        self._begin, self._call, self._compile, self._enter, self._leave, self._slice = made[:6]
        self._add(*made[6:])
        self._lua.set_max_memory(self._hard_bytes)

    @property
    def is_running(self) -> bool:
        """Whether code of the state is being executed."""
        return bool(self._frames)

    def suits(self, limits: Limits) -> bool:
        """Take up the limits of the next call; tell whether a new state is needed for them."""
        ours = self.limits
        self.limits = limits
        fixed = (ours.memory_bytes, ours.unrestricted, ours.base_folder)
        return fixed == (limits.memory_bytes, limits.unrestricted, limits.base_folder)

    def syntax_error(self, code: bytes, name: str) -> str:
        """Return what is wrong with source, as Lua says it; empty when nothing is."""
        try:
            self._chunk(code, name)
        except RuleError as exc:
            return exc.what.removeprefix(_SYNTAX)
        return ""

    def close(self) -> None:
        """Give its memory back."""
        self.is_broken = True
        self._chunks.clear()
        self._begin = self._call = self._compile = self._enter = self._leave = self._slice = None
        self._lua = None

    # Running.

    def run_chunk(
        self, frame: Frame, code: bytes, name: str, values: Sequence[str] = ()
    ) -> str | float | bool | None:
        """Run code as the frame says; return its value. The frame tells what it decided.

        Args:
            code: the source, which `values` are the arguments of.
            name: for messages: `=NAME`, or `@FILE`.

        Raises:
            RuleError: it cannot be compiled, fails, or exceeds a limit.
            StoreError: something that it needed does not answer.
            Deferred: it asked for its export line to run again later.
        """
        if len(self._frames) >= _DEEPEST:
            raise RuleError("Lua code runs rules that run Lua code, and so on, too deep")
        self.require(len(code) + sum(map(len, values)))
        chunk = self._chunk(code, name)
        is_outermost = not self._frames
        if is_outermost:
            self._bridge.failure, self._waited_s = None, 0.0
            self.holdings.give(self._charged)
            self._charged = 0
            self._deadline = self.clock() + self.limits.seconds
            self._begin(self.limits.instructions, self.limits.seconds)
        self._frames.append(frame)
        try:
            ok, value = self._run(frame, chunk, values)
        finally:
            self._frames.pop()
            frame.data.release()
        self._check_memory(is_outermost)
        if not ok or self.is_broken:
            raise self._error(value)
        if frame.deferred is not None:
            raise frame.deferred
        return decoded(value) if isinstance(value, str) else value

    def _run(self, frame: Frame, chunk: Any, values: Sequence[str]) -> tuple[bool, Any]:
        command = CommandHandle(self._session)
        handed = [utf8(value) for value in values]
        try:
            before = self._enter(
                frame.data, command, bytes_of(frame.command_line), bytes_of(frame.file_name)
            )
            ok, value = self._call(chunk, *handed)
            if not self.is_broken:
                self._leave(before)
                # What items and pixels hold back goes into the object.
                _ = frame.data.is_freed or frame.data.table
        except FAILURES as exc:
            return False, message_of(exc)
        finally:
            command.release()
        return ok, value

    def _chunk(self, code: bytes, name: str) -> Any:
        key = (code, name)
        chunk = self._chunks.get(key)
        if chunk is None:
            try:
                chunk = self._compile(code, utf8(name))
            except FAILURES as exc:
                chunk = (None, message_of(exc))
            if isinstance(chunk, tuple):
                raise RuleError(f"{_SYNTAX}{decoded(chunk[1])}")
            if len(self._chunks) >= _MOST_CHUNKS:
                del self._chunks[next(iter(self._chunks))]
            self._chunks[key] = chunk
        return chunk

    def _error(self, value: Value) -> DgateError:
        """Return the error of Python that a script's error is."""
        if self._exceeded:
            return RuleError(f"lua run error {self._exceeded}")
        text = decoded(value) if isinstance(value, str) else str(value)
        failure = self._bridge.failure
        if failure is None or failure.what not in text:
            return RuleError(f"lua run error {text}")
        if isinstance(failure, StoreError):
            return failure
        kind = Unsafe if isinstance(failure, Unsafe) else RuleError
        return kind(f"lua run error {text}", remedy=failure.remedy)

    def _check_memory(self, is_outermost: bool) -> None:
        if self._lua.get_memory_used() <= self._soft_bytes:
            return
        # Tidying up takes some memory itself.
        self._lua.set_max_memory(self._lua.get_max_memory() + self._room_bytes)
        self._lua.gccollect()
        if self._lua.get_memory_used() <= self._soft_bytes:
            self._lua.set_max_memory(self._hard_bytes)
        elif is_outermost:
            self._exceed("LuaMemoryMB")

    def _exceed(self, key: str) -> bytes:
        self.is_broken = True
        self._exceeded = f"the script was stopped: it exceeds {key}"
        return self._exceeded.encode()

    @property
    def _frame(self) -> Frame:
        return self._frames[-1]

    # Context: the run.

    @property
    def run(self) -> Run:
        return self._frames[-1].run

    @property
    def env(self) -> Environment:
        return self._frames[-1].run.env

    @property
    def session(self) -> Session:
        return self._session

    @property
    def data(self) -> ObjectHandle:
        return self._frames[-1].data

    # Context: what arrives (the rest: `Arguments`).

    def values(self, table: Value, first: int = 1, count: int | None = None) -> list[Value]:
        if not self.is_table(table):
            raise RuleError(f"a table is needed, not {name_of(table)}")
        result: list[Value] = []
        while count is None or len(result) < count:
            here = _SLICE if count is None else min(_SLICE, count - len(result))
            start = first + len(result)
            found = self._slice(table, start, start + here - 1)
            found = found if isinstance(found, tuple) else (found,)
            if count is None and None in found:
                return [*result, *found[: found.index(None)]]
            result += [*found, *[None] * (here - len(found))]
        return result

    # Context: what is returned.

    def sequence(self, values: Sequence[Value], first: int = 1) -> LuaTable:
        self.require(sum([_ENTRY_BYTES + size_of(value) for value in values]))
        if first == 1:
            made: LuaTable = self._lua.table_from([plain(value) for value in values])
        else:
            made = self._lua.table_from(
                {first + at: plain(value) for at, value in enumerate(values)}
            )
        return made

    def mapping(self, values: Mapping[str, Value]) -> LuaTable:
        self.require(sum([_ENTRY_BYTES + len(key) + size_of(values[key]) for key in values]))
        made: LuaTable = self._lua.table_from(
            {plain(key): plain(value) for key, value in values.items()}
        )
        return made

    # Context: the rest.

    def require(self, size_bytes: int) -> None:
        # The rest is for small values, of which nobody asks whether there is room.
        most = self._hard_bytes - self._room_bytes // 4
        if self._lua.get_memory_used() + size_bytes > most:
            self.tidy()
            if self._lua.get_memory_used() + size_bytes > most:
                raise RuleError("not enough memory: the script exceeds LuaMemoryMB")

    def tidy(self) -> None:
        """Free what no script refers to any more."""
        self._lua.gccollect()

    def used_bytes(self) -> int:
        used: int = self._lua.get_memory_used()
        return used

    def decide(self, outcome: int, word: str) -> None:
        frame = self._frame
        frame.outcome = outcome
        frame.run.reason = f"{word} by {frame.name or frame.run.name}"

    def charge(self, size_bytes: int) -> None:
        self.holdings.take(size_bytes)
        self._charged += size_bytes

    def sleep(self, seconds: float) -> None:
        most = self.limits.seconds
        end = self.clock() + seconds
        if most:
            seconds = min(seconds, max(0.0, self._deadline - self.clock()))
        time.sleep(seconds)
        if self.clock() < end:
            raise RuleError(self._exceed("LuaSeconds").decode())

    @contextmanager
    def waiting(self) -> Iterator[None]:
        start = time.monotonic()
        self._is_waiting = True
        try:
            yield
        finally:
            self._is_waiting = False
            self._waited_s += time.monotonic() - start

    def is_waiting(self) -> bool:
        """Tell, to whatever thread asks, whether code waits for another node or program."""
        return self._is_waiting

    def clock(self) -> float:
        """Return the seconds that count for LuaSeconds."""
        return time.monotonic() - self._waited_s * (1 - _WAITING_COUNTS)

    def execute(self, code: bytes, name: str) -> Value:
        frame = self._frame
        inner = Frame(frame.run, frame.scripts, ObjectHandle(frame.run.table, is_data=True))
        _ = frame.data.table
        value = self.run_chunk(inner, code, f"={name}")
        frame.data.take_table(frame.run.table)
        if inner.outcome != CONTINUE:
            frame.outcome = inner.outcome
        return value

    def script(self, code: str, handle: ObjectHandle | None = None) -> None:
        frame = self._frame
        if frame.changes is not None:
            _ = frame.data.table
            frame.changes.note()
        on = frame.data if handle is None else handle
        run = frame.run if on is frame.data else _run_over(frame.run, on.table)
        before = on.table.revision
        try:
            frame.outcome = frame.scripts.inline(code, 0).run(run)
        except Deferred as exc:
            frame.deferred = exc
        finally:
            # Rules may put a whole other object in its place.
            on.take_table(run.table)
            if run.table.revision != before:
                on.touch()

    # What a state begins with.

    def _natives(self) -> Value:
        from dgate.rules.lua import access

        natives: dict[str, Value] = {
            "clock": self.clock,
            "exceeded": self._exceed,
            "class": ObjectHandle(new_table()),
            "base_folder": bytes_of(self.limits.base_folder),
        }
        for name, factory in access.SINGLE.items():
            natives[name] = self._bridge.single(factory(self))
        for name, factory in access.GUARDED.items():
            natives[name] = self._bridge.guarded(factory(self))
        return self._lua.table_from(natives)

    def _add(self, add: Any, extend: Any) -> None:
        """Put the libraries into the state, with as few calls of Lua as possible."""
        functions: dict[str, Factory] = {}
        methods: dict[str, Method] = {}
        array_methods: dict[str, Method] = {}
        for library in LIBRARIES:
            functions |= library.functions
            methods |= library.methods
            array_methods |= library.array_methods
        add(
            self._made(functions),
            self._made_methods(methods, ObjectHandle),
            self._twins(methods),
            self._made_methods(array_methods, ArrayHandle),
            self._twins(array_methods),
        )
        for library in LIBRARIES:
            if library.source:
                extend(compiled(library.source), self._made(library.natives))

    def _made(self, factories: Mapping[str, Factory]) -> Value:
        return self._lua.table_from(
            {name: self._bridge.guarded(make(self)) for name, make in factories.items()}
        )

    def _made_methods(
        self, methods: Mapping[str, Method], kind: type[ObjectHandle | ArrayHandle]
    ) -> Value:
        return self._lua.table_from(
            {
                name: self._bridge.guarded(on_handle(kind, name, method.factory(self)))
                for name, method in methods.items()
            }
        )

    def _twins(self, methods: Mapping[str, Method]) -> Value:
        return self._lua.table_from(
            {name: method.function for name, method in methods.items() if method.function}
        )


def _run_over(outer: Run, table: ElementTable) -> Run:
    """Return a run over another object, which leaves its forwards with the outer one."""
    run = Run(table, outer.captured, outer.env, lenient=outer.lenient, session=outer.session)
    run.enter(outer.name, outer.where)
    run.label = outer.label
    run.callers = outer.callers
    run.variables = outer.variables
    run.forwards, run.requests = outer.forwards, outer.requests
    return run
