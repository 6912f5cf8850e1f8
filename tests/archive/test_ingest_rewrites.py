"""Objects that arrive again (spec dimse.md 8.4, dicom-sql.md 4.3)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.index import Rewrite
from dgate.archive.records import Outcome
from dgate.archive.rewrites import CompletedRewrites
from dgate.config.settings import Durability
from dgate.dicom.part10 import file_meta
from dgate.dicom.uids import EXPLICIT_LE, JPEG_BASELINE
from dgate.errors import OutOfSpace
from dgate.rules.effects import ExportPlan, Forward
from tests.archive.intake_kit import (
    CT,
    SOP,
    Hooks,
    Station,
    data_set,
    large_data_set,
    open_station,
)

NOTE = Rewrite(SOP, "abc", "MAG0", "a.dcm")


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = open_station(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("make", [data_set, large_data_set], ids=["small", "large"])
def test_content_is_replaced_under_the_old_name(station: Station, make: Any) -> None:
    first = station.send(make())
    station.clock.seconds += 100

    again = station.send(make(StudyDescription="Second"))

    assert again.outcome is Outcome.REWRITTEN
    assert again.name == first.name
    assert station.content() == make(StudyDescription="Second")
    assert station.files() == [first.name]


def test_same_bytes_again_are_a_rewrite_with_its_exports(tmp_path: Path) -> None:
    hooks = Hooks(plans=[ExportPlan(0, (Forward("DEST", "ExportConverter0.0"),))])
    station = open_station(tmp_path, hooks=hooks)

    outcomes = [station.send(data_set()).outcome for _ in range(3)]

    assert outcomes == [Outcome.STORED, Outcome.REWRITTEN, Outcome.REWRITTEN]
    assert [debt["destination"] for debt in station.debts()] == ["DEST"] * 3
    assert hooks.wakes == 3
    station.close()


def test_old_name_is_kept_although_the_syntax_changed(tmp_path: Path) -> None:
    station = open_station(tmp_path)
    first = station.send(data_set())
    station.close()

    station = open_station(tmp_path, file_name_syntax="10")
    assert station.send(data_set()).name == first.name
    station.close()


@pytest.mark.parametrize("make", [data_set, large_data_set], ids=["small", "large"])
@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        ({"file_name_syntax": "7"}, {"file_name_syntax": "9"}, "1.2.3.1/1.2.3.1.1/1.2.3.1.1.1.dcm"),
        ({}, {"rename_on_rewrite": True, "file_name_syntax": "10"}, "Images/1.2.3.1.1.1.dcm"),
    ],
    ids=["extension", "RenameOnRewrite"],
)
def test_object_moves_when_its_extension_changes_or_it_is_to_be_renamed(
    tmp_path: Path, make: Any, before: dict[str, Any], after: dict[str, Any], name: str
) -> None:
    station = open_station(tmp_path, **before)
    station.send(make())
    station.close()

    station = open_station(tmp_path, **after)
    receipt = station.send(make(StudyDescription="Second"))

    assert (receipt.outcome, receipt.name) == (Outcome.REWRITTEN, name)
    assert station.files() == [name]
    assert station.ref().name == name
    assert station.content() == make(StudyDescription="Second")
    assert station.index.counts().instances == 1
    station.close()


def test_compressed_data_does_not_stay_in_a_v2_file(tmp_path: Path) -> None:
    station = open_station(tmp_path, file_name_syntax="7")
    station.send(data_set())

    receipt = station.send(data_set(PixelData=None), syntax=JPEG_BASELINE)

    assert receipt.name.endswith(".dcm")
    assert station.files() == [receipt.name]
    station.close()


@pytest.mark.parametrize("make", [data_set, large_data_set], ids=["small", "large"])
def test_known_object_is_ignored_when_asked(tmp_path: Path, make: Any) -> None:
    hooks = Hooks(plans=[ExportPlan(0, deferred=True)])
    station = open_station(tmp_path, hooks=hooks, ignore_rewrite=True)
    first = station.send(make())

    for _ in range(2):
        again = station.send(make(StudyDescription="Second"))
        assert (again.outcome, again.name) == (Outcome.IGNORED, first.name)

    assert station.content() == make()
    assert len(station.debts()) == 1
    assert station.files() == [first.name]
    station.close()


@pytest.mark.parametrize("make", [data_set, large_data_set], ids=["small", "large"])
def test_known_object_whose_file_is_lost_is_not_ignored(tmp_path: Path, make: Any) -> None:
    station = open_station(tmp_path, ignore_rewrite=True)
    first = station.send(make())
    station.path().unlink()

    again = station.send(make())

    assert (again.outcome, again.name) == (Outcome.REWRITTEN, first.name)
    assert station.content() == make()
    station.close()


def test_known_object_whose_name_holds_another_is_not_ignored(tmp_path: Path) -> None:
    station = open_station(tmp_path, ignore_rewrite=True)
    station.send(data_set())
    foreign = data_set(SOPInstanceUID="1.2.9")
    station.path().write_bytes(file_meta(CT, "1.2.9", EXPLICIT_LE) + foreign)

    assert station.send(data_set()).outcome is Outcome.REWRITTEN

    assert station.content() == data_set()
    station.close()


def test_known_object_on_a_device_that_is_gone_is_not_ignored(tmp_path: Path) -> None:
    station = open_station(tmp_path, ignore_rewrite=True)
    station.send(data_set())
    sql = "UPDATE DICOMImages SET DeviceName = 'MAG7'"
    station.writer.transact(lambda tx: tx.execute(sql) and None)

    assert station.send(data_set()).outcome is Outcome.REWRITTEN

    assert station.ref().device == "MAG0"
    assert station.content() == data_set()
    station.close()


def test_import_forward_of_an_ignored_object_is_owed_all_the_same(tmp_path: Path) -> None:
    from dgate.rules.effects import ImportForward

    hooks = Hooks()
    station = open_station(tmp_path, hooks=hooks, ignore_rewrite=True)
    station.send(data_set())
    hooks.on_import = lambda table, verdict: verdict.forwards.append(
        ImportForward(Forward("DEST", "ImportConverter0.0"), table.snapshot())
    )

    station.send(data_set(StudyDescription="Second"))

    (debt,) = station.debts()
    assert debt["device"] == "SPOOL"
    assert station.content() == data_set()
    station.close()


def test_object_on_a_read_only_volume_is_left_there(station: Station) -> None:
    station.send(data_set())
    station.writer.transact(
        lambda tx: tx.execute("UPDATE DICOMImages SET DeviceName = 'JUKEBOX1.2'") and None
    )

    assert station.send(data_set(StudyDescription="Second")).outcome is Outcome.IGNORED


def test_object_on_a_device_that_is_gone_is_stored_anew(tmp_path: Path) -> None:
    devices = (tmp_path / "mag0", tmp_path / "mag1")
    hooks = Hooks(on_import=lambda table, verdict: setattr(verdict, "device", "MAG1"))
    station = open_station(tmp_path, hooks=hooks, mag_devices=devices)
    station.send(data_set())
    station.close()

    station = open_station(tmp_path)
    receipt = station.send(data_set(StudyDescription="Second"))

    assert (receipt.outcome, receipt.device) == (Outcome.REWRITTEN, "MAG0")
    assert station.content() == data_set(StudyDescription="Second")
    station.close()


def test_object_whose_file_was_lost_is_whole_again(station: Station) -> None:
    station.send(data_set())
    station.path().unlink()

    station.send(data_set())

    assert station.content() == data_set()
    assert len(station.files()) == 1


def test_name_that_leads_out_of_the_device_is_not_written_to(
    station: Station, tmp_path: Path
) -> None:
    station.send(data_set())
    station.writer.transact(
        lambda tx: tx.execute("UPDATE DICOMImages SET ObjectFile = '../outside.dcm'") and None
    )
    (tmp_path / "outside.dcm").write_bytes(b"not ours")

    station.send(data_set())

    assert (tmp_path / "outside.dcm").read_bytes() == b"not ours"
    assert station.content() == data_set()


@pytest.mark.parametrize("rename", [False, True])
def test_file_that_holds_another_instance_is_left_alone(tmp_path: Path, rename: bool) -> None:
    """Older servers overwrote a file when two objects got the same name."""
    station = open_station(tmp_path, rename_on_rewrite=rename)
    other = station.send(data_set(SOPInstanceUID="1.2.9"), sop_instance="1.2.9")
    station.send(data_set())
    station.path().unlink()
    station.writer.transact(
        lambda tx: tx.execute("UPDATE DICOMImages SET ObjectFile = ?", (other.name,)) and None
    )

    receipt = station.send(data_set(StudyDescription="Second"))

    assert receipt.outcome is Outcome.REWRITTEN
    assert receipt.name != other.name
    assert station.content() == data_set(StudyDescription="Second")
    assert station.content("1.2.9") == data_set(SOPInstanceUID="1.2.9")
    station.close()


def test_damaged_file_is_replaced(station: Station) -> None:
    first = station.send(data_set())
    station.path().write_bytes(b"rubbish")

    assert station.send(data_set()).name == first.name
    assert station.content() == data_set()


def test_notes_of_replacements_go_once_the_old_file_is_surely_gone(station: Station) -> None:
    other = data_set(SOPInstanceUID="1.2.9")
    station.send(data_set())
    station.send(data_set())
    assert station.rewrites() == [SOP]

    station.send(other, sop_instance="1.2.9")
    assert station.rewrites() == [SOP]
    station.send(other, sop_instance="1.2.9")

    assert station.rewrites() == ["1.2.9"]


def test_note_of_a_new_replacement_is_not_dropped_with_the_old_one() -> None:
    completed = CompletedRewrites()
    completed.complete(NOTE, frozenset())
    first = completed.unsynced()
    completed.begin(SOP)
    newer = NOTE._replace(sha256="def")
    completed.complete(newer, frozenset((Path("/other"),)))

    completed.settle(first, frozenset())

    assert completed.take() == []
    completed.settle(completed.unsynced(), frozenset((Path("/other"),)))
    assert completed.take() == [newer]
    assert completed.take() == []


def test_folder_of_a_replacement_is_synced_unless_it_was_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    synced: list[Path] = []
    monkeypatch.setattr("dgate.archive.rewrites.sync_folder", synced.append)
    completed = CompletedRewrites()
    completed.complete(NOTE, frozenset(folders))

    completed.settle(completed.unsynced(), frozenset(folders[:1]))

    assert synced == folders[1:]
    assert completed.take() == [NOTE]


def test_folder_of_a_replacement_that_cannot_be_synced_keeps_its_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Path) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr("dgate.archive.rewrites.sync_folder", fail)
    completed = CompletedRewrites()
    completed.complete(NOTE, frozenset((tmp_path,)))

    completed.settle(completed.unsynced(), frozenset())

    assert completed.take() == []
    assert completed.unsynced() == {}
    assert "broken" in caplog.text


def test_folder_that_was_removed_after_a_replacement_stops_nobody(station: Station) -> None:
    station.send(data_set())
    station.send(data_set())
    path = station.path()
    path.unlink()
    path.parent.rmdir()
    other = {"PatientID": "P2", "StudyInstanceUID": "1.3", "SeriesInstanceUID": "1.4"}

    for number in range(2):
        sop = f"1.2.9.{number}"
        receipt = station.send(data_set(SOPInstanceUID=sop, **other), sop_instance=sop)
        assert receipt.outcome is Outcome.STORED

    assert station.send(data_set()).outcome is Outcome.REWRITTEN
    assert station.rewrites() == [SOP]


def test_replaced_file_that_cannot_be_removed_is_left_to_recovery(
    station: Station, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real_unlink = os.unlink

    def fail(path: str) -> None:
        if path.endswith(".prev") and Path(path).exists():
            raise OSError(errno.EIO, "broken")
        real_unlink(path)

    station.send(data_set())
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fail)
        assert station.send(data_set(StudyDescription="Second")).outcome is Outcome.REWRITTEN
    assert "could not be removed" in caplog.text

    assert station.recover().removed == 1
    assert station.files() == [station.ref().name]
    assert station.content() == data_set(StudyDescription="Second")


@pytest.mark.parametrize("call", ["open", "writev", "fdatasync"])
def test_full_disk_leaves_the_old_content(
    station: Station, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    station.send(data_set())
    files = station.files()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OutOfSpace):
            station.send(data_set(StudyDescription="Second"))

    assert station.files() == files
    assert station.content() == data_set()


def test_rewrites_without_durability_are_the_same(tmp_path: Path) -> None:
    station = open_station(tmp_path, durability=Durability.NONE)
    station.send(data_set())

    station.send(data_set(StudyDescription="Second"))

    assert station.content() == data_set(StudyDescription="Second")
    assert len(station.files()) == 1
    station.close()
