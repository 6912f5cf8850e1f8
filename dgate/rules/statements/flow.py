"""Flow and logging: `nop stop return destroy reject`... (spec converters.md 8.1)."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from dgate.rules.run import CONTINUE, DESTROY, REJECT, RETURN, STOP, Run, Step, log
from dgate.rules.statements.base import IMPORT_ONLY, Executable, Keyword, NotYet, Scope, Statement
from dgate.rules.syntax import Text
from dgate.rules.tokens import Reading, Template, parse_template
from dgate.rules.values import compile_template

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
class Defer(NotYet):
    """`defer`: try this line again later."""


@dataclass(frozen=True, slots=True)
class NameSuffix(NotYet):
    """`testmode text`: append a text to every DICOM file name."""

    text: Template

    def title(self) -> str:
        """Return the word of the statement."""
        return "testmode"


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
