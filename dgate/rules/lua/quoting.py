"""Values of objects inside Lua code: `lua "print('%i')"` (spec converters.md 6.3, 8.8).

A value never becomes code. Where its token stands inside a string of the Lua source, the string is
written as a concatenation of what stands around it and an argument of the chunk; the source is the
same for all objects, and is compiled once. Outside of strings only a number, or a name, can take
its place. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dgate.errors import RuleError
from dgate.rules.run import Run, Value

_ARGUMENTS: Final = "dgate_values"
_NUMBER = re.compile(r"-?(?:[0-9]{1,99}(?:\.[0-9]{0,99})?|\.[0-9]{1,99})(?:[eE][+-]?[0-9]{1,3})?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_LONG = re.compile(r"\[(=*)\[")
_BARE_ZERO: Final = ("0", "x")
"""What the check puts in the place of values outside of strings."""

Pieces = Sequence[str | int]
"""Source text, and between it the numbers of the values."""


@dataclass(frozen=True, slots=True)
class Source:
    """Lua source in which the values have their places."""

    parts: tuple[str | int, ...]
    """Text, and the numbers of values that stand outside of strings."""
    takes_values: bool
    """Values stand inside strings, too: they are the chunk's arguments."""

    def with_values(self, values: Sequence[str]) -> str:
        """Return the source for an object; raises RuleError for a value that would be code."""
        return "".join(
            [part if isinstance(part, str) else _bare(values[part]) for part in self.parts]
        )

    def samples(self) -> list[str]:
        """Return the source with harmless values, for a look at its syntax."""
        if all(isinstance(part, str) for part in self.parts):
            return ["".join(map(str, self.parts))]
        return [
            "".join([part if isinstance(part, str) else value for part in self.parts])
            for value in _BARE_ZERO
        ]


def compile_code(pieces: Pieces, values: Sequence[Value]) -> Callable[[Run], tuple[str, list[str]]]:
    """Return the closure that gives source and arguments of a chunk for a run.

    Raises RuleError when a value stands where it cannot: behind a backslash in a string.
    """
    source = place_values(pieces)
    if not values:
        constant = source.with_values(())
        return lambda run: (constant, [])

    def code(run: Run) -> tuple[str, list[str]]:
        found = [value(run) for value in values]
        return source.with_values(found), found if source.takes_values else []

    return code


def place_values(pieces: Pieces) -> Source:
    """Return the source with the values in their places."""
    placing = _Placing()
    for piece in pieces:
        if isinstance(piece, str):
            placing.text(piece)
        else:
            placing.value(piece)
    return placing.source()


class _Placing:
    """Goes through Lua source and knows whether it is in a string or comment."""

    def __init__(self) -> None:
        self._parts: list[str | int] = []
        self._text = ""
        """Since the last part that is finished."""
        self._quote = ""
        """What ends the string or comment that is open: `'`, `"`, `]]`, `]==]`, newline."""
        self._opening = ""
        """What began the string; empty in comments."""
        self._start = 0
        """Where the string that is open begins in `_text`."""
        self._has_value = False
        """The string that is open has a value in it."""
        self._takes_values = False

    def text(self, piece: str) -> None:
        """Take source text."""
        at = 0
        while at < len(piece):
            at = self._inside(piece, at) if self._quote else self._outside(piece, at)

    def _outside(self, piece: str, at: int) -> int:
        char = piece[at]
        long = _LONG.match(piece, at)
        if piece.startswith("--", at):
            long = _LONG.match(piece, at + 2)
            opening = "--" + (long[0] if long else "")
            self._quote = f"]{long[1]}]" if long else "\n"
            self._opening = ""
            self._text += opening
            return at + len(opening)
        if char in "'\"" or long:
            self._opening = long[0] if long else char
            self._quote = f"]{long[1]}]" if long else char
            self._start = len(self._text)
            self._has_value = False
            self._text += self._opening
            return at + len(self._opening)
        self._text += char
        return at + 1

    def _inside(self, piece: str, at: int) -> int:
        if self._quote in ("'", '"') and piece[at] == "\\":
            self._text += piece[at : at + 2]
            return at + 2
        if piece.startswith(self._quote, at):
            self._text += self._quote
            end = at + len(self._quote)
            if self._has_value:
                self._text += ")"
            self._quote = ""
            self._has_value = False
            return end
        self._text += piece[at]
        return at + 1

    def value(self, number: int) -> None:
        """Take a value."""
        if not self._quote:
            self._parts += [self._text, number]
            self._text = ""
        elif self._opening:
            self._into_string(number)

    def _into_string(self, number: int) -> None:
        tail = self._text[self._start :]
        if self._quote in ("'", '"') and (len(tail) - len(tail.rstrip("\\"))) % 2:
            raise RuleError("a %-token must not stand behind a backslash of a Lua string")
        if not self._has_value:
            self._text = f"{self._text[: self._start]}({tail}"
            self._has_value = True
        # Lua drops a newline right behind [[, which this one keeps from being the value's next.
        again = f"{self._opening}\n" if self._opening.startswith("[") else self._opening
        self._text += f"{self._quote}..{_ARGUMENTS}[{number + 1}]..{again}"
        self._start = len(self._text) - len(again)
        self._takes_values = True

    def source(self) -> Source:
        """Return what was gone through."""
        parts = [*self._parts, self._text]
        if self._takes_values:
            parts.insert(0, f"local {_ARGUMENTS}={{...}} ")
        return Source(tuple(parts), self._takes_values)


def _bare(value: str) -> str:
    if _NUMBER.fullmatch(value.strip()):
        # In parentheses: `2-%V0020,0013` must not become a comment for a negative number.
        return f"({value.strip()})" if value.strip().startswith("-") else value.strip()
    if _NAME.fullmatch(value):
        return value
    raise RuleError(
        f"the value {value[:40]!r} would become part of the Lua code",
        remedy="put the token in quotes: '%i'",
    )
