"""Mirrors: every stored object has its copy, soon, for sure, and only as long as itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.maintenance.mirror import Mirrors
from dgate.archive.schema import Level
from dgate.config.layout import PATIENT_ID
from dgate.errors import Missing, OutOfSpace
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


def test_a_copy_of_what_was_deleted_meanwhile_goes_again(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    sop_instance = ward.add(1)
    real = Mirrors._copy

    def copy(mirrors: Mirrors, ref: object, mirror: object) -> None:
        list(ward.caretaker.deleter.delete(Level.PATIENT, "P1", who="t", why="t"))
        ward.settings.base_folder.joinpath("mag0", ref.name).parent.mkdir(parents=True)  # type: ignore[attr-defined]
        ward.settings.base_folder.joinpath("mag0", ref.name).write_bytes(b"late")  # type: ignore[attr-defined]
        real(mirrors, ref, mirror)  # type: ignore[arg-type]

    monkeypatch.setattr(Mirrors, "_copy", copy)
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
