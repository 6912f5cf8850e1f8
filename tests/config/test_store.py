"""Configuration files are replaced all or none, whatever fails and whenever the process dies."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dgate.config import store
from dgate.config.store import NOTE, settle, write_files
from dgate.errors import ConfigError
from tests.config.kit import interrupt


def replace_file(path: Path, data: bytes, expected: bytes | None) -> Path | None:
    """Write one file; returns the backup."""
    [(written, backup)] = write_files(path.parent, {path: data}, {path: expected})
    assert written == path
    return backup


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
    with pytest.raises(ConfigError, match=r"nowhere.*cannot be replaced"):
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
    written = write_files(ini.parent, {other: b"nodes", ini: b"new"}, {other: None, ini: b"old"})

    assert written == [(other, None), (ini, ini.with_name("dicom.ini.bak.1"))]
    assert (other.read_bytes(), ini.read_bytes()) == (b"nodes", b"new")
    assert names(ini.parent) == ["acrnema.map", "dicom.ini", "dicom.ini.bak.1"]


@pytest.fixture
def files(tmp_path: Path) -> dict[Path, bytes | None]:
    """A set of which one file is changed, one removed and one new."""
    (tmp_path / "dicom.ini").write_bytes(b"old ini")
    (tmp_path / "dgatesop.lst").write_bytes(b"old list")
    return {
        tmp_path / "acrnema.map": b"new map",
        tmp_path / "dgatesop.lst": None,
        tmp_path / "dicom.ini": b"new ini",
    }


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder without the backups."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if ".bak." not in p.name}


OLD = {"dicom.ini": b"old ini", "dgatesop.lst": b"old list"}
NEW = {"dicom.ini": b"new ini", "acrnema.map": b"new map"}
EXPECTED = {"acrnema.map": None, **OLD}


def write_set(files: dict[Path, bytes | None]) -> None:
    write_files(next(iter(files)).parent, files, {path: EXPECTED[path.name] for path in files})


def test_set_is_written_and_removed_files_are_kept_as_backups(
    files: dict[Path, bytes | None], tmp_path: Path
) -> None:
    write_set(files)

    assert contents(tmp_path) == NEW
    assert (tmp_path / "dgatesop.lst.bak.1").read_bytes() == b"old list"
    assert (tmp_path / "dicom.ini.bak.1").read_bytes() == b"old ini"


@pytest.mark.parametrize("failing", ["acrnema.map", "dgatesop.lst", "dicom.ini"])
def test_failure_at_any_file_leaves_the_whole_set_as_it_was(
    files: dict[Path, bytes | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
) -> None:
    def unless_failing(real):  # type: ignore[no-untyped-def]
        def call(self: Path, *args: object, **options: object) -> object:
            target = str(args[0]) if args else str(self)
            if target == str(tmp_path / failing):
                raise OSError(errno.EIO, os.strerror(errno.EIO), target)
            return real(self, *args, **options)

        return call

    monkeypatch.setattr(Path, "replace", unless_failing(Path.replace))
    monkeypatch.setattr(Path, "unlink", unless_failing(Path.unlink))
    with pytest.raises(ConfigError, match="Input/output error"):
        write_set(files)
    monkeypatch.undo()

    assert contents(tmp_path) == OLD
    assert names(tmp_path) == sorted(OLD)


def test_file_that_somebody_changed_keeps_the_whole_set_from_being_written(
    files: dict[Path, bytes | None], tmp_path: Path
) -> None:
    (tmp_path / "dicom.ini").write_bytes(b"edited")
    with pytest.raises(ConfigError, match="changed by somebody else"):
        write_set(files)

    assert contents(tmp_path) == OLD | {"dicom.ini": b"edited"}
    assert names(tmp_path) == sorted(OLD)


KILLED_AT_EVERY_STEP = """
import os, sys
from pathlib import Path
from dgate.config.store import write_files
folder, at = Path(sys.argv[1]), 0
STEPS = {"os.rename", "os.remove", "os.link", "open"}
while True:
    place = folder / str(at)
    place.mkdir()
    (place / "dicom.ini").write_bytes(b"old ini")
    (place / "dgatesop.lst").write_bytes(b"old list")
    child = os.fork()
    if not child:
        seen = 0
        def hook(event, arguments):
            global seen
            if event in STEPS and str(folder) in str(arguments[0]):
                if seen == at:
                    os._exit(9)
                seen += 1
        sys.addaudithook(hook)
        files = {place / "acrnema.map": b"new map", place / "dgatesop.lst": None,
                 place / "dicom.ini": b"new ini"}
        write_files(place, files, {place / "acrnema.map": None,
            place / "dgatesop.lst": b"old list", place / "dicom.ini": b"old ini"})
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
    at += 1
"""


def test_set_is_whole_after_a_kill_at_any_step(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED_AT_EVERY_STEP, tmp_path], check=True, timeout=300)
    places = sorted(tmp_path.iterdir(), key=lambda place: int(place.name))
    half = 0
    outcomes = []
    for place in places:
        before = {p: data for p, data in contents(place).items() if not p.startswith(".")}
        half += before not in (OLD, NEW)
        noted = (place / NOTE).exists() and (place / NOTE).stat().st_size > 0
        settle(place)
        after = contents(place)
        assert not (place / NOTE).exists()
        if noted:
            assert after == NEW
        after = {p: data for p, data in after.items() if not p.startswith(".")}
        assert after in (OLD, NEW), place.name
        outcomes.append(after == NEW)
        settle(place)

    # There were kills before, in the middle of and after the exchange.
    assert half >= 2
    assert outcomes == sorted(outcomes)
    assert outcomes[0] is False
    assert outcomes[-1] is True


@pytest.fixture
def half(files: dict[Path, bytes | None], tmp_path: Path) -> Path:
    """A folder in which the writer was killed before the last file of a set took its name."""
    interrupt(tmp_path, {path.name: content for path, content in files.items()})
    left = {name: data for name, data in contents(tmp_path).items() if not name.startswith(".")}
    assert left == {"acrnema.map": b"new map", "dicom.ini": b"old ini"}
    assert NOTE in names(tmp_path)
    return tmp_path


def test_interrupted_change_is_completed(half: Path) -> None:
    settle(half)
    assert contents(half) == NEW


def test_interrupted_change_is_undone_when_a_new_file_is_lost(half: Path) -> None:
    [left] = half.glob(".dicom.ini.new.*")
    left.write_bytes(b"hal")

    settle(half)

    assert contents(half) == OLD
    assert names(half) == sorted(OLD)


def test_edit_made_since_the_crash_is_left_alone(
    half: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (half / "dicom.ini").unlink()
    (half / "dicom.ini").write_bytes(b"edited by hand")

    settle(half)

    assert contents(half) == NEW | {"dicom.ini": b"edited by hand"}
    assert "dicom.ini was changed by somebody else since" in caplog.text


def test_next_change_finishes_the_interrupted_one_first(half: Path) -> None:
    replace_file(half / "dicom.ini", b"newer", b"new ini")
    assert contents(half) == NEW | {"dicom.ini": b"newer"}


@pytest.mark.parametrize(
    "text",
    [
        b"[1]\n",
        b"{}x\n",
        b'[{"real": "/x", "temporary": "/tmp/x", "new": "0", "backup": null, "old": null}]\n',
    ],
)
def test_damaged_note_is_reported_and_nothing_is_done(tmp_path: Path, text: bytes) -> None:
    (tmp_path / NOTE).write_bytes(text)
    with pytest.raises(ConfigError, match="note about files that are being replaced is damaged"):
        settle(tmp_path)
    assert (tmp_path / NOTE).read_bytes() == text


@pytest.mark.parametrize("text", [b"", b'[{"real": "/etc/mo'])
def test_note_that_was_not_written_to_its_end_means_nothing(tmp_path: Path, text: bytes) -> None:
    (tmp_path / NOTE).write_bytes(text)
    settle(tmp_path)
    assert names(tmp_path) == []


def test_root_does_not_do_what_another_user_wrote_down(
    half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = (half / NOTE).stat()
    state = os.stat_result([*found[:4], 12345, *found[5:]])
    real = os.fstat
    monkeypatch.setattr(
        os, "fstat", lambda fd: state if real(fd).st_ino == state.st_ino else real(fd)
    )
    with pytest.raises(ConfigError, match="root does not finish"):
        settle(half)


def test_writers_take_turns(ini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = ini.with_name(NOTE)
    note.touch()
    with note.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        monkeypatch.setattr(store, "WAIT_S", 0.0)
        with pytest.raises(ConfigError, match="being written by somebody else"):
            replace_file(ini, b"new", b"old")
        assert ini.read_bytes() == b"old"
        monkeypatch.setattr(store, "WAIT_S", 60.0)
        writer = threading.Thread(target=replace_file, args=(ini, b"new", b"old"))
        writer.start()
    writer.join()
    assert ini.read_bytes() == b"new"
    assert names(ini.parent) == ["dicom.ini", "dicom.ini.bak.1"]
