"""Whether files have changed and are whole: stamps, reading, missing files, the watcher."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import dgate.config.reload as reload_module
from dgate.config.reload import (
    Stamps,
    Watcher,
    looks_when_read,
    lost,
    read_whole,
    set_files,
    stamps_of,
)
from dgate.config.settings import Configuration, load
from dgate.config.template import new_set
from dgate.errors import ConfigError

PATIENCE_S = 60.0


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for name, content in new_set("SITE", 10400).items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_stamp_changes_when_a_file_is_written_replaced_or_removed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    looks = [stamps_of([path])]
    path.write_text("one")
    looks.append(stamps_of([path]))
    os.utime(path, ns=(1, 1))
    looks.append(stamps_of([path]))
    other = tmp_path / "other"
    other.write_text("two")
    os.utime(other, ns=(1, 1))
    other.replace(path)
    looks.append(stamps_of([path]))

    assert looks[0] == {path: None}
    assert all(before != after for before, after in itertools.pairwise(looks))


def test_reading_tells_the_four_files_and_what_they_hold(site: Path) -> None:
    configuration, stamps = read_whole(site / "dicom.ini")

    assert set(stamps) == set(set_files(configuration))
    assert configuration.contents[site / "acrnema.map"] == (site / "acrnema.map").read_bytes()


def test_files_that_change_while_they_are_read_are_read_again(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0

    def load_slowly(path: Path, former: Configuration | None = None) -> Configuration:
        nonlocal reads
        reads += 1
        found = load(path, former=former)
        if reads == 1:
            (site / "acrnema.map").write_text("SINK 127.0.0.1 104 as\n")
        return found

    monkeypatch.setattr(reload_module, "load", load_slowly)

    configuration, _ = read_whole(site / "dicom.ini")

    assert reads == 2
    assert [node.ae_title for node in configuration.nodes] == ["SINK"]


def test_files_that_never_rest_are_given_up(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0

    def load_slowly(path: Path, former: Configuration | None = None) -> Configuration:
        nonlocal reads
        reads += 1
        found = load(path, former=former)
        (site / "acrnema.map").write_text(f"SINK{reads} 127.0.0.1 104 as\n")
        return found

    monkeypatch.setattr(reload_module, "load", load_slowly)

    with pytest.raises(ConfigError, match="change while they are being read"):
        read_whole(site / "dicom.ini")


def test_missing_ini_file_is_an_error(site: Path) -> None:
    (site / "dicom.ini").unlink()

    with pytest.raises(ConfigError, match=r"cannot be read"):
        read_whole(site / "dicom.ini")


@pytest.mark.parametrize("name", ["acrnema.map", "dicom.sql", "dgatesop.lst"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "gone"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(b" \r\n\n"), "empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "half-written"),
    ],
    ids=["removed", "emptied", "blank", "cut"],
)
def test_file_that_was_whole_and_is_not_any_more_is_reported(
    site: Path, name: str, damage: Callable[[Path], object], words: str
) -> None:
    (site / name).write_bytes((site / name).read_bytes() + b"# the last line\n")
    before = load(site)
    damage(site / name)

    problems = lost(before, load(site))

    assert [problem.where for problem in problems] == [name]
    assert words in problems[0].message


def test_cut_ini_file_is_reported(site: Path) -> None:
    before = load(site)
    content = (site / "dicom.ini").read_bytes()
    (site / "dicom.ini").write_bytes(content[: len(content) // 2].rstrip() + b" x")

    assert [problem.where for problem in lost(before, load(site))] == ["dicom.ini"]


def test_changed_and_grown_files_are_no_loss(site: Path) -> None:
    before = load(site)
    (site / "acrnema.map").write_bytes(b"# nobody\n")
    # An editor that ends no last line is none that was interrupted.
    (site / "dicom.ini").write_bytes((site / "dicom.ini").read_bytes() + b"IgnoreRewrite = 1")

    assert lost(before, load(site)) == []


def test_file_that_was_missing_all_along_is_no_loss(site: Path) -> None:
    (site / "dgatesop.lst").unlink()

    assert lost(load(site), load(site)) == []


def test_file_that_changed_after_it_was_read_looks_other(site: Path) -> None:
    configuration = load(site)
    assert looks_when_read(configuration) == stamps_of(configuration.contents)

    (site / "acrnema.map").write_text("SINK 127.0.0.1 104 as\n")

    looks, now = looks_when_read(configuration), stamps_of(configuration.contents)
    assert [path.name for path in now if looks[path] != now[path]] == ["acrnema.map"]


class Desk:
    """A watcher over one file, and what it said."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.looks: Stamps = stamps_of([path])
        self.said = threading.Semaphore(0)
        self.contents: list[str] = []
        self.watcher = Watcher(lambda: self.looks, self._changed, look_every_s=0.02)

    def _changed(self) -> None:
        self.looks = stamps_of([self.path])
        self.contents.append(self.path.read_text() if self.path.exists() else "gone")
        self.said.release()


def test_watcher_says_once_that_a_file_has_changed(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "file")
    desk.watcher.start()
    for text in ("one", "two"):
        desk.path.write_text(text)
        assert desk.said.acquire(timeout=PATIENCE_S)
    desk.path.unlink()
    assert desk.said.acquire(timeout=PATIENCE_S)
    desk.watcher.stop()

    assert desk.contents == ["one", "two", "gone"]


def test_watcher_waits_until_a_file_is_at_rest(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "file")
    watcher = desk.watcher
    before = None
    for text in ("h", "ha", "half", "whole"):
        desk.path.write_text(text)
        before = watcher._look(before)
        assert desk.contents == []

    assert watcher._look(before) is None
    assert desk.contents == ["whole"]


def test_watcher_survives_a_failure_and_stops_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "file"
    desk = Desk(path)
    tries = threading.Semaphore(0)

    def fail() -> None:
        desk.looks = stamps_of([path])
        tries.release()
        raise ValueError("broken")

    watcher = Watcher(lambda: desk.looks, fail, look_every_s=0.02)
    watcher.stop()
    watcher.start()
    for text in ("one", "two"):
        path.write_text(text)
        assert tries.acquire(timeout=PATIENCE_S)
    watcher.stop()
    watcher.stop()

    assert "could not be looked at" in caplog.text
