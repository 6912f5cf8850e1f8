"""Data sets for the tests: every file that pydicom ships, and small ones made by hand."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from dgate.dicom.part10 import read_meta
from dgate.dicom.scan import LONG_VRS
from dgate.errors import NotDicom

SHIPPED = Path(pydicom.__file__).parent / "data"
NO_HEAD = {"no_meta.dcm"}
"""Begins in the middle of nowhere."""
BROKEN_SEQUENCE = {"DICOMDIR-nooffset"}
"""Has an item that is longer than its sequence."""
CUT_IN_HEADER = {"rtplan_truncated.dcm"}


@dataclass(frozen=True, slots=True)
class Shipped:
    """One of pydicom's files."""

    path: Path
    syntax: str
    data_offset: int
    data: bytes

    @property
    def head(self) -> bytes:
        return self.path.read_bytes()[: self.data_offset]

    def __repr__(self) -> str:
        return self.path.name


@cache
def shipped() -> tuple[Shipped, ...]:
    """Return every file that pydicom ships and that is DICOM."""
    found = []
    for path in sorted(SHIPPED.rglob("*")):
        if not path.is_file() or path.suffix in (".py", ".pyc"):
            continue
        content = path.read_bytes()
        try:
            meta = read_meta(content)
        except NotDicom:
            continue
        found.append(Shipped(path, meta.syntax, meta.data_offset, content[meta.data_offset :]))
    return tuple(found)


def whole() -> list[Shipped]:
    """Return the files whose header is complete."""
    return [file for file in shipped() if file.path.name not in CUT_IN_HEADER]


def varied() -> list[Shipped]:
    """Return the same without the 49 twins of one file in the DICOMDIR samples."""
    return [file for file in whole() if "TINY_ALPHA" not in str(file.path)] + [by_name("IM00001D")]


def by_name(name: str) -> Shipped:
    return next(file for file in shipped() if file.path.name == name)


def read(content: bytes) -> Dataset:
    """Read a file with pydicom, which is the independent implementation here."""
    return pydicom.dcmread(BytesIO(content), force=True)


def explicit(tag: int, vr: str, value: bytes, order: str = "<", length: int | None = None) -> bytes:
    """Return an element with explicit VR."""
    group, number = tag >> 16, tag & 0xFFFF
    size = len(value) if length is None else length
    code = vr.encode()
    if code in LONG_VRS:
        return struct.pack(order + "HH2sxxL", group, number, code, size) + value
    return struct.pack(order + "HH2sH", group, number, code, size) + value


def implicit(tag: int, value: bytes, order: str = "<", length: int | None = None) -> bytes:
    """Return an element with implicit VR, an item or a delimiter."""
    size = len(value) if length is None else length
    return struct.pack(order + "HHL", tag >> 16, tag & 0xFFFF, size) + value


UNDEFINED = 0xFFFFFFFF
ITEM = 0xFFFEE000
ITEM_END = 0xFFFEE00D
SEQUENCE_END = 0xFFFEE0DD


def item(content: bytes, order: str = "<", *, defined: bool = True) -> bytes:
    if defined:
        return implicit(ITEM, content, order)
    return implicit(ITEM, content, order, UNDEFINED) + implicit(ITEM_END, b"", order)


def sequence(items: bytes, order: str = "<") -> bytes:
    """Return the value of an undefined-length sequence, delimiter included."""
    return items + implicit(SEQUENCE_END, b"", order)
