"""The key `SQLHost`: where a database server is reached. Pure functions."""

from __future__ import annotations


def address(text: str) -> tuple[str, int | None]:
    """Return host and port of `host`, `host:port`, `[IPv6]:port`, or the path of a socket (for
    PostgreSQL of its folder); empty means localhost, no port the usual one.

    Raises:
        ValueError: the port is none; the text says so.
    """
    text = text.strip()
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{port!r} is not a port number")
    return host or "localhost", int(port) if port else None
