"""The file of pixel masks: which rectangles of an image to black out, by device and modality.

Not for the pixels (`dgate.dicom.deidentify.pixels`). A line has filters, a colon and rectangles:

    manufacturer="GE*" model="LOGIQ 9" modality=US rows=480 columns=640 : 0,0,639,39  0,440,-1,-1

A rectangle is x0,y0,x1,y1: the first and the last column and row that become black, counted from 0
at the upper left corner; negative numbers count from the right or lower edge (-1 is the last one).
`none` says that images of this device have been looked at and need no mask. The first line that
fits an image counts. Pure values.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from dgate.dicom.deidentify.textfile import BadLine, parse_lines
from dgate.dicom.table import ElementTable
from dgate.errors import RuleError

ROWS = 0x00280010
COLUMNS = 0x00280011
_TEXTS = {
    "manufacturer": 0x00080070,
    "model": 0x00081090,
    "station": 0x00081010,
    "modality": 0x00080060,
    "software": 0x00181020,
    "sopclass": 0x00080016,
}
"""Filters by patterns, and the attributes that they look at."""
_NUMBERS = {"rows": ROWS, "columns": COLUMNS}
_FILTER = re.compile(r'([a-z]+)=(?:"([^"]*)"|([^\s":]+))(?:\s+|$)', re.IGNORECASE)
_RECTANGLE = re.compile(r"(-?[0-9]{1,5}),(-?[0-9]{1,5}),(-?[0-9]{1,5}),(-?[0-9]{1,5})")
_LARGEST = 65535

Test = Callable[[ElementTable], bool]


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A part of an image, both corners included; negative numbers count from the far edge."""

    x0: int
    y0: int
    x1: int
    y1: int

    def placed(self, rows: int, columns: int) -> Rectangle:
        """Return the rectangle in an image of that size.

        Raises:
            RuleError: it does not lie in the image: the mask was made for another one.
        """
        x0, x1 = (at + columns if at < 0 else at for at in (self.x0, self.x1))
        y0, y1 = (at + rows if at < 0 else at for at in (self.y0, self.y1))
        if not (0 <= x0 <= x1 < columns and 0 <= y0 <= y1 < rows):
            raise RuleError(
                f"the mask {self.x0},{self.y0},{self.x1},{self.y1} does not lie in an image of"
                f" {columns} columns and {rows} rows",
                remedy="give its line rows= and columns=, and write one for this size",
            )
        return Rectangle(x0, y0, x1, y1)


@dataclass(frozen=True, slots=True)
class Mask:
    """One line: whose images, and what of them."""

    tests: tuple[Test, ...]
    rectangles: tuple[Rectangle, ...]

    def fits(self, table: ElementTable) -> bool:
        """Tell whether all filters match an object."""
        return all(test(table) for test in self.tests)


@dataclass(frozen=True, slots=True)
class Masks:
    """All lines of a file."""

    lines: tuple[Mask, ...] = ()

    @classmethod
    def parse(cls, text: str, name: str) -> Masks:
        """Read a file of masks.

        Raises:
            ConfigError: lines that are wrong, with their numbers in file `name`.
        """
        return cls(tuple(parse_lines(text, name, _mask)))

    def of(self, table: ElementTable) -> Mask | None:
        """Return the first line that fits an object, None when none does."""
        return next((mask for mask in self.lines if mask.fits(table)), None)


def _mask(line: str) -> Mask:
    filters, rectangles = _halves(line)
    tests = []
    at = 0
    while at < len(filters):
        match = _FILTER.match(filters, at)
        if match is None:
            raise BadLine(f'expected filter=value or filter="value" at {filters[at : at + 30]!r}')
        tests.append(_test(match[1].lower(), match[3] if match[2] is None else match[2]))
        at = match.end()
    if not tests:
        raise BadLine("a line needs a filter before its colon, such as modality=US")
    return Mask(tuple(tests), _rectangles(rectangles))


def _halves(line: str) -> tuple[str, str]:
    """Split at the colon that stands in no string."""
    inside = False
    for at, char in enumerate(line):
        if char == '"':
            inside = not inside
        elif char == ":" and not inside:
            return line[:at].strip(), line[at + 1 :].strip()
    raise BadLine("a colon is missing between the filters and the rectangles")


def _test(name: str, value: str) -> Test:
    if name in _NUMBERS:
        if not value.isascii() or not value.isdecimal() or not 0 < int(value) <= _LARGEST:
            raise BadLine(f"{name} is a number from 1 to {_LARGEST}")
        tag, number = _NUMBERS[name], str(int(value))
        return lambda table: table.text(tag) == number
    if name not in _TEXTS:
        known = ", ".join((*_TEXTS, *_NUMBERS))
        raise BadLine(f"{name[:40]!r} is not a filter: there are {known}")
    if not value:
        raise BadLine(f"{name} has no value; write * to let everything pass")
    tag = _TEXTS[name]
    pattern = re.compile(".*".join(map(re.escape, value.split("*"))), re.IGNORECASE | re.DOTALL)
    return lambda table: pattern.fullmatch(table.text(tag).strip()) is not None


def _rectangles(text: str) -> tuple[Rectangle, ...]:
    if text.lower() == "none":
        return ()
    found = []
    for word in text.split():
        match = _RECTANGLE.fullmatch(word)
        if match is None:
            raise BadLine(f"{word[:40]!r} is not a rectangle: write x0,y0,x1,y1 without blanks")
        rectangle = Rectangle(*map(int, match.groups()))
        for first, last in ((rectangle.x0, rectangle.x1), (rectangle.y0, rectangle.y1)):
            if (first < 0) == (last < 0) and first > last:
                raise BadLine(f"the rectangle {word} ends before it begins")
        found.append(rectangle)
    if not found:
        raise BadLine("no rectangle follows the colon; write none if there is nothing to mask")
    return tuple(found)
