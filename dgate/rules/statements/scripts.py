"""Scripts, Lua, and what is left over: `call`, `script "..."`, `lua`, names (spec 8.8)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dgate.errors import RuleError
from dgate.rules.lua.quoting import compile_code, place_values
from dgate.rules.lua.text import utf8
from dgate.rules.opaque import MARK
from dgate.rules.run import CONTINUE, DESTROY, REJECT, Run, Step
from dgate.rules.statements.base import (
    IMPORT_ONLY,
    Executable,
    Keyword,
    Library,
    Scope,
    Script,
    Statement,
)
from dgate.rules.syntax import Text, quoted
from dgate.rules.tokens import Reading, Skeleton, Template, parse_skeleton, parse_template
from dgate.rules.values import compile_template

_LUA_FILE = re.compile(r"[^()]*\.lua(?=[ (]|$)", re.IGNORECASE)
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
class Lua(Executable):
    """`lua "code"`, `lua:code`."""

    code: Skeleton

    def build(self, scope: Scope) -> Step:
        """Return the step that runs the code; values stand in it as values only."""
        values = [compile_template(template) for template in self.code.values]
        code = compile_code(self.code.parts(), values)
        scripts, number = scope.library, scope.number

        def step(run: Run) -> int:
            source, arguments = code(run)
            encoded = utf8(source)
            return scripts.lua.run(run, scripts, encoded, f"={run.name}.{number}", arguments)

        return step

    def samples(self) -> list[str]:
        """Return the source with harmless values, for a look at its syntax."""
        return place_values(self.code.parts()).samples()


@dataclass(frozen=True, slots=True)
class LuaFile(Executable):
    """`file.lua`, `file.lua(arguments)` as import statement."""

    name: str
    arguments: Template | None = None
    """What the code finds in `command_line`; nil without."""

    def build(self, scope: Scope) -> Step:
        """Return the step that runs the file, as it was when the configuration was read."""
        name, scripts = self.name, scope.library
        key = name.lower()
        arguments = None if self.arguments is None else compile_template(self.arguments)

        def step(run: Run) -> int:
            line = None if arguments is None else arguments(run)
            return run_lua_file(run, scripts, name, line, key)

        return step


def run_lua_file(
    run: Run, scripts: Library, name: str, command_line: str | None, key: str = ""
) -> int:
    """Run a Lua file over the object of a run and return its result code; raises RuleError."""
    key = key or name.lower()
    if key in run.callers or len(run.callers) >= _DEEPEST:
        raise RuleError(f"the Lua file {name} runs itself")
    code = lua_source(scripts, name)
    callers = run.callers
    run.callers = (*callers, key)
    try:
        return scripts.lua.run(run, scripts, code, f"@{name}", command_line=command_line)
    finally:
        run.callers = callers


def lua_source(scripts: Library, name: str) -> bytes:
    """Return the text of a Lua file; raises RuleError when there is none."""
    text = scripts.text(name)
    if text is None:
        raise RuleError(f"there is no Lua file {name[:80]}", remedy="correct its name")
    # As the stand-alone interpreter: a first line with # is for the shell.
    return (f"--{text}" if text.startswith("#") else text).encode()


def _call(text: Text, rest: Text, reading: Reading) -> Statement:
    return Call(text.column, _script_name(rest.strip()))


def bare_name(text: Text, reading: Reading) -> Statement:
    """Return the statement for an import line's text that no keyword recognises."""
    text = text.rstrip()
    found = _LUA_FILE.match(text.value)
    if found is not None:
        return _lua_file(text, found.end(), reading)
    return Call(text.column, _script_name(text), bare=True)


def _lua_file(text: Text, end: int, reading: Reading) -> Statement:
    """Return the statement that runs a file, with what stands in parentheses behind its name."""
    name, rest = _script_name(text.cut(0, end)), text.cut(end).strip()
    if not rest.value:
        return LuaFile(text.column, name)
    if not (rest.value.startswith("(") and rest.value.endswith(")")):
        raise rest.fail(
            "the name of a Lua file may be followed by its arguments in parentheses only",
            remedy=f"write {name}(arguments)",
        )
    inner = rest.cut(1, len(rest.value) - 1)
    if len(inner.value) > 1 and inner.value.startswith('"') and inner.value.endswith('"'):
        inner = inner.cut(1, len(inner.value) - 1)
    return LuaFile(text.column, name, parse_template(inner, reading))


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
