"""The spool of copies that belong to their debts."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dgate.archive.spool import Spool
from dgate.errors import OutOfSpace


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "dgate" / "spool")
    made.prepare()
    return made


def test_copy_can_be_read_until_it_is_removed(spool: Spool) -> None:
    name = spool.add([b"head", b"body"])

    reader = spool.open(name)
    assert reader.read_at(0, 100) == b"headbody"
    reader.close()
    assert list(spool.names()) == [name]

    spool.remove(name)
    spool.remove(name)
    assert list(spool.names()) == []
    with pytest.raises(FileNotFoundError):
        spool.open(name)


def test_copy_has_its_name_only_when_it_is_complete(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        with pytest.raises(OutOfSpace, match="broken"):
            spool.add([b"bytes"])

    assert list(spool.names()) == []


def test_copies_set_aside_are_no_copies_of_the_spool(spool: Spool) -> None:
    first, second = spool.add([b"first"]), spool.add([b"second"])

    lost = spool.set_aside([first])

    assert (lost / first).read_bytes() == b"first"
    assert list(spool.names()) == [second]


def test_spool_that_is_gone_has_no_space(spool: Spool) -> None:
    assert spool.free_bytes() > 0
    spool.folder.rmdir()
    assert spool.free_bytes() == 0


def test_link_shares_the_bytes(spool: Spool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    descriptor = os.open(path, os.O_RDONLY)

    name = spool.link(descriptor, path)

    assert name is not None
    assert (spool.folder / name).samefile(path)
    os.close(descriptor)


def test_link_that_is_impossible_is_answered_with_none(spool: Spool, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)

    assert spool.link(descriptor, tmp_path / "gone") is None
    os.close(descriptor)


def test_link_that_cannot_be_synced_is_out_of_space(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fdatasync", fail)

    with pytest.raises(OutOfSpace):
        spool.link(0, tmp_path)


def test_only_copies_can_be_removed(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "dgate" / "other").write_bytes(b"")

    spool.remove("../other")

    assert (tmp_path / "dgate" / "other").exists()


def test_spool_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(OutOfSpace, match="file"):
        Spool(tmp_path / "file" / "spool").prepare()


def test_object_still_arriving_is_no_complete_copy(spool: Spool) -> None:
    spill = spool.spill("1.2.3", b"head")

    assert spill.data_offset == 4
    assert spill.path.read_bytes() == b"head"
    assert spill.path.suffix == ".part"
    os.close(spill.descriptor)
