"""Names that are promised, and instances that wait for their turn."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from dgate.archive import reservations
from dgate.archive.devices import FolderDevice
from dgate.archive.ownership import Owner
from dgate.archive.reservations import Names, Turns
from dgate.errors import OutOfSpace, StoreError


@pytest.fixture
def device(tmp_path: Path) -> FolderDevice:
    made = FolderDevice("MAG0", tmp_path)
    made.prepare()
    return made


def test_free_name_is_kept(device: FolderDevice) -> None:
    assert Names().reserve(device, "P1/1.dcm") == "P1/1.dcm"


def test_name_that_is_promised_or_on_disk_gets_a_number(device: FolderDevice) -> None:
    names = Names()
    (device.root / "P1").mkdir()
    (device.root / "P1" / "1_1.dcm").touch()

    assert names.reserve(device, "P1/1.dcm") == "P1/1.dcm"
    assert names.reserve(device, "P1/1.dcm") == "P1/1_2.dcm"


def test_name_that_was_given_up_is_free_again(device: FolderDevice) -> None:
    names = Names()
    names.release(device, names.reserve(device, "1.dcm"))

    assert names.reserve(device, "1.dcm") == "1.dcm"


def test_name_on_another_device_is_another_name(device: FolderDevice, tmp_path: Path) -> None:
    names = Names()
    other = FolderDevice("MAG1", tmp_path / "other")
    names.reserve(device, "1.dcm")

    assert names.reserve(other, "1.dcm") == "1.dcm"


def test_threads_never_get_the_same_name(device: FolderDevice) -> None:
    names, got = Names(), []
    start = threading.Barrier(8)

    def reserve() -> None:
        start.wait()
        got.extend(names.reserve(device, "1.dcm") for _ in range(20))

    threads = [threading.Thread(target=reserve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(got)) == len(got) == 160


def of(gateway: str, device: FolderDevice) -> FolderDevice:
    """Return the same folder as one of several gateways sees it."""
    return FolderDevice("MAG0", device.root, owner=Owner.named(gateway, shared=True))


def claims(device: FolderDevice) -> list[Path]:
    return list(device.staged_path("").glob("*.held"))


def test_gateways_on_one_device_never_get_the_same_name(device: FolderDevice) -> None:
    got: list[str] = []
    start = threading.Barrier(6)

    def reserve(gateway: str) -> None:
        names, mine = Names(), of(gateway, device)
        start.wait()
        for number in range(20):
            name = names.reserve(mine, "1.dcm")
            got.append(name)
            if number % 2:
                # As storing does: the file has its name before the name is given up.
                mine.path(name).touch()
                names.release(mine, name)

    threads = [threading.Thread(target=reserve, args=(str(each),)) for each in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(got)) == len(got) == 120
    assert len(claims(device)) == 60


def test_name_is_free_for_other_gateways_once_it_is_given_up(device: FolderDevice) -> None:
    ours, theirs, names = of("one", device), of("other", device), Names()
    name = names.reserve(ours, "1.dcm")
    assert Names().reserve(theirs, "1.dcm") == "1_1.dcm"

    names.release(ours, name)

    assert Names().reserve(theirs, "1.dcm") == "1.dcm"


def test_file_that_is_to_be_replaced_is_one_gateway_s_at_a_time(
    device: FolderDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs, names = of("one", device), of("other", device), Names()
    (device.root / "1.dcm").touch()

    assert names.keep(ours, "1.dcm")
    with monkeypatch.context() as patch:
        patch.setattr(reservations, "OTHERS_WAIT_S", 0.01)
        assert not Names().keep(theirs, "1.dcm")
    waiting = threading.Thread(target=names.keep, args=(theirs, "1.dcm"))
    waiting.start()
    names.release(ours, "1.dcm")
    waiting.join()
    assert theirs.holds("1.dcm")


def test_nothing_is_written_for_names_of_a_gateway_that_is_alone(device: FolderDevice) -> None:
    names = Names()
    names.reserve(device, "1.dcm")

    assert names.keep(device, "2.dcm")
    assert claims(device) == []


def test_claim_says_whose_it_is_from_its_first_moment(
    device: FolderDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written into a file afterwards, a power cut may take away."""
    monkeypatch.delattr(os, "write")
    ours = of("one", device)

    assert ours.hold("1.dcm")

    [claim] = claims(device)
    assert str(claim.readlink()) == Owner.named("one", shared=True).mark
    assert ours.holds("1.dcm")
    assert not of("other", device).holds("1.dcm")


def test_claim_is_a_synced_file_where_there_are_no_links(
    device: FolderDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    synced: list[int] = []
    monkeypatch.setattr(os, "symlink", none)
    monkeypatch.setattr(os, "fsync", synced.append)
    ours, theirs, names = of("one", device), of("other", device), Names()
    name = names.reserve(ours, "1.dcm")

    assert len(synced) == 1
    assert Names().reserve(theirs, "1.dcm") == "1_1.dcm"
    assert ours.holds(name)
    assert not theirs.holds(name)
    assert len(ours.leftovers()[1]) == 1

    names.release(ours, name)
    assert Names().reserve(theirs, "1.dcm") == "1.dcm"


def test_name_that_was_left_held_is_this_gateway_s_own(
    device: FolderDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reservations, "OTHERS_WAIT_S", 0.0)
    ours, theirs, names = of("one", device), of("other", device), Names()
    name = names.reserve(ours, "1.dcm")
    assert not names.keep(ours, name)

    names.leave(ours, name)

    assert names.keep(ours, name)
    # Whatever became of the second attempt: only recovery knows what the first one is for.
    names.release(ours, name)
    assert names.keep(ours, name)
    assert not Names().keep(theirs, name)
    assert Names().reserve(theirs, name) == "1_1.dcm"
    assert Names().keep(of("one", device), "2.dcm")


def test_claim_that_cannot_be_written_is_none(
    device: FolderDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = of("one", device)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "symlink", full)
        patch.setattr(os, "write", full)
        with pytest.raises(OutOfSpace, match="No space"):
            Names().reserve(ours, "1.dcm")
    assert claims(device) == []

    device.staged_path("").rmdir()
    with pytest.raises(OutOfSpace, match="No such file"):
        Names().reserve(ours, "1.dcm")


def test_one_arrival_of_an_instance_is_let_through_at_a_time() -> None:
    turns, inside, most = Turns(), [0], [0]

    def work() -> None:
        for _ in range(50):
            turns.enter("1.2.3")
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            inside[0] -= 1
            turns.leave("1.2.3")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert most == [1]
    assert not any(thread.is_alive() for thread in threads)


def test_other_instances_need_not_wait() -> None:
    turns = Turns()
    turns.enter("1.2.3")
    turns.enter("1.2.4")
    turns.leave("1.2.3")
    turns.enter("1.2.3")


def test_instance_that_takes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reservations, "WAIT_S", 0.01)
    turns = Turns()
    turns.enter("1.2.3")

    with pytest.raises(StoreError, match="still being stored"):
        turns.enter("1.2.3")
