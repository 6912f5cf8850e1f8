from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from dgate.config.store import replace_file, replace_files
from dgate.errors import ConfigError


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    path = tmp_path / "dicom.ini"
    path.write_bytes(b"old")
    path.chmod(0o640)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_is_replaced_and_the_old_one_kept(ini: Path) -> None:
    assert replace_file(ini, b"new", b"old") == ini.with_name("dicom.ini.bak.1")
    assert replace_file(ini, b"newer", b"new") == ini.with_name("dicom.ini.bak.2")

    assert ini.read_bytes() == b"newer"
    assert names(ini.parent) == ["dicom.ini", "dicom.ini.bak.1", "dicom.ini.bak.2"]
    assert (ini.parent / "dicom.ini.bak.1").read_bytes() == b"old"
    assert stat.S_IMODE(ini.stat().st_mode) == 0o640


def test_numbers_of_backups_go_on_behind_the_highest(ini: Path) -> None:
    ini.with_name("dicom.ini.bak.9").write_bytes(b"")

    assert replace_file(ini, b"new", b"old") == ini.with_name("dicom.ini.bak.10")


def test_file_that_was_not_there_is_written_without_backup(tmp_path: Path) -> None:
    assert replace_file(tmp_path / "new", b"x", None) is None

    assert (tmp_path / "new").read_bytes() == b"x"
    assert names(tmp_path) == ["new"]


@pytest.mark.parametrize("expected", [b"older", None])
def test_file_that_somebody_else_changed_is_left_alone(ini: Path, expected: bytes | None) -> None:
    with pytest.raises(ConfigError, match="changed by somebody else"):
        replace_file(ini, b"new", expected)

    assert ini.read_bytes() == b"old"
    assert names(ini.parent) == ["dicom.ini"]


def test_symbolic_link_stays_one(ini: Path, tmp_path: Path) -> None:
    link = tmp_path / "conf"
    link.mkdir()
    (link / "dicom.ini").symlink_to(ini)

    replace_file(link / "dicom.ini", b"new", b"old")
    assert (link / "dicom.ini").is_symlink()
    assert ini.read_bytes() == b"new"


def test_failure_before_the_end_leaves_the_old_file(
    ini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        replace_file(ini, b"new", b"old")

    assert ini.read_bytes() == b"old"
    assert names(ini.parent) == ["dicom.ini"]


def test_folder_that_is_missing_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.*cannot be written"):
        replace_file(tmp_path / "nowhere" / "dicom.ini", b"new", None)


def test_old_content_is_copied_where_files_have_one_name_only(
    ini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(self: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    backup = replace_file(ini, b"new", b"old")

    assert backup is not None
    assert backup.read_bytes() == b"old"


def test_several_files_are_replaced(ini: Path) -> None:
    other = ini.with_name("acrnema.map")
    backups = replace_files({other: b"nodes", ini: b"new"}, {other: None, ini: b"old"})

    assert backups == [ini.with_name("dicom.ini.bak.1")]
    assert (other.read_bytes(), ini.read_bytes()) == (b"nodes", b"new")
