"""A storage device that is a folder of the local file system: writing, naming, reading, removing.

Not for the choice among devices (`dgate.archive.devices`). May be used by any thread.
"""

# Paths are text here: this runs for every object, and a Path costs microseconds.
# ruff: noqa: PTH103, PTH104, PTH108, PTH208
from __future__ import annotations

import errno
import itertools
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from dgate.archive.files import (
    FileReader,
    Part,
    create_folders,
    open_spill,
    storage_failure,
    unlink_quietly,
    write_file,
)
from dgate.archive.nameclaims import HELD, Claims
from dgate.archive.ownership import Leftovers, Owner
from dgate.archive.watermark import Room, room_of
from dgate.dicom.payload import SpillFile
from dgate.errors import NotSynced

log = logging.getLogger(__name__)

PREVIOUS = ".prev"
"""Ending of the name under which a replaced file is kept until the new one is durable."""
_MOST_FOLDERS = 4096


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file in an incoming folder: `<SOP instance>.<n or r><unique>`; the unique part begins with
    the mark of the gateway (`dgate.archive.ownership`)."""

    name: str
    sop_instance: str
    rewrites: bool
    """It replaces a known object, so only its hash tells whether it was committed."""


class FolderDevice:
    """A device that is a folder of the local file system.

    `<root>/dgate/incoming` holds what has no final name yet. Folders that were created and synced
    are remembered, so that an object in a known folder costs no look at it.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        *,
        durable: bool = True,
        probe: Callable[[str], int] | None = None,
        owner: Owner | None = None,
    ) -> None:
        """`probe` returns the free bytes of the folder's file system, or raises OSError; None =
        the file system is asked. `owner` is the gateway; None = one that is alone."""
        self._name = name
        self.root = root
        self._probe = probe
        self._prefix = f"{root}/"
        self._incoming = f"{root}/dgate/incoming/"
        self._durable = durable
        # Losing an entry costs one more mkdir and sync, so no lock guards it.
        self._known_folders: dict[str, Set[Path]] = {}
        self._owner = owner or Owner()
        self._claims = Claims(self._incoming, self._owner)
        self._unique_prefix = self._owner.prefix(secrets.token_hex(4))
        self._counter = itertools.count()

    @property
    def name(self) -> str:
        """Return `MAGn`."""
        return self._name

    def prepare(self) -> None:
        """Create the device's own folder and make it durable; called once, before anything else."""
        try:
            create_folders(Path(self._incoming))
        except OSError as exc:
            raise storage_failure(exc, self._incoming) from exc

    def free_bytes(self) -> int:
        """Return what the file system lets an ordinary user write; 0 when it cannot be asked."""
        return self.room().free_bytes

    def room(self) -> Room:
        """Return what the file system still takes; never raises."""
        if self._probe is None:
            return room_of(self._prefix)
        try:
            return room_of(self._prefix)._replace(free_bytes=self._probe(self._prefix), problem="")
        except OSError as exc:
            return Room(0, problem=exc.strerror or str(exc))

    def spill(self, sop_instance: str, header: bytes) -> SpillFile:
        """Open `<SOP instance>.<unique>.part`; a crash leaves it for recovery to remove."""
        path = f"{self._incoming}{sop_instance}.{self._unique('s')}.part"
        return open_spill(path, header)

    def stage(self, sop_instance: str, name: str, parts: Sequence[Part], *, rewrites: bool) -> str:
        """Write into the incoming folder; a crash leaves a file that recovery judges."""
        self._create_folder(name)
        staged = f"{sop_instance}.{self._unique('r' if rewrites else 'n')}"
        write_file(self._incoming + staged, parts, durable=self._durable)
        return staged

    def adopt(
        self, sop_instance: str, name: str, spill: SpillFile, *, rewrites: bool
    ) -> str | None:
        """Rename the spill file within the incoming folder, then sync it.

        In this order the file's own sync covers its new name too, on journaling file systems. A
        crash before the rename leaves an incomplete file, after it one that recovery judges.

        Raises:
            NotSynced: the file is not to be read any more, either: of what could not be written the
                kernel may have kept nothing, and tells so only once.
            OutOfSpace: it could not be renamed.
        """
        if f"{spill.path.parent}/" != self._incoming:
            return None
        self._create_folder(name)
        staged = f"{sop_instance}.{self._unique('r' if rewrites else 'n')}"
        path = self._incoming + staged
        try:
            os.rename(spill.path, path)
            spill.path = Path(path)
        except OSError as exc:
            raise storage_failure(exc, path) from exc
        try:
            if self._durable:
                os.fsync(spill.descriptor)
        except OSError as exc:
            known = storage_failure(exc, path)
            raise NotSynced(known.what, where=known.where, remedy=known.remedy) from exc
        return staged

    def publish(self, staged: str, name: str, *, keep_previous: bool) -> Set[Path]:
        """Rename; until the returned folders are synced, a power cut may undo it.

        A crash leaves the old file, under its name or as PREVIOUS, until the new one has the name.
        """
        source, target = self._incoming + staged, self._file(name)
        folder = name.rpartition("/")[0]
        known = self._known_folders.get(folder)
        try:
            if keep_previous:
                _link_previous(target)
            try:
                os.rename(source, target)
            except FileNotFoundError:
                # Somebody removed the folder meanwhile; if the file is gone too, this raises.
                os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH120
                known = None
                os.rename(source, target)
        except OSError as exc:
            raise storage_failure(exc, target) from exc
        return known if known is not None else self._lineage(folder)

    def settle(self, name: str) -> None:
        """Remember the folder as one that exists and whose parents are synced."""
        folder = name.rpartition("/")[0]
        if folder in self._known_folders:
            return
        if len(self._known_folders) >= _MOST_FOLDERS:
            self._known_folders.clear()
        self._known_folders[folder] = frozenset((self.path(folder),))

    def exists(self, name: str) -> bool:
        """Tell whether the name is taken."""
        return os.access(self._file(name), os.F_OK)

    def hold(self, name: str, *, existing: bool = False) -> bool:
        """Keep other gateways from giving the name, or replacing its file, until `let_go`.

        False when one of them has it in hand, or, unless it is to be an `existing` one, when a file
        has the name. A crash leaves the claim for recovery. Raises OutOfSpace.
        """
        if not self._claims.take(name):
            return False
        # Only now: who had the name in hand gave it to a file before letting go of it.
        if not existing and self.exists(name):
            self._claims.drop(name)
            return False
        return True

    def holds(self, name: str) -> bool:
        """Tell whether the name is still held from a crash: by this gateway, or by one that has
        abandoned it. Raises OSError."""
        claim = self._claims.file(name)
        if not self._owner.shared or self._claims.is_own(claim):
            return True
        return Leftovers(self._owner, self._incoming).is_abandoned(claim)

    def let_go(self, name: str) -> None:
        """Let other gateways have the name; never raises."""
        self._claims.drop(name)

    def size(self, name: str) -> int | None:
        """Return the bytes of the file of this name; None when there is none."""
        try:
            return os.stat(self._file(name)).st_size  # noqa: PTH116 - asked for whole patients
        except OSError:
            return None

    def remove(self, name: str) -> Set[Path]:
        """Unlink the file; a missing one is as good."""
        path = self._file(name)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return frozenset()
        except OSError as exc:
            raise storage_failure(exc, path) from exc
        return frozenset((Path(path).parent,))

    def tidy(self, name: str) -> None:
        """Remove empty folders from the inside out; storing makes them again when it needs them."""
        folder = name.rpartition("/")[0]
        while folder:
            try:
                os.rmdir(self._file(folder))  # noqa: PTH106
            except OSError:
                return  # Not empty, as a rule.
            self._known_folders.pop(folder, None)
            folder = folder.rpartition("/")[0]

    def discard(self, staged: str) -> None:
        """Unlink the staged file; what cannot be removed now, recovery removes."""
        unlink_quietly(self._incoming + staged)

    def open(self, name: str, sop_instance: str) -> FileReader:
        """Open the file; one between commit and rename is found in the incoming folder."""
        try:
            return FileReader.of(self._file(name))
        except FileNotFoundError:
            pass  # It may be on its way to its name.
        for staged in self.staged():
            if staged.sop_instance == sop_instance and not staged.rewrites:
                try:
                    return FileReader.of(self._incoming + staged.name)
                except FileNotFoundError:
                    break  # It has just been renamed.
        return FileReader.of(self._file(name))

    def staged(self) -> Iterator[StagedFile]:
        """Yield the complete files of the incoming folder."""
        for name in sorted(os.listdir(self._incoming)):
            sop_instance, _, unique = name.rpartition(".")
            if sop_instance and unique[:1] in ("n", "r"):
                yield StagedFile(name, sop_instance, rewrites=unique[0] == "r")

    def leftovers(self) -> tuple[list[StagedFile], list[str]]:
        """Return what earlier runs left in the incoming folder: complete files, and names of
        others.

        What another gateway may have in hand is not among it; of an abandoned complete file this
        one becomes the owner. Raises OSError.
        """
        mine = Leftovers(self._owner, self._incoming)
        staged = []
        others = set(os.listdir(self._incoming))
        for file in list(self.staged()):
            others.discard(file.name)
            found: StagedFile | None = file
            if not self._owner.owns(file.name):
                found = self._take_over(file) if mine.is_abandoned(file.name) else None
            if found is not None:
                staged.append(found)
        claims = {name for name in others if name.endswith(HELD) and self._claims.is_own(name)}
        return staged, sorted(name for name in others if name in claims or mine.has(name))

    def _take_over(self, file: StagedFile) -> StagedFile | None:
        """Make a file this gateway's; None when another one was first. Raises OSError."""
        name = f"{file.sop_instance}.{self._unique('r' if file.rewrites else 'n')}"
        try:
            os.rename(self._incoming + file.name, self._incoming + name)
        except FileNotFoundError:
            return None
        log.warning("The file %s, which another gateway left, was taken over.", file.name)
        return StagedFile(name, file.sop_instance, file.rewrites)

    def staged_path(self, staged: str) -> Path:
        """Return where a file of the incoming folder lies."""
        return Path(self._incoming + staged)

    def path(self, name: str) -> Path:
        """Return where the file of this name lies."""
        return Path(self._file(name))

    def folders(self, name: str) -> Set[Path]:
        """Return the folder of the name and all above it up to the device's root: once they are
        synced, no power cut undoes the name."""
        return self._lineage(name.rpartition("/")[0])

    def _file(self, name: str) -> str:
        """Return where a file lies.

        Older servers named files in the bytes of their objects, mostly Latin-1; the index gives
        such a name decoded (rulings.md 8).
        """
        path = self._prefix + name
        if name.isascii() or os.path.lexists(path):
            return path
        try:
            older = self._prefix + os.fsdecode(name.encode("latin-1"))
        except UnicodeEncodeError:
            return path
        return older if os.path.lexists(older) else path

    def _create_folder(self, name: str) -> None:
        """Create the folders of the name unless they are known; a crash leaves them empty."""
        folder = name.rpartition("/")[0]
        if folder in self._known_folders:
            return
        try:
            os.makedirs(os.path.dirname(self._file(name)), exist_ok=True)  # noqa: PTH120
        except OSError as exc:
            raise storage_failure(exc, self._prefix + folder) from exc

    def _unique(self, kind: str) -> str:
        return f"{kind}{self._unique_prefix}{next(self._counter):x}"

    def _lineage(self, folder: str) -> Set[Path]:
        """Return the folder and everything above it up to the device's root."""
        path = self.path(folder)
        between = itertools.takewhile(lambda parent: parent != self.root, (path, *path.parents))
        return frozenset((*between, self.root))


class ReadOnlyFolder(FolderDevice):
    """A volume that is only read: a CD, or the copy of one."""

    def room(self) -> Room:
        """Return that there is none."""
        return Room(0, read_only=True)

    def spill(self, sop_instance: str, header: bytes) -> SpillFile:
        """Raise OSError."""
        raise OSError(errno.EROFS, "the volume is only read", str(self.root))

    def stage(self, sop_instance: str, name: str, parts: Sequence[Part], *, rewrites: bool) -> str:
        """Raise OutOfSpace."""
        raise storage_failure(OSError(errno.EROFS, "the volume is only read"), str(self.path(name)))

    def hold(self, name: str, *, existing: bool = False) -> bool:
        """Return True: nobody gives names here, nor replaces files."""
        return True

    def let_go(self, name: str) -> None:
        """Do nothing, as nothing is held."""

    def remove(self, name: str) -> Set[Path]:
        """Raise OutOfSpace."""
        raise storage_failure(OSError(errno.EROFS, "the volume is only read"), str(self.path(name)))


def _link_previous(path: str) -> None:
    """Give a file a second name; where that is impossible, the atomic rename alone must do."""
    unlink_quietly(path + PREVIOUS)
    try:
        os.link(path, path + PREVIOUS)
    except OSError as exc:
        log.debug("The file %s could not be kept as %s: %s.", path, PREVIOUS, exc.strerror)
