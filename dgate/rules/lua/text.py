"""Text between Python and Lua: UTF-8 in strings of one character for each byte (rulings.md 12)."""

from __future__ import annotations


def utf8(text: str) -> bytes:
    """Return text as UTF-8; bytes that no character set explained are as they came."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # Half a pair of UTF-16, from a line that an editor has mangled.
        return text.encode("utf-8", "surrogatepass")


def encoded(text: str) -> str | bytes:
    """Return text as it is handed to Lua."""
    return text if text.isascii() else utf8(text)


def decoded(value: str) -> str:
    """Return the text that a Lua string means."""
    if value.isascii():
        return value
    return value.encode("latin-1").decode("utf-8", "surrogateescape")
