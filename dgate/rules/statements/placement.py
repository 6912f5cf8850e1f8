"""Placement and query control: `storage`, `virtualserver`, `virtualservermask` (spec 8.7)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dgate.errors import RuleError
from dgate.rules.run import CONTINUE, Run, Step
from dgate.rules.statements.base import (
    IMPORT_ONLY,
    Executable,
    Keyword,
    NotYet,
    Scope,
    Statement,
)
from dgate.rules.syntax import Text
from dgate.rules.tokens import Reading, Template, parse_template
from dgate.rules.values import compile_template

_DEVICE = re.compile(r"MAG[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class Storage(Executable):
    """`storage MAGn`: the device that a new object prefers."""

    device: Template

    def build(self, scope: Scope) -> Step:
        """Return the step that notes the device."""
        device = compile_template(self.device)

        def step(run: Run) -> int:
            name = device(run).strip().upper()
            if not _DEVICE.fullmatch(name):
                raise RuleError(f"{name[:40]!r} is not a device", remedy="write storage MAG0")
            run.device = name
            return CONTINUE

        return step


@dataclass(frozen=True, slots=True)
class VirtualServers(NotYet):
    """`virtualserver N`, `virtualservermask M`: which virtual servers a query asks."""

    word: str
    argument: Template

    def title(self) -> str:
        """Return the word of the statement."""
        return self.word


def _storage(text: Text, rest: Text, reading: Reading) -> Statement:
    device = parse_template(rest.rstrip(), reading)
    constant = device.constant
    if constant is not None and not _DEVICE.fullmatch(constant.upper()):
        raise rest.fail("a device is written MAG and its number", remedy="write storage MAG0")
    return Storage(text.column, device)


def _virtual_servers(text: Text, rest: Text, reading: Reading) -> Statement:
    word = text.value[: text.value.index(" ")].lower()
    argument = parse_template(rest.rstrip(), reading)
    constant = argument.constant
    if constant is not None and not re.fullmatch("[0-9]{1,9}", constant):
        raise rest.fail(f"{word} must be followed by a number")
    return VirtualServers(text.column, word, argument)


KEYWORDS = (
    Keyword("storage ", _storage, IMPORT_ONLY),
    Keyword("virtualservermask ", _virtual_servers, IMPORT_ONLY),
    Keyword("virtualserver ", _virtual_servers, IMPORT_ONLY),
)
