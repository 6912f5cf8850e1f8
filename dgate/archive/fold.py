"""Folding of text for searches that ignore case, accents and the form in which a name was written.

Not for comparing keys and links, which are exact. Pure functions.

Plain ASCII values are searched in their own column without regard to case; only what that cannot
find gets rows in dgate's side table `dgate_folded`, so the original's columns stay as they are
(rulings.md 8) and most archives have few such rows.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

FOLDED_LENGTH = 255
"""Length of the column `folded`; longer texts are compared by their beginning."""


def fold(text: str) -> str:
    """Return the text without case, accents and compatibility forms: `MÜLLER` and `Müller` become
    `muller`."""
    if text.isascii():
        return text.lower()
    parts = unicodedata.normalize("NFKD", text)
    # Only the accents of European scripts: Japanese voicing marks, which NFKD splits off too, make
    # other letters.
    bare = "".join(letter for letter in parts if not "\u0300" <= letter <= "\u036f")
    return unicodedata.normalize("NFC", bare.casefold())


def fold_key(text: str, is_name: bool) -> str:
    """Return a query value folded; empty components at the end of a person name mean nothing (PS3.5
    6.2.1)."""
    return fold(text.rstrip("^=") if is_name else text)


def search_forms(value: str | None, is_name: bool) -> tuple[str, ...]:
    """Return the folded forms under which a stored value is searched beside its own column.

    Person names are found by each of their component groups (alphabetic, ideographic, phonetic) as
    well.
    """
    if not value or (value.isascii() and not (is_name and ("=" in value or value[-1] == "^"))):
        return ()
    forms = {fold_key(value, is_name)}
    if is_name:
        forms |= {fold_key(group, True) for group in value.split("=")}
    return tuple(sorted(form[:FOLDED_LENGTH] for form in forms if form))


class FoldState:
    """Whether the side table has everything that another program wrote into the tables.

    Set by one thread, read by all; until then, searches look at the columns themselves.
    """

    __slots__ = ("complete",)

    def __init__(self, complete: bool = True) -> None:
        self.complete = complete


def decoded(raw: bytes) -> str:
    """Return a text of a database that an older server may have written: UTF-8, else Latin-1."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def has_form(raw: bytes | None, is_name: int, wanted: str) -> int:
    """Tell whether a stored value would be found in the side table by a folded query value, which
    may have wildcards: the SQL function `dgate_has_form` on SQLite."""
    if not raw:
        return 0
    matches = _matcher(wanted)
    forms = search_forms(decoded(raw), bool(is_name))
    return int(any(matches(form) is not None for form in forms))


@lru_cache(maxsize=64)
def _matcher(wanted: str) -> Callable[[str], object]:
    pattern = "".join(
        ".*" if part.startswith("*") else "." if part == "?" else re.escape(part)
        for part in re.findall(r"\*+|\?|[^*?]+", wanted)
    )
    return re.compile(pattern, re.DOTALL).fullmatch
