"""Data sets that stay in their file: they read as the same bytes in memory do, and cost no more."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.dicom.filedata import FileData, as_buffer
from dgate.dicom.rewrite import rewrite_head
from dgate.dicom.scan import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE, RLE_LOSSLESS
from dgate.errors import NotDicom, StoreError
from tests.dicom.samples import UNDEFINED, Shipped, explicit, item, varied

PATIENT_NAME, PATIENT_ID, COMMENTS = 0x00100010, 0x00100020, 0x00204000
PIXEL_DATA, PADDING, BLOB = 0x7FE00010, 0xFFFCFFFC, 0x00091001
HEADER = 132
"""Bytes before the data set in the files of these tests."""


class Held:
    """A file in memory, which counts what is read of it."""

    def __init__(self, content: bytes) -> None:
        self.content = bytes(HEADER) + content
        self.read_bytes = 0
        self.reads = 0

    def read_at(self, offset: int, size: int) -> bytes:
        found = self.content[offset : offset + size]
        self.read_bytes += len(found)
        self.reads += 1
        return found


def in_file(content: bytes) -> tuple[FileData, Held]:
    held = Held(content)
    return FileData(held, HEADER, len(content)), held


def told(make: Callable[[], ElementTable]) -> object:
    """Return everything that a table says of its data set."""
    try:
        table = make()
        tags = table.tags()
        before = [
            (tag, table.raw(tag), table.vr(tag), bytes(table.view(tag) or b""), table.text(tag))
            for tag in tags
        ]
        state = (
            table.size,
            table.found(),
            table.repeated,
            table.truncated,
            table.pixel_offset,
            bytes(table.rest),
            table.tobytes(),
            table.charset,
            table.little_endian,
            0x00111111 in table,
            PADDING in table,
        )
        other = table.snapshot()
        other.set_text(PATIENT_ID, "OTHER")
        other.delete(PATIENT_NAME)
        changed = (other.size, list(other.segments()), other.tobytes())
        other.delete(PIXEL_DATA)
        return before, state, changed, other.tobytes(), table.tobytes()
    except NotDicom as exc:
        return type(exc), exc.what


def check(content: bytes, syntax: str) -> None:
    """Compare a data set in a file with the same in memory."""
    assert told(lambda: ElementTable(in_file(content)[0], syntax)) == told(
        lambda: ElementTable(content, syntax)
    )


@pytest.mark.parametrize("file", varied(), ids=repr)
def test_shipped_file_reads_as_in_memory(file: Shipped) -> None:
    check(file.data, file.syntax)


@pytest.mark.parametrize("file", [file for file in varied() if len(file.data) < 40_000], ids=repr)
def test_file_that_is_cut_off_reads_as_in_memory(file: Shipped) -> None:
    for stop in {*range(0, len(file.data), 1 + len(file.data) // 40), len(file.data) - 3}:
        check(file.data[: max(0, stop)], file.syntax)


FRAGMENTS = explicit(PIXEL_DATA, "OB", b"", length=UNDEFINED) + item(b"") + item(b"ab" * 2000)
END = b"\xfe\xff\xdd\xe0\0\0\0\0"
NAME = explicit(PATIENT_NAME, "PN", b"Doe^Jane")
LONG = explicit(COMMENTS, "UT", b"x" * 300_000)
NATIVE = explicit(PIXEL_DATA, "OW", bytes(100_000))
TAILS = {
    "nothing": b"",
    "native": NATIVE,
    "padding": NATIVE + explicit(PADDING, "OB", b"pp"),
    "rubbish": NATIVE + b"rubbish",
    "header cut": NATIVE + explicit(PADDING, "OB", b"pp")[:7],
    "twice": NATIVE + NATIVE,
    "name behind the pixels": NATIVE + NAME,
    "fragments": FRAGMENTS + END,
    "many fragments": FRAGMENTS + item(b"cd") * 3000 + END,
    "fragments without end": FRAGMENTS,
    "fragment cut": FRAGMENTS[:-10],
    "item header cut": FRAGMENTS + item(b"cd")[:5],
    "item of undefined length": FRAGMENTS + b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + END,
    "no items": explicit(PIXEL_DATA, "OB", b"", length=UNDEFINED) + b"no item at all",
    "longer than the file": explicit(PIXEL_DATA, "OW", b"abcd", length=1 << 20),
    "sequence behind": NATIVE + explicit(0x7FE10010, "SQ", item(NAME)),
    "a group that cannot be": explicit(0xFFFF0010, "OB", b"ab"),
}


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
@pytest.mark.parametrize("head", [NAME, NAME + LONG, LONG + NAME, b""], ids=len)
def test_tail_reads_as_in_memory(head: bytes, tail: bytes) -> None:
    check(head + tail, RLE_LOSSLESS)


@pytest.mark.parametrize("at", [65_400, 65_536 - 8, 65_536 - 3, 65_536, 65_536 * 8 - 5])
@pytest.mark.parametrize("vr", [b"UT", b"ZZ", b"UN"])
def test_header_that_ends_beside_what_is_read_first_reads_as_in_memory(at: int, vr: bytes) -> None:
    """`ZZ`: a VR of the future, whose length can only be told from what follows."""
    filler = explicit(COMMENTS, "UT", b"y" * (at - 12))
    element = b"\x20\0\x99\x99" + vr + b"\0\0" + (70_000).to_bytes(4, "little") + b"z" * 70_000
    check(filler + element + NATIVE, EXPLICIT_LE)
    check(filler + element, EXPLICIT_LE)


def test_header_without_vr_in_an_explicit_syntax_reads_as_in_memory() -> None:
    check(b"\x10\0\x10\0\4\0\0\0Doe " + b"\xe0\x7f\x10\0\2\0\0\0ab", EXPLICIT_LE)


@given(noise=st.binary(max_size=40), at=st.integers(0, 1000), cut=st.integers(0, 60))
def test_damaged_tail_reads_as_in_memory(noise: bytes, at: int, cut: int) -> None:
    content = bytearray(NAME + FRAGMENTS[:300] + item(b"cd" * 20) + END + NAME)
    place = at % len(content)
    content[place : place + cut] = noise
    check(bytes(content), RLE_LOSSLESS)


# What it costs.


def test_pixels_are_not_read_for_a_change_of_the_header() -> None:
    data, held = in_file(NAME + explicit(PIXEL_DATA, "OW", bytes(30 << 20)))
    table = ElementTable(data, EXPLICIT_LE)
    table.set_text(PATIENT_ID, "4711")
    assert table.text(PATIENT_NAME) == "Doe^Jane"
    assert PIXEL_DATA in table
    assert table.size > 30 << 20
    assert len(list(table.segments())) == 3

    assert held.read_bytes < 200_000


def test_of_many_fragments_the_headers_are_read_only() -> None:
    content = NAME + FRAGMENTS + item(bytes(100_000)) * 300 + END
    data, held = in_file(content)
    table = ElementTable(data, RLE_LOSSLESS)
    assert not table.truncated

    assert held.read_bytes < 2 << 20
    assert held.reads < 320


def test_header_that_is_too_long_to_be_held_is_looked_at_in_a_copy() -> None:
    content = NAME + explicit(BLOB, "OB", bytes(17 << 20)) + NATIVE
    data, _ = in_file(content)
    table = ElementTable(data, EXPLICIT_LE)
    assert len(table.view(BLOB) or b"") == 17 << 20
    assert len(table.raw(PIXEL_DATA) or b"") == 100_000


def test_long_value_is_a_view_of_a_copy_and_a_short_one_is_read(tmp_path: Path) -> None:
    data, held = in_file(NAME + explicit(PIXEL_DATA, "OW", b"ab" * (3 << 20)) + NAME)
    table = ElementTable(data, EXPLICIT_LE)
    view = table.view(PIXEL_DATA)
    assert view is not None
    assert (bytes(view[:4]), len(view)) == (b"abab", 6 << 20)
    read = held.read_bytes
    assert table.view(PIXEL_DATA) == view

    assert held.read_bytes == read


# Encodings.


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
@pytest.mark.parametrize("target", [IMPLICIT_LITTLE, EXPLICIT_BIG], ids=["implicit", "big"])
def test_header_is_rewritten_as_in_memory(tail: bytes, target: object) -> None:
    content = NAME + LONG + tail
    data, _ = in_file(content)

    def made(source: FileData | memoryview) -> object:
        try:
            return rewrite_head(source, EXPLICIT_LITTLE, target)  # type: ignore[arg-type]
        except NotDicom as exc:
            return exc.what

    assert made(data) == made(memoryview(content))


def test_for_another_header_the_pixels_are_not_read() -> None:
    content = NAME + explicit(PIXEL_DATA, "OW", bytes(30 << 20))
    data, held = in_file(content)
    found = rewrite_head(data, EXPLICIT_LITTLE, IMPLICIT_LITTLE)
    assert found is not None
    header, rest = found
    made = ElementTable(header + content[rest:], IMPLICIT_LE)
    assert made.text(PATIENT_NAME) == "Doe^Jane"
    assert len(made.raw(PIXEL_DATA) or b"") == 30 << 20

    assert held.read_bytes < 200_000


# Files that change while they are looked at.


def test_file_that_was_cut_short_is_an_error() -> None:
    data, held = in_file(NAME + NATIVE)
    table = ElementTable(data, EXPLICIT_LE)
    held.content = held.content[:200]

    for look in (lambda: table.raw(PIXEL_DATA), table.tobytes, lambda: as_buffer(data)):
        with pytest.raises(StoreError, match="shorter than it was"):
            look()
    assert table.text(PATIENT_NAME) == "Doe^Jane"


def test_file_that_cannot_be_read_is_an_error() -> None:
    class Broken:
        def read_at(self, offset: int, size: int) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(StoreError, match="Input/output error"):
        ElementTable(FileData(Broken(), 0, 100), EXPLICIT_LE)


def test_read_that_gives_less_than_asked_for_goes_on() -> None:
    class Slow(Held):
        def read_at(self, offset: int, size: int) -> bytes:
            return super().read_at(offset, min(size, 1000))

    content = NAME + NATIVE
    table = ElementTable(FileData(Slow(content), HEADER, len(content)), EXPLICIT_LE)
    assert table.tobytes() == content


def test_without_room_for_a_copy_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    data = FileData(Held(NAME), HEADER, len(NAME), tmp_path / "file" / "folder")
    with pytest.raises(StoreError, match="no temporary file can be written") as caught:
        data.view()
    assert "TempDir" in caught.value.remedy


CUT_BY_OTHERS = """
import os, sys
from dgate.archive.files import FileReader
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import StoreError

table = ElementTable(FileReader.of(sys.argv[1]).data(), EXPLICIT_LE)
table.set_text(0x00100020, "4711")
os.truncate(sys.argv[1], 100)
try:
    table.tobytes()
except StoreError as exc:
    print(exc.what)
"""


def test_stored_file_that_others_cut_short_does_not_kill_the_process(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(NAME + explicit(PIXEL_DATA, "OW", bytes(8 << 20)))

    done = subprocess.run(
        [sys.executable, "-c", CUT_BY_OTHERS, str(path)],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ},
    )

    assert (done.returncode, done.stdout.strip()) == (0, "the stored file is shorter than it was")
