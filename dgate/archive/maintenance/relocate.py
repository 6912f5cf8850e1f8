"""Putting stored objects at another place: new files first, then their rows, then the old files go.

The common step of moving between devices and of correcting identities. A crash before the commit
leaves new files without rows, which recovery removes; one after it leaves files under temporary
names, which recovery publishes, and notes by which it removes the old ones. Runs in the caller's
thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dgate.archive.devices import Device, Devices, Reader
from dgate.archive.files import COPY_BYTES, FileRange, FileReader, Part
from dgate.archive.maintenance.removals import Removal, Removals
from dgate.archive.records import InstanceRef
from dgate.archive.reservations import Names, Turns
from dgate.archive.writer import Transaction, Writer
from dgate.errors import OutcomeUnknown, StoreError

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Relocation:
    """One object on its way to a new place."""

    ref: InstanceRef
    """The object as it is stored now."""
    device: Device
    name: str
    """The reserved new name."""
    staged: str
    sop_instance: str
    """Its UID afterwards."""
    size: int = 0


Rows = Callable[[Transaction, Sequence[Relocation]], Sequence[Relocation]]
"""Changes the rows in the transaction and returns the relocations that hold; the others, whose
objects have changed meanwhile, are dropped. An exception undoes everything."""


class Relocator:
    """Stages new files and commits them."""

    def __init__(
        self, writer: Writer, removals: Removals, devices: Devices, names: Names, turns: Turns
    ) -> None:
        self._writer = writer
        self._removals = removals
        self._devices = devices
        self._names = names
        self._turns = turns

    @contextmanager
    def holding(
        self, refs: Iterable[InstanceRef], contested: set[str] | None = None
    ) -> Iterator[None]:
        """Keep objects from being stored again meanwhile, and their files from being replaced by
        another gateway; nobody who waits for one holds another.

        Raises StoreError when one is being stored for ever. With `contested`, the SOP instances
        that another gateway is storing are put there instead, and are not held.
        """
        of = {ref.sop_instance: ref for ref in refs}
        kept: set[tuple[str, str]] = set()
        with ExitStack() as held:
            for sop_instance in sorted(of):
                self._turns.enter(sop_instance)
                held.callback(self._turns.leave, sop_instance)
                name = of[sop_instance].name
                device = self._devices.get(of[sop_instance].device)
                # Older servers let two objects have one name.
                if device is None or (device.name, name) in kept:
                    continue
                if not self._names.keep(device, name):
                    if contested is None:
                        raise stored_elsewhere(name)
                    contested.add(sop_instance)
                    continue
                kept.add((device.name, name))
                held.callback(self._names.let_go, device, name)
            yield

    def stage(
        self,
        ref: InstanceRef,
        device: Device,
        name: str,
        parts: Sequence[Part],
        sop_instance: str | None = None,
    ) -> Relocation:
        """Write and sync a new file for an object, which must be there and be held.

        Raises:
            OutOfSpace: the device cannot take it; nothing is left of it.
        """
        sop_instance = sop_instance or ref.sop_instance
        name = self._names.reserve(device, name)
        try:
            staged = device.stage(sop_instance, name, parts, rewrites=False)
        except BaseException:
            self._names.release(device, name)
            raise
        return Relocation(ref, device, name, staged, sop_instance)

    def commit(self, relocations: Sequence[Relocation], rows: Rows) -> list[Relocation]:
        """Make staged files the objects' files, and remove the old ones; returns what held.

        The caller is `holding` the objects.

        Of what was not committed, nothing staged is left behind.

        Raises:
            OutcomeUnknown: nobody knows yet whether the rows were committed. Files and names stay
                as they are; recovery finds out.
        """
        job = _RelocationJob(relocations, rows, self._removals)
        try:
            self._writer.run(job)
        except OutcomeUnknown:
            for each in relocations:
                self._names.leave(each.device, each.name)
            raise
        except BaseException:
            self._conclude(job, relocations)
            raise
        self._conclude(job, relocations)
        # Only now are the new names durable.
        self._removals.carry_out(job.notes, held=True)
        return list(job.held)

    def _conclude(self, job: _RelocationJob, relocations: Sequence[Relocation]) -> None:
        """Let go of what was not committed, and of the names that are on disk now."""
        for relocation in relocations:
            if not job.committed or relocation not in job.held:
                relocation.device.discard(relocation.staged)
            elif relocation in job.published:
                relocation.device.settle(relocation.name)
            else:
                # A row owns the name already, and only recovery gives it to the file.
                self._names.leave(relocation.device, relocation.name)
                continue
            self._names.release(relocation.device, relocation.name)

    def withdraw(self, relocations: Iterable[Relocation]) -> None:
        """Remove staged files that will not be committed."""
        for relocation in relocations:
            relocation.device.discard(relocation.staged)
            self._names.release(relocation.device, relocation.name)


class _RelocationJob:
    """Changes rows, then gives the staged files their names."""

    def __init__(self, relocations: Sequence[Relocation], rows: Rows, removals: Removals) -> None:
        self._relocations = relocations
        self._rows = rows
        self._removals = removals
        self.held: Sequence[Relocation] = ()
        self.notes: list[Removal] = []
        self.published: list[Relocation] = []
        self.committed = False

    def work(self, transaction: Transaction) -> None:
        """Write rows and notes; a crash leaves neither, and staged files."""
        self.held = self._rows(transaction, self._relocations)
        self.notes = self._removals.note(transaction, [each.ref for each in self.held])

    def publish(self) -> Set[Path]:
        """Rename; a crash before leaves committed rows and staged files."""
        self.committed = True
        folders: set[Path] = set()
        for each in self.held:
            folders |= each.device.publish(each.staged, each.name, keep_previous=False)
            self.published.append(each)
        return folders


def stored_elsewhere(name: str) -> StoreError:
    """Return why an object cannot be held whose file another gateway is about to replace."""
    return StoreError(
        "another gateway is storing the object",
        where=name,
        remedy="try again; if that one has crashed, start it",
    )


def whole_file(reader: Reader) -> Sequence[Part]:
    """Return an open file as the parts of a copy; nothing of a local one is loaded."""
    if isinstance(reader, FileReader):
        return [FileRange(reader.descriptor, 0, reader.size)]
    return [reader.read_at(start, COPY_BYTES) for start in range(0, reader.size, COPY_BYTES)]
