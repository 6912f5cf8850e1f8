"""From the bytes of a configuration file to its text, the same way for all four files."""

from __future__ import annotations

import codecs
import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from dgate.config.problem import Report

LARGEST_FILE = 4 << 20
"""Bytes; a table of 50,000 nodes fits, and what is read from a file may take 100 times as much."""

_BOMS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
}
# Only these end a line: str.splitlines would also split at form feeds and U+2028 inside a value.
_LINE_END = re.compile(r"\r\n|\r|\n")


def read_file(path: Path) -> bytes:
    """Return the content of a configuration file.

    Raises OSError: it cannot be read, is no ordinary file, or has more than `LARGEST_FILE` bytes.
    """
    # Opening a named pipe would wait for somebody to write into it.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not an ordinary file", str(path))
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        size = f"{LARGEST_FILE >> 20} MB"
        message = f"it has more than {size}, which no configuration file needs"
        raise OSError(errno.EFBIG, message, str(path))
    return data


@dataclass(frozen=True, slots=True)
class Decoded:
    """A file's text, with what is needed to write the same bytes back."""

    text: str
    encoding: str
    mark: bytes = b""
    """The byte order mark that the file begins with."""

    def encode(self, text: str) -> bytes:
        """Return `text` in this file's encoding, with its byte order mark.

        Raises UnicodeEncodeError: the encoding has no such character.
        """
        return self.mark + text.encode(self.encoding)


def decode(data: bytes, report: Report) -> Decoded:
    """Read `data` as its byte order mark says, else as UTF-8, else Latin-1; note oddities."""
    decoded = _decoded(data, report)
    at = decoded.text.find("\0")
    if at >= 0:
        line = len(split_lines(decoded.text[:at]))
        message = "the file has NUL characters, which are left out"
        if _is_bare_utf16(data):
            message = "the file seems to be UTF-16 text without byte order mark"
            report.error(line, message, "save the file as UTF-8")
        else:
            report.warning(line, message, "write the file anew with a text editor")
    return decoded


def _decoded(data: bytes, report: Report) -> Decoded:
    for encoding, bom in _BOMS.items():
        if not data.startswith(bom):
            continue
        body = data[len(bom) :]
        try:
            decoded = Decoded(body.decode(encoding), encoding, bom)
        except UnicodeDecodeError as exc:
            if encoding == "utf-8":
                return _latin_1(body, exc.start, bom, report)
            message = f"the file is broken UTF-16 text from byte {exc.start + len(bom)} on"
            report.error(1, message, "save the file as UTF-8")
            return Decoded(data.decode("latin-1"), "latin-1")
        if encoding != "utf-8":
            message = "the file is UTF-16 text, which no other program that uses it may understand"
            report.warning(1, message, "save it as UTF-8")
        return decoded
    try:
        return Decoded(data.decode("utf-8"), "utf-8")
    except UnicodeDecodeError as exc:
        return _latin_1(data, exc.start, b"", report)


def _latin_1(body: bytes, start: int, mark: bytes, report: Report) -> Decoded:
    line = len(split_lines(body[:start].decode("latin-1")))
    report.info(line, "the file is not UTF-8 text and is read as Latin-1", "save it as UTF-8")
    return Decoded(body.decode("latin-1"), "latin-1", mark)


def _is_bare_utf16(data: bytes) -> bool:
    """Tell whether every other byte of the beginning is NUL."""
    start = data[:512]
    return len(start) > 3 and not (start[::2].strip(b"\0") and start[1::2].strip(b"\0"))


def split_lines(text: str) -> list[str]:
    """Return the lines of `text` without their ends; a last line without end counts too."""
    return _LINE_END.split(text)


def split_keeping_ends(text: str) -> list[str]:
    """Return the lines of `text` with their ends, such that joining them gives `text`."""
    lines = []
    start = 0
    for end in _LINE_END.finditer(text):
        lines.append(text[start : end.end()])
        start = end.end()
    if start < len(text):
        lines.append(text[start:])
    return lines
