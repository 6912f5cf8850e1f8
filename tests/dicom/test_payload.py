"""Data sets on their way in: in memory, then on disk, and what happens when there is no room."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dgate.dicom.payload import GROWTH_BYTES, SPILL_BYTES, Payload, SpillFile

PIECE = bytes(1 << 20)
HEADER = b"header"


def spilling(path: Path, has_room: Callable[[int], bool] | None = None) -> Payload:
    """Return a payload that spills into a file at `path`."""

    def spill() -> SpillFile:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.write(descriptor, HEADER)
        return SpillFile(descriptor, path, len(HEADER), has_room)

    return Payload(spill)


def test_small_data_set_stays_in_memory(tmp_path: Path) -> None:
    payload = spilling(tmp_path / "spill")

    payload.append(b"12")
    payload.append(b"34")

    assert bytes(payload.view()) == b"1234"
    assert not (tmp_path / "spill").exists()


def test_large_data_set_goes_to_a_file_that_is_removed_at_the_end(tmp_path: Path) -> None:
    payload = spilling(tmp_path / "spill")
    data = os.urandom(SPILL_BYTES + 1)

    payload.append(data[:1000])
    payload.append(data[1000:])

    assert bytes(payload.view()) == data
    payload.close()
    payload.close()
    assert not (tmp_path / "spill").exists()


@pytest.mark.parametrize("is_told", [True, False], ids=["callback", "log"])
def test_disk_that_does_not_let_the_file_go_is_told_and_never_raised(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_told: bool,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    left: list[tuple[Path, int | None]] = []
    path = tmp_path / "spill"
    payload = spilling(path)
    payload.append(bytes(SPILL_BYTES + 1))
    assert payload.spilled is not None
    if is_told:
        payload.spilled.left = lambda path, exc: left.append((path, exc.errno))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        payload.close()
        payload.close()

    assert path.exists()
    assert left == ([(path, errno.EROFS)] if is_told else [])
    lines = [line for line in caplog.messages if str(path) in line]
    assert len(lines) == (0 if is_told else 1)


def test_file_that_somebody_has_taken_over_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    payload = spilling(tmp_path / "spill")
    payload.append(bytes(SPILL_BYTES + 1))
    (tmp_path / "spill").rename(tmp_path / "stored")

    with monkeypatch.context() as patch:
        # What a read-only disk says even where there is no such file.
        patch.setattr(Path, "unlink", fail)
        payload.close()

    assert (tmp_path / "stored").stat().st_size == SPILL_BYTES + 1 + len(HEADER)
    assert caplog.messages == []


def test_identifier_that_is_too_large_is_counted_only() -> None:
    payload = Payload()

    payload.append(PIECE)
    payload.append(b"1")

    assert payload.overflowed
    assert payload.size == SPILL_BYTES + 1


def test_room_is_looked_at_each_time_the_file_has_grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.dicom.payload.GROWTH_BYTES", 4 << 20)
    asked: list[int] = []
    payload = spilling(tmp_path / "spill", lambda more: asked.append(more) is None)

    for _ in range(13):
        payload.append(PIECE)

    assert asked == [4 << 20] * 3
    payload.close()


def test_piece_that_is_larger_than_a_step_is_asked_for_whole(tmp_path: Path) -> None:
    asked: list[int] = []

    def has_room(more: int) -> bool:
        asked.append(more)
        return False

    payload = spilling(tmp_path / "spill", has_room)
    payload.append(bytes(GROWTH_BYTES + 5))

    assert asked == [GROWTH_BYTES + 5]
    assert payload.error is not None
    assert payload.error.errno == errno.ENOSPC


def test_space_is_given_back_at_once_when_there_is_no_room_for_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.dicom.payload.GROWTH_BYTES", 2 << 20)
    payload = spilling(tmp_path / "spill", lambda more: False)

    for _ in range(4):
        payload.append(PIECE)

    assert payload.error is not None
    assert payload.error.errno == errno.ENOSPC
    assert payload.error.filename == str(tmp_path / "spill")
    assert payload.spilled is None
    assert list(tmp_path.iterdir()) == []
    assert payload.size == 4 * len(PIECE)


def test_failing_disk_is_remembered_and_never_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, "broken")

    payload = spilling(tmp_path / "spill")
    payload.append(PIECE)
    payload.append(PIECE)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        patch.setattr(Path, "unlink", fail)
        payload.append(PIECE)

    payload.append(PIECE)
    assert payload.error is not None
    assert payload.error.errno == errno.EIO
    payload.close()
