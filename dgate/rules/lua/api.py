"""What Lua code can call: the registry of functions, and what each of them is given.

**To add functions**, write a module with `LIBRARY: Final = Library(...)` and name it in
`dgate.rules.lua.catalogue.LIBRARIES`. A library holds factories, called once for each Lua state:

- `functions`: global functions by name. `Factory = Callable[[Context], Callable[..., object]]`.
- `methods`: methods of DicomObject by name, each a `Method(factory, function)`. What the factory
  makes gets the object (`ObjectHandle`) first. `function` names the global twin: `getpixel` for
  `GetPixel`; there the object may be left out and Data is taken. Both forms are made from the one
  factory.
- `array_methods`: the same for DicomArray; the first argument is an `ArrayHandle`.
- `natives`: Python functions for the library's own Lua code only.
- `source`: Lua code that runs when a state begins, before any script. Its `...` is a table `kit`:
  `kit.native.NAME(...)` (the natives; errors are raised as Lua errors), `kit.methods` and
  `kit.array_methods` (put Lua functions into them), `kit.optional(f)` (the function form of a
  method: Data where the first argument is no object), `kit.is_object(x)`, `kit.fail(message)`,
  `kit.compile(text, name)` (as loadstring), `kit.base_folder`, `kit.unrestricted`.
  Take the globals that it needs (`string`, `type`...) into locals at once: scripts may change them.

**What arrives.** Objects as `ObjectHandle`, arrays as `ArrayHandle`; strings as `str` of one
character per byte (`context.raw` and `context.text` make bytes and text of them); numbers as
`int` where they are whole, else `float`; nil as None; tables as Lua tables (`context.values`,
`context.entries`); arguments that are left out are not passed, so give them defaults.

**What may be returned.** None (nil), bool, int, float, `str` (becomes UTF-8), bytes, a Lua table
(`context.sequence`, `context.mapping`), a tuple of these (several values); alone: an
`ElementTable` (a new DicomObject that owns it), a list of these (a new DicomArray), an
`ObjectHandle` or `ArrayHandle`. Errors: raise RuleError or StoreError; it becomes a Lua error with
the script's line in front, and passes on as itself when the script does not catch it.

**Reading an object**: `handle.table` is its `ElementTable`, up to date with what scripts changed
inside sequences. After changing it call `handle.touch()`. Something that is cached on the Lua side
(a frame of pixels) sets `handle.pending`, called once before anybody looks at the table.

**Memory**: Lua's own memory must never run out while Python hands something over, so a large
result is announced: `context.require(bytes)` raises when it would not fit. Strings, `sequence` and
`mapping` do that by themselves.

**Waiting** for other nodes goes inside `with context.waiting():`; it counts a hundredth of the time
for LuaSeconds, as these calls have time-outs of their own.

A context belongs to the thread that runs the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from dgate.dicom.table import ElementTable
from dgate.rules.lua.objects import ArrayHandle, Holdings, ObjectHandle
from dgate.rules.lua.text import decoded, encoded
from dgate.rules.run import Environment, Run
from dgate.rules.session import Session

__all__ = [
    "ArrayHandle",
    "Context",
    "Factory",
    "Library",
    "LuaTable",
    "Method",
    "ObjectHandle",
    "Value",
    "decoded",
    "encoded",
]


Value = object
"""What comes from Lua; by another name, as a context has a method of that one."""


class LuaTable(Protocol):
    """A table of Lua."""

    def __getitem__(self, key: Value) -> Value: ...

    def __setitem__(self, key: Value, value: Value) -> None: ...

    def items(self) -> Iterator[tuple[Value, Value]]:
        """Yield keys and values, in no order."""
        ...


class Context(Protocol):
    """What a function of Lua may use: the run that it is called from, and the Lua state."""

    @property
    def run(self) -> Run:
        """Return the run of the rule whose Lua code is executing: its table, session, outcome."""
        ...

    @property
    def env(self) -> Environment:
        """Return `run.env`."""
        ...

    @property
    def session(self) -> Session:
        """Return the session that the state belongs to."""
        ...

    @property
    def data(self) -> ObjectHandle:
        """Return `Data`, the object of the hook."""
        ...

    # What arrives.

    def raw(self, value: Value, what: str = "the argument") -> bytes:
        """Return a string, or a number as Lua prints it, as bytes; raises RuleError for others."""
        ...

    def text(self, value: Value, what: str = "the argument") -> str:
        """Return the same as text, decoded as UTF-8."""
        ...

    def integer(self, value: Value, what: str = "the argument") -> int:
        """Return a number, or a string that is one, cut to an integer; raises RuleError."""
        ...

    def object(self, value: Value, what: str = "the argument") -> ObjectHandle:
        """Return a DicomObject; raises RuleError for everything else, one that was freed too."""
        ...

    def tables(self, value: Value, what: str = "the argument") -> list[ElementTable]:
        """Return the tables of a DicomArray, or the one of a DicomObject; raises RuleError."""
        ...

    def is_table(self, value: Value) -> bool:
        """Tell whether a value is a Lua table."""
        ...

    def values(self, table: Value, first: int = 1, count: int | None = None) -> list[Value]:
        """Return the values of a Lua table from an index on.

        Args:
            table: anything but a Lua table raises RuleError.
            first: the index of the first value.
            count: how many; absent ones are None. None: up to the first absent one.
        """
        ...

    # What is returned.

    def sequence(self, values: Sequence[Value], first: int = 1) -> LuaTable:
        """Return a new Lua table with values at consecutive indices."""
        ...

    def mapping(self, values: Mapping[str, Value]) -> LuaTable:
        """Return a new Lua table with values by name."""
        ...

    # The rest.

    @property
    def holdings(self) -> Holdings:
        """Return the count of what scripts hold, for a new object that only a script holds."""
        ...

    def charge(self, size_bytes: int) -> None:
        """Count what a script adds to an object, until it ends; raises RuleError if too much."""
        ...

    def used_bytes(self) -> int:
        """Return how much memory Lua uses."""
        ...

    def decide(self, outcome: int, word: str) -> None:
        """Set the result of the hook, `run.DESTROY` or `run.REJECT`; `word` says so in the log."""
        ...

    def sleep(self, seconds: float) -> None:
        """Pause, at most until a limit ends the script."""
        ...

    def require(self, size_bytes: int) -> None:
        """Raise RuleError unless Lua has room for so much more; tidies up first."""
        ...

    def waiting(self) -> AbstractContextManager[None]:
        """Return what surrounds waiting for another node."""
        ...

    def execute(self, code: bytes, name: str) -> Value:
        """Run Lua code in the state; return its first value if that is a string or number.

        Raises RuleError when it fails.
        """
        ...

    def script(self, code: str, handle: ObjectHandle | None = None) -> None:
        """Run a line of import statements over an object (None: Data), as `script` does.

        Its result becomes that of the hook.
        """
        ...


Function = Callable[..., object]
Factory = Callable[[Context], Function]


@dataclass(frozen=True, slots=True)
class Method:
    """A method, and the global function that does the same."""

    factory: Factory
    function: str = ""
    """Empty: there is none."""


@dataclass(frozen=True, slots=True)
class Library:
    """A group of functions; see the module."""

    functions: Mapping[str, Factory] = field(default_factory=dict)
    methods: Mapping[str, Method] = field(default_factory=dict)
    array_methods: Mapping[str, Method] = field(default_factory=dict)
    natives: Mapping[str, Factory] = field(default_factory=dict)
    source: str = ""
