"""Writing, copying and hashing whole files."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.files import FileRange, FileReader, Part, hash_parts, write_file
from dgate.errors import OutOfSpace


@pytest.fixture
def source(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "source"
    path.write_bytes(bytes(range(256)) * 10_000)
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def parts_over(source: int) -> list[Part]:
    return [b"head", FileRange(source, 256, 2_000_000), b"", memoryview(b"tail")]


def expected() -> bytes:
    return b"head" + (bytes(range(256)) * 10_000)[256:2_000_256] + b"tail"


def test_untouched_ranges_are_copied_between_new_parts(tmp_path: Path, source: int) -> None:
    write_file(str(tmp_path / "copy"), parts_over(source), durable=True)

    assert (tmp_path / "copy").read_bytes() == expected()


@pytest.mark.parametrize("code", [errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP])
def test_ranges_are_copied_by_hand_where_the_kernel_cannot(
    tmp_path: Path, source: int, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "copy_file_range", fail)

    write_file(str(tmp_path / "copy"), parts_over(source), durable=False)

    assert (tmp_path / "copy").read_bytes() == expected()


def test_full_disk_within_a_copy_leaves_nothing(
    tmp_path: Path, source: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "copy_file_range", fail)

    with pytest.raises(OutOfSpace, match="full"):
        write_file(str(tmp_path / "copy"), parts_over(source), durable=False)
    assert not (tmp_path / "copy").exists()


def test_source_that_ends_early_is_an_error(tmp_path: Path, source: int) -> None:
    beyond = [FileRange(source, 2_559_000, 2_000)]

    with pytest.raises(OutOfSpace):
        write_file(str(tmp_path / "copy"), beyond, durable=False)
    with pytest.raises(OSError, match="shorter"):
        hash_parts(beyond)


def test_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "writev", interrupt)

    with pytest.raises(KeyboardInterrupt):
        write_file(str(tmp_path / "new"), [b"bytes"], durable=False)
    assert not (tmp_path / "new").exists()


def test_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"mine")

    with pytest.raises(OutOfSpace):
        write_file(str(tmp_path / "there"), [b"other"], durable=False)
    assert (tmp_path / "there").read_bytes() == b"mine"


def test_more_buffers_than_one_call_takes_are_written(tmp_path: Path) -> None:
    write_file(str(tmp_path / "many"), [b"%04d" % n for n in range(2500)], durable=False)

    assert (tmp_path / "many").read_bytes() == b"".join(b"%04d" % n for n in range(2500))


def test_hash_of_parts_is_that_of_the_file(source: int) -> None:
    assert hash_parts(parts_over(source)) == hashlib.sha256(expected()).hexdigest()


def test_empty_file_has_an_empty_view(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    reader = FileReader.of(str(tmp_path / "empty"))

    assert bytes(reader.view()) == b""
    reader.close()
