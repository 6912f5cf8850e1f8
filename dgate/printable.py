"""Text of strangers for terminals and lines of a log: nothing in it acts on what shows it."""

from __future__ import annotations


def printable(text: str, instead: str = "?") -> str:
    """Return a text with `instead` for every character that does not print as itself.

    Those are control characters and line ends, surrogates, and what changes the direction of text.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else instead for char in text)


def on_one_line(text: str) -> str:
    """Return a text with a blank for each line end, tab and other space that does not print as
    itself, and `?` for whatever else does not."""
    if text.isprintable():
        return text
    return printable("".join(" " if char.isspace() else char for char in text))
