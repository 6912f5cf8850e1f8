"""Values inside script text that no parser may look into.

A script that is handed on (`script "..."`, the `script` clause of a forward) has its outer
%-tokens replaced before its own statements are parsed (spec converters.md 6.3). Header values are
not ours: one that holds a quote or `; destroy` must stay a value. So the grammar sees only
numbered marks in their place. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_OPEN = "\x0e"
_CLOSE = "\x0f"
_ESCAPE = "\x10"

_VALUE = re.compile(f"{_OPEN}((?:[^{_OPEN}{_CLOSE}{_ESCAPE}]|{_ESCAPE}.)*){_CLOSE}", re.DOTALL)
_SPECIAL = re.compile(f"[{_OPEN}{_CLOSE}{_ESCAPE}]")
_ESCAPED = re.compile(f"{_ESCAPE}(.)", re.DOTALL)

MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


def mark(index: int) -> str:
    """Return the mark that stands for outer value `index` in a script's skeleton."""
    return f"{_OPEN}{index}{_CLOSE}"


def seal(value: str) -> str:
    """Return a value in the form in which it may stand inside stored script text."""
    return _OPEN + _SPECIAL.sub(lambda found: _ESCAPE + found.group(), value) + _CLOSE


def lift(script: str) -> tuple[str, Sequence[str]]:
    """Split stored script text into a skeleton with marks and the values that were sealed in it."""
    if _OPEN not in script:
        return script, ()
    values: list[str] = []

    def replace(found: re.Match[str]) -> str:
        values.append(_ESCAPED.sub(r"\1", found.group(1)))
        return mark(len(values) - 1)

    return _VALUE.sub(replace, script), values


def plain(script: str) -> str:
    """Return stored script text as people want to read it."""
    return _VALUE.sub(lambda found: _ESCAPED.sub(r"\1", found.group(1)), script)
