"""What is wrong or odd in the rules, found before an object meets them.

Reported at start and by `dgate check`; nothing here keeps the server from starting (rulings.md
10). Pure functions, except that script files are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from dgate.config.problem import Problem, Severity
from dgate.errors import RuleError
from dgate.rules.compile import DEEPEST, Library, read_script
from dgate.rules.grammar import (
    Broken,
    Line,
    first_word,
    inner_script,
    is_unavailable,
    parse_line,
    suggestion,
)
from dgate.rules.lua.checking import SyntaxCheck
from dgate.rules.statements.base import Statement
from dgate.rules.statements.deidentify import Deidentify
from dgate.rules.statements.delayed import Delayed
from dgate.rules.statements.scripts import Call, Lua, LuaFile, lua_source


class Gravity(Enum):
    """What a problem means for the objects that reach it."""

    ERROR = "error"
    """The statement fails."""
    UNAVAILABLE = "not executable here"
    """The statement is right, and fails because the configuration or this installation cannot
    execute it."""
    WARNING = "warning"
    """The statement runs, perhaps not as meant."""
    NOTE = "note"
    """The statement runs as meant, and that is good to know."""


_SEVERITIES = {Gravity.WARNING: Severity.WARNING, Gravity.NOTE: Severity.INFO}


@dataclass(frozen=True, slots=True)
class RuleProblem:
    """One finding in a rule, with its place in the line."""

    where: str
    """`dicom.ini:41`, or the script file."""
    key: str
    """`ImportConverter0`, or the name of the script."""
    statement: int | None
    """Counted from 0, as log lines do; None when the whole line is meant."""
    column: int | None
    """1-based, in `source`."""
    message: str
    gravity: Gravity = Gravity.ERROR
    advice: str = ""
    source: str = ""

    def __str__(self) -> str:
        """Return the problem as one log line."""
        number = "" if self.statement is None else f".{self.statement}"
        column = "" if self.column is None else f" column {self.column}"
        advice = f" ({self.advice})" if self.advice else ""
        return f"{self.where} {self.key}{number}{column}: {self.message}{advice}"

    def caret(self) -> str:
        """Return the line with a mark below the place, for a terminal."""
        return self.source if self.column is None else f"{self.source}\n{'^':>{self.column}}"

    def problem(self) -> Problem:
        """Return the finding as one of the configuration's, for `dgate check`."""
        path, _, number = self.where.rpartition(":")
        line = int(number) if path and number.isdecimal() else None
        severity = _SEVERITIES.get(self.gravity, Severity.ERROR)
        path = self.where if line is None else path
        statement = "" if self.statement is None else f".{self.statement}"
        message = f"{self.key}{statement}: {self.message}"
        return Problem(severity, path, line, message, self.advice, self.column, self.source)


class Checker:
    """Looks through lines and the scripts that they call; each script is looked through once."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._lua = SyntaxCheck()
        self._seen: set[str] = set()

    def check(self, line: Line, where: str, key: str, source: str) -> list[RuleProblem]:
        """Return the problems of a converter line."""
        found = self._line(line, (), 0)
        return [self._placed(problem, where, key, source) for problem in found]

    def check_script(self, name: str, where: str) -> list[RuleProblem]:
        """Return the problems of a named script, unless reported with a line that calls it."""
        return list(self._script(name, (), where))

    @staticmethod
    def _placed(problem: RuleProblem, where: str, key: str, source: str) -> RuleProblem:
        """Fill in the place, except where the problem lies in a script that the line calls."""
        if problem.key:
            return problem
        return replace(problem, where=where, key=key, source=source)

    def _line(self, line: Line, callers: tuple[str, ...], depth: int) -> Iterator[RuleProblem]:
        for note in line.notes:
            yield RuleProblem("", "", None, note.column, note.message, Gravity.WARNING, note.advice)
        for item, statement in line.statements():
            for problem in self._statement(statement, callers, depth):
                yield problem if problem.key else replace(problem, statement=item.number)

    def _statement(
        self, statement: Statement, callers: tuple[str, ...], depth: int
    ) -> Iterator[RuleProblem]:
        column = statement.column
        if isinstance(statement, Broken):
            error = statement.error
            yield RuleProblem("", "", None, error.column, error.what, Gravity.ERROR, error.remedy)
        elif is_unavailable(statement):
            yield RuleProblem("", "", None, column, statement.refusal(), Gravity.UNAVAILABLE)
        if isinstance(statement, Deidentify):
            fault = statement.fault(self._library)
            if fault is not None:
                yield RuleProblem("", "", None, column, fault.what, Gravity.ERROR, fault.remedy)
        if isinstance(statement, Call):
            yield from self._call(statement, callers)
        elif isinstance(statement, Lua):
            yield from self._lua_code(statement)
        elif isinstance(statement, LuaFile):
            yield from self._lua_file(statement.name, column)
        elif isinstance(statement, Delayed) and statement.lua_file:
            yield from self._lua_file(statement.lua_file, column)
        script = inner_script(statement)
        if script is None:
            return
        if depth >= DEEPEST:
            yield RuleProblem("", "", None, column, "too many scripts inside each other")
            return
        inner = parse_line(script.text, self._library.dialect, len(script.values))
        yield from self._line(inner, callers, depth + 1)

    def check_lua(self, code: str, where: str, key: str, shown: str) -> list[RuleProblem]:
        """Return what is wrong with Lua code of the configuration; `shown` ends with the code."""
        fault = self._lua.fault(code)
        if fault is None:
            return []
        column = len(shown) - len(code) + fault.offset + 1
        return [RuleProblem(where, key, None, max(1, column), fault.message, source=shown)]

    def _lua_code(self, lua: Lua) -> Iterator[RuleProblem]:
        try:
            samples = lua.samples()
        except RuleError as exc:
            yield RuleProblem("", "", None, lua.column, exc.what, Gravity.ERROR, exc.remedy)
            return
        faults = [self._lua.fault(sample) for sample in samples]
        fault = faults[0]
        if fault is None or None in faults:
            return
        column = lua.column
        if samples[0] == lua.code.text.value:
            column = lua.code.text.columns[fault.offset]
        yield RuleProblem("", "", None, column, f"Lua: {fault.message}")

    def _lua_file(self, name: str, column: int) -> Iterator[RuleProblem]:
        try:
            code = lua_source(self._library, name).decode()
        except RuleError as exc:
            yield RuleProblem("", "", None, column, exc.what, advice=exc.remedy)
            return
        if name.lower() in self._seen:
            return
        self._seen.add(name.lower())
        fault = self._lua.fault(code)
        if fault is not None:
            where, key = f"{name}:{fault.line}", f"script {name}"
            yield RuleProblem(where, key, None, fault.column, fault.message, source=fault.text)

    def _call(self, call: Call, callers: tuple[str, ...]) -> Iterator[RuleProblem]:
        key = call.name.lower()
        if key in callers:
            yield RuleProblem("", "", None, call.column, f"the script {call.name} calls itself")
        elif self._library.source(call.name) is None:
            what = self._unreadable(call.name) or f"there is no script {call.name[:80]}"
            if call.bare:
                what = f"unknown statement {first_word(call.name)}, and {what}"
            advice = "correct the statement, or add the name to [scripts] or as a file"
            hint = suggestion(call.name) if call.bare else ""
            yield RuleProblem("", "", None, call.column, what, Gravity.ERROR, hint + advice)
        else:
            yield from self._script(call.name, (*callers, key), call.name)

    def _unreadable(self, name: str) -> str:
        """Return why a script file that is there cannot be read; empty when there is none."""
        path = self._library.find_file(name)
        if path is None:
            return ""
        try:
            read_script(path)
        except OSError as exc:
            return f"the script {name[:80]} cannot be read: {exc.strerror}"
        return ""

    def _script(self, name: str, callers: tuple[str, ...], where: str) -> Iterator[RuleProblem]:
        if name.lower() in self._seen:
            return
        self._seen.add(name.lower())
        for source in self._library.source(name) or ():
            line = self._library.parse(source, self._library.dialect)
            for problem in self._line(line, callers or (name.lower(),), 0):
                yield self._placed(problem, where, f"script {name}", source)
