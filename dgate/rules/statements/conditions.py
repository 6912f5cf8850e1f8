"""The tests: `ifempty ifequal ifmatch ifnumequal`... and `between` (spec converters.md 8.2)."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable
from dataclasses import dataclass

from dgate.rules.patterns import matcher
from dgate.rules.run import CONTINUE, FAILED, Run, Step, Value
from dgate.rules.statements.base import Executable, Keyword, Scope, Statement
from dgate.rules.syntax import Text, quoted, quoted_pair
from dgate.rules.tokens import Reading, Template, parse_template
from dgate.rules.values import compile_template, leading_integer

_NUMERIC: dict[str, Callable[[int, int], bool]] = {
    "ifnumequal": operator.eq,
    "ifnumnotequal": operator.ne,
    "ifnumgreater": operator.gt,
    "ifnumless": operator.lt,
}


@dataclass(frozen=True, slots=True)
class Condition(Executable):
    """A test; when it is false the next statement or block is skipped."""

    word: str
    left: Template
    right: Template | None = None

    @property
    def may_fail(self) -> bool:
        """Return True: that is what tests are for."""
        return True

    def build(self, scope: Scope) -> Step:
        """Return the step that tests."""
        left = compile_template(self.left)
        if self.right is None:
            return _emptiness(left, self.word == "ifempty")
        if self.word in ("ifmatch", "ifnotmatch"):
            return _matching(left, self.right, self.word == "ifmatch")
        right = compile_template(self.right)
        if self.word == "between":
            return _hours(left, right)
        if self.word in _NUMERIC:
            return _comparison(left, right, _NUMERIC[self.word])
        return _equality(left, self.right, self.word == "ifequal")


def _emptiness(left: Value, wanted: bool) -> Step:
    return lambda run: CONTINUE if (not left(run)) is wanted else FAILED


def _equality(left: Value, template: Template, wanted: bool) -> Step:
    constant = template.constant
    if constant is not None:
        return lambda run: CONTINUE if (left(run) == constant) is wanted else FAILED
    right = compile_template(template)
    return lambda run: CONTINUE if (left(run) == right(run)) is wanted else FAILED


def _matching(left: Value, pattern: Template, wanted: bool) -> Step:
    constant = pattern.constant
    if constant is not None:
        matches = matcher(constant)
        return lambda run: CONTINUE if matches(left(run)) is wanted else FAILED
    text = compile_template(pattern)
    return lambda run: CONTINUE if matcher(text(run))(left(run)) is wanted else FAILED


def _comparison(left: Value, right: Value, compare: Callable[[int, int], bool]) -> Step:
    def step(run: Run) -> int:
        holds = compare(leading_integer(left(run)), leading_integer(right(run)))
        return CONTINUE if holds else FAILED

    return step


def _hours(first: Value, last: Value) -> Step:
    def step(run: Run) -> int:
        begin, end = leading_integer(first(run)), leading_integer(last(run))
        hour = time.localtime(run.env.clock.now()).tm_hour
        inside = begin <= hour < end if begin <= end else hour >= begin or hour < end
        return CONTINUE if inside else FAILED

    return step


def _single(text: Text, rest: Text, reading: Reading) -> Statement:
    word = text.value[: text.value.index(" ")].lower()
    return Condition(text.column, word, parse_template(quoted(rest, "the argument"), reading))


def _pair(text: Text, rest: Text, reading: Reading) -> Statement:
    word = text.value[: text.value.index(" ")].lower()
    left, right = quoted_pair(rest)
    quote = right.value.find('"')
    if quote >= 0:
        reading.note(
            f"the second argument of {word} goes on behind this double quote: it compares with "
            f"{right.value[:40]!r}",
            right.columns[quote],
            "there is no and, or, list: write one test after the other; %' is a double quote",
        )
    return Condition(
        text.column, word, parse_template(left, reading), parse_template(right, reading)
    )


KEYWORDS = (
    Keyword("ifnotempty ", _single),
    Keyword("ifempty ", _single),
    Keyword("ifequal ", _pair),
    Keyword("ifnotequal ", _pair),
    Keyword("ifmatch ", _pair),
    Keyword("ifnotmatch ", _pair),
    Keyword("ifnumequal ", _pair),
    Keyword("ifnumnotequal ", _pair),
    Keyword("ifnumgreater ", _pair),
    Keyword("ifnumless ", _pair),
    Keyword("between ", _pair),
)
