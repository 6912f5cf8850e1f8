"""One object between receipt and storage: its bytes in memory or in a spill file, its identity."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.archive.files import FileRange, Part, write_file
from dgate.archive.incoming import (
    Incoming,
    check_arrived,
    check_identity,
    data_parts,
    reencoded,
    whole_data,
)
from dgate.archive.repair import Repaired
from dgate.archive.rows import Entry
from dgate.dicom.part10 import file_meta, read_meta
from dgate.dicom.payload import SPILL_BYTES, Payload, SpillFile
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from dgate.errors import CannotTranscode, DataSetMismatch, NotDicom, OutOfSpace, StoreError
from tests.archive.intake_kit import CT, SOP, data_set, large_data_set

PATIENT_NAME, COMMENTS, PIXELS = 0x00100010, 0x00204000, 0x7FE00010
HEADER = file_meta(CT, SOP, EXPLICIT_LE, "CALLER")
FORMS = pytest.mark.parametrize("spilled", [False, True], ids=["memory", "spilled"])


class Desk:
    """Makes payloads, and closes them all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[Payload] = []

    def fresh(self, header: bytes = HEADER) -> Payload:
        """Return an empty payload that spills behind a file header."""

        path = self.folder / f"{len(self.made)}.part"

        def spill() -> SpillFile:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            os.write(descriptor, header)
            return SpillFile(descriptor, path, len(header))

        payload = Payload(spill)
        self.made.append(payload)
        return payload

    def holding(self, data: bytes, header: bytes = HEADER) -> Payload:
        """Return a payload of a data set."""
        payload = self.fresh(header)
        view = memoryview(data)
        for start in range(0, len(data), 1 << 19):
            payload.append(view[start : start + (1 << 19)])
        return payload

    def written(self, parts: list[Part]) -> bytes:
        """Return the bytes of parts, by way of a file."""
        path = self.folder / "written"
        path.unlink(missing_ok=True)
        write_file(str(path), parts, durable=False)
        return path.read_bytes()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    for payload in made.made:
        payload.close()


def content(*, spilled: bool, syntax: str = EXPLICIT_LE, **elements: object) -> bytes:
    return (large_data_set if spilled else data_set)(syntax, **elements)


def incoming(payload: Payload, table: ElementTable) -> Incoming:
    return Incoming(payload, table, "CALLER", "GATE", Repaired(), Entry(CT, SOP, "P", "1", "2", ""))


@FORMS
def test_untouched_object_is_the_bytes_that_came(desk: Desk, spilled: bool) -> None:
    data = content(spilled=spilled)
    payload = desk.holding(data)
    table = ElementTable(payload.view(), EXPLICIT_LE)

    parts = list(data_parts(table, payload))

    assert (payload.spilled is not None) is spilled
    assert all(isinstance(part, FileRange) is spilled for part in parts)
    assert desk.written(parts) == data == desk.written(whole_data(payload))
    assert desk.written(incoming(payload, table).file_parts(table)) == HEADER + data


@FORMS
def test_patched_object_differs_where_it_was_patched(desk: Desk, spilled: bool) -> None:
    data = content(spilled=spilled)
    payload = desk.holding(data)
    table = ElementTable(payload.view(), EXPLICIT_LE)
    table.set_text(PATIENT_NAME, "NOBODY")
    table.set_text(COMMENTS, "set")

    parts = list(data_parts(table, payload))

    # Pixels of a spilled object stay where they are.
    loaded = sum(len(part) for part in parts if not isinstance(part, FileRange))
    assert loaded < 2000
    again = ElementTable(desk.written(parts), EXPLICIT_LE)
    original = ElementTable(data, EXPLICIT_LE)
    assert (again.text(PATIENT_NAME), again.text(COMMENTS)) == ("NOBODY", "set")
    for tag in original.tags():
        if tag not in (PATIENT_NAME, COMMENTS):
            assert again.raw(tag) == original.raw(tag), hex(tag)


def test_spill_file_is_the_stored_file_only_as_long_as_nothing_was_changed(desk: Desk) -> None:
    data = large_data_set()
    payload = desk.holding(data)
    table = ElementTable(payload.view(), EXPLICIT_LE)
    item = incoming(payload, table)

    assert item.is_on_disk(table)
    assert payload.spilled is not None
    assert payload.spilled.path.read_bytes() == HEADER + data
    other = incoming(desk.holding(data, file_meta(CT, "1.9", EXPLICIT_LE, "CALLER")), table)
    assert not other.is_on_disk(table)
    table.set_text(PATIENT_NAME, "NOBODY")
    assert not item.is_on_disk(table)
    small = desk.holding(data_set())
    assert not incoming(small, ElementTable(small.view(), EXPLICIT_LE)).is_on_disk(table)


def test_header_names_what_a_rule_has_made_of_the_object(desk: Desk) -> None:
    payload = desk.holding(data_set())
    table = ElementTable(payload.view(), EXPLICIT_LE)
    changed = ElementTable(data_set(SOPInstanceUID="1.9.9"), EXPLICIT_LE)

    item = incoming(payload, table)

    assert read_meta(item.header(table) + bytes(8)).sop_instance == SOP
    assert read_meta(item.header(changed) + bytes(8)).sop_instance == "1.9.9"


@FORMS
@pytest.mark.parametrize("target", [IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE])
@pytest.mark.parametrize("is_patched", [False, True], ids=["as it came", "patched"])
def test_object_is_reencoded_with_its_patches(
    desk: Desk, spilled: bool, target: str, is_patched: bool
) -> None:
    data = content(spilled=spilled)
    payload = desk.holding(data)
    table = ElementTable(payload.view(), EXPLICIT_LE)
    if is_patched:
        table.set_text(PATIENT_NAME, "NOBODY")

    result = reencoded(table, payload, target, desk.fresh)

    again = ElementTable(result.view(), target)
    assert again.text(PATIENT_NAME) == ("NOBODY" if is_patched else "SMITH^JOHN")
    pixels = ElementTable(data, EXPLICIT_LE).raw(PIXELS) or b""
    if target == EXPLICIT_BE:
        swapped = bytearray(pixels)
        swapped[::2], swapped[1::2] = pixels[1::2], pixels[::2]
        pixels = bytes(swapped)
    assert again.raw(PIXELS) == pixels
    assert bytes(payload.view()) == data


def test_failed_conversion_leaves_no_file_behind(desk: Desk) -> None:
    payload = desk.holding(large_data_set())
    before = sorted(desk.folder.iterdir())

    with pytest.raises(CannotTranscode):
        reencoded(
            ElementTable(payload.view(), EXPLICIT_LE),
            payload,
            "1.2.840.10008.1.2.4.100",
            desk.fresh,
        )

    assert sorted(desk.folder.iterdir()) == before


def test_disk_that_is_full_while_an_object_arrives_is_out_of_space() -> None:
    def full() -> SpillFile:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x.part")

    payload = Payload(full)
    payload.append(bytes(SPILL_BYTES + 1))
    with pytest.raises(OutOfSpace, match=r"x\.part"):
        check_arrived(payload)


def test_data_set_without_a_file_to_go_to_is_too_large() -> None:
    payload = Payload()
    payload.append(bytes(SPILL_BYTES + 1))
    with pytest.raises(StoreError, match="too large"):
        check_arrived(payload)


@pytest.mark.parametrize(
    ("elements", "command", "error", "message"),
    [
        ({}, (CT, SOP), None, ""),
        ({}, ("", ""), None, ""),
        ({"SOPInstanceUID": None}, ("", ""), NotDicom, "has no SOP Instance UID"),
        ({"SOPClassUID": None}, (CT, SOP), NotDicom, "has no SOP Class UID"),
        ({}, (CT, "1.2"), DataSetMismatch, "that of the command '1.2'"),
        ({}, ("1.2", SOP), DataSetMismatch, "SOP Class UID"),
    ],
)
def test_identity_is_that_of_the_command(
    elements: dict[str, object],
    command: tuple[str, str],
    error: type[StoreError] | None,
    message: str,
) -> None:
    table = ElementTable(data_set(**elements), EXPLICIT_LE)
    if error is None:
        check_identity(table, *command)
        return
    with pytest.raises(error, match=message):
        check_identity(table, *command)


@given(st.text("0123456789./\\.\n*ab", min_size=1, max_size=70))
def test_only_uids_become_part_of_a_path(text: str) -> None:
    table = ElementTable(data_set(), EXPLICIT_LE)
    table.set_raw(0x00080018, "UI", text.encode())
    try:
        check_identity(table, "", "")
    except NotDicom:
        return
    accepted = table.text(0x00080018)
    assert set(accepted) <= set("0123456789.")
    assert ".." not in accepted
    assert 0 < len(accepted) <= 64
