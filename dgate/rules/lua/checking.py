"""What is wrong with Lua source before it runs: syntax errors with line and column.

Nothing is executed. A `SyntaxCheck` belongs to one thread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from lupa import lua51

from dgate.rules.lua.text import utf8

_MESSAGE = re.compile(r"=?check:([0-9]+): (.*)", re.DOTALL)
_NEAR = re.compile(r" near '(.*)'$", re.DOTALL)
_END = "<eof>"
_COMPILED = "\x1b"


@dataclass(frozen=True, slots=True)
class Fault:
    """A syntax error."""

    message: str
    """As Lua says it, without the place."""
    line: int
    """1-based."""
    offset: int
    """Of the character in the source that Lua stumbled over."""
    column: int
    """1-based, in that line."""
    text: str
    """The line."""


class SyntaxCheck:
    """Compiles Lua source and throws the result away."""

    def __init__(self) -> None:
        self._compile: Any = None

    def fault(self, source: str) -> Fault | None:
        """Return the first syntax error of a source, None when it compiles."""
        if source.startswith(_COMPILED):
            return Fault("compiled Lua code cannot be loaded", 1, 0, 1, "")
        found = self._message(source)
        if found is None:
            return None
        line, message = found
        offset = self._offset(source, message, line)
        start = source.rfind("\n", 0, offset) + 1
        end = source.find("\n", start)
        text = source[start : len(source) if end < 0 else end]
        return Fault(message, source.count("\n", 0, start) + 1, offset, offset - start + 1, text)

    def _message(self, source: str) -> tuple[int, str] | None:
        """Return line and message of the error, None when there is none."""
        if self._compile is None:
            runtime: Any = lua51.LuaRuntime(
                encoding="latin-1",
                register_eval=False,
                register_builtins=False,
                unpack_returned_tuples=True,
            )
            self._compile = runtime.globals().loadstring
        encoded = utf8(source)
        try:
            result = self._compile(encoded, b"=check")
        except (lua51.LuaError, lua51.LuaMemoryError) as exc:
            return 1, str(exc).partition("\n")[0]
        if not isinstance(result, tuple):
            return None
        message = str(result[1]).encode("latin-1", "replace").decode("utf-8", "replace")
        found = _MESSAGE.fullmatch(message)
        return (1, message) if found is None else (int(found[1]), found[2])

    def _offset(self, source: str, message: str, line: int) -> int:
        """Return where the token is that the message names: the source up to it fails alike."""
        found = _NEAR.search(message)
        if found is None:
            return _start_of(source, line)
        if found[1] == _END:
            return len(source.rstrip())
        token = found[1]
        at = source.find(token)
        while at >= 0:
            again = self._message(source[: at + len(token)])
            if again is not None and again[1] == message:
                return at
            at = source.find(token, at + 1)
        return _start_of(source, line)


def _start_of(source: str, line: int) -> int:
    """Return where a line begins."""
    at = 0
    for _ in range(line - 1):
        following = source.find("\n", at)
        if following < 0:
            break
        at = following + 1
    return at
