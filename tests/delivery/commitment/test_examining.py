"""Which objects can be committed to: what the index and the file say."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from dgate.archive import export
from dgate.archive.aside import Aside, Content, Report
from dgate.archive.records import InstanceRef
from dgate.config.settings import Durability
from dgate.delivery.commitment import examining
from dgate.delivery.commitment.examining import Examiner
from dgate.delivery.commitment.messages import Reference
from dgate.errors import DatabaseAway, StoreError
from tests.delivery.kit import CT, MR
from tests.delivery.peer_kit import Store


class Shelf:
    """Stored objects with an index over them."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self.rows: dict[str, InstanceRef] = {}

    def add(self, number: int, **changes: str) -> Reference:
        """Store an object."""
        ref = self.store.add(number, **changes)  # type: ignore[arg-type]
        self.rows[ref.sop_instance] = ref
        return Reference(ref.sop_class, ref.sop_instance)

    def file(self, reference: Reference) -> Path:
        """Return where an object's file is."""
        return self.store.root / self.rows[reference.sop_instance].name

    def move(self, reference: Reference, name: str) -> None:
        """Give an object's file another name."""
        before = self.file(reference)
        row = self.rows[reference.sop_instance]
        self.rows[reference.sop_instance] = replace(row, name=name)
        self.file(reference).parent.mkdir(parents=True, exist_ok=True)
        before.rename(self.file(reference))

    def examine(
        self, *references: Reference, durability: Durability = Durability.FULL
    ) -> dict[Reference, int | None]:
        """Return the reason for each object."""
        examiner = Examiner(
            self.rows.get, self.store.exporter, lambda uid: uid in (CT, MR), durability
        )
        return dict(examiner.examine(references))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Return an empty shelf."""
    return Shelf(tmp_path)


def test_what_is_whole_is_committed_to(shelf: Shelf) -> None:
    first, second = shelf.add(1), shelf.add(2, sop_class=MR)

    assert shelf.examine(first, second) == {first: None, second: None}


def test_every_fault_has_its_reason(shelf: Shelf) -> None:
    gone, cut, empty, foreign = (shelf.add(number) for number in range(1, 5))
    shelf.file(gone).unlink()
    shelf.file(cut).write_bytes(shelf.file(cut).read_bytes()[:-3])
    shelf.file(empty).write_bytes(b"")
    shelf.file(foreign).write_bytes(shelf.file(cut).read_bytes())
    other = Reference(MR, shelf.add(5).sop_instance)
    unknown, exotic = Reference(CT, "1.2.9"), Reference("1.2.840.10008.9", "1.2.10")

    found = shelf.examine(gone, cut, empty, foreign, other, unknown, exotic)

    assert found == {
        gone: 0x0112,
        cut: 0x0110,
        empty: 0x0110,
        # Another object lies under its name.
        foreign: 0x0112,
        other: 0x0119,
        unknown: 0x0112,
        exotic: 0x0122,
    }


@pytest.mark.parametrize("durability", [Durability.FULL, Durability.INDEX])
def test_files_are_synced_where_storing_did_not_with_all_folders_above(
    shelf: Shelf, durability: Durability, monkeypatch: pytest.MonkeyPatch
) -> None:
    files_synced: list[Path] = []
    folders_synced: list[Path] = []
    monkeypatch.setattr(export, "sync_file", files_synced.append)
    monkeypatch.setattr(examining, "sync_folder", folders_synced.append)
    first, second = shelf.add(1), shelf.add(2)
    shelf.move(second, "P1/S1/2.dcm")
    files = [shelf.file(first), shelf.file(second)]

    assert shelf.examine(first, second, durability=durability) == {first: None, second: None}

    if durability is Durability.FULL:
        assert files_synced == folders_synced == []
        return
    assert files_synced == files
    # The name of the patient's folder stands in the device's own.
    root = shelf.store.root
    assert sorted(folders_synced) == [root, root / "P1", root / "P1" / "S1"]


def test_a_folder_that_cannot_be_synced_says_nothing_about_objects(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        if folder == shelf.store.root:
            raise OSError(errno.EIO, "the disk is broken", str(folder))

    monkeypatch.setattr(examining, "sync_folder", fail)
    wanted = shelf.add(1)

    with pytest.raises(StoreError, match="a folder cannot be synced: the disk is broken"):
        shelf.examine(wanted, durability=Durability.INDEX)


def test_nothing_is_committed_to_where_nothing_is_durable(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    there, unknown = shelf.add(1), Reference(CT, "1.2.9")

    found = shelf.examine(there, unknown, durability=Durability.NONE)

    assert found == {there: 0x0110, unknown: 0x0112}
    assert "Durability = none" in caplog.text


def test_the_file_of_a_device_that_is_gone_is_not_committed_to(shelf: Shelf) -> None:
    wanted = shelf.add(1)
    row = shelf.rows[wanted.sop_instance]
    # It is found all the same, on another device.
    shelf.rows[wanted.sop_instance] = replace(row, device="MAG7")

    assert shelf.examine(wanted) == {wanted: None}
    assert shelf.examine(wanted, durability=Durability.INDEX) == {wanted: 0x0110}


def test_an_index_that_is_away_says_nothing_about_objects(shelf: Shelf) -> None:
    def away(uid: str) -> InstanceRef | None:
        raise DatabaseAway("the server is down")

    examiner = Examiner(away, shelf.store.exporter, lambda uid: True, Durability.FULL)

    with pytest.raises(DatabaseAway):
        examiner.examine([Reference(CT, "1.2")])


def test_a_folder_that_cannot_be_read_says_nothing_about_objects(
    shelf: Shelf, tmp_path: Path
) -> None:
    wanted = shelf.add(1)
    (tmp_path / "aside").write_bytes(b"no folder")
    aside = Aside(tmp_path / "aside").instances
    examiner = Examiner(
        shelf.rows.get, shelf.store.exporter, lambda uid: True, Durability.FULL, aside
    )

    with pytest.raises(StoreError, match="put aside cannot be read") as error:
        examiner.examine([wanted])

    assert str(tmp_path / "aside") in str(error.value)


def test_what_has_other_content_aside_is_not_committed_to(shelf: Shelf, tmp_path: Path) -> None:
    first, second = shelf.add(1), shelf.add(2)
    aside = Aside(tmp_path / "aside")
    content = Content("0" * 64, 1, "1.2.840.10008.1.2", "MAG0")
    other = replace(content, sha256="f" * 64)
    about = (CT, first.sop_instance, "P1", "1.2", "1.3", "CT1", "GATE", "host", 1.0, 1.0, 1)
    report = Report(*about, content, other)
    examiner = Examiner(
        shelf.rows.get, shelf.store.exporter, lambda uid: True, Durability.FULL, aside.instances
    )
    asked = [first, second]
    assert dict(examiner.examine(asked)) == {first: None, second: None}

    aside.put(report, [b"x"])

    assert dict(examiner.examine(asked)) == {first: 0x0110, second: None}
    aside.remove(report)
    assert dict(examiner.examine(asked)) == {first: None, second: None}
