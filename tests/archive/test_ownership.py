"""Whose a temporary file is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dgate.archive.folder import FolderDevice
from dgate.archive.ownership import ABANDONED_S, Leftovers, Owner
from dgate.archive.spool import Spool

OURS = Owner.named("one", shared=True)
THEIRS = Owner.named("other", shared=True)


def names_of(folder: Path, owner: Owner) -> list[str]:
    """Return one name of each kind that a gateway gives."""
    device, spool = FolderDevice("MAG0", folder, owner=owner), Spool(folder / "s", owner=owner)
    device.prepare()
    spool.prepare()
    spills = [device.spill("1.2.3", b""), spool.spill("1.2.3", b"")]
    for spill in spills:
        os.close(spill.descriptor)
    return [
        device.stage("1.2.3", "a.dcm", [b"x"], rewrites=False),
        device.stage("1.2.3", "a.dcm", [b"x"], rewrites=True),
        spool.add([b"x"]),
        *(spill.path.name for spill in spills),
    ]


def test_mark_stays_the_same_and_tells_gateways_apart() -> None:
    assert Owner.named("one", shared=True) == OURS
    assert OURS.mark != THEIRS.mark


def test_every_name_tells_its_gateway(tmp_path: Path) -> None:
    for name in names_of(tmp_path, OURS):
        assert OURS.owns(name)
        assert not THEIRS.owns(name)


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "1.2.3.n1a2b3c4d0",
        "0123456789abcdef-0.dcm",
        f"1.2.ng{OURS.mark}-1-1.n1a2b",
        f"g{OURS.mark}-1-1.dcm.part.n1",
    ],
)
def test_other_names_are_nobody_s(name: str) -> None:
    assert not OURS.owns(name)


def test_who_is_alone_owns_everything(tmp_path: Path) -> None:
    alone = Owner("00000000")

    assert all(alone.owns(name) for name in (*names_of(tmp_path, THEIRS), "notes.txt"))


def test_foreign_file_is_a_leftover_once_nobody_has_written_it_for_days(tmp_path: Path) -> None:
    file = tmp_path / "1.2.3.n0"
    file.touch()
    now = file.stat().st_mtime

    assert not Leftovers(OURS, str(tmp_path)).has(file.name)
    os.utime(file, (now, now - ABANDONED_S + 3600))
    assert not Leftovers(OURS, str(tmp_path)).has(file.name)
    os.utime(file, (now, now - ABANDONED_S - 3600))
    assert Leftovers(OURS, str(tmp_path)).has(file.name)


def test_file_that_is_gone_is_no_leftover(tmp_path: Path) -> None:
    assert not Leftovers(OURS, str(tmp_path)).has("1.2.3.n0")
