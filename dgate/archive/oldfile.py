"""What has become of the file that the index names for an instance, before it is replaced.

Pure questions to a device, for any thread.
"""

from __future__ import annotations

from enum import Enum

from dgate.archive.devices import Device
from dgate.archive.naming import is_confined
from dgate.archive.records import InstanceRef
from dgate.dicom.part10 import read_meta
from dgate.errors import NotDicom

HEAD_BYTES = 1 << 16


class OldFile(Enum):
    """What the file under an instance's name is."""

    OURS = "ours"
    LOST = "lost"
    """There is none."""
    FOREIGN = "foreign"
    """It holds another instance: older servers let two objects have one name."""
    UNREACHABLE = "unreachable"
    """Its device is not configured, or its name leads out of the device."""


def old_file(device: Device, known: InstanceRef) -> OldFile:
    """Look at the file; one that is damaged counts as ours."""
    if not known.name or not is_confined(known.name):
        return OldFile.UNREACHABLE
    if not device.exists(known.name):
        return OldFile.LOST
    holds = held_instance(device, known.name, known.sop_instance)
    return OldFile.OURS if holds in ("", known.sop_instance) else OldFile.FOREIGN


def held_instance(device: Device, name: str, sop_instance: str) -> str:
    """Return the SOP Instance UID that a file says it holds; empty when it is damaged or bare.

    `sop_instance` finds a file that has only its temporary name so far. Raises FileNotFoundError.
    """
    reader = device.open(name, sop_instance)
    try:
        return read_meta(reader.read_at(0, HEAD_BYTES)).sop_instance
    except NotDicom:
        return ""
    finally:
        reader.close()
