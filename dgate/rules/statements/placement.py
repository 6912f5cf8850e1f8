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
    Scope,
    Statement,
)
from dgate.rules.syntax import Text
from dgate.rules.tokens import Reading, Template, parse_template
from dgate.rules.values import compile_template, leading_integer

SERVER_MASK = 0x99990802
"""ConquestVirtualServerMask: which virtual servers a request asks, a bit for each."""
MOST_SERVERS = 10
_MOST_MASK = 0xFFFF
_HOOKS = ("Query", "WorkListQuery", "Retrieve", "VirtualServerQuery")
_REQUEST_HOOKS = "QueryConverter0 and RetrieveConverter0"
_NUMBER = re.compile(r"[0-9]{1,9}")
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
class VirtualServers(Executable):
    """`virtualserver N`, `virtualservermask M`: which virtual servers a request asks.

    Both leave a bit mask in (9999,0802) of the identifier: a bit for each server, from 0 on.
    """

    word: str
    argument: Template

    def build(self, scope: Scope) -> Step:
        """Return the step that sets one bit, or the whole mask."""
        argument = compile_template(self.argument)
        word, is_mask = self.word, self.word == "virtualservermask"
        most = _MOST_MASK if is_mask else MOST_SERVERS - 1

        def step(run: Run) -> int:
            text = argument(run).strip()
            if not run.is_request:
                raise RuleError(f"{word} works in {_REQUEST_HOOKS} only")
            if not _NUMBER.fullmatch(text) or int(text) > most:
                raise RuleError(f"{word} cannot be followed by {text[:40]!r}: 0 to {most}")
            mask = int(text)
            if not is_mask:
                mask = leading_integer(run.table.text(SERVER_MASK)) | 1 << mask
            run.table.set_text(SERVER_MASK, str(mask))
            return CONTINUE

        return step


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
    most = _MOST_MASK if word == "virtualservermask" else MOST_SERVERS - 1
    if constant is not None and not (_NUMBER.fullmatch(constant) and int(constant) <= most):
        raise rest.fail(f"{word} must be followed by a number from 0 to {most}")
    if reading.dialect.hook and reading.dialect.hook not in _HOOKS:
        raise text.fail(f"{word} works in {_REQUEST_HOOKS} only")
    return VirtualServers(text.column, word, argument)


KEYWORDS = (
    Keyword("storage ", _storage, IMPORT_ONLY),
    Keyword("virtualservermask ", _virtual_servers, IMPORT_ONLY),
    Keyword("virtualserver ", _virtual_servers, IMPORT_ONLY),
)
