"""Objects that are only passed on: held as they arrived, never indexed, gone when let go.

For what virtual servers give while `CacheVirtualData` is 0. Small objects stay in memory, large
ones in the file that they were received into, which recovery removes after a crash. Any thread may
use a `Passing`.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from pathlib import Path

from dgate.archive.devices import Reader
from dgate.archive.files import FileReader
from dgate.archive.incoming import check_arrived, check_identity
from dgate.archive.records import InstanceRef
from dgate.dicom.part10 import file_meta
from dgate.dicom.payload import Payload
from dgate.dicom.table import ElementTable

PASSING_DEVICE = "PASSING"
"""What stands in the place of a device's name for an object that is only passed on."""


class _MemoryReader:
    """A Part 10 file that exists in memory only."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; fewer only at the end."""
        return self._content[offset : offset + size]

    def data(self, start: int = 0, folder: Path | None = None) -> memoryview:
        """Return what stands from `start` on."""
        return memoryview(self._content)[start:]

    def close(self) -> None:
        """Do nothing: the content belongs to the store."""


@dataclass(frozen=True, slots=True)
class _Held:
    payload: Payload
    header: bytes


class Passing:
    """The objects that are held at the moment."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}

    def hold(self, payload: Payload, syntax: str, sop_class: str, sop_instance: str) -> InstanceRef:
        """Check an object that has arrived and hold it until `let_go`; takes the payload over.

        Raises:
            StoreError: it did not arrive completely, is no DICOM, or not what the command names;
                the payload is still the caller's.
        """
        check_arrived(payload)
        table = ElementTable(payload.view(), syntax)
        check_identity(table, sop_class, sop_instance)
        header = file_meta(sop_class, sop_instance, syntax)
        name = str(next(self._numbers))
        with self._lock:
            self._held[name] = _Held(payload, header)
        return InstanceRef(
            sop_class,
            sop_instance,
            table.text(0x00100020),
            table.text(0x0020000D),
            table.text(0x0020000E),
            PASSING_DEVICE,
            name,
        )

    def open(self, ref: InstanceRef) -> Reader:
        """Open a held object as a Part 10 file; raises FileNotFoundError when it was let go."""
        with self._lock:
            held = self._held.get(ref.name)
            if held is None:
                raise FileNotFoundError(ref.name)
            spill = held.payload.spilled
            if spill is not None:
                return FileReader.of(str(spill.path))
            return _MemoryReader(held.header + held.payload.view())

    def let_go(self, ref: InstanceRef) -> None:
        """Forget an object; safe for any reference, and to call twice."""
        if ref.device != PASSING_DEVICE:
            return
        with self._lock:
            held = self._held.pop(ref.name, None)
            if held is not None:
                held.payload.close()

    def __len__(self) -> int:
        """Return how many objects are held."""
        return len(self._held)
