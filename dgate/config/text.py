"""From the bytes of a configuration file to its text, the same way for all four files."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dgate.config.problem import Report

_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
# Only these end a line: str.splitlines would also split at form feeds and U+2028 inside a value.
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Decoded:
    """A file's text, with what is needed to write the same bytes back."""

    text: str
    encoding: str
    bom: bool

    def encode(self, text: str) -> bytes:
        """Return `text` in this file's encoding, with its byte order mark."""
        return (_BOM if self.bom else b"") + text.encode(self.encoding)


def decode(data: bytes, report: Report) -> Decoded:
    """Read `data` as UTF-8, else Latin-1, and note when that is not what it is."""
    if data.startswith(_UTF16_BOMS):
        report.error(1, "the file is UTF-16 text", "save the file as UTF-8 or plain ASCII text")
    bom = data.startswith(_BOM)
    body = data[len(_BOM) :] if bom else data
    try:
        return Decoded(body.decode("utf-8"), "utf-8", bom)
    except UnicodeDecodeError as exc:
        line = len(split_lines(body[: exc.start].decode("latin-1")))
        report.info(line, "the file is not UTF-8 text and is read as Latin-1", "save it as UTF-8")
        return Decoded(body.decode("latin-1"), "latin-1", bom)


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
