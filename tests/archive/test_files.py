"""Writing, copying and hashing whole files."""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.files import FileRange, FileReader, Part, hash_parts, write_file
from dgate.dicom.filedata import as_buffer
from dgate.errors import OutOfSpace, StoreError, Unreadable


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

    with pytest.raises(Unreadable, match="shorter"):
        write_file(str(tmp_path / "copy"), beyond, durable=False)
    assert not (tmp_path / "copy").exists()
    with pytest.raises(Unreadable, match="shorter"):
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


def test_empty_file_has_no_data(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    reader = FileReader.of(str(tmp_path / "empty"))

    assert as_buffer(reader.data()) == b""
    reader.close()


def test_source_that_cannot_be_read_is_told_from_a_target_that_cannot_be_written(
    tmp_path: Path, source: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's own copy says EIO for both."""

    def broken(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    target = str(tmp_path / "copy")
    monkeypatch.setattr(os, "copy_file_range", broken)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", broken)
        with pytest.raises(OutOfSpace) as full:
            write_file(target, parts_over(source), durable=False)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", broken)
        with pytest.raises(Unreadable):
            write_file(target, parts_over(source), durable=False)
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", broken)
        with pytest.raises(Unreadable):
            hash_parts(parts_over(source))

    assert full.value.where == target
    assert not Path(target).exists()


SIZES = pytest.mark.parametrize("megabytes", [1, 9], ids=["short", "long"])
UNREADABLE = (OSError, StoreError)


@SIZES
@pytest.mark.parametrize("start", [0, 132])
def test_data_is_what_stands_in_the_file(tmp_path: Path, megabytes: int, start: int) -> None:
    content = os.urandom(megabytes << 20)
    (tmp_path / "file").write_bytes(content)
    reader = FileReader.of(str(tmp_path / "file"))
    data = reader.data(start)
    reader.close()

    view = memoryview(as_buffer(data))
    assert bytes(view) == content[start:]
    assert view.readonly


@SIZES
def test_data_of_a_file_that_was_cut_short_is_an_error_and_no_signal(
    tmp_path: Path, megabytes: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(megabytes << 20))
    reader = FileReader.of(str(path))
    os.truncate(path, 1000)

    with pytest.raises(UNREADABLE, match="shorter than it was"):
        as_buffer(reader.data())
    reader.close()


@SIZES
def test_data_that_the_disk_cannot_read_is_an_error(
    tmp_path: Path, megabytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(megabytes << 20))
    reader = FileReader.of(str(path))

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    monkeypatch.setattr(os, "pread", broken)

    with pytest.raises(UNREADABLE, match="Input/output"):
        as_buffer(reader.data())
    reader.close()


def times_open(path: Path) -> int:
    """Return how often this process has a file open; other tests' files come and go meanwhile."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += link.readlink() == path
    return count


def test_a_long_file_is_open_as_long_as_its_data_is_used(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(5 << 20))
    reader = FileReader.of(str(path))
    assert times_open(path) == 1
    data = reader.data()
    assert times_open(path) == 2
    del data
    gc.collect()

    assert times_open(path) == 1
    reader.close()


def test_a_stored_file_is_never_mapped(tmp_path: Path) -> None:
    path = tmp_path / "stored.dcm"
    path.write_bytes(bytes(9 << 20))
    reader = FileReader.of(str(path))
    data = reader.data(0, tmp_path / "temporary")
    view = as_buffer(data)
    reader.close()

    assert len(view) == 9 << 20
    assert str(path) not in Path("/proc/self/maps").read_text()
    # What is mapped instead has no name, and goes with the last look at it.
    assert list((tmp_path / "temporary").iterdir()) == []


SHORTENED_LATER = """
import os, sys
from dgate.archive.files import FileReader
from dgate.dicom.filedata import as_buffer

data = FileReader.of(sys.argv[1]).data()
view = as_buffer(data)
os.truncate(sys.argv[1], 0)
print(sum(view[::4096]))
"""


@SIZES
def test_a_file_that_is_cut_while_it_is_looked_at_kills_nobody(
    tmp_path: Path, megabytes: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\1" * (megabytes << 20))

    done = subprocess.run(
        [sys.executable, "-c", SHORTENED_LATER, str(path)], capture_output=True, check=False
    )

    assert (done.returncode, done.stdout.strip()) == (0, b"%d" % (256 * megabytes))
