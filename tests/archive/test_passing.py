"""Objects that are held in passing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dgate.archive.devices import Devices
from dgate.archive.export import Exporter
from dgate.archive.passing import PASSING_DEVICE, Passing
from dgate.clock import SystemClock
from dgate.config.settings import default_settings
from dgate.dicom.part10 import file_meta
from dgate.dicom.payload import SPILL_BYTES, Payload, SpillFile
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from dgate.errors import DataSetMismatch, Missing, NotDicom, StoreError
from tests.archive.database_kit import image
from tests.delivery.kit import CT

UID = "1.2.3"


def arrived(data: bytes, folder: Path) -> Payload:
    """Return a payload as an association fills it."""

    def spill() -> SpillFile:
        path = folder / "x.part"
        header = file_meta(CT, UID, EXPLICIT_LE, "PEER")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        os.write(descriptor, header)
        return SpillFile(descriptor, path, len(header))

    payload = Payload(spill)
    payload.append(data)
    return payload


def data_set(pixels: int = 0) -> bytes:
    plain = image(SOPInstanceUID=UID, SOPClassUID=CT, PatientID="ID").tobytes()
    if not pixels:
        return plain
    return plain + b"\xe0\x7f\x10\x00OW\0\0" + pixels.to_bytes(4, "little") + bytes(pixels)


@pytest.fixture
def passing() -> Passing:
    return Passing()


@pytest.fixture
def exporter(tmp_path: Path, passing: Passing) -> Exporter:
    settings = default_settings(tmp_path, mag_devices=(tmp_path / "data",))
    devices = Devices.from_settings(settings, SystemClock())
    return Exporter(devices, settings, others={PASSING_DEVICE: passing.open})


@pytest.mark.parametrize("pixels", [0, SPILL_BYTES + 10], ids=["in memory", "in a file"])
def test_object_goes_out_with_the_same_bytes(
    tmp_path: Path, passing: Passing, exporter: Exporter, pixels: int
) -> None:
    data = data_set(pixels)
    ref = passing.hold(arrived(data, tmp_path), EXPLICIT_LE, CT, UID)

    outgoing = exporter.open(ref)

    assert b"".join(bytes(chunk) for chunk in outgoing.chunks()) == data
    assert (outgoing.sop_class, outgoing.sop_instance, outgoing.syntax) == (CT, UID, EXPLICIT_LE)
    assert exporter.open(ref, IMPLICIT_LE).syntax == IMPLICIT_LE
    assert ref.patient_id == "ID"
    outgoing.close()


@pytest.mark.parametrize("pixels", [0, SPILL_BYTES + 10], ids=["in memory", "in a file"])
def test_object_that_was_let_go_leaves_nothing(
    tmp_path: Path, passing: Passing, exporter: Exporter, pixels: int
) -> None:
    ref = passing.hold(arrived(data_set(pixels), tmp_path), EXPLICIT_LE, CT, UID)

    passing.let_go(ref)
    passing.let_go(ref)

    assert len(passing) == 0
    assert not (tmp_path / "x.part").exists()
    with pytest.raises(Missing):
        exporter.open(ref)


def test_what_is_not_what_the_command_names_is_refused(tmp_path: Path, passing: Passing) -> None:
    payload = arrived(data_set(), tmp_path)
    with pytest.raises(DataSetMismatch):
        passing.hold(payload, EXPLICIT_LE, CT, "9.9")
    with pytest.raises(NotDicom):
        passing.hold(arrived(b"garbage!", tmp_path), EXPLICIT_LE, CT, UID)
    assert len(passing) == 0
    assert bytes(payload.view()) == data_set()


def test_object_that_did_not_fit_on_the_disk_is_refused(tmp_path: Path, passing: Passing) -> None:
    payload = arrived(data_set(), tmp_path)
    payload.error = OSError(28, "No space left on device")
    with pytest.raises(StoreError):
        passing.hold(payload, EXPLICIT_LE, CT, UID)
