"""Where an object goes: its device, its name, and what it takes the place of.

Not for writing it (`dgate.archive.ingest`). Any thread may ask; names stay reserved until they are
released.
"""

from __future__ import annotations

from dgate.archive.devices import PREVIOUS, Device, Devices
from dgate.archive.incoming import Incoming
from dgate.archive.jobs import Placing
from dgate.archive.naming import Naming, extension
from dgate.archive.oldfile import OldFile, old_file
from dgate.archive.records import InstanceRef
from dgate.archive.reservations import Names
from dgate.config.settings import Settings
from dgate.dicom.uids import transfer_syntax
from dgate.errors import OutOfSpace


class Placement:
    """Places objects."""

    def __init__(self, settings: Settings, devices: Devices, naming: Naming, names: Names) -> None:
        self._settings = settings
        self._devices = devices
        self._naming = naming
        self._names = names

    def place(self, item: Incoming, known: InstanceRef | None) -> Placing:
        """Choose device and name; nothing is on disk yet, the name is only reserved.

        Raises:
            OutOfSpace: no device takes it.
        """
        encapsulated = transfer_syntax(item.table.syntax).encapsulated
        name = self._naming.name(
            item.table,
            item.entry,
            item.calling,
            item.called,
            encapsulated=encapsulated,
            session=item.session,
        )
        spill = item.payload.spilled
        # A large object stays where it is already: the first device may have no room for it.
        preferred = item.verdict.device or (spill.area if spill is not None else "") or None
        if known is None:
            device, name = self._reserve(self._devices.choose(preferred), preferred, name)
            return Placing(device, name, None, replaces=False, by_hash=False)
        old = self._devices.get(known.device)
        state = OldFile.UNREACHABLE if old is None else old_file(old, known)
        same_kind = extension(known.name).lower() == extension(name).lower()
        is_contested = False
        may_stay = same_kind and not self._settings.rename_on_rewrite
        may_stay = may_stay and state in (OldFile.OURS, OldFile.LOST)
        if old is not None and may_stay and self._takes(old, item):
            self._devices.admit_places()
            is_kept = self._keep(old, known.name)
            if is_kept:
                return _in_place(old, known)
            # The old name waits for another gateway, which may be gone: another one will do.
            may_stay, is_contested = False, is_kept is not None
        device = self._devices.choose(preferred)
        if may_stay and device is old:
            is_kept = self._keep(device, known.name)
            if is_kept:
                return _in_place(device, known)
            is_contested = is_kept is not None
        device, name = self._reserve(device, preferred, name)
        if (known.device, known.name) == (device.name, name):
            return _in_place(device, known)
        # While the old file is there, its row protects it, and a new name is enough to tell
        # afterwards whether the commit happened.
        placing = Placing(device, name, known, replaces=False, by_hash=state is OldFile.LOST)
        if old is not None and (state is OldFile.OURS or is_contested):
            placing.leftover = (old, known.name)
        return placing

    def _reserve(self, device: Device, preferred: str | None, name: str) -> tuple[Device, str]:
        """Reserve a free form of the name there, or where else it can be; raises OutOfSpace.

        What a claim of the name meets is often the first sign of a device that fails.
        """
        tried: set[str] = set()
        while True:
            try:
                return device, self._names.reserve(device, name)
            except OutOfSpace as exc:
                tried.add(device.name)
                if not self._devices.goes_on_after(device, exc):
                    raise
                device = self._devices.choose(preferred)
                if device.name in tried:
                    raise

    def _keep(self, device: Device, name: str) -> bool | None:
        """Keep the name of a known object; None when its device fails and another one takes files.

        False when another gateway has the name in hand. Raises OutOfSpace.
        """
        try:
            return self._names.keep(device, name)
        except OutOfSpace as exc:
            if not self._devices.goes_on_after(device, exc):
                raise
            return None

    def _takes(self, device: Device, item: Incoming) -> bool:
        """Tell whether a device takes the object in the place of the one that it has."""
        spill = item.payload.spilled
        is_there = spill is None or spill.area == device.name
        return self._devices.takes(device) and (
            is_there or self._devices.has_room_for(device, item.payload.size)
        )


def _in_place(device: Device, known: InstanceRef) -> Placing:
    """Return the placing of an object that takes the known one's name."""
    leftover = (device, known.name + PREVIOUS)
    return Placing(device, known.name, known, replaces=True, by_hash=True, leftover=leftover)
