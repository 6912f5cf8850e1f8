"""Lines of the text files that de-identification reads: masks, and lists of safe elements.

Comments begin with `#`. Every mistake of a file is collected before it is refused. Pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from dgate.errors import ConfigError

T = TypeVar("T")
_SHOWN = 20


class BadLine(ValueError):
    """A line is not written as the file's form wants it."""


def parse_lines(text: str, name: str, parse: Callable[[str], T]) -> list[T]:
    """Return what `parse` makes of each line that is not empty or a comment.

    Raises:
        ConfigError: some lines are wrong; the message has the number of each.
    """
    made: list[T] = []
    faults: list[str] = []
    for number, line in _lines(text):
        try:
            made.append(parse(line))
        except BadLine as exc:
            faults.append(f"line {number}: {exc}")
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise ConfigError("; ".join(faults[:_SHOWN]) + more, where=name)
    return made


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip("\ufeff \t")
        if content and not content.startswith("#"):
            yield number, content
