"""Where objects go, where several gateways share the devices: claims that fail, names left held."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive import reservations
from dgate.archive.devices import FolderDevice
from dgate.archive.ownership import Owner
from dgate.archive.writer import Writer
from dgate.errors import OutcomeUnknown, OutOfSpace
from tests.archive.intake_kit import Station, data_set, open_station


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Station]:
    """Return one of several gateways, with two devices."""
    # Where a name is held here, it stays held.
    monkeypatch.setattr(reservations, "OTHERS_WAIT_S", 0.0)
    made = open_station(
        tmp_path,
        owner=Owner.named("one", shared=True),
        mag_devices=(tmp_path / "mag0", tmp_path / "mag1"),
    )
    yield made
    made.close()


def claims_fail(patch: pytest.MonkeyPatch, *folders: str, code: int = errno.EIO) -> None:
    """Make claims impossible on some devices."""

    def on_these(real: Callable[..., Any], place: int) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            path = str(arguments[place])
            if path.endswith(".held") and any(f"/{folder}/" in path for folder in folders):
                raise OSError(code, os.strerror(code))
            return real(*arguments, **named)

        return call

    patch.setattr(os, "symlink", on_these(os.symlink, 1))
    patch.setattr(os, "open", on_these(os.open, 0))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_object_goes_to_the_next_device_when_no_name_can_be_claimed_on_the_first(
    station: Station, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    with monkeypatch.context() as patch:
        claims_fail(patch, "mag0", code=code)
        assert station.send(data_set()).device == "MAG1"

    # The first one counts as failing from then on.
    uid = "1.2.9"
    assert station.send(data_set(SOPInstanceUID=uid), sop_instance=uid).device == "MAG1"
    assert station.content() == data_set()


def test_known_object_goes_to_the_next_device_when_its_own_name_cannot_be_claimed(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert station.send(data_set()).device == "MAG0"

    with monkeypatch.context() as patch:
        claims_fail(patch, "mag0")
        receipt = station.send(data_set(StudyDescription="Second"))

    assert receipt.device == "MAG1"
    assert station.content() == data_set(StudyDescription="Second")
    assert station.files() == [receipt.name]


def test_object_is_refused_when_no_device_takes_a_claim(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        claims_fail(patch, "mag0", "mag1")
        for _ in range(2):
            with pytest.raises(OutOfSpace, match="Input/output"):
                station.send(data_set())

    assert station.files() == []
    station.send(data_set())
    assert station.content() == data_set()


def test_memory_that_is_short_blames_no_device(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        claims_fail(patch, "mag0", code=errno.ENOMEM)
        with pytest.raises(OutOfSpace, match="memory"):
            station.send(data_set())

    assert station.send(data_set()).device == "MAG0"


def test_object_whose_rename_failed_gets_its_own_name_when_it_comes_again(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", broken)
        with pytest.raises(OutOfSpace):
            station.send(data_set())
    name = station.ref().name
    (device, _) = station.devices
    assert isinstance(device, FolderDevice)
    other = FolderDevice("MAG0", device.root, owner=Owner.named("other", shared=True))
    assert not other.hold(name)

    receipt = station.send(data_set(StudyDescription="Second"))

    assert receipt.name == name
    assert station.content() == data_set(StudyDescription="Second")
    station.recover()
    assert station.files() == [name]
    assert station.content() == data_set(StudyDescription="Second")


@pytest.mark.parametrize("committed", [True, False])
def test_object_of_which_nobody_knows_whether_it_was_committed_keeps_its_name(
    station: Station, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    station.send(data_set())
    name = station.ref().name
    real = Writer.run

    def lost_answer(self: Writer, job: Any) -> Any:
        if committed:
            real(self, job)
        raise OutcomeUnknown("the server went away", where="index")

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "run", lost_answer)
        with pytest.raises(OutcomeUnknown):
            station.send(data_set(StudyDescription="Second"))

    assert station.send(data_set(StudyDescription="Third")).name == name
    station.recover()
    assert station.files() == [name]
    assert station.content() == data_set(StudyDescription="Third")
