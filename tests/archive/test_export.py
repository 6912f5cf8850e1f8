"""Stored objects on their way out."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.export import CHUNK_BYTES, Exporter, Outgoing
from dgate.archive.records import InstanceRef
from dgate.archive.spool import SPOOL_DEVICE
from dgate.config.settings import V2Content
from dgate.dicom.part10 import file_meta
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import (
    DEFLATED,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    JPEG_2000,
    JPEG_BASELINE,
)
from dgate.errors import CannotTranscode, Missing, NotDicom, RuleError, StoreError
from tests.archive.intake_kit import (
    CT,
    LARGE_PIXELS,
    SOP,
    Station,
    data_set,
    large_data_set,
    open_station,
)

BOTH = pytest.mark.parametrize("make", [data_set, large_data_set], ids=["small", "large"])


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = open_station(tmp_path)
    yield made
    made.close()


def read(outgoing: Outgoing, max_bytes: int = CHUNK_BYTES) -> bytes:
    try:
        return b"".join(outgoing.chunks(max_bytes))
    finally:
        outgoing.close()


def change(table: ElementTable) -> None:
    table.set_text(0x00081030, "Changed")


@BOTH
def test_data_set_leaves_without_file_header(station: Station, make: Any) -> None:
    station.send(make())

    outgoing = station.exporter.open(station.ref())

    assert (outgoing.sop_class, outgoing.sop_instance, outgoing.syntax) == (CT, SOP, EXPLICIT_LE)
    assert outgoing.size == len(make())
    assert read(outgoing) == make()


@BOTH
def test_peek_tells_what_an_object_is(station: Station, make: Any) -> None:
    station.send(make())

    stored = station.exporter.peek(station.ref())

    assert (stored.sop_class, stored.sop_instance, stored.syntax) == (CT, SOP, EXPLICIT_LE)
    assert stored.size == len(make())


@BOTH
def test_chunks_are_as_small_as_asked_and_can_be_asked_for_again(
    station: Station, make: Any
) -> None:
    station.send(make())
    outgoing = station.exporter.open(station.ref())

    pieces = [bytes(piece) for piece in outgoing.chunks(1000)]

    assert max(map(len, pieces)) <= 1000
    assert b"".join(pieces) == make()
    assert read(outgoing) == make()


@BOTH
@pytest.mark.parametrize("syntax", [IMPLICIT_LE, EXPLICIT_LE])
def test_header_is_converted_for_the_peer(station: Station, make: Any, syntax: str) -> None:
    stored = EXPLICIT_LE if syntax == IMPLICIT_LE else IMPLICIT_LE
    station.send(make(stored), syntax=stored)

    outgoing = station.exporter.open(station.ref(), syntax)

    assert outgoing.syntax == syntax
    assert outgoing.size == len(make(syntax))
    assert read(outgoing) == make(syntax)


@BOTH
@pytest.mark.parametrize("syntax", [EXPLICIT_BE, DEFLATED])
def test_other_native_syntaxes_come_back_the_same(station: Station, make: Any, syntax: str) -> None:
    from dgate.dicom.transcode import convert

    station.send(make())

    sent = read(station.exporter.open(station.ref(), syntax))

    assert convert(sent, syntax, EXPLICIT_LE).startswith(make())


def test_pixels_of_a_large_object_are_not_loaded_for_a_new_header(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.send(large_data_set())
    sizes: list[int] = []
    real = os.pread

    def watched(descriptor: int, size: int, offset: int) -> bytes:
        sizes.append(size)
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", watched)
    outgoing = station.exporter.open(station.ref(), IMPLICIT_LE)

    assert sum(sizes) < 1 << 17
    assert read(outgoing) == large_data_set(IMPLICIT_LE)


@BOTH
def test_copy_that_is_sent_can_be_changed(station: Station, make: Any) -> None:
    station.send(make())

    def rename(table: ElementTable) -> None:
        change(table)
        table.set_text(0x00080018, "1.2.99")

    outgoing = station.exporter.open(station.ref(), rewrite=rename)

    assert outgoing.sop_instance == "1.2.99"
    assert outgoing.size == len(make(StudyDescription="Changed", SOPInstanceUID="1.2.99"))
    assert read(outgoing) == make(StudyDescription="Changed", SOPInstanceUID="1.2.99")
    assert station.content() == make()


@BOTH
def test_changed_copy_can_be_converted(station: Station, make: Any) -> None:
    station.send(make())

    outgoing = station.exporter.open(station.ref(), IMPLICIT_LE, change)

    assert read(outgoing) == make(IMPLICIT_LE, StudyDescription="Changed")


@BOTH
def test_rewrite_that_changes_nothing_costs_nothing(station: Station, make: Any) -> None:
    station.send(make())

    outgoing = station.exporter.open(station.ref(), rewrite=lambda table: None)

    assert read(outgoing) == make()


def test_temporary_folder_that_is_full_is_named(tmp_path: Path) -> None:
    station = open_station(tmp_path, temp_dir=tmp_path / "gone")
    station.send(large_data_set())

    with pytest.raises(StoreError, match="gone"):
        station.exporter.open(station.ref(), IMPLICIT_LE, change)
    station.close()


def test_error_of_a_rewrite_passes_through(station: Station) -> None:
    def fail(table: ElementTable) -> None:
        raise RuleError("no")

    station.send(data_set())

    with pytest.raises(RuleError):
        station.exporter.open(station.ref(), rewrite=fail)


def test_syntax_that_cannot_be_made_is_refused(station: Station) -> None:
    station.send(data_set())

    with pytest.raises(CannotTranscode):
        station.exporter.open(station.ref(), JPEG_2000)


def test_damaged_compressed_pixels_cannot_be_decompressed(station: Station) -> None:
    pixels = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\xdd\xe0\0\0\0\0"
    station.send(data_set(PixelData=None) + pixels, syntax=JPEG_BASELINE)

    with pytest.raises(CannotTranscode):
        station.exporter.open(station.ref(), EXPLICIT_LE)


@pytest.mark.parametrize("make", [data_set, large_data_set], ids=["small", "large"])
def test_bare_v2_files_can_be_sent(tmp_path: Path, make: Any) -> None:
    station = open_station(tmp_path, file_name_syntax="3", v2_content=V2Content.RAW)
    station.send(make())

    assert read(station.exporter.open(station.ref(), EXPLICIT_LE)) == make()
    assert read(station.exporter.open(station.ref())) == make(IMPLICIT_LE)
    station.close()


def test_element_table_can_be_looked_at(station: Station) -> None:
    station.send(large_data_set())

    with station.exporter.table(station.ref()) as table:
        assert table.text(0x00100020) == "P1"
        assert len(table.raw(0x7FE00010) or b"") == len(LARGE_PIXELS)


def test_missing_file_is_said_so(station: Station) -> None:
    station.send(data_set())
    station.path().unlink()

    with pytest.raises(Missing, match=SOP):
        station.exporter.open(station.ref())
    with pytest.raises(Missing):
        station.exporter.peek(station.ref())


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "", "P1"])
def test_name_that_is_no_stored_file_is_missing(station: Station, name: str) -> None:
    station.send(data_set())

    with pytest.raises(Missing):
        station.exporter.open(replace(station.ref(), name=name))


def test_file_moved_to_another_device_is_found(tmp_path: Path) -> None:
    station = open_station(tmp_path, mag_devices=(tmp_path / "mag0", tmp_path / "mag1"))
    station.send(data_set())
    ref = station.ref()

    target = tmp_path / "mag1" / ref.name
    target.parent.mkdir()
    station.path().rename(target)

    assert station.sent(ref) == data_set()
    assert station.sent(replace(ref, device="JUKEBOX1.1")) == data_set()
    station.close()


def test_reference_older_than_a_rename_is_followed(station: Station) -> None:
    station.send(data_set())
    old = replace(station.ref(), name="P1/old.dcm")
    exporter = Exporter(station.devices, station.settings, station.find)

    assert read(exporter.open(old)) == data_set()
    station.path().unlink()
    with pytest.raises(Missing):
        exporter.open(old)


def test_file_that_is_no_dicom_is_an_error(station: Station) -> None:
    station.send(data_set())
    station.path().write_bytes(b"rubbish")

    with pytest.raises(NotDicom):
        station.exporter.open(station.ref())


def test_long_private_head_is_read_to_its_end(station: Station) -> None:
    station.send(data_set())
    head = file_meta(CT, SOP, EXPLICIT_LE)
    padding = b"\x02\x00\x02\x01OB\x00\x00" + (100_000).to_bytes(4, "little") + bytes(100_000)
    station.path().write_bytes(head + padding + data_set())

    assert station.content() == data_set()


def test_file_that_cannot_be_read_is_an_error_with_its_name(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "broken")

    station.send(large_data_set())
    outgoing = station.exporter.open(station.ref())
    monkeypatch.setattr(os, "pread", fail)

    with pytest.raises(StoreError, match="broken"):
        read(outgoing)
    with pytest.raises(StoreError, match="broken"):
        station.exporter.open(station.ref())


def test_file_that_cannot_be_opened_is_no_missing_file(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    station.send(data_set())
    ref = station.ref()
    monkeypatch.setattr(os, "open", fail)

    with pytest.raises(StoreError, match="too many") as caught:
        station.exporter.open(ref)
    assert not isinstance(caught.value, Missing)


def test_file_that_shrinks_while_it_is_sent_is_an_error(station: Station) -> None:
    station.send(large_data_set())
    outgoing = station.exporter.open(station.ref())
    os.truncate(station.path(), 5000)

    with pytest.raises(StoreError, match="shorter"):
        read(outgoing)


def test_copies_in_the_spool_are_sent_and_released(station: Station) -> None:
    name = station.devices.spool.add([file_meta(CT, SOP, EXPLICIT_LE), data_set()])
    ref = InstanceRef(CT, SOP, "", "", "", SPOOL_DEVICE, name)

    assert station.sent(ref) == data_set()
    assert station.exporter.path(ref) == station.devices.spool.folder / name

    station.exporter.release_spool(name)
    with pytest.raises(Missing):
        station.exporter.open(ref)


def test_stored_object_never_stands_in_for_a_copy_in_the_spool(station: Station) -> None:
    """The copy may be an anonymised state of it."""
    station.send(data_set())
    ref = replace(station.ref(), device=SPOOL_DEVICE, name="gone.dcm")

    with pytest.raises(Missing):
        Exporter(station.devices, station.settings, station.find).open(ref)


def test_file_that_holds_another_object_is_not_sent(station: Station) -> None:
    station.send(data_set())
    other = station.send(data_set(SOPInstanceUID="1.2.9"), sop_instance="1.2.9")
    ref = replace(station.ref(), name=other.name)

    with pytest.raises(Missing, match=SOP):
        station.exporter.open(ref)
    with pytest.raises(Missing):
        station.exporter.peek(ref)


def test_object_is_found_although_its_old_name_belongs_to_another(station: Station) -> None:
    station.send(data_set())
    other = station.send(data_set(SOPInstanceUID="1.2.9"), sop_instance="1.2.9")
    exporter = Exporter(station.devices, station.settings, station.find)

    assert read(exporter.open(replace(station.ref(), name=other.name))) == data_set()


def test_copy_in_the_spool_may_have_been_given_another_uid(station: Station) -> None:
    changed = data_set(SOPInstanceUID="1.2.9")
    name = station.devices.spool.add([file_meta(CT, "1.2.9", EXPLICIT_LE), changed])

    assert station.sent(InstanceRef(CT, SOP, "", "", "", SPOOL_DEVICE, name)) == changed


def test_path_on_a_device_that_is_gone_is_the_bare_name(station: Station) -> None:
    station.send(data_set())

    assert str(station.exporter.path(replace(station.ref(), device="MAG7", name="a"))) == "a"
