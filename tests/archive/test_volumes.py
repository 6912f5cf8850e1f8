"""Old read-only volumes: found by their names, read, never written."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.archive.devices import ReadOnlyFolder
from dgate.archive.levels import Level
from dgate.archive.ownership import Owner
from dgate.archive.reservations import Names
from dgate.archive.volumes import Volumes
from dgate.errors import Missing, OutOfSpace, StoreError
from tests.archive.maintenance.ward import Ward, open_ward


@pytest.mark.parametrize(
    ("device", "folder"),
    [
        ("JUKEBOX0.7", "/mnt/cd7"),
        ("JUKEBOX1.12", "/mnt/b/012/x"),
        ("CACHE0.3", "/cache/0-3"),
        ("CACHE2.3", "/cache/2-3"),
        ("jukebox0.7", "/mnt/cd7"),
        ("JUKEBOX5.1", None),
        ("JUKEBOX0", None),
        ("JUKEBOX0.../x", None),
        ("MAG0", None),
        ("", None),
    ],
)
def test_the_folder_of_a_volume_comes_from_its_template(device: str, folder: str | None) -> None:
    volumes = Volumes({0: "/mnt/cd%d", 1: "/mnt/b/%03d/x"}, {0: "/cache/%d-%d"})

    found = volumes.folder(device)

    assert found == (None if folder is None else Path(folder))


def test_a_template_is_never_formatted_otherwise() -> None:
    assert Volumes({0: "/mnt/%s%n%%/%d"}, {}).folder("JUKEBOX0.1") == Path("/mnt/%s%n%%/1")


@pytest.fixture
def burned(tmp_path: Path) -> tuple[Ward, str]:
    """An object that an older server put on a volume."""
    template = str(tmp_path / "cd%d")
    ward = open_ward(tmp_path, jukebox_devices=((0, template),))
    sop_instance = ward.add(1)
    (tmp_path / "mag0" / "P1").rename(tmp_path / "P1")
    (tmp_path / "cd4").mkdir()
    (tmp_path / "P1").rename(tmp_path / "cd4" / "P1")
    ward.writer.transact(lambda tx: tx.execute("UPDATE DICOMImages SET DeviceName = 'JUKEBOX0.4'"))
    return ward, sop_instance


def test_an_object_on_a_volume_is_read(burned: tuple[Ward, str]) -> None:
    ward, sop_instance = burned

    assert sop_instance.encode() in ward.content(sop_instance)
    assert isinstance(ward.devices.get("JUKEBOX0.4"), ReadOnlyFolder)
    ward.close()


def test_an_object_on_a_volume_that_is_away_is_named(
    burned: tuple[Ward, str], tmp_path: Path
) -> None:
    ward, sop_instance = burned
    (tmp_path / "cd4").rename(tmp_path / "shelf")

    with pytest.raises(Missing, match=r"JUKEBOX0\.4"):
        ward.content(sop_instance)
    ward.close()


def test_an_object_on_a_volume_arrives_again_and_stays(burned: tuple[Ward, str]) -> None:
    ward, sop_instance = burned

    ward.add(1, StudyID="NEWER")

    assert b"NEWER" not in ward.content(sop_instance)
    ward.close()


def test_deleting_takes_the_row_and_leaves_the_volume(
    burned: tuple[Ward, str], tmp_path: Path
) -> None:
    ward, _ = burned

    list(ward.caretaker.deleter.delete(Level.PATIENT, "P1", who="t", why="t"))

    assert ward.counts() == (0, 0, 0, 0)
    assert len(list((tmp_path / "cd4").rglob("*.dcm"))) == 1
    assert ward.rows("SELECT * FROM dgate_removals") == []
    ward.close()


def test_a_patient_on_a_volume_is_never_cleaned_away(burned: tuple[Ward, str]) -> None:
    ward, _ = burned
    ward.clock.seconds += 7200

    [victim] = ward.caretaker.cleaner.make_room(1 << 60, who="t", why="t")

    assert "read only or away" in victim.spared
    ward.close()


def test_objects_move_from_a_volume_to_a_device_but_not_back(
    burned: tuple[Ward, str], tmp_path: Path
) -> None:
    """The volume keeps its file, as nothing there can be removed."""
    ward, sop_instance = burned
    with pytest.raises(StoreError):
        ward.devices.get("JUKEBOX0.4").stage("1.2", "a/b.dcm", [], rewrites=False)  # type: ignore[union-attr]

    *_, moved = ward.caretaker.mover.move("JUKEBOX0.4", "MAG1")

    assert moved.objects == 1
    assert ward.ref(sop_instance).device == "MAG1"
    assert len(list((tmp_path / "cd4").rglob("*.dcm"))) == 1
    with pytest.raises(Exception, match="no storage device"):
        ward.caretaker.mover.check("MAG1", "JUKEBOX0.4")
    ward.close()


def test_nothing_is_written_to_a_volume(tmp_path: Path) -> None:
    volume = ReadOnlyFolder("JUKEBOX0.1", tmp_path)
    (tmp_path / "x.dcm").write_bytes(b"kept")

    with pytest.raises(OutOfSpace, match="only read"):
        volume.remove("x.dcm")
    with pytest.raises(OSError, match="only read"):
        volume.spill("1.2", b"")
    assert volume.free_bytes() == 0
    assert (tmp_path / "x.dcm").read_bytes() == b"kept"


def test_file_on_a_volume_is_held_without_a_claim(tmp_path: Path) -> None:
    volume = ReadOnlyFolder("JUKEBOX0.1", tmp_path, owner=Owner.named("one", shared=True))
    (tmp_path / "x.dcm").write_bytes(b"kept")

    assert Names().keep(volume, "x.dcm")
    Names().let_go(volume, "x.dcm")

    assert [path.name for path in tmp_path.rglob("*")] == ["x.dcm"]
