"""Rebuild of the index from the files, while the server keeps serving (spec dicom-sql.md 5).

Worker processes read headers, and one job after the other enters them in large groups through the
writer that everybody uses. Not for looking without changing anything
(`dgate.archive.maintenance.verify`). One rebuild runs at a time; it belongs to the thread that
iterates over `Regen.run`.
"""

from __future__ import annotations

import fnmatch
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from dgate.archive.database import Database
from dgate.archive.devices import Devices, FolderDevice
from dgate.archive.index import Index
from dgate.archive.levels import LEVELS, Level, Schema
from dgate.archive.maintenance.crew import Crew, worker_count
from dgate.archive.maintenance.entering import Enterer, EnterJob, Fate
from dgate.archive.maintenance.indexrows import IndexRow, index_rows
from dgate.archive.maintenance.marks import Mark, Tally
from dgate.archive.maintenance.scanner import Keep, RepairOptions, Scanned, Scanner, ScanSettings
from dgate.archive.maintenance.walk import batched, walk
from dgate.archive.naming import is_confined
from dgate.archive.writer import Transaction, Writer
from dgate.clock import Clock
from dgate.errors import DgateError
from dgate.ops.control import Answer, Command

log = logging.getLogger(__name__)

ALONE_BATCHES = 8
"""So many batches share a transaction when no server runs. Beside one, each has its own: a C-STORE
waits for it some hundredths of a second."""
PROGRESS_S = 0.5
PRUNE_ROWS = 500

NONE_LEFT = (
    "not one of the {count} files that the index has on {device} is there: is it mounted? No row "
    "was removed"
)


@dataclass(frozen=True, slots=True)
class RegenOptions:
    """What is to be rebuilt, and how."""

    device: str = ""
    """`MAGn`; empty = all."""
    folder: str = ""
    """Only below this folder of the device; with wildcards, the top folders that match."""
    from_empty: bool = False
    """Clear patients, studies, series and images first."""
    prune: bool = False
    """Remove rows whose file is gone, instead of only naming them."""
    restart: bool = False
    """Read everything again, though an earlier run was not completed."""
    workers: int | None = None
    """Processes that read; None = one for each processor, 0 = none."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """One device, or one folder of it."""

    device: FolderDevice
    folder: str

    @property
    def key(self) -> str:
        return f"{self.device.name}:{self.folder}"

    def holds(self, name: str) -> bool:
        """Tell whether a file name from the index belongs here."""
        return not self.folder or name.startswith(f"{self.folder}/")


class Regen:
    """Rebuilds the index of one archive.

    `keep` is called with each object and the path of its file and says whether it is entered
    (RegenConverter0; the objects are then read in this process, not in workers); `failed` is told
    the path of each file that cannot be read (RegenFailConverter0).
    """

    def __init__(
        self,
        database: Database,
        schema: Schema,
        index: Index,
        writer: Writer,
        devices: Devices,
        settings: ScanSettings,
        clock: Clock,
        *,
        beside_server: bool,
        keep: Keep | None = None,
        failed: Callable[[Path, str], None] | None = None,
        turn: threading.Lock | None = None,
    ) -> None:
        """Prepare; `turn` is shared by those that must not run at the same time."""
        self._database = database
        self._schema = schema
        self._writer = writer
        self._devices = devices
        self._clock = clock
        self._beside_server = beside_server
        self._keep = keep
        self._failed = failed
        self._index = index
        self._scanner = Scanner(schema, RepairOptions.of(settings), keep)
        self._running = turn or threading.Lock()
        """Held by the one rebuild."""
        self._expected: dict[str, int] = {}
        """How many objects the index had of each device at the beginning."""

    def run(self, options: RegenOptions) -> Iterator[Answer]:
        """Rebuild, and yield what happens: `progress`, `problem` (path, text) and in the end
        `summary`, each under `kind`.

        Closing the iterator stops the rebuild; a later one goes on where it was.

        Raises:
            DgateError: there is no index, another rebuild runs, or the folder is none.
        """
        if not self._schema.levels:
            raise DgateError("no index is kept", remedy="set SQLite = 1 and SQLServer")
        if not self._running.acquire(blocking=False):
            raise DgateError(
                "a rebuild of the index is at work already", remedy="wait until it has ended"
            )
        try:
            scopes = self._scopes(options)
            shared = Enterer(self._database, self._schema, self._index, self._devices)
            marks = self._begin(shared, scopes, options)
            workers = worker_count() if options.workers is None else options.workers
            crew: Crew[tuple[str, list[str]], list[Scanned]] = Crew(
                self._scanner,
                0 if self._keep is not None else workers,
                polite=self._beside_server,
            )
            total = Tally()
            try:
                for scope in scopes:
                    yield from self._rebuild(scope, marks[scope.key], shared, crew, total)
            finally:
                crew.close()
            missing = pruned = 0
            for scope in scopes:
                for answer in self._look_for_files(scope, shared, options):
                    missing += answer.pop("missing", 0)
                    pruned += answer.pop("pruned", 0)
                    if answer:
                        yield answer
            summary = {**asdict(total), "missing": missing, "pruned": pruned}
            # The marks go last: a run that was ended before this line is taken up again.
            keys = [scope.key for scope in scopes]
            self._writer.transact(lambda transaction: shared.marks.remove(transaction, keys))
            log.info("The index was rebuilt from the files: %s.", in_words(summary))
            yield {"kind": "summary", **summary}
        finally:
            self._running.release()

    # scopes

    def _scopes(self, options: RegenOptions) -> list[_Scope]:
        folders = {
            device.name: device for device in self._devices if isinstance(device, FolderDevice)
        }
        if options.device:
            chosen = folders.get(options.device.upper())
            if chosen is None:
                raise DgateError(
                    f"there is no device {options.device}",
                    remedy=f"use one of {', '.join(folders)}",
                )
            folders = {chosen.name: chosen}
        if not options.folder:
            return [_Scope(device, "") for device in folders.values()]
        found = [
            _Scope(device, folder)
            for device in folders.values()
            for folder in _folders(device.root, options.folder)
        ]
        if not found:
            raise DgateError(
                f"no device has a folder {options.folder}",
                remedy="name it relative to the device, or with --device MAGn",
            )
        return found

    def _begin(
        self, shared: Enterer, scopes: list[_Scope], options: RegenOptions
    ) -> dict[str, Mark]:
        """Return where each scope is to begin; clear the tables in the same transaction."""
        now = self._clock.now()
        with self._database.reader() as connection:
            image = self._schema.table(Level.IMAGE)
            device = image.extra["devicename"]
            rows = connection.execute(
                f"SELECT {device}, count(*) FROM {image.name} GROUP BY {device}"
            )
            self._expected = {row[0] or "": int(row[1]) for row in rows.fetchall()}
        if options.from_empty:
            self._refuse_to_clear_in_vain(scopes, options)

        def begin(transaction: Transaction) -> dict[str, Mark]:
            marks = {}
            if options.from_empty:
                for level in reversed(LEVELS):
                    transaction.execute(f"DELETE FROM {self._schema.table(level).name}")
                transaction.execute("DELETE FROM dgate_folded")
                transaction.execute("DELETE FROM dgate_regen")
                self._index.forget(transaction)
            for scope in scopes:
                mark = None
                if not (options.from_empty or options.restart):
                    mark = shared.marks.read(transaction, scope.key)
                marks[scope.key] = mark or Mark("", Tally(), now)
                shared.marks.write(transaction, scope.key, marks[scope.key])
            return marks

        marks = self._writer.transact(begin)
        if options.from_empty:
            log.warning("The tables of the index were cleared, to be filled from the files.")
        for key, mark in marks.items():
            if mark.place:
                log.info("The rebuild of %s goes on behind %s.", key, ascii(mark.place))
        return marks

    def _refuse_to_clear_in_vain(self, scopes: list[_Scope], options: RegenOptions) -> None:
        """Raise DgateError when rows would be cleared whose files this run does not enter again."""
        remedy = "rebuild without --from-empty: what is there is entered, and no row is lost"
        if options.device or options.folder:
            raise DgateError(
                "--from-empty clears the whole index and cannot be limited to a device or a folder",
                remedy=remedy,
            )
        read = {scope.device.name for scope in scopes}
        for name, count in sorted(self._expected.items()):
            if count and name not in read:
                raise DgateError(
                    f"the index has {count} objects on {name or 'no device'}, which a rebuild does "
                    "not read",
                    remedy=remedy,
                )
        for scope in scopes:
            count = self._rows_without_any_file(scope) or 0
            if count:
                raise DgateError(
                    NONE_LEFT.format(count=count, device=scope.device.name), remedy=remedy
                )

    # files

    def _rebuild(
        self,
        scope: _Scope,
        mark: Mark,
        shared: Enterer,
        crew: Crew[tuple[str, list[str]], list[Scanned]],
        total: Tally,
    ) -> Iterator[Answer]:
        device = scope.device
        root = str(device.root)
        troubles: list[tuple[str, str]] = []
        names = walk(
            device.root, scope.folder, mark.place, lambda path, text: troubles.append((path, text))
        )
        places: list[str] = []
        begun = told = self._clock.monotonic()
        before = mark.tally.seen
        current = mark

        def batches() -> Iterator[tuple[str, list[str]]]:
            for batch in batched(names):
                places.append(batch[-1])
                yield root, batch

        yield self._progress(scope, current, before, begun, resumed=mark.place)
        for files, place in _grouped(
            crew.run(batches()), places, 1 if self._beside_server else ALONE_BATCHES
        ):
            job = EnterJob(shared, device, files, scope.key, Mark(place, current.tally, mark.begun))
            result = self._writer.run(job)
            tally = Tally()
            tally.add(current.tally)
            tally.add(result.tally)
            current = Mark(place, tally, mark.begun)
            for note in result.notes:
                yield self._problem(device, note.name, note.fate, note.text)
            while troubles:
                path, text = troubles.pop()
                log.error("The folder %s could not be read: %s.", ascii(path), text)
                yield {"kind": "problem", "path": path, "fate": "unreadable", "text": text}
            now = self._clock.monotonic()
            if now - told >= PROGRESS_S:
                told = now
                yield self._progress(scope, current, before, begun)
        for path, text in troubles:
            yield {"kind": "problem", "path": path, "fate": "unreadable", "text": text}
        yield self._progress(scope, current, before, begun)
        total.add(current.tally)

    def _problem(self, device: FolderDevice, name: str, fate: Fate, text: str) -> Answer:
        path = device.path(name)
        harmless = fate in (Fate.FOREIGN, Fate.COPY, Fate.MOVED)
        # Whoever gave the command sees each line; the log is for those who look later.
        level = logging.WARNING if self._beside_server and not harmless else logging.INFO
        log.log(level, "The file %s was not entered as it is (%s): %s.", path, fate.value, text)
        if self._failed is not None and fate is Fate.UNREADABLE:
            self._failed(path, text)
        return {"kind": "problem", "path": str(path), "fate": fate.value, "text": text}

    def _progress(
        self, scope: _Scope, mark: Mark, before: int, begun: float, resumed: str = ""
    ) -> Answer:
        seen = mark.tally.seen
        passed = self._clock.monotonic() - begun
        return {
            "kind": "progress",
            "scope": scope.key.rstrip(":"),
            "seen": seen,
            "expected": 0 if scope.folder else self._expected.get(scope.device.name, 0),
            "rate": _rate(seen - before, passed),
            "resumed": ascii(resumed) if resumed else "",
        }

    # rows

    def _look_for_files(
        self, scope: _Scope, shared: Enterer, options: RegenOptions
    ) -> Iterator[Answer]:
        """Name the rows whose file is gone, and remove them where that was asked for."""
        device = scope.device
        if (count := self._rows_without_any_file(scope)) is not None:
            text = NONE_LEFT.format(count=count, device=device.name)
            log.error("%s.", text)
            yield {
                "kind": "problem", "path": str(device.root), "fate": "missing", "text": text,
                "missing": count,
            }  # fmt: skip
            return
        begun = told = self._clock.monotonic()
        looked = 0
        with self._database.reader() as connection:
            for rows in index_rows(connection, self._database, self._schema, PRUNE_ROWS):
                looked += len(rows)
                now = self._clock.monotonic()
                if now - told >= PROGRESS_S:
                    told = now
                    yield {
                        "kind": "progress",
                        "scope": f"rows of {scope.key.rstrip(':')}",
                        "seen": looked,
                        "expected": sum(self._expected.values()),
                        "rate": _rate(looked, now - begun),
                        "resumed": "",
                    }
                gone = [row for row in self._rows_of(scope, rows) if not _is_there(device, row)]
                for row in gone:
                    yield self._missing(device, row)
                pruned = self._prune(device, gone, shared) if options.prune and gone else 0
                if gone:
                    yield {"missing": len(gone), "pruned": pruned}

    def _rows_without_any_file(self, scope: _Scope) -> int | None:
        """Return how many rows a device has when not one of them has its file: it may be away."""
        count = 0
        with self._database.reader() as connection:
            for rows in index_rows(connection, self._database, self._schema, PRUNE_ROWS):
                for row in self._rows_of(scope, rows):
                    if _is_there(scope.device, row):
                        return None
                    count += 1
        return count or None

    def _rows_of(self, scope: _Scope, rows: Iterable[IndexRow]) -> Iterator[IndexRow]:
        return (row for row in rows if row.device == scope.device.name and scope.holds(row.name))

    def _missing(self, device: FolderDevice, row: IndexRow) -> Answer:
        path = str(device.path(row.name))
        text = f"the file of object {row.sop_instance} is gone"
        level = logging.WARNING if self._beside_server else logging.INFO
        log.log(level, "The index has a row without file: %s, %s.", path, text)
        return {"kind": "problem", "path": path, "fate": "missing", "text": text}

    def _prune(self, device: FolderDevice, rows: list[IndexRow], shared: Enterer) -> int:
        """Remove rows, unless their objects have come again meanwhile; returns how many."""

        def remove(transaction: Transaction) -> int:
            removed = 0
            for row in rows:
                sop_instance = row.sop_instance
                found = self._index.find(transaction, sop_instance)
                if found is None or (found.device, found.name) != (row.device, row.name):
                    continue
                # An object of the same commit group has its row and not yet its name.
                coming = transaction.execute(shared.being_replaced, (sop_instance,)).fetchone()
                if coming is None and not _is_there(device, row):
                    self._index.delete_instance(transaction, sop_instance)
                    removed += 1
            return removed

        return self._writer.transact(remove)


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


def _is_there(device: FolderDevice, row: IndexRow) -> bool:
    """Tell whether an object has its file, or one that is about to get the name."""
    if not is_confined(row.name):
        return False
    if device.exists(row.name):
        return True
    try:
        device.open(row.name, row.sop_instance).close()
    except OSError:
        return False
    return True


def regen_commands(make: Callable[[threading.Lock], Regen]) -> dict[str, Command]:
    """Return what the control socket offers; `make` builds a rebuild by the configuration that
    counts now, with the lock that keeps two from running at once."""
    turn = threading.Lock()

    def regen(arguments: Answer) -> Iterator[Answer]:
        known = {field.name for field in fields(RegenOptions)}
        unknown = sorted(set(arguments) - known)
        if unknown:
            raise DgateError(f"the server does not know the option {', '.join(unknown)}")
        return make(turn).run(RegenOptions(**arguments))

    return {"regen": regen}


def in_words(summary: dict[str, int]) -> str:
    """Return the counters of a rebuild as a sentence, without those that are zero."""
    words = {
        "seen": "files seen",
        "entered": "entered",
        "known": "known already",
        "moved": "found in another place",
        "copies": "second copies",
        "refused": "refused",
        "unreadable": "unreadable",
        "foreign": "not DICOM",
        "skipped": "skipped",
        "generated": "with a generated UID",
        "missing": "rows without file",
        "pruned": "of them removed",
    }
    said = [f"{summary[name]} {text}" for name, text in words.items() if summary.get(name)]
    return ", ".join(said) or "no files"


def _folders(root: Path, wanted: str) -> list[str]:
    """Return the folders of a device that are meant, relative to its root."""
    wanted = wanted.replace("\\", "/").rstrip("/")
    if wanted.startswith("/"):
        given = Path(os.path.abspath(wanted))  # noqa: PTH100 - links in it must stay
        if not given.is_relative_to(root):
            return []
        wanted = "" if given == root else str(given.relative_to(root))
        return [wanted] if (root / wanted).is_dir() else []
    if ".." in wanted.split("/"):
        return []
    if any(mark in wanted for mark in "*?[") and "/" not in wanted:
        return sorted(
            entry.name
            for entry in os.scandir(root)
            if entry.is_dir() and fnmatch.fnmatchcase(entry.name.lower(), wanted.lower())
        )
    return [wanted] if (root / wanted).is_dir() else []


def _grouped(
    results: Iterable[list[Scanned]], places: list[str], count: int
) -> Iterator[tuple[list[Scanned], str]]:
    """Put the results of several batches together, with the last name that they cover."""
    files: list[Scanned] = []
    covered = 0
    for result in results:
        files += result
        covered += 1
        if covered == count:
            yield files, places[covered - 1]
            del places[:covered]
            files, covered = [], 0
    if files:
        yield files, places[covered - 1]
