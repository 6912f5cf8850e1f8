"""The files that rules may touch: confined, whole or not at all."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from dgate.errors import RuleError
from dgate.rules.files import ConfinedFiles, private_copy, temporary_file


@pytest.fixture
def files(tmp_path: Path) -> ConfinedFiles:
    """Return files below `base`, `device`, `temp`, with a folder `outside` that is not allowed."""
    for name in ("base", "device", "outside"):
        (tmp_path / name).mkdir()
    return ConfinedFiles(tmp_path / "base", [tmp_path / "device"], tmp_path / "temp")


def names(folder: Path) -> list[str]:
    """Return what a folder holds."""
    return sorted(path.name for path in folder.iterdir())


def test_a_relative_name_is_below_the_base_folder(files: ConfinedFiles, tmp_path: Path) -> None:
    files.write("note.txt", b"one")

    assert (tmp_path / "base" / "note.txt").read_bytes() == b"one"
    assert files.read("note.txt") == b"one"


@pytest.mark.parametrize("area", ["base", "device", "temp"])
def test_every_allowed_folder_can_be_written(
    files: ConfinedFiles, tmp_path: Path, area: str
) -> None:
    name = str(tmp_path / area / "deep" / "x.txt")

    files.make_folder(str(Path(name).parent))
    files.write(name, b"x")

    assert Path(name).read_bytes() == b"x"


OUTSIDE = [
    "../outside/x",
    "sub/../../outside/x",
    "{tmp}/outside/x",
    "/etc/passwd",
    "{tmp}/base/../outside/x",
    "{tmp}/base2/x",
    "link/x",
    "link",
    "file-link",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_outside_can_be_touched(files: ConfinedFiles, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "outside" / "x"
    secret.write_bytes(b"secret")
    (tmp_path / "base2").mkdir()
    (tmp_path / "base" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "base" / "file-link").symlink_to(secret)
    files.write("own", b"own")
    name = name.format(tmp=tmp_path)

    for touch in (
        lambda: files.read(name),
        lambda: files.write(name, b"x"),
        lambda: files.write(name, b"x", append=True),
        lambda: files.save(name, [b"x"]),
        lambda: files.copy(name, "copied"),
        lambda: files.copy("own", name),
        lambda: files.make_folder(name),
        lambda: files.remove(name),
    ):
        with pytest.raises(RuleError, match="outside the folders for rules"):
            touch()

    assert secret.read_bytes() == b"secret"
    assert names(tmp_path / "base") == ["file-link", "link", "own"]


def test_a_link_within_the_folders_is_followed(files: ConfinedFiles, tmp_path: Path) -> None:
    (tmp_path / "base" / "link").symlink_to(tmp_path / "device")

    files.write("link/x", b"x")

    assert (tmp_path / "device" / "x").read_bytes() == b"x"


def test_a_base_folder_that_is_a_link_itself_works(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "base").symlink_to(tmp_path / "real")
    files = ConfinedFiles(tmp_path / "base", [], tmp_path / "temp")

    files.write("x", b"x")

    assert (tmp_path / "real" / "x").read_bytes() == b"x"


def test_without_restrictions_every_folder_works(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    files = ConfinedFiles(tmp_path / "base", [], tmp_path / "temp", unrestricted=True)

    files.write("../x", b"x")

    assert (tmp_path / "x").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["", " ", "a\0b", "x" * 10_000, "a/" * 5_000, "\ud800", "."])
def test_what_is_no_file_name_is_an_error(files: ConfinedFiles, name: str) -> None:
    with pytest.raises(RuleError):
        files.write(name, b"x")
    with pytest.raises(RuleError):
        files.write(name, b"x", append=True)
    (files.place("there")).write_bytes(b"x")
    if name != ".":
        with pytest.raises(RuleError):
            files.copy("there", name)
    for use in (files.remove, lambda name: files.copy(name, "there"), files.to_write):
        with suppress(RuleError):
            # What is no file may be there as a folder, or be absent.
            use(name)
    with suppress(RuleError):
        files.rename(name, "x")
    with pytest.raises(RuleError):
        files.read(name)


def test_appending_adds_to_the_file(files: ConfinedFiles) -> None:
    files.write("log", b"one\n", append=True)
    files.write("log", b"two\n", append=True)

    assert files.read("log") == b"one\ntwo\n"


def test_lines_that_many_append_at_once_stay_whole(files: ConfinedFiles) -> None:
    lines = [f"{number}".encode() * 2000 + b"\n" for number in range(8)]

    def work(line: bytes) -> None:
        for _ in range(20):
            files.write("log", line, append=True)

    threads = [threading.Thread(target=work, args=(line,)) for line in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = files.read("log").splitlines(keepends=True)
    assert sorted(found) == sorted(line for line in lines for _ in range(20))


def test_writing_replaces_the_file(files: ConfinedFiles, tmp_path: Path) -> None:
    files.write("x", b"long content")

    files.write("x", b"short")

    assert files.read("x") == b"short"
    assert names(tmp_path / "base") == ["x"]


def test_a_file_that_cannot_be_written_whole_is_as_before(
    files: ConfinedFiles, tmp_path: Path
) -> None:
    files.write("x", b"before")

    def parts() -> object:
        yield b"beginning"
        raise RuleError("the rest is missing")

    with pytest.raises(RuleError, match="the rest"):
        files.save("x", parts())  # type: ignore[arg-type]

    assert files.read("x") == b"before"
    assert names(tmp_path / "base") == ["x"]


def test_the_folder_has_to_be_there(files: ConfinedFiles) -> None:
    with pytest.raises(RuleError, match="No such file"):
        files.write("missing/x", b"x")


def test_copying_into_a_folder_keeps_the_name(files: ConfinedFiles) -> None:
    files.write("x.dcm", b"x" * 3_000_000)
    files.make_folder("a/b")

    files.copy("x.dcm", "a/b")
    files.copy("x.dcm", "y.dcm")

    assert files.read("a/b/x.dcm") == files.read("y.dcm") == b"x" * 3_000_000


def test_copying_what_is_not_there_leaves_the_target(files: ConfinedFiles) -> None:
    files.write("y", b"y")

    with pytest.raises(RuleError, match="'x' cannot be copied: No such file"):
        files.copy("x", "y")

    assert files.read("y") == b"y"


def test_folders_are_made_once(files: ConfinedFiles, tmp_path: Path) -> None:
    files.make_folder("a/b/c")
    files.make_folder("a/b/c")

    assert (tmp_path / "base/a/b/c").is_dir()
    files.write("a/file", b"x")
    with pytest.raises(RuleError, match="cannot be created"):
        files.make_folder("a/file/d")


def test_only_a_single_file_is_removed(files: ConfinedFiles) -> None:
    files.write("x", b"x")
    files.make_folder("folder")

    files.remove("x")
    files.remove("x")

    with pytest.raises(RuleError, match="'x' cannot be read"):
        files.read("x")
    with pytest.raises(RuleError, match="Is a directory"):
        files.remove("folder")


def test_a_pipe_holds_nobody_up(files: ConfinedFiles, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "base" / "pipe")

    for touch in (
        lambda: files.read("pipe"),
        lambda: files.write("pipe", b"x"),
        lambda: files.write("pipe", b"x", append=True),
        lambda: files.copy("pipe", "x"),
    ):
        with pytest.raises(RuleError):
            touch()


def test_a_temporary_path_is_unused_and_its_folder_there(
    files: ConfinedFiles, tmp_path: Path
) -> None:
    paths = {files.temporary(".dcm") for _ in range(50)}

    assert len(paths) == 50
    assert {path.parent for path in paths} == {tmp_path / "temp"}
    assert not any(path.exists() for path in paths)
    assert all(path.name.endswith(".dcm") for path in paths)


def test_a_temporary_file_goes_whatever_happens(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"

    def use() -> None:
        with temporary_file(path, [b"one", b"two"]) as made:
            assert made.read_bytes() == b"onetwo"
            assert made.stat().st_mode & 0o077 == 0
            raise RuleError("stop")

    with pytest.raises(RuleError, match="stop"):
        use()

    assert not path.exists()


@pytest.mark.parametrize("size", [0, 100, 3_000_000])
def test_a_private_copy_stays_when_the_file_changes(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x" * size)

    copy = private_copy(path)
    path.write_bytes(b"")

    assert bytes(copy) == b"x" * size


# Alias files.


def test_aliases_come_from_the_first_line_that_fits(files: ConfinedFiles, tmp_path: Path) -> None:
    text = "# note\nROOM1\tEast\r\nroom1\tWest\nné\tØ\nno tab\n\tnothing\nempty\t\n"
    (tmp_path / "base" / "aliasfileqa.txt").write_text(text, "utf-8")

    values = ["room1", "Room1", "né", "NÉ", "no tab", "other", "", "empty"]
    found = [files.alias("a", value) for value in values]

    assert found == ["East", "East", "Ø", "Ø", "no tab", "other", "nothing", ""]
    assert files.alias("A", "room1") == "room1"


def test_an_alias_file_in_latin_1_is_read(files: ConfinedFiles, tmp_path: Path) -> None:
    (tmp_path / "base" / "aliasfileqa.txt").write_bytes(b"a\t\xe9\n")

    assert files.alias("a", "a") == "é"


def test_a_changed_alias_file_counts_at_once(files: ConfinedFiles, tmp_path: Path) -> None:
    path = tmp_path / "base" / "aliasfileqa.txt"
    assert files.alias("a", "x") == "x"
    path.write_text("x\tone\n")
    assert files.alias("a", "x") == "one"
    path.write_text("x\tthree\n")
    assert files.alias("a", "x") == "three"
    path.unlink()
    assert files.alias("a", "x") == "x"


def test_the_current_folder_comes_before_the_base_folder(
    files: ConfinedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base" / "aliasfileqa.txt").write_text("x\tbase\n")
    (tmp_path / "outside" / "aliasfileqa.txt").write_text("x\there\n")
    monkeypatch.chdir(tmp_path / "outside")

    assert files.alias("a", "x") == "here"


def test_an_alias_file_that_cannot_be_read_is_an_error(
    files: ConfinedFiles, tmp_path: Path
) -> None:
    (tmp_path / "base" / "aliasfileqa.txt").mkdir()

    with pytest.raises(RuleError, match="aliasfileqa"):
        files.alias("a", "x")
