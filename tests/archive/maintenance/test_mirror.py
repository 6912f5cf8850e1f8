"""Mirrors: every stored object has its copy, soon, for sure, and only as long as itself."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.devices import FolderDevice
from dgate.archive.levels import Level
from dgate.archive.maintenance.mirror import Mirrors
from dgate.archive.records import InstanceRef
from dgate.config.layout import PATIENT_ID
from dgate.errors import Missing, OutOfSpace, Unreadable
from tests.archive.intake_kit import Hooks
from tests.archive.maintenance.ward import Disk, Ward, open_ward


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = open_ward(
        tmp_path,
        hooks=Hooks(),
        mirror_devices=(tmp_path / "mirror0", tmp_path / "mirror1"),
    )
    yield ward
    ward.close()


def owed(ward: Ward) -> list[tuple[str, str]]:
    debts = ward.debts()
    return [
        (debt["destination"], debt["sop_instance"]) for debt in debts if debt["kind"] == "mirror"
    ]


def pay(ward: Ward) -> None:
    for _, sop_instance in owed(ward):
        ward.mirrors.pay(sop_instance)
    ward.writer.transact(lambda tx: tx.execute("DELETE FROM dgate_debts"))


def same(ward: Ward, mirror: str, sop_instance: str) -> bool:
    copy = ward.settings.base_folder / mirror / ward.ref(sop_instance).name
    return copy.read_bytes() == ward.path(sop_instance).read_bytes()


def test_each_stored_object_owes_its_copy_and_the_dispatcher_is_woken(ward: Ward) -> None:
    sop_instance = ward.add(1)

    assert owed(ward) == [("MIRROR0", sop_instance)]
    assert ward.hooks.wakes == 1


def test_without_a_mirror_nothing_is_owed(tmp_path: Path) -> None:
    ward = open_ward(tmp_path)
    ward.add(1)

    assert ward.debts() == []
    ward.close()


def test_paying_copies_the_file_byte_for_byte_under_its_name(ward: Ward) -> None:
    sop_instance = ward.add(1)

    pay(ward)

    assert same(ward, "mirror0", sop_instance)
    assert ward.below("mirror0") == [ward.ref(sop_instance).name]


def test_an_object_that_arrives_again_is_copied_again(ward: Ward) -> None:
    sop_instance = ward.add(1)
    pay(ward)
    ward.add(1, StudyDescription="other")

    assert owed(ward) == [("MIRROR0", sop_instance)]
    pay(ward)

    assert same(ward, "mirror0", sop_instance)
    assert ward.below("mirror0") == [ward.ref(sop_instance).name]


def test_deleting_removes_the_copy(ward: Ward) -> None:
    ward.add(1)
    pay(ward)

    list(ward.caretaker.deleter.delete(Level.PATIENT, "P1", who="t", why="t"))

    assert ward.below("mirror0") == []


def test_an_open_copy_does_not_keep_a_patient_from_being_deleted(ward: Ward) -> None:
    sop_instance = ward.add(1)

    list(ward.caretaker.deleter.delete(Level.PATIENT, "P1", who="t", why="t"))
    ward.mirrors.pay(sop_instance)

    assert ward.below("mirror0") == []
    assert ward.rows("SELECT state FROM dgate_debts") == [("cancelled",)]


def test_moving_an_object_moves_its_copy_to_the_other_mirror(ward: Ward) -> None:
    sop_instance = ward.add(1)
    pay(ward)

    list(ward.caretaker.mover.move("MAG0", "MAG1"))
    assert owed(ward) == [("MIRROR1", sop_instance)]
    pay(ward)

    assert ward.below("mirror0") == []
    assert same(ward, "mirror1", sop_instance)


def test_a_corrected_object_is_copied_again(ward: Ward) -> None:
    sop_instance = ward.add(1)
    pay(ward)

    plan = ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9"})
    for _ in ward.caretaker.corrector.correct(plan.corrections[0], who="t", why="t"):
        pass
    assert owed(ward) == [("MIRROR0", sop_instance)]
    pay(ward)

    assert same(ward, "mirror0", sop_instance)
    assert len(ward.below("mirror0")) == 1


def in_the_middle_of_a_copy(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]
) -> list[str]:
    """Let something happen when the first copy for a mirror is complete and has no name yet;
    returns the list of the names that copies get."""
    begun: list[str] = []
    named: list[str] = []
    real_stage, real_publish = FolderDevice.stage, FolderDevice.publish

    def stage(device: FolderDevice, *arguments: Any, **options: Any) -> str:
        staged = real_stage(device, *arguments, **options)
        if device.name.startswith("MIRROR") and not begun:
            begun.append(staged)
            act()
        return staged

    def publish(device: FolderDevice, staged: str, name: str, **options: Any) -> Set[Path]:
        if device.name.startswith("MIRROR"):
            named.append(name)
        return real_publish(device, staged, name, **options)

    monkeypatch.setattr(FolderDevice, "stage", stage)
    monkeypatch.setattr(FolderDevice, "publish", publish)
    return named


def delete(ward: Ward) -> None:
    list(ward.caretaker.deleter.delete(Level.PATIENT, "P1", who="t", why="t"))


def test_a_copy_of_what_was_deleted_meanwhile_gets_no_name(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for a moment: a crash in it would leave the copy for ever."""
    sop_instance = ward.add(1)
    named = in_the_middle_of_a_copy(monkeypatch, lambda: delete(ward))

    ward.mirrors.pay(sop_instance)

    assert named == []
    assert ward.below("mirror0") == []


def test_a_deletion_waits_until_the_copy_has_its_name_and_removes_it(ward: Ward) -> None:
    sop_instance = ward.add(1)
    threads: list[threading.Thread] = []

    def find(sop_instance: str) -> InstanceRef | None:
        """Answer, and let the object be deleted before the answer is used the second time."""
        ref = ward.finder.instance(sop_instance)
        if not threads and ward.below("mirror0"):
            threads.append(threading.Thread(target=delete, args=(ward,)))
            threads[0].start()
            # It commits, and must not be through with the mirror before the copy is there.
            threads[0].join(1)
        return ref

    Mirrors(ward.devices, find, ward.traffic.turns).pay(sop_instance)
    threads[0].join(60)

    assert ward.refs() == []
    assert ward.below("mirror0") == []
    assert ward.rows("SELECT * FROM dgate_removals") == []


def test_a_copy_of_what_was_replaced_meanwhile_does_not_stay(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer copy may be there before the older one is complete."""
    sop_instance = ward.add(1)

    def replace_and_copy() -> None:
        ward.add(1, StudyDescription="newer")
        Mirrors(ward.devices, ward.finder.instance, ward.traffic.turns).pay(sop_instance)

    in_the_middle_of_a_copy(monkeypatch, replace_and_copy)
    ward.mirrors.pay(sop_instance)

    assert b"newer" in ward.path(sop_instance).read_bytes()
    assert same(ward, "mirror0", sop_instance)


def test_what_moved_meanwhile_is_copied_from_where_it_is_now(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    sop_instance = ward.add(1)
    move = ward.caretaker.mover.move
    named = in_the_middle_of_a_copy(monkeypatch, lambda: list(move("MAG0", "MAG1")))

    ward.mirrors.pay(sop_instance)

    assert len(named) == 1
    assert ward.below("mirror0") == []
    assert same(ward, "mirror1", sop_instance)


def test_a_source_that_cannot_be_read_is_not_taken_for_a_full_mirror(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    sop_instance = ward.add(1)

    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "copy_file_range", fail)
    monkeypatch.setattr(os, "pread", fail)

    with pytest.raises(Unreadable):
        ward.mirrors.pay(sop_instance)
    assert ward.below("mirror0") == []


def test_a_full_mirror_makes_the_copy_wait(tmp_path: Path) -> None:
    disk = Disk({"mirror0": 10})
    ward = open_ward(tmp_path, disk=disk, mirror_devices=(tmp_path / "mirror0",))
    sop_instance = ward.add(1)

    with pytest.raises(OutOfSpace, match="mirror MIRROR0 is full"):
        ward.mirrors.pay(sop_instance)
    assert ward.below("mirror0") == []

    disk.free["mirror0"] = 1 << 30
    ward.mirrors.pay(sop_instance)
    assert same(ward, "mirror0", sop_instance)
    ward.close()


def test_a_mirror_that_cannot_be_written_makes_the_copy_wait(tmp_path: Path) -> None:
    (tmp_path / "mirror0").write_text("a file where the folder should be")
    ward = open_ward(tmp_path, mirror_devices=(tmp_path / "mirror0",))
    sop_instance = ward.add(1)

    with pytest.raises(OutOfSpace):
        ward.mirrors.pay(sop_instance)
    ward.close()


def test_a_lost_file_is_named(ward: Ward) -> None:
    sop_instance = ward.add(1)
    ward.path(sop_instance).unlink()

    with pytest.raises(Missing, match=sop_instance):
        ward.mirrors.pay(sop_instance)


def test_unfinished_copies_are_swept_at_the_next_start(ward: Ward) -> None:
    incoming = ward.settings.base_folder / "mirror0" / "dgate" / "incoming"
    incoming.mkdir(parents=True)
    (incoming / "1.2.3.n12ab").write_bytes(b"half")

    ward.start_over()

    assert ward.below("mirror0") == []


def test_an_object_whose_own_file_is_lost_is_read_from_the_mirror(ward: Ward) -> None:
    sop_instance = ward.add(1)
    content = ward.content(sop_instance)
    pay(ward)
    ward.path(sop_instance).unlink()

    assert ward.content(sop_instance) == content
