"""Scripts, Lua, and what is left over: `call`, `script "..."`, `lua`, names (spec 8.8)."""

from __future__ import annotations

from dataclasses import dataclass

from dgate.errors import RuleError
from dgate.rules.opaque import MARK
from dgate.rules.run import CONTINUE, DESTROY, REJECT, Run, Step
from dgate.rules.statements.base import (
    IMPORT_ONLY,
    Executable,
    Keyword,
    NotYet,
    Scope,
    Script,
    Statement,
)
from dgate.rules.syntax import Text, quoted
from dgate.rules.tokens import Reading, Skeleton, Template, parse_skeleton, parse_template
from dgate.rules.values import compile_template

_DEEPEST = 16
"""Levels of scripts that call scripts."""


@dataclass(frozen=True, slots=True)
class Call(Executable):
    """`call NAME`, or in import lines NAME alone: run an entry of `[scripts]` or a text file."""

    name: str
    bare: bool = False

    @property
    def may_fail(self) -> bool:
        """Return True: a script that ends in a failed test fails here (spec S19)."""
        return True

    def build(self, scope: Scope) -> Step:
        """Return the step that runs the script."""
        name, library, number = self.name, scope.library, scope.number
        key = name.lower()

        def step(run: Run) -> int:
            if key in run.callers or len(run.callers) >= _DEEPEST:
                raise RuleError(f"the script {name} calls itself")
            callers, revision = run.callers, run.table.revision
            run.callers = (*callers, key)
            try:
                code = _nested(run, number, name, library.script(name))
            finally:
                run.callers = callers
            return _after_export_call(run, name, revision, code) if run.export else code

        return step


def _after_export_call(run: Run, name: str, revision: int, code: int) -> int:
    """Remember a call that changed the object: it must run again on the copy that is sent."""
    if run.table.revision != revision and len(run.callers) == 0:
        run.prelude.append(f"call {name}")
    return CONTINUE if code in (DESTROY, REJECT) else code


def _nested(run: Run, number: int, name: str, script: Script) -> int:
    label, outer_name = run.label, run.name
    run.label = "Importconverter-1"
    run.name = f"{outer_name}.{number} {name}"
    try:
        return script.run(run)
    finally:
        run.label, run.name = label, outer_name


@dataclass(frozen=True, slots=True)
class InnerScript(Executable):
    """`script "text"`: run text as import statements; this line's tokens come first (spec 6.3)."""

    script: Skeleton

    @property
    def may_fail(self) -> bool:
        """Return True: a script that ends in a failed test fails here (spec S19)."""
        return True

    def build(self, scope: Scope) -> Step:
        """Return the step that runs the text."""
        script = scope.library.nested(self.script, scope.depth + 1)
        values = [compile_template(template) for template in self.script.values]
        number = scope.number

        def step(run: Run) -> int:
            before = run.outer
            run.outer = [value(run) for value in values]
            try:
                return _nested(run, number, "script", script)
            finally:
                run.outer = before

        return step


@dataclass(frozen=True, slots=True)
class Lua(NotYet):
    """`lua "code"`, `lua:code`."""

    code: Skeleton

    def title(self) -> str:
        """Return how a message names the statement."""
        return "Lua"


@dataclass(frozen=True, slots=True)
class LuaFile(NotYet):
    """`file.lua`, `file.lua(arguments)` as import statement."""

    call: Template

    def title(self) -> str:
        """Return how a message names the statement."""
        return "running a Lua file"


@dataclass(frozen=True, slots=True)
class Program(NotYet):
    """What no other statement is, in an export line: the name of a program (spec S11)."""

    command: Template

    def title(self) -> str:
        """Return how a message names the statement."""
        return "running a program"


def _call(text: Text, rest: Text, reading: Reading) -> Statement:
    return Call(text.column, _script_name(rest.strip()))


def bare_name(text: Text, reading: Reading) -> Statement:
    """Return the statement for an import line's text that no keyword recognises."""
    text = text.rstrip()
    if ".lua" in text.value.lower():
        return LuaFile(text.column, parse_template(text, reading))
    return Call(text.column, _script_name(text), bare=True)


def _script_name(text: Text) -> str:
    if not text.value:
        raise text.fail("the name of the script is missing")
    if "%" in text.value or MARK.search(text.value):
        # A header value must not choose which file is run as a script.
        raise text.fail("the name of a script must not contain %-tokens")
    return text.value


def _script(text: Text, rest: Text, reading: Reading) -> Statement:
    return InnerScript(text.column, parse_skeleton(quoted(rest, "the script"), reading))


def _lua(text: Text, rest: Text, reading: Reading) -> Statement:
    return Lua(text.column, parse_skeleton(quoted(rest, "the Lua code"), reading))


def _lua_rest(text: Text, rest: Text, reading: Reading) -> Statement:
    return Lua(text.column, parse_skeleton(rest, reading))


KEYWORDS = (
    Keyword("call ", _call),
    Keyword("script ", _script, IMPORT_ONLY),
    Keyword("lua:", _lua_rest),
    Keyword("lua ", _lua),
)
