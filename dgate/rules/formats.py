"""The C formats of `set T format "F" to "v"`: one conversion of `s d x f g` (spec 8.3).

Only the written text is searched for the conversion: a header value inside F never is. Pure
functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from dgate.rules.run import Run
from dgate.rules.syntax import ParseError, Text
from dgate.rules.tokens import Reading, Template, Token, parse_template
from dgate.rules.values import compile_template, leading_integer, leading_number

_CONVERSION = re.compile(r"%%|%([-+ #0]*)([0-9]{0,9})(\.[0-9]{0,9})?([sdxfg])|%")
_WIDEST = 1024
_WORD = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Format:
    """Text before the conversion, the conversion in Python's `%` notation, and text after it."""

    before: Template
    conversion: str
    after: Template

    def compile(self) -> Callable[[Run, str], str]:
        """Return the closure that formats a value."""
        before, after = compile_template(self.before), compile_template(self.after)
        convert = _converter(self.conversion)
        return lambda run, text: before(run) + convert(text) + after(run)


def _converter(conversion: str) -> Callable[[str], str]:
    letter = conversion[-1]
    if letter == "s":
        return lambda text: conversion % text
    if letter == "d":
        return lambda text: conversion % leading_integer(text)
    if letter == "x":
        return lambda text: conversion % (leading_integer(text) & _WORD)
    return lambda text: conversion % leading_number(text)


def parse_format(text: Text, reading: Reading) -> Format:
    """Parse F; its conversion has a doubled percent sign, because F is substituted first."""
    sides: list[list[str | Token]] = [[], []]
    conversion = ""
    for part in parse_template(text, reading).parts:
        if isinstance(part, Token):
            sides[bool(conversion)].append(part)
            continue
        start = 0
        for found in _CONVERSION.finditer(part):
            sides[bool(conversion)].append(part[start : found.start()])
            start = found.end()
            if found.group() == "%%":
                sides[bool(conversion)].append("%")
            elif conversion or not _is_sound(found):
                raise _misfit(text)
            else:
                conversion = found.group()
        sides[bool(conversion)].append(part[start:])
    if not conversion:
        raise _misfit(text)
    before, after = (Template(tuple(filter(None, side)), text.column) for side in sides)
    return Format(before, conversion, after)


def _is_sound(found: re.Match[str]) -> bool:
    _, width, precision, letter = found.groups()
    widest = max(int(width or 0), int((precision or ".")[1:] or 0)) if letter else 0
    return bool(letter) and widest <= _WIDEST


def _misfit(text: Text) -> ParseError:
    return text.fail(
        "the format must hold exactly one conversion",
        remedy="one of %%s %%d %%x %%f %%g, with flags and a width of at most 1024",
    )
