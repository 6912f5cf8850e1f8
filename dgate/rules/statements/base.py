"""What every statement of the tree is: a value that knows its column and how to become a step.

The statements themselves are in the other modules of this folder, by section of spec
converters.md. Pure values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from dgate.rules.run import Run, Step
from dgate.rules.syntax import Family, Text
from dgate.rules.tokens import Reading, Skeleton, Template

BOTH = frozenset(Family)
IMPORT_ONLY = frozenset({Family.IMPORT})
EXPORT_ONLY = frozenset({Family.EXPORT})


class Script(Protocol):
    """A compiled script."""

    def run(self, run: Run) -> int:
        """Execute it and return its result code."""
        ...


class Lua(Protocol):
    """What runs Lua code (`dgate.rules.lua.engine`)."""

    def run(
        self,
        run: Run,
        scripts: Library,
        code: bytes,
        name: str,
        values: Sequence[str] = (),
        *,
        command_line: str | None = None,
    ) -> int:
        """Run code over the object of a run and return its result code."""
        ...


class Library(Protocol):
    """Where a statement finds the scripts that it calls."""

    @property
    def lua(self) -> Lua:
        """Return what runs Lua code."""
        ...

    @property
    def inline(self) -> Callable[[str, int], Script]:
        """Return what compiles a text of import statements; the number is that of its marks."""
        ...

    def script(self, name: str) -> Script:
        """Return the named script; raises RuleError when there is none."""
        ...

    def nested(self, skeleton: Skeleton, depth: int) -> Script:
        """Return the script inside a statement; raises RuleError when that is too deep."""
        ...

    def text(self, name: str) -> str | None:
        """Return the text of a file that is no script, None when there is none.

        Raises RuleError when it cannot be read.
        """
        ...

    def compression(self, number: int) -> Script | None:
        """Return CompressionConverterN, None when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a statement stands, for the closures made from it."""

    library: Library
    number: int
    depth: int
    """How many scripts inside each other surround the statement."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a line, parsed."""

    column: int

    @property
    def may_fail(self) -> bool:
        """Return whether the statement may make the line skip what follows."""
        return False

    def refusal(self) -> str:
        """Return why this version does not execute the statement; empty when it does."""
        return ""

    def templates(self) -> Iterator[Template]:
        """Yield every template of the statement."""
        # The names of a dataclass's fields; asking `dataclasses.fields` takes ten times as long.
        names: tuple[str, ...] = self.__match_args__
        for name in names:
            value = getattr(self, name)
            if isinstance(value, Template):
                yield value
            elif isinstance(value, Skeleton):
                yield from value.values
            elif isinstance(value, tuple):
                yield from (part for part in value if isinstance(part, Template))


@dataclass(frozen=True, slots=True)
class Executable(Statement, ABC):
    """A statement that this version executes, as far as its tokens let it."""

    @abstractmethod
    def build(self, scope: Scope) -> Step:
        """Return the statement as a closure."""


@dataclass(frozen=True, slots=True)
class Unavailable(Statement, ABC):
    """A statement that is understood but not executed here, as the configuration keeps it from
    running (rulings.md 10)."""

    @abstractmethod
    def refusal(self) -> str:
        """Return why it is not executed."""


Parser = Callable[[Text, Text, Reading], Statement]
"""Makes a statement of its whole text, the text after the keyword, and the reading state."""


@dataclass(frozen=True, slots=True)
class Keyword:
    """How a kind of statement is recognised: by prefix, in the order of the tables."""

    prefix: str
    parse: Parser
    families: frozenset[Family] = BOTH
