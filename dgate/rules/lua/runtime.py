"""Plain Lua runtimes, dgate's own Lua code in compiled form, and values on their way into Lua."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Any

from lupa import lua51

from dgate.rules.lua.objects import ArrayHandle, ObjectHandle
from dgate.rules.lua.text import utf8

FAILURES = (lua51.LuaError, lua51.LuaMemoryError)
"""What running Lua code may raise."""
_DUMP = 'function(source) return string.dump(assert(loadstring(source, "=prelude"))) end'


class Failure:
    """An error on its way into Lua, where a single value is returned."""

    __slots__ = ("message",)

    kind = 0

    def __init__(self, message: bytes) -> None:
        self.message = message


def new_runtime() -> Any:
    """Return a Lua runtime in which Python's own objects and built-ins are out of reach.

    Strings have one character for each byte; memory is without limit at first.
    """
    return lua51.LuaRuntime(
        encoding="latin-1",
        register_eval=False,
        register_builtins=False,
        unpack_returned_tuples=True,
        attribute_filter=_only_known,
        max_memory=0,
    )


def _only_known(target: object, name: object, setting: bool) -> object:
    """Let Lua see of Python objects what the prelude needs, and nothing else."""
    if not setting and name in ("kind", "message"):
        return name
    raise AttributeError("hidden")


@lru_cache(maxsize=1)
def prelude() -> str:
    """Return the Lua code that every state begins with."""
    return resources.files("dgate.rules.lua").joinpath("prelude.lua").read_text("ascii")


@lru_cache(maxsize=32)
def compiled(source: str) -> bytes:
    """Return dgate's own Lua code compiled, which loads many times as fast as its source."""
    dumped: str = new_runtime().eval(_DUMP)(source)
    return dumped.encode("latin-1")


def message_of(exc: BaseException) -> str:
    """Return the message of an error that Lua raised, in characters of one byte each."""
    if isinstance(exc, lua51.LuaMemoryError):
        return "not enough memory: the script exceeds LuaMemoryMB"
    return str(exc).partition("\nstack traceback:")[0]


def type_of(value: object) -> str:
    """Return what Lua calls the type of a value that came from it; empty for Python's own."""
    return str(lua51.lua_type(value) or "")


def name_of(value: object) -> str:
    """Return how messages call a value that came from Lua."""
    if value is None:
        return "nil"
    if isinstance(value, ObjectHandle):
        return "a DicomObject"
    if isinstance(value, ArrayHandle):
        return "a DicomArray"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return f"a {type_of(value) or 'value'}"


def plain(value: Any) -> Any:
    """Return a value as Lua takes it: text as UTF-8."""
    if isinstance(value, str) and not value.isascii():
        return utf8(value)
    return value


def bytes_of(text: str | None) -> bytes | None:
    """Return text as UTF-8."""
    return None if text is None else utf8(text)


def size_of(value: object) -> int:
    """Return the length of what may be long."""
    return len(value) if isinstance(value, str | bytes) else 0
