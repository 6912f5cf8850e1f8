"""Recovery at the start of one of several gateways that share the index and its devices."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dgate.archive import reservations
from dgate.archive.devices import FolderDevice
from dgate.archive.files import hash_file
from dgate.archive.index import Rewrite
from dgate.archive.ownership import ABANDONED_S, Owner
from dgate.archive.recovery import Recovered
from dgate.archive.spoolsweep import Swept
from tests.archive.intake_kit import SOP, Station, data_set, open_station

OTHER = "1.2.9"


@dataclass(frozen=True)
class Pair:
    """Two gateways on one index and one device."""

    ours: Station
    theirs: Station


def device(station: Station) -> FolderDevice:
    found = station.devices.get("MAG0")
    assert isinstance(found, FolderDevice)
    return found


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    # Where a name is held here, it stays held.
    monkeypatch.setattr(reservations, "OTHERS_WAIT_S", 0.0)
    ours, theirs = (
        open_station(tmp_path, owner=Owner.named(name, shared=True)) for name in ("one", "other")
    )
    yield Pair(ours, theirs)
    ours.close()
    theirs.close()


def abandon(station: Station) -> None:
    """Make all temporary files as old as those of a gateway that is gone for good."""
    for folder in (device(station).staged_path(""), station.devices.spool.folder):
        for path in folder.iterdir():
            old = path.lstat().st_mtime - ABANDONED_S - 3600
            os.utime(path, (old, old), follow_symlinks=False)


def leave_files(station: Station) -> list[str]:
    """Leave what a gateway may have in hand: files and a copy, of nothing that is committed."""
    os.close(device(station).spill(SOP, b"head").descriptor)
    os.close(station.devices.spool.spill(SOP, b"head").descriptor)
    device(station).stage(SOP, "x.dcm", [b"new"], rewrites=False)
    device(station).stage(SOP, "x.dcm", [b"again"], rewrites=True)
    assert device(station).hold("x.dcm")
    station.devices.spool.add([b"copy"])
    return station.files()


def unpublish(station: Station) -> None:
    """Make the stored object one that was committed and did not get its name."""
    name = station.ref().name
    staged = device(station).stage(SOP, name, [station.path().read_bytes()], rewrites=False)
    assert device(station).hold(name, existing=True)
    assert staged
    station.path().unlink()


def test_what_another_gateway_has_in_hand_is_left_alone(pair: Pair) -> None:
    files = leave_files(pair.theirs)

    assert pair.ours.recover() == Recovered()
    assert pair.ours.sweep() == Swept()
    assert pair.ours.files() == files


def test_gateway_judges_what_it_left_itself(pair: Pair) -> None:
    leave_files(pair.theirs)

    assert pair.theirs.recover() == Recovered(removed=4)
    assert pair.theirs.sweep() == Swept(removed=1, set_aside=1)
    assert [name for name in pair.ours.files() if "/lost/" not in name] == []


def test_files_of_a_gateway_that_is_gone_for_good_are_judged_by_any(pair: Pair) -> None:
    leave_files(pair.theirs)
    (device(pair.ours).staged_path("1.2.3.n1a2b3c4d0")).write_bytes(b"of an earlier version")
    abandon(pair.theirs)

    assert pair.ours.recover() == Recovered(removed=5)
    assert pair.ours.sweep() == Swept(removed=1, set_aside=1)
    assert [name for name in pair.ours.files() if "/lost/" not in name] == []


def test_committed_object_waits_for_its_own_gateway(pair: Pair) -> None:
    pair.theirs.send(data_set())
    unpublish(pair.theirs)

    assert pair.ours.recover() == Recovered()
    # It can be read all the while.
    assert pair.ours.content() == data_set()
    assert pair.theirs.recover() == Recovered(finished=1, removed=1)
    assert pair.ours.files() == [pair.ours.ref().name]
    assert pair.ours.content() == data_set()


def test_committed_object_stays_when_its_name_cannot_be_held(pair: Pair) -> None:
    """The claim does not say whose it is, as after a power cut where it has to be a file."""
    pair.theirs.send(data_set())
    unpublish(pair.theirs)
    [claim] = device(pair.theirs).staged_path("").glob("*.held")
    claim.unlink()
    claim.touch()

    assert pair.theirs.recover() == Recovered()
    assert pair.theirs.content() == data_set()

    abandon(pair.theirs)
    assert pair.theirs.recover() == Recovered(finished=1, removed=1)
    assert pair.theirs.files() == [pair.theirs.ref().name]
    assert pair.theirs.content() == data_set()


def test_committed_object_of_a_gateway_that_is_gone_gets_its_name(pair: Pair) -> None:
    pair.theirs.send(data_set())
    unpublish(pair.theirs)
    abandon(pair.theirs)

    assert pair.ours.recover() == Recovered(finished=1, removed=1)
    assert pair.ours.files() == [pair.ours.ref().name]
    assert pair.ours.content() == data_set()


def test_object_that_came_again_over_another_gateway_is_not_put_back(pair: Pair) -> None:
    pair.theirs.send(data_set())
    unpublish(pair.theirs)
    pair.ours.send(data_set(StudyDescription="Again"))

    pair.theirs.recover()

    assert pair.ours.files() == [pair.ours.ref().name]
    assert pair.ours.content() == data_set(StudyDescription="Again")


def test_name_that_waits_for_recovery_is_given_to_no_other_object(pair: Pair) -> None:
    """A row without a file yet: its name looks free."""
    pair.theirs.send(data_set())
    unpublish(pair.theirs)
    other = data_set(SOPInstanceUID=OTHER)
    assert not device(pair.ours).exists(pair.ours.ref().name)

    receipt = pair.ours.send(other, sop_instance=OTHER)
    assert receipt.name == pair.ours.ref().name.replace(".dcm", "_1.dcm")
    pair.theirs.recover()

    assert pair.ours.content() == data_set()
    assert pair.ours.content(OTHER) == other


def replace_halfway(station: Station) -> str:
    """Commit a replacement in place and leave the renames to be done; return the staged name."""
    name = station.ref().name
    head = station.path().read_bytes().removesuffix(data_set())
    new = head + data_set(StudyDescription="Second")
    staged = device(station).stage(SOP, name, [new], rewrites=True)
    assert device(station).hold(name, existing=True)
    note = Rewrite(SOP, hash_file(device(station).staged_path(staged)), "MAG0", name)
    station.writer.transact(lambda tx: station.index.add_rewrite(tx, note))
    return staged


def test_replacement_that_another_gateway_has_in_hand_keeps_its_note(pair: Pair) -> None:
    pair.theirs.send(data_set())
    staged = replace_halfway(pair.theirs)
    name = pair.theirs.ref().name

    assert pair.ours.recover() == Recovered()
    assert pair.ours.rewrites() == [SOP]

    # The next crash comes between the two renames.
    os.link(pair.theirs.path(), f"{pair.theirs.path()}.prev")
    assert pair.ours.recover() == Recovered()
    device(pair.theirs).publish(staged, name, keep_previous=True)
    assert pair.theirs.recover().finished == 0
    assert pair.ours.content() == data_set(StudyDescription="Second")
    assert pair.ours.files() == [name]
    assert pair.ours.rewrites() == []


@pytest.mark.parametrize("is_marked", [True, False], ids=["marked", "by an earlier version"])
def test_replacement_that_is_left_alone_keeps_its_note_without_a_claim(
    pair: Pair, is_marked: bool
) -> None:
    pair.theirs.send(data_set())
    name = pair.theirs.ref().name
    staged = device(pair.theirs).staged_path(replace_halfway(pair.theirs))
    device(pair.theirs).let_go(name)
    if not is_marked:
        staged = staged.rename(staged.with_name(f"{SOP}.r1a2b3c4d0"))

    assert pair.ours.recover() == Recovered()
    assert staged.exists()
    assert pair.ours.rewrites() == [SOP]
    assert list(staged.parent.glob("*.held")) == []

    abandon(pair.theirs)
    assert pair.ours.recover() == Recovered(finished=1)
    assert pair.ours.content() == data_set(StudyDescription="Second")
    assert pair.ours.files() == [name]
    assert pair.ours.rewrites() == []


def test_moving_replacement_that_is_left_alone_keeps_its_note(pair: Pair) -> None:
    """Its file gets a new name; the note tells that the old one is to go then."""
    pair.theirs.send(data_set())
    old = pair.theirs.path()
    content = old.read_bytes()
    assert device(pair.theirs).hold(pair.theirs.ref().name, existing=True)
    pair.ours.send(data_set(StudyDescription="Second"))
    device(pair.theirs).let_go(pair.theirs.ref().name)
    new = pair.ours.path()
    assert new != old
    # The power goes with neither renaming nor removal on the disk, and the claims with it.
    new.rename(device(pair.ours).staged_path(f"{SOP}.n1a2b3c4d0"))
    old.write_bytes(content)
    for claim in device(pair.ours).staged_path("").glob("*.held"):
        claim.unlink()

    assert pair.theirs.recover() == Recovered()
    assert pair.theirs.rewrites() == [SOP]

    abandon(pair.theirs)
    assert pair.theirs.recover() == Recovered(finished=1, removed=1)
    assert pair.theirs.content() == data_set(StudyDescription="Second")
    assert pair.theirs.files() == [pair.theirs.ref().name]
    assert pair.theirs.rewrites() == []


def test_note_of_a_replacement_that_is_complete_is_dropped_by_any(pair: Pair) -> None:
    pair.theirs.send(data_set())
    pair.theirs.send(data_set(StudyDescription="Second"))
    assert pair.ours.rewrites() == [SOP]

    assert pair.ours.recover() == Recovered()

    assert pair.ours.rewrites() == []
    assert pair.ours.content() == data_set(StudyDescription="Second")
    assert pair.ours.files() == [pair.ours.ref().name]


def test_replacement_in_place_is_left_to_who_holds_the_name(pair: Pair) -> None:
    """What the other gateway is about to rename must not come over the newer object."""
    pair.theirs.send(data_set())
    old = pair.ours.ref().name
    assert device(pair.theirs).hold(old, existing=True)

    receipt = pair.ours.send(data_set(StudyDescription="Newer"))

    assert receipt.name != old
    kept = [name for name in pair.ours.files() if not name.endswith(".held")]
    assert kept == [receipt.name]
    assert pair.ours.content() == data_set(StudyDescription="Newer")


def test_nothing_is_held_when_objects_are_stored(pair: Pair) -> None:
    for _ in range(2):
        pair.theirs.send(data_set())
        pair.ours.send(data_set(StudyDescription="Again"))

    assert pair.ours.files() == [pair.ours.ref().name]
