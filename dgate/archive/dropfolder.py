"""One folder whose files are imported and then removed (`WatchFolder`, `<MAG0>/incoming`).

Looks once when told to (`look`); when to look is `dgate.archive.watcher`'s. Owned by one thread.

Whoever may write into the folder is not trusted: links are never followed, everything is reached
through the descriptor of the open folder above it, and no name is ever joined to a path. A file is
removed only after its object is as safe as an acknowledged C-STORE, so a crash leaves it to be
imported again. What cannot be imported goes to `failed` in the same folder with a text file that
says why; nothing else is ever deleted but empty folders and what macOS puts beside files.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dgate.archive.dropfiles import (
    HIDDEN,
    Signature,
    free_name,
    hidden_name,
    is_being_written,
    is_passing,
    is_still,
    opened,
    shown,
    signature_of,
    write_text,
)
from dgate.archive.importer import import_open_file, import_stream
from dgate.archive.ingest import Ingest
from dgate.archive.unpack import Wrapping, members, wrapping_of
from dgate.clock import Clock
from dgate.errors import (
    DatabaseAway,
    DataSetMismatch,
    DgateError,
    NotDicom,
    OutOfSpace,
    Refused,
    RuleError,
    StoreError,
)
from dgate.rules.session import Session

log = logging.getLogger(__name__)

_SOURCE = "folder"
"""What the ledger says of where the objects came from."""

FAILED = "failed"
SETTLED_S = 0.9
"""How long a file must not have changed; a little less than the pause between two looks."""
UNSURE_S = 10.0
"""The same where nobody can tell whether it is still being written, as on network file systems."""
EMPTY_S = 60.0
"""How long an empty file, and an empty folder, is left alone: its content may be yet to come."""
MOST_TRIES = 3
"""Tries of a file that the archive, not the file, seems to be at fault for."""
DEEPEST = 32
MOST_HL7_BYTES = 16 << 20
_MOST_REASONS = 20
_APPLE_DOUBLE = b"\x00\x05\x16\x07"
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Hl7Loader = Callable[[bytes], object]
"""Takes the messages of an HL7 file into the worklist; raises DgateError for what it cannot."""


@dataclass(slots=True)
class Tally:
    """What one look did."""

    taken: int = 0
    failed: int = 0
    changing: int = 0
    """Files that are new or have changed since the look before."""
    waiting: str = ""
    """Why the look was given up: the archive cannot take anything at the moment."""


class _Busy(Exception):
    """The file is not complete yet, or somebody has it open for writing."""


class _NotNow(Exception):
    """The archive cannot take anything now, whatever the file."""


class DropFolder:
    """A folder and what is remembered of its files between two looks."""

    def __init__(
        self,
        path: Path,
        ingest: Callable[[], Ingest],
        clock: Clock,
        *,
        delay_s: float = 0.0,
        load_hl7: Hl7Loader | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """`delay_s` is how long a file is left alone after its last change, at least."""
        self.path = path
        self._ingest = ingest
        self._clock = clock
        self._settled_s = max(delay_s, SETTLED_S)
        self._load_hl7 = load_hl7
        self._stopping = stopping
        self._seen: dict[str, tuple[Signature, float]] = {}
        self._now_seen: dict[str, tuple[Signature, float]] = {}
        self._left: dict[str, Signature] = {}
        """Files that were dealt with but could not be removed or moved."""
        self._tries: dict[str, int] = {}
        self._root = -1
        self._session = Session()
        """What rules keep from one file to the next."""
        self._tally = Tally()

    def look(self) -> Tally:
        """Import what is complete, and note what is not.

        Raises:
            OSError: the folder cannot be opened, read or written at the moment.
        """
        self._tally = Tally()
        self._now_seen = {}
        self._root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=self._root):
                # Nothing is taken that could not be removed: it would come again for ever.
                raise PermissionError(errno.EACCES, "the folder may not be written")
            self._visit(self._root, "", 0)
        except _NotNow as exc:
            self._tally.waiting = str(exc)
        finally:
            os.close(self._root)
        if not self._tally.waiting and not self._stopping():
            self._left = {at: sign for at, sign in self._left.items() if at in self._now_seen}
            self._tries = {at: tries for at, tries in self._tries.items() if at in self._now_seen}
        self._seen = self._now_seen
        return self._tally

    # Finding.

    def _visit(self, folder: int, where: str, depth: int) -> bool:
        """Deal with the files of an open folder and those below; return whether it is empty."""
        with os.scandir(folder) as entries:
            names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        for name, is_folder in names:
            if self._stopping():
                return False
            at = f"{where}{name}"
            if at == FAILED:
                continue
            if not is_folder:
                self._meet(folder, name, at)
            elif depth < DEEPEST:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    self._enter(folder, name, f"{at}/", depth + 1)
        return not names

    def _enter(self, parent: int, name: str, where: str, depth: int) -> None:
        folder = os.open(name, _FOLDER_FLAGS, dir_fd=parent)
        try:
            is_empty = self._visit(folder, where, depth)
            age = self._clock.now() - os.fstat(folder).st_mtime
        except PermissionError as exc:
            log.debug("The folder %s below %s cannot be read: %s", where, self.path, exc)
            return
        finally:
            os.close(folder)
        if is_empty and age > EMPTY_S:
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=parent)

    def _meet(self, folder: int, name: str, at: str) -> None:
        """Look at one file; deal with it when it has been the same for long enough."""
        if name.startswith(HIDDEN):
            # A crash came between its import and its removal.
            self._give_back(folder, name, name.removeprefix(HIDDEN))
            return
        if is_passing(name):
            return
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        mode = status.st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            return
        signature = signature_of(status)
        now = self._clock.monotonic()
        before, since = self._seen.get(at, (None, now))
        if before != signature:
            since = now
            self._tally.changing += 1
        self._now_seen[at] = (signature, since)
        settled_s = self._settled_s if status.st_size else max(EMPTY_S, self._settled_s)
        if now - since < settled_s or self._left.get(at) == signature:
            return
        try:
            self._take(folder, name, at, signature, now - since)
        except _Busy:
            return
        self._now_seen.pop(at, None)
        if at in self._left:
            self._now_seen[at] = (signature, since)

    # Taking.

    def _take(self, folder: int, name: str, at: str, signature: Signature, age_s: float) -> None:
        """Import a file and remove it, or move it to `failed`."""
        if name.startswith("._"):
            self._take_apple_double(folder, name, at, signature)
            return
        try:
            with opened(folder, name) as file:
                self._check_complete(file, signature, age_s)
                self._import(file, name)
                if signature_of(os.fstat(file.fileno())) != signature:
                    # It was changed while it was read: what was stored is replaced by the next try.
                    raise _Busy
        except (OutOfSpace, DatabaseAway) as exc:
            raise _NotNow(str(exc)) from exc
        except (NotDicom, DataSetMismatch, Refused, RuleError) as exc:
            self._fail(folder, name, at, signature, str(exc))
        except (StoreError, OSError) as exc:
            self._tries[at] = self._tries.get(at, 0) + 1
            if self._tries[at] < MOST_TRIES:
                log.debug("The file %s is tried again: %s", shown(at), exc)
                raise _Busy from exc
            self._fail(folder, name, at, signature, str(exc))
        except DgateError as exc:
            self._fail(folder, name, at, signature, str(exc))
        except _Busy:
            raise
        except Exception as exc:
            # A fault of dgate itself. The file is kept where somebody looks, or it would come
            # again with each look.
            log.exception("The file %s in %s failed unexpectedly.", at, self.path)
            self._fail(folder, name, at, signature, f"unexpected error: {exc!r}")
        else:
            self._tally.taken += 1
            self._remove(folder, name, at, signature)

    def _check_complete(self, file: BinaryIO, signature: Signature, age_s: float) -> None:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or signature_of(status) != signature:
            raise _Busy
        is_written = is_being_written(file.fileno())
        if is_written or (is_written is None and age_s < UNSURE_S):
            raise _Busy

    def _import(self, file: BinaryIO, name: str) -> None:
        ingest = self._ingest()
        if name.lower().endswith(".hl7"):
            self._import_hl7(file)
            return
        wrapping = wrapping_of(os.pread(file.fileno(), 512, 0))
        if wrapping is Wrapping.NONE:
            import_open_file(ingest, file, str(self.path / name), self._session, _SOURCE)
            return
        wrong = []
        found = 0
        for inner, content in members(file, wrapping, name):
            if self._stopping():
                raise _Busy
            found += 1
            try:
                import_stream(ingest, content, str(self.path / name), self._session, _SOURCE)
            except (NotDicom, DataSetMismatch, Refused, RuleError) as exc:
                wrong.append(f"{inner}: {exc}")
                if wrapping is Wrapping.GZIP:
                    break
        if not found:
            raise NotDicom("the archive holds no files")
        if wrong:
            more = "" if len(wrong) <= _MOST_REASONS else f"\n... and {len(wrong) - _MOST_REASONS}"
            text = "\n".join(wrong[:_MOST_REASONS])
            raise NotDicom(f"{len(wrong)} of {found} files in it failed:\n{text}{more}")

    def _import_hl7(self, file: BinaryIO) -> None:
        if self._load_hl7 is None:
            raise NotDicom("no worklist takes HL7 messages here")
        data = file.read(MOST_HL7_BYTES + 1)
        if len(data) > MOST_HL7_BYTES:
            raise NotDicom(f"an HL7 file has at most {MOST_HL7_BYTES >> 20} MiB")
        self._load_hl7(data)

    def _take_apple_double(self, folder: int, name: str, at: str, signature: Signature) -> None:
        """Remove what macOS writes beside a file; another file of such a name stays."""
        try:
            with opened(folder, name) as file:
                is_one = file.read(4) == _APPLE_DOUBLE
        except OSError:
            return
        if is_one:
            self._remove(folder, name, at, signature)
        else:
            self._left[at] = signature

    # Clearing away.

    def _remove(self, folder: int, name: str, at: str, signature: Signature) -> None:
        """Remove a file whose object is stored, unless it has become another one meanwhile.

        It gets a hidden name first, under which nobody puts another file or opens this one, is
        looked at once more, and only then removed. A crash leaves it under the hidden name, and the
        next look gives it its own again.
        """
        hidden = hidden_name(name)
        try:
            if signature_of(os.stat(name, dir_fd=folder, follow_symlinks=False)) != signature:
                return
            os.rename(name, hidden, src_dir_fd=folder, dst_dir_fd=folder)
        except FileNotFoundError:
            return
        except OSError as exc:
            self._leave(at, signature, exc)
            return
        try:
            is_same = is_still(folder, hidden, signature)
            if is_same:
                os.unlink(hidden, dir_fd=folder)
        except OSError as exc:
            status = os.stat(hidden, dir_fd=folder, follow_symlinks=False)
            self._give_back(folder, hidden, name)
            # Giving a file its name changes the time of change.
            with contextlib.suppress(OSError):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            self._leave(at, signature_of(status), exc)
        else:
            if not is_same:
                self._give_back(folder, hidden, name)

    def _leave(self, at: str, signature: Signature, exc: OSError) -> None:
        """Leave a file alone that was dealt with and cannot be removed."""
        self._left[at] = signature
        log.warning(
            "The file %s in %s was imported but cannot be removed (%s); it is left alone.",
            shown(at),
            self.path,
            exc.strerror,
        )

    def _give_back(self, folder: int, hidden: str, name: str) -> None:
        """Give a file its name again, or one with a number when there is another by now."""
        free = free_name(folder, name)
        try:
            os.rename(hidden, free, src_dir_fd=folder, dst_dir_fd=folder)
        except FileNotFoundError:
            return
        except OSError as exc:
            log.error(
                "The file %s in %s cannot get its name %s again: %s.",
                shown(hidden),
                self.path,
                shown(name),
                exc.strerror,
            )

    def _fail(self, folder: int, name: str, at: str, signature: Signature, reason: str) -> None:
        """Move a file to `failed` with the reason beside it."""
        try:
            with self._failed_folder(at) as target:
                kept = free_name(target, name)
                stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._clock.now()))
                # First: a reason without file is harmless, a file without reason is a riddle.
                write_text(target, kept, f"{stamp} {at}\n{reason}\n")
                os.rename(name, kept, src_dir_fd=folder, dst_dir_fd=target)
        except FileNotFoundError:
            return
        except OSError as exc:
            self._left[at] = signature
            log.error(
                "The file %s in %s was not imported (%s) and cannot be moved to %s (%s); it is "
                "left alone until it changes.",
                shown(at),
                self.path,
                shown(reason),
                FAILED,
                exc.strerror,
            )
            return
        self._tally.failed += 1
        first = reason.partition("\n")[0]
        log.warning(
            "The file %s in %s was not imported and was moved to %s: %s",
            shown(at),
            self.path,
            FAILED,
            shown(first),
        )

    @contextlib.contextmanager
    def _failed_folder(self, at: str) -> Iterator[int]:
        """Open `failed` and the folders in it that the file came from."""
        folder = os.dup(self._root)
        try:
            for part in (FAILED, *at.split("/")[:-1]):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
                inner = os.open(part, _FOLDER_FLAGS, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)
