"""Trees to closures: nothing of a line is parsed while objects pass (spec converters.md 4 to 6).

The trees come from `dgate.rules.grammar`. A compiled line may be run by several threads at once;
a `Library` keeps script files as it has read them, behind one lock.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from dgate.config.text import read_file
from dgate.errors import NotExecutable, RuleError, Unsafe
from dgate.rules.grammar import Broken, Item, Line, parse_line
from dgate.rules.lua.engine import LuaEngine
from dgate.rules.lua.state import Limits
from dgate.rules.run import (
    CONTINUE,
    DESTROY,
    FAILED,
    REJECT,
    RETURN,
    Run,
    Step,
    nothing,
)
from dgate.rules.statements.base import Executable, Scope, Script
from dgate.rules.statements.deidentify import DEIDENTIFY
from dgate.rules.syntax import Dialect, Family, Text
from dgate.rules.tokens import Skeleton

SCRIPT = Dialect(Family.IMPORT)
"""What every script is written in, whoever runs it, where programs are switched off."""

DEEPEST = 8
"""Levels of `script "..."` inside each other."""
_CACHED_TEXTS = 256
_ENDS_SCRIPT = (DESTROY, RETURN, REJECT)


class CompiledLine:
    """One line as steps, each with the place to go on after a failed test."""

    __slots__ = ("_after_failure", "_steps")

    def __init__(self, steps: Sequence[Step], after_failure: Sequence[int]) -> None:
        self._steps = tuple(steps)
        self._after_failure = tuple(after_failure)

    def run(self, run: Run) -> int:
        """Execute the line and return its result code (spec converters.md section 5)."""
        steps = self._steps
        last = len(steps) - 1
        at = 0
        while at <= last:
            try:
                code = steps[at](run)
            except RuleError as exc:
                run.failed(exc, at)
                code = CONTINUE
            if code == CONTINUE:
                at += 1
            elif code == FAILED:
                if at == last:
                    return FAILED
                at = self._after_failure[at]
            else:
                return code
        return CONTINUE


class CompiledScript:
    """The lines of a script; each has its own blocks and tests."""

    __slots__ = ("_lines",)

    def __init__(self, lines: Sequence[CompiledLine]) -> None:
        self._lines = tuple(lines)

    def run(self, run: Run) -> int:
        """Execute the lines until one destroys, rejects or returns; return the last result."""
        code = CONTINUE
        for line in self._lines:
            code = line.run(run)
            if code in _ENDS_SCRIPT:
                break
        return code


def compile_line(line: Line, library: Library, depth: int = 0) -> CompiledLine:
    """Return the closure form of a parsed line."""
    steps = [_step(item, Scope(library, item.number, depth)) for item in line.items]
    if library.observer is not None:
        steps = library.observer.observe(line, steps)
    return CompiledLine(steps, [item.after_failure for item in line.items])


def _step(item: Item, scope: Scope) -> Step:
    statement = item.statement
    if statement is None:
        return nothing
    reason = statement.refusal()
    if isinstance(statement, Executable) and not reason:
        try:
            return statement.build(scope)
        except RuleError as exc:
            kind = Unsafe if isinstance(exc, Unsafe) else RuleError
            return _refuse(kind, exc.what, exc.remedy)
    if isinstance(statement, Broken):
        # Misspelt, it must not let the original pass where ScriptErrors = ignore.
        kind = Unsafe if item.text.lower().startswith(DEIDENTIFY) else RuleError
        return _refuse(kind, statement.error.what, statement.error.remedy)
    return _refuse(NotExecutable, reason, "")


def _refuse(kind: type[RuleError], what: str, remedy: str) -> Step:
    def step(run: Run) -> int:
        raise kind(what, remedy=remedy)

    return step


class Observer(Protocol):
    """Watches what lines do, for `dgate trace`."""

    def observe(self, line: Line, steps: list[Step]) -> list[Step]:
        """Return steps that do what those of the line do, and tell of it."""
        ...


class Library:
    """The scripts that lines may call: entries of `[scripts]`, and text files.

    A file is read once, so that what runs is what was checked; a changed one takes effect with the
    next configuration, which has a library of its own.
    """

    def __init__(
        self,
        scripts: Mapping[str, str],
        folders: Sequence[Path],
        observer: Observer | None = None,
        *,
        programs: bool = False,
        limits: Limits | None = None,
    ) -> None:
        """`observer` watches every line that is compiled with this library.

        Args:
            programs: `AllowSystemCommands`.
            limits: what Lua code may use.
        """
        self.observer = observer
        self.lua: LuaEngine = LuaEngine(limits or Limits())
        """Runs Lua code."""
        self.dialect = replace(SCRIPT, programs=programs)
        """What every script is written in here."""
        self._texts = {name.lower(): text for name, text in scripts.items()}
        self._folders = tuple(folders)
        self._guard = threading.Lock()
        self._sources: dict[str, list[str]] = {}
        self._files: dict[str, str] = {}
        self._compiled: dict[str, CompiledScript] = {}
        self._trees: dict[tuple[str, Dialect], Line] = {}
        self._compressions: dict[int, Script] = {}
        self.places: set[Path] = set()
        """Where script files were looked for, whether they were there or not."""
        self.inline = lru_cache(_CACHED_TEXTS)(self._inline)

    def script(self, name: str) -> Script:
        """Return the named script; raises RuleError when there is none."""
        text = self._texts.get(name.lower())
        if text is not None:
            return self.inline(text, 0)
        with self._guard:
            known = self._compiled.get(name)
        if known is not None:
            return known
        try:
            lines = self._lines_of(name)
        except OSError as exc:
            reason = exc.strerror or exc
            raise RuleError(f"the script {name[:80]} cannot be read: {reason}") from exc
        if lines is None:
            raise RuleError(
                f"there is no script {name[:80]}",
                remedy="correct the statement, or add it to [scripts] or as a file",
            )
        compiled = CompiledScript([self._line(line, 0) for line in lines])
        with self._guard:
            return self._compiled.setdefault(name, compiled)

    def parse(self, text: str, dialect: Dialect) -> Line:
        """Return the tree of a line, the same one until `forget_trees`."""
        with self._guard:
            known = self._trees.get((text, dialect))
        if known is None:
            known = parse_line(Text.whole(text), dialect)
            with self._guard:
                self._trees[text, dialect] = known
        return known

    def forget_trees(self) -> None:
        """Give back the memory of the trees when everything has been compiled and checked."""
        with self._guard:
            self._trees.clear()

    def nested(self, skeleton: Skeleton, depth: int) -> Script:
        """Return the script inside a statement, at `depth` scripts inside each other."""
        if depth > DEEPEST:
            raise RuleError("too many scripts inside each other")
        line = parse_line(skeleton.text, self.dialect, len(skeleton.values))
        return CompiledScript([compile_line(line, self, depth)])

    def keep_compression(self, number: int, script: Script) -> None:
        """Remember CompressionConverterN for `compression sN`; while rules are compiled only."""
        self._compressions[number] = script

    def compression(self, number: int) -> Script | None:
        """Return CompressionConverterN, None when there is none."""
        return self._compressions.get(number)

    def source(self, name: str) -> list[str] | None:
        """Return the lines of a script for checking, None when there is none."""
        text = self._texts.get(name.lower())
        if text is not None:
            return [text]
        try:
            return self._lines_of(name)
        except OSError:
            return None

    def text(self, name: str) -> str | None:
        """Return the text of a file that is no script (masks, lists), as it was when it was first
        asked for; None when there is none. Raises RuleError when it cannot be read.
        """
        with self._guard:
            known = self._files.get(name)
        if known is not None:
            return known
        path = self.find_file(name)
        if path is None:
            return None
        try:
            text = read_script(path)
        except OSError as exc:
            raise RuleError(f"{name[:80]} cannot be read: {exc.strerror}") from exc
        with self._guard:
            return self._files.setdefault(name, text)

    def find_file(self, name: str) -> Path | None:
        """Return the script file of that name: in the current folder, else in the base folder."""
        try:
            places = [folder / name for folder in self._folders]
            self.places.update(place.absolute() for place in places)
            return next((place for place in places if place.is_file()), None)
        except (OSError, ValueError):
            # A name that no file can have, such as one with NUL.
            return None

    def _lines_of(self, name: str) -> list[str] | None:
        """Return the lines of a script file, as they were when it was first asked for; None when
        there is none. Raises OSError.
        """
        with self._guard:
            known = self._sources.get(name)
        if known is not None:
            return known
        path = self.find_file(name)
        if path is None:
            return None
        lines = script_lines(read_script(path))
        with self._guard:
            return self._sources.setdefault(name, lines)

    def _inline(self, text: str, outer: int) -> CompiledScript:
        return CompiledScript([self._line(line, outer) for line in text.split("\n") if line])

    def _line(self, line: str, outer: int) -> CompiledLine:
        return compile_line(parse_line(Text.whole(line), self.dialect, outer), self)


def read_script(path: Path) -> str:
    """Return the text of a script file, which is UTF-8, else Latin-1.

    Raises OSError: it cannot be read, is longer than any configuration file may be, or no text.
    """
    content = read_file(path)
    # Compiled Lua is refused, by its name, where it is to be run.
    if b"\0" in content and not content.startswith(b"\x1bLua"):
        raise OSError(errno.ENOEXEC, "it is binary, and not text in UTF-8", str(path))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def script_lines(text: str) -> list[str]:
    """Return the lines of a script file that are not comments."""
    lines = (line.strip("\r") for line in text.split("\n"))
    return [line for line in lines if line.strip() and line[0] not in "#;"]
