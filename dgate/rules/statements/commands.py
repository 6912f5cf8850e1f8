"""Command lines: split into arguments as they are written, before any value is put in.

Programs run without a shell (rulings.md 11), so a header value can neither end an argument nor
start another program. What asks for a shell is an error with a way out. Pure functions; who runs
the arguments: `dgate.rules.programs`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from dgate.errors import RuleError
from dgate.rules.run import CONTINUE, Run, Step, Value
from dgate.rules.statements.base import Executable, Keyword, Scope, Statement, Unavailable
from dgate.rules.syntax import BLANKS, ParseError, Text
from dgate.rules.tokens import Reading, Template, Token, located_parts
from dgate.rules.values import compile_template

_SHELL = frozenset("|&<>`$*?[](){}\\\n#~!")
"""Characters that a shell would act on; `#` and `~` only at the begin of a word."""
_SHELL_IN_QUOTES = frozenset("`$\\")
_SHELL_IN_LUA = frozenset("|&;<>`$*?()\n")
"""The same for `system` and `os.execute`, whose quotes have always kept everything."""
_ONLY_AT_BEGIN = frozenset("#~!")
_NUMBER = re.compile(r"-[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?")
_SCRIPT_FILE = "put it in a script file and start that, with the values as its arguments"
_SWITCHED_OFF = "it starts a program, which needs AllowSystemCommands = 1"


class ProgramsOff(ParseError):
    """A statement would start a program, and programs are switched off."""


@dataclass(frozen=True, slots=True)
class SwitchedOff(Unavailable):
    """A statement that starts a program where that is not allowed.

    It fails when it is reached. Rules that were taken over do not keep the server from starting.
    """

    def refusal(self) -> str:
        """Return what would have to be set."""
        return _SWITCHED_OFF


@dataclass(slots=True)
class _Word:
    column: int
    parts: list[str | Token] = field(default_factory=list)

    def add(self, part: str | Token) -> None:
        """Append a part; literal text next to literal text becomes one."""
        if isinstance(part, str) and self.parts and isinstance(self.parts[-1], str):
            self.parts[-1] += part
        else:
            self.parts.append(part)

    def template(self) -> Template:
        """Return the word as a template; a word in quotes may be empty."""
        return Template(tuple(part for part in self.parts if part != ""), self.column)


@dataclass(slots=True)
class _Splitter:
    """Splits one command line."""

    words: list[_Word] = field(default_factory=list)
    quote: str = ""
    opened: int = 0
    """Where the quote that is open stands."""
    inside: bool = False
    """In the middle of a word."""
    shell: frozenset[str] = _SHELL
    """What is refused outside of quotes."""
    shell_in_quotes: frozenset[str] = _SHELL_IN_QUOTES
    """What is refused in double quotes."""

    def literal(self, source: Text) -> None:
        """Take text as it is written."""
        for at, char in enumerate(source.value):
            if self.quote:
                self._quoted(source, at, char)
            elif char in BLANKS:
                self.inside = False
            elif char in "\"'":
                self.quote, self.opened = char, source.columns[at]
                self._add("", source.columns[at])
            elif char in self.shell and not (self.inside and char in _ONLY_AT_BEGIN):
                raise _needs_shell(source, at)
            else:
                self._add(char, source.columns[at])

    def _quoted(self, source: Text, at: int, char: str) -> None:
        if char == self.quote:
            self.quote = ""
        elif self.quote == '"' and char in self.shell_in_quotes:
            raise _needs_shell(source, at)
        else:
            self._add(char, source.columns[at])

    def take(self, part: str | Token, source: Text) -> None:
        """Take a value, or a character that was written with a percent sign."""
        self._add(part, source.column)

    def _add(self, part: str | Token, column: int) -> None:
        if not self.inside:
            self.words.append(_Word(column))
            self.inside = True
        self.words[-1].add(part)


def _needs_shell(source: Text, at: int) -> ParseError:
    return source.fail(
        f"programs run without a shell, which {source.value[at]!r} would need",
        at=at,
        remedy=f"{_SCRIPT_FILE}; or write it in single quotes",
    )


def parse_arguments(text: Text, what: str, reading: Reading) -> tuple[Template, ...]:
    """Split a command line into program and arguments.

    Raises ParseError: a shell would be needed, a quote is not closed, or the program would be named
    by a value; ProgramsOff whatever the text is like where programs are switched off.
    """
    text = text.strip()
    if not text.value:
        raise text.fail(f"{what} is missing")
    if not reading.dialect.programs:
        raise ProgramsOff(_SWITCHED_OFF, text.column)
    splitter = _Splitter()
    for part, source in located_parts(text, reading):
        if isinstance(part, str) and part == source.value:
            splitter.literal(source)
        else:
            splitter.take(part, source)
    if splitter.quote:
        raise ParseError(
            f"the quote {splitter.quote} is not closed",
            splitter.opened,
            remedy="close it before the end of the statement",
        )
    arguments = tuple(word.template() for word in splitter.words)
    if not arguments or arguments[0].constant is None:
        raise text.fail("the name of a program must not contain %-tokens")
    return arguments


def split_command(text: str) -> list[str]:
    """Split a command line that Lua code has put together; raises RuleError.

    Quotes hold words together, whatever is in them; a backslash is a character like others.
    """
    splitter = _Splitter(shell=_SHELL_IN_LUA, shell_in_quotes=frozenset())
    try:
        splitter.literal(Text.whole(text))
    except ParseError as exc:
        raise RuleError(exc.what, remedy=exc.remedy) from exc
    if splitter.quote:
        raise RuleError(f"the quote {splitter.quote} of the command line is not closed")
    return ["".join(map(str, word.parts)) for word in splitter.words]


def compile_arguments(arguments: Sequence[Template]) -> list[Value]:
    """Return the closures that give the arguments, each substituted by itself."""
    return [_argument(argument) for argument in arguments]


def _argument(template: Template) -> Value:
    value = compile_template(template)
    if not template.parts or isinstance(template.parts[0], str):
        return value

    def argument(run: Run) -> str:
        text = value(run)
        if text.startswith("-") and not _NUMBER.fullmatch(text):
            raise RuleError(
                "a value of the object that begins with - would be taken for an option",
                remedy="write the argument with some text before the token",
            )
        return text

    return argument


@dataclass(frozen=True, slots=True)
class RunProgram(Executable):
    """`system command`; in export lines also a command alone, which no keyword begins."""

    arguments: tuple[Template, ...]
    adds_file: bool = False
    """The object's file name is the last argument."""

    def build(self, scope: Scope) -> Step:
        """Return the step that runs the program and waits; its exit status is only logged."""
        arguments = compile_arguments(self.arguments)
        if self.adds_file:
            arguments.append(lambda run: str(run.file()))

        def step(run: Run) -> int:
            run.env.programs.run([argument(run) for argument in arguments])
            return CONTINUE

        return step


def bare_program(text: Text, reading: Reading) -> Statement:
    """Return the statement for an export line's text that no keyword recognises."""
    arguments = parse_arguments(text, "the program", reading)
    return RunProgram(text.column, arguments, adds_file="%" not in text.value)


def _system(text: Text, rest: Text, reading: Reading) -> Statement:
    return RunProgram(text.column, parse_arguments(rest, "what to run", reading))


KEYWORDS = (Keyword("system ", _system),)
