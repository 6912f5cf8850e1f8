"""Flow and logging: `nop stop return destroy reject`... (spec converters.md 8.1)."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from dgate.errors import Deferred
from dgate.rules.run import (
    CONTINUE,
    DESTROY,
    REJECT,
    RETURN,
    STOP,
    TEST_MODE,
    Run,
    Step,
    log,
)
from dgate.rules.statements.base import IMPORT_ONLY, Executable, Keyword, Scope, Statement
from dgate.rules.syntax import Text
from dgate.rules.tokens import Reading, Template, parse_template
from dgate.rules.values import compile_path, compile_template

_RETRY_HOOKS = ("RejectedImage", "RejectedImageWorkList")


@dataclass(frozen=True, slots=True)
class Nop(Executable):
    """`nop [text]`: log the whole statement."""

    text: Template

    def build(self, scope: Scope) -> Step:
        """Return the step that logs."""
        text = compile_template(self.text)
        number = scope.number

        def step(run: Run) -> int:
            if log.isEnabledFor(logging.INFO):
                log.info("%s.%d: %s", run.label, number, text(run))
            return CONTINUE

        return step


@dataclass(frozen=True, slots=True)
class Stop(Executable):
    """`stop`, `silentstop`: end this line; the next converter runs."""

    silent: bool

    def build(self, scope: Scope) -> Step:
        """Return the step that ends the line."""
        silent = self.silent
        number = scope.number

        def step(run: Run) -> int:
            if not silent:
                log.debug("%s.%d: stop", run.label, number)
            return STOP

        return step


@dataclass(frozen=True, slots=True)
class Return(Executable):
    """`return`: end this line and the script or file that it stands in."""

    def build(self, scope: Scope) -> Step:
        """Return the step that ends the line."""
        return _return


def _return(run: Run) -> int:
    return RETURN


@dataclass(frozen=True, slots=True)
class Drop(Executable):
    """`destroy`, `destroy2`, `reject`: the object goes no further."""

    word: str

    def build(self, scope: Scope) -> Step:
        """Return the step that ends the line and the object."""
        code = REJECT if self.word == "reject" else DESTROY
        level = logging.DEBUG if self.word == "destroy2" else logging.INFO
        word = self.word
        number = scope.number

        def step(run: Run) -> int:
            run.reason = f"{word} by {run.name}.{number}"
            log.log(level, "%s.%d: %s", run.label, number, word)
            return code

        return step


@dataclass(frozen=True, slots=True)
class Retry(Executable):
    """`retry`: enter the refused object once more; only in the hooks of refused objects (S7)."""

    def build(self, scope: Scope) -> Step:
        """Return the step that asks for another try; the line goes on."""
        return _retry_once


def _retry_once(run: Run) -> int:
    run.retry = True
    return CONTINUE


@dataclass(frozen=True, slots=True)
class Defer(Executable):
    """`defer`: in export lines, have the whole line run again later; elsewhere it does nothing."""

    def build(self, scope: Scope) -> Step:
        """Return the step that breaks off an export line, and with it what calls it."""
        number = scope.number

        def step(run: Run) -> int:
            if run.export:
                raise Deferred(f"deferred by {run.name}.{number}")
            log.debug("%s.%d: defer has no effect in import lines", run.label, number)
            return CONTINUE

        return step


@dataclass(frozen=True, slots=True)
class NameSuffix(Executable):
    """`testmode text`: append a text to the name of every DICOM file that rules write or read.

    It lasts as long as the session: an association, or an export converter. Files of the archive
    keep their names, since the index would not find them under others.
    """

    text: Template

    def build(self, scope: Scope) -> Step:
        """Return the step that sets the suffix, or clears it."""
        text = compile_path(self.text)

        def step(run: Run) -> int:
            run.variables[TEST_MODE] = text(run)
            return CONTINUE

        return step


def _nop(text: Text, rest: Text, reading: Reading) -> Statement:
    return Nop(text.column, parse_template(text, reading))


def _stop(text: Text, rest: Text, reading: Reading) -> Statement:
    return Stop(text.column, silent=text.starts("silent"))


def _returning(text: Text, rest: Text, reading: Reading) -> Statement:
    return Return(text.column)


def _drop(text: Text, rest: Text, reading: Reading) -> Statement:
    word = "destroy2" if text.starts("destroy2") else "destroy"
    return Drop(text.column, "reject" if text.starts("reject") else word)


def _retry(text: Text, rest: Text, reading: Reading) -> Statement:
    if reading.dialect.hook not in _RETRY_HOOKS:
        names = " and ".join(f"{hook}Converter0" for hook in _RETRY_HOOKS)
        raise text.fail(f"retry works in {names} only")
    return Retry(text.column)


def _defer(text: Text, rest: Text, reading: Reading) -> Statement:
    return Defer(text.column)


def _test_mode(text: Text, rest: Text, reading: Reading) -> Statement:
    return NameSuffix(text.column, parse_template(rest.strip(), reading))


KEYWORDS = (
    Keyword("nop", _nop),
    Keyword("stop", _stop),
    Keyword("silentstop", _stop),
    Keyword("return", _returning),
    Keyword("destroy", _drop, IMPORT_ONLY),
    Keyword("reject", _drop, IMPORT_ONLY),
    Keyword("retry", _retry, IMPORT_ONLY),
    Keyword("defer", _defer),
    Keyword("testmode", _test_mode),
)
