"""What the file is that the index names for an instance."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.archive.devices import FolderDevice
from dgate.archive.oldfile import OldFile, old_file
from dgate.archive.records import InstanceRef
from dgate.dicom.part10 import file_meta
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from tests.archive.intake_kit import CT, SOP, data_set


@pytest.fixture
def device(tmp_path: Path) -> FolderDevice:
    made = FolderDevice("MAG0", tmp_path)
    made.prepare()
    return made


def ref(name: str, sop_instance: str = SOP) -> InstanceRef:
    return InstanceRef(CT, sop_instance, "P1", "1.2.3.1", "1.2.3.1.1", "MAG0", name)


def put(device: FolderDevice, name: str, content: bytes) -> str:
    path = device.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return name


def test_file_of_the_instance_is_ours(device: FolderDevice) -> None:
    name = put(device, "P1/1.dcm", file_meta(CT, SOP, EXPLICIT_LE) + data_set())

    assert old_file(device, ref(name)) is OldFile.OURS


def test_bare_data_set_of_the_instance_is_ours(device: FolderDevice) -> None:
    name = put(device, "P1/1.v2", data_set(IMPLICIT_LE))

    assert old_file(device, ref(name)) is OldFile.OURS


@pytest.mark.parametrize("content", [b"", b"garbage garbage garbage", b"\0" * 500])
def test_damaged_file_counts_as_ours(device: FolderDevice, content: bytes) -> None:
    assert old_file(device, ref(put(device, "1.dcm", content))) is OldFile.OURS


def test_file_of_another_instance_is_foreign(device: FolderDevice) -> None:
    other = file_meta(CT, "1.2.3.9", EXPLICIT_LE) + data_set(SOPInstanceUID="1.2.3.9")

    assert old_file(device, ref(put(device, "1.dcm", other))) is OldFile.FOREIGN


def test_missing_file_is_lost(device: FolderDevice) -> None:
    assert old_file(device, ref("P1/gone.dcm")) is OldFile.LOST


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "/etc/passwd", "P1/../../x.dcm"])
def test_name_that_leads_out_of_the_device_is_not_looked_at(
    device: FolderDevice, name: str
) -> None:
    assert old_file(device, ref(name)) is OldFile.UNREACHABLE
