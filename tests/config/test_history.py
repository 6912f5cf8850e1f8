"""The kept sets of a configuration, and the way back to one of them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dgate.config.history import KEPT_SETS, History
from dgate.config.settings import load
from dgate.config.template import new_set
from dgate.errors import ConfigError


class Site:
    """A folder with the four files and their history."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, content in new_set("SITE", 10400).items():
            (folder / name).write_bytes(content)
        self.history = History(folder)

    def apply(self, why: str = "test", *changes: str, now: float = 1000.0) -> int | None:
        """Keep the files as they are now."""
        return self.history.record(load(self.folder), why, changes, now)

    def write(self, name: str, text: str) -> None:
        """Replace a file."""
        (self.folder / name).write_text(text)

    def read(self, name: str) -> str:
        """Return a file's text."""
        return (self.folder / name).read_text()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_without_a_server_there_is_no_history(site: Site) -> None:
    assert site.history.sets() == []


def test_sets_are_numbered_and_told_newest_first(site: Site) -> None:
    assert site.apply("start", now=5.0) == 1
    site.write("acrnema.map", "SINK 127.0.0.1 104 as\n")
    assert site.apply("SIGHUP", "node SINK added", now=6.0) == 2

    sets = site.history.sets()

    assert [(one.number, one.why, one.applied_at) for one in sets] == [
        (2, "SIGHUP", 6.0),
        (1, "start", 5.0),
    ]
    assert sets[0].changes == ("node SINK added",)


def test_the_same_files_are_kept_once(site: Site) -> None:
    site.apply()
    assert site.apply() is None
    assert len(site.history.sets()) == 1


def test_no_more_than_twenty_sets_are_kept_and_numbers_go_on(site: Site) -> None:
    for number in range(KEPT_SETS + 5):
        site.write("acrnema.map", f"SINK 127.0.0.1 {1000 + number} as\n")
        assert site.apply() == number + 1

    sets = site.history.sets()

    assert [one.number for one in sets] == list(range(KEPT_SETS + 5, 5, -1))
    assert len(list(site.history.folder.iterdir())) == KEPT_SETS


def test_nobody_else_can_read_the_kept_files(site: Site) -> None:
    previous = os.umask(0)
    try:
        site.apply()
    finally:
        os.umask(previous)

    found = [site.history.folder, *site.history.folder.rglob("*")]
    assert len(found) > 5
    assert [path for path in found if path.stat().st_mode & 0o077] == []


def test_a_set_is_written_back_with_backups_and_the_modes_of_the_files(site: Site) -> None:
    first = {name: site.read(name) for name in ("dicom.ini", "acrnema.map")}
    site.apply()
    (site.folder / "dicom.ini").chmod(0o600)
    site.write("dicom.ini", "[sscscp]\n# other\n")
    site.write("acrnema.map", "SINK 127.0.0.1 104 as\n")

    written = site.history.write_back(1)

    assert {name: site.read(name) for name in first} == first
    assert [path.name for path, _ in written] == ["acrnema.map", "dicom.ini"]
    backups = {path.name: backup.read_text() for path, backup in written if backup is not None}
    assert backups == {
        "acrnema.map": "SINK 127.0.0.1 104 as\n",
        "dicom.ini": "[sscscp]\n# other\n",
    }
    assert (site.folder / "dicom.ini").stat().st_mode & 0o777 == 0o600
    assert site.history.write_back(1) == []


def test_a_file_that_the_set_did_not_have_is_taken_away_and_kept_as_backup(site: Site) -> None:
    content = (site.folder / "dgatesop.lst").read_bytes()
    (site.folder / "dgatesop.lst").unlink()
    site.apply()
    (site.folder / "dgatesop.lst").write_bytes(content)

    ((path, backup),) = site.history.write_back(1)

    assert path.name == "dgatesop.lst"
    assert not path.exists()
    assert backup is not None
    assert backup.read_bytes() == content


def test_a_file_that_is_missing_is_written(site: Site) -> None:
    text = site.read("acrnema.map")
    site.apply()
    (site.folder / "acrnema.map").unlink()

    assert [backup for _, backup in site.history.write_back(1)] == [None]
    assert site.read("acrnema.map") == text


def test_a_rollback_that_fails_at_the_second_file_changes_none(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.apply()
    site.write("dicom.ini", "[sscscp]\n# other\n")
    site.write("acrnema.map", "SINK 127.0.0.1 104 as\n")
    before = sorted(path.name for path in site.folder.iterdir())
    real = Path.replace

    def replace(self: Path, target: Path | str) -> Path:
        if Path(target).name == "dicom.ini":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(target))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(ConfigError, match="cannot be written"):
        site.history.write_back(1)
    monkeypatch.undo()

    assert site.read("dicom.ini") == "[sscscp]\n# other\n"
    assert site.read("acrnema.map") == "SINK 127.0.0.1 104 as\n"
    assert sorted(path.name for path in site.folder.iterdir()) == before


def test_a_rollback_can_be_taken_back(site: Site) -> None:
    site.apply()
    site.write("acrnema.map", "SINK 127.0.0.1 104 as\n")
    (site.folder / "dgatesop.lst").unlink()

    site.history.take_back(site.history.write_back(1))

    assert site.read("acrnema.map") == "SINK 127.0.0.1 104 as\n"
    assert not (site.folder / "dgatesop.lst").exists()


def test_an_unknown_set_is_refused(site: Site) -> None:
    site.apply()
    with pytest.raises(ConfigError, match="there is no set 7"):
        site.history.write_back(7)


@pytest.mark.parametrize("damage", ["cut", "changed", "removed", "no json", "other json"])
def test_a_damaged_set_is_refused_and_changes_nothing(site: Site, damage: str) -> None:
    site.apply()
    site.write("acrnema.map", "SINK 127.0.0.1 104 as\n")
    place = site.history.folder / "000001"
    about, kept = place / "set.json", place / "1-acrnema.map"
    if damage == "cut":
        kept.write_bytes(kept.read_bytes()[:-1])
    elif damage == "changed":
        kept.write_bytes(b"EVIL 10.6.6.6 104 as\n")
    elif damage == "removed":
        kept.unlink()
    elif damage == "no json":
        about.write_text("{")
    else:
        about.write_text('{"files": [{"path": 1}]}')

    with pytest.raises(ConfigError, match="set 1 of the configuration is damaged"):
        site.history.write_back(1)

    assert site.read("acrnema.map") == "SINK 127.0.0.1 104 as\n"


def test_a_damaged_set_hides_no_others(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.apply()
    site.write("acrnema.map", "SINK 127.0.0.1 104 as\n")
    site.apply()
    (site.history.folder / "000001" / "set.json").write_text("[]")

    assert [one.number for one in site.history.sets()] == [2]
    assert "Set 1" in caplog.text


def test_an_unfinished_set_is_none(site: Site) -> None:
    site.apply()
    (site.history.folder / "000002.new").mkdir()

    assert [one.number for one in site.history.sets()] == [1]
    site.write("acrnema.map", "SINK 127.0.0.1 104 as\n")
    assert site.apply() == 2


def test_a_history_that_cannot_be_written_says_so(site: Site) -> None:
    (site.folder / "dgate").mkdir()
    (site.folder / "dgate" / "history").write_text("in the way")

    with pytest.raises(ConfigError, match="cannot be kept"):
        site.apply()


def test_the_history_moves_with_its_folder(site: Site, tmp_path: Path) -> None:
    text = site.read("acrnema.map")
    site.apply()
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    (moved / "acrnema.map").write_text("SINK 127.0.0.1 104 as\n")

    History(moved).write_back(1)

    assert (moved / "acrnema.map").read_text() == text
