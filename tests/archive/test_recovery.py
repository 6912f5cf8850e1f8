"""Recovery at start: files and rows come together again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.devices import FolderDevice
from dgate.archive.files import hash_file
from dgate.archive.index import Rewrite
from dgate.archive.recovery import Recovered
from dgate.errors import StoreError
from tests.archive.intake_kit import SOP, Station, data_set, open_station


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = open_station(tmp_path)
    yield made
    made.close()


def device(station: Station) -> FolderDevice:
    found = station.devices.get("MAG0")
    assert isinstance(found, FolderDevice)
    return found


def unpublish(station: Station, *, rewrites: bool = False) -> Path:
    """Give the stored object's file its temporary name back."""
    path = station.path()
    kind = "r" if rewrites else "n"
    staged = device(station).staged_path(f"{SOP}.{kind}1")
    path.rename(staged)
    return staged


def note(station: Station, sha256: str, name: str) -> None:
    """Note a replacement as its commit does."""
    rewrite = Rewrite(SOP, sha256, "MAG0", name)
    station.writer.transact(lambda tx: station.index.add_rewrite(tx, rewrite))


def test_nothing_to_do_changes_nothing(station: Station) -> None:
    station.send(data_set())
    before = station.files()

    assert station.recover() == Recovered(0, 0)
    assert station.files() == before


def test_committed_object_gets_its_name(station: Station) -> None:
    station.send(data_set())
    name = station.ref().name
    unpublish(station)
    station.path().parent.rmdir()

    assert station.recover() == Recovered(finished=1)

    assert station.files() == [name]
    assert station.content() == data_set()


def test_file_without_a_row_is_removed(station: Station) -> None:
    device(station).stage(SOP, "x.dcm", [b"bytes"], rewrites=False)

    assert station.recover() == Recovered(removed=1)
    assert station.files() == []


def test_incomplete_and_foreign_files_are_removed(station: Station) -> None:
    spill = device(station).spill(SOP, b"head")
    os.close(spill.descriptor)
    device(station).staged_path("notes.txt").write_bytes(b"")

    assert station.recover() == Recovered(removed=2)
    assert station.files() == []


def test_file_of_a_stored_object_that_has_its_name_is_removed(station: Station) -> None:
    station.send(data_set())
    device(station).stage(SOP, station.ref().name, [b"never committed"], rewrites=False)

    station.recover()

    assert station.content() == data_set()
    assert station.files() == [station.ref().name]


def test_file_on_another_device_than_the_row_says_is_removed(tmp_path: Path) -> None:
    station = open_station(tmp_path, mag_devices=(tmp_path / "mag0", tmp_path / "mag1"))
    station.send(data_set())
    other = station.devices.get("MAG1")
    assert other is not None
    other.stage(SOP, "x.dcm", [b"never committed"], rewrites=True)

    assert station.recover().removed == 1
    assert station.files() == [station.ref().name]
    station.close()


@pytest.mark.parametrize("committed", [True, False])
def test_hash_decides_whether_a_replacement_was_committed(
    station: Station, committed: bool
) -> None:
    station.send(data_set())
    name = station.ref().name
    staged = device(station).stage(SOP, name, [b"replacement"], rewrites=True)
    digest = hash_file(device(station).staged_path(staged))
    note(station, digest if committed else "0" * 64, name)

    station.recover()

    assert (station.path().read_bytes() == b"replacement") is committed
    assert (station.files(), station.rewrites()) == ([name], [])


def test_torn_replacement_of_a_lost_file_is_not_taken_for_it(station: Station) -> None:
    station.send(data_set())
    station.path().unlink()
    device(station).stage(SOP, station.ref().name, [b"half of"], rewrites=True)

    station.recover()

    assert station.files() == []


def test_previous_file_is_removed_when_the_new_one_is_there(station: Station) -> None:
    station.send(data_set())
    path = station.path()
    path.with_name(f"{path.name}.prev").write_bytes(b"old")
    note(station, hash_file(path), station.ref().name)

    assert station.recover() == Recovered(removed=1)
    assert station.content() == data_set()


def test_removal_that_a_kill_left_without_a_sync_is_synced_before_its_note_goes(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.send(data_set())
    note(station, hash_file(station.path()), station.ref().name)
    synced: list[tuple[Path, int]] = []

    def sync(folder: Path) -> None:
        synced.append((folder, len(list(station.index.rewrites()))))

    monkeypatch.setattr("dgate.archive.recovery.sync_folder", sync)
    assert station.recover() == Recovered()
    assert synced == [(station.path().parent, 1)]
    assert list(station.index.rewrites()) == []


@pytest.mark.parametrize("left", [None, b"rubbish"])
def test_previous_file_returns_when_it_is_the_right_one(
    station: Station, left: bytes | None
) -> None:
    station.send(data_set())
    path = station.path()
    note(station, hash_file(path), station.ref().name)
    path.rename(path.with_name(f"{path.name}.prev"))
    if left is not None:
        path.write_bytes(left)

    assert station.recover() == Recovered(finished=1)
    assert station.content() == data_set()
    assert len(station.files()) == 1


def test_old_file_of_a_renamed_object_is_removed(station: Station) -> None:
    station.send(data_set())
    old = station.path().with_name("old.dcm")
    old.write_bytes(station.path().read_bytes())
    note(station, "0" * 64, "P1/old.dcm")

    assert station.recover() == Recovered(removed=1)
    assert station.files() == [station.ref().name]


def test_old_name_that_another_instance_has_by_now_is_left_alone(station: Station) -> None:
    other = station.send(data_set(SOPInstanceUID="1.2.9"), sop_instance="1.2.9")
    station.send(data_set())
    note(station, "0" * 64, other.name)

    assert station.recover() == Recovered()
    assert station.content("1.2.9") == data_set(SOPInstanceUID="1.2.9")


@pytest.mark.parametrize("name", ["../outside.dcm", "P1/gone.dcm"])
def test_old_name_that_is_gone_or_outside_is_no_problem(station: Station, name: str) -> None:
    (station.settings.mag_devices[0].parent / "outside.dcm").write_bytes(b"not ours")
    station.send(data_set())
    note(station, "0" * 64, name)

    assert station.recover() == Recovered()
    assert (station.settings.mag_devices[0].parent / "outside.dcm").exists()
    assert station.rewrites() == []


def test_note_of_an_object_that_was_deleted_since_is_dropped(station: Station) -> None:
    note(station, "0" * 64, "P1/gone.dcm")

    assert station.recover() == Recovered()
    assert station.rewrites() == []


def test_recovery_that_is_interrupted_can_be_done_again(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "broken", "somewhere")

    station.send(data_set())
    unpublish(station)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StoreError, match="somewhere"):
            station.recover()

    station.recover()
    assert station.content() == data_set()


def test_result_reads_as_a_sentence() -> None:
    assert str(Recovered(2, 1)) == "2 object(s) finished, 1 leftover file(s) removed"
