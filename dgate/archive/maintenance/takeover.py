"""What dgate would make of an installation of the original: a report that changes nothing.

Looks at the configuration as read, the database and the names of the files; opens no image file
and writes nothing at all. Owned by one thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dgate.archive.connection import Connection
from dgate.archive.database import Database
from dgate.archive.devices import FolderDevice
from dgate.archive.folding import BEYOND_ASCII
from dgate.archive.levels import Schema
from dgate.archive.maintenance.catalog import TableDifference, read_catalog
from dgate.archive.maintenance.indexrows import count_rows, index_rows
from dgate.archive.maintenance.nameset import NameSet
from dgate.archive.maintenance.readonly import OpenIndex, open_read_only
from dgate.archive.maintenance.walk import batched, index_name, walk
from dgate.config.keys import Mark
from dgate.config.model import Configuration, Value
from dgate.config.settings import Engine
from dgate.errors import DgateError

EXAMPLES = 5
"""So many names of each kind are given."""
_PAGE_ROWS = 5000
_QUEUE_FILES = ("exportfailures", "copyfailures", "delayedfetchforwardfailures")
"""Beginnings of the names of the original's queues (spec dicom-ini.md 12.8)."""


@dataclass(slots=True)
class SettingNote:
    """One setting that the file names."""

    name: str
    value: str
    line: int | None
    text: str
    """How it differs, or why it does nothing."""


@dataclass(slots=True)
class SettingsReport:
    """The settings that the file names, by what becomes of them."""

    works: list[str] = field(default_factory=list)
    differs: list[SettingNote] = field(default_factory=list)
    ignored: list[SettingNote] = field(default_factory=list)
    """Accepted without effect, as nothing is lost by it."""
    missing: list[SettingNote] = field(default_factory=list)
    """Without effect in this version, though it would have one."""


@dataclass(slots=True)
class TextReport:
    """The text of one table."""

    rows: int
    beyond_ascii: int
    latin_1: int
    """Rows with text that is no UTF-8 and so counts as Latin-1 (rulings.md 8)."""


@dataclass(slots=True)
class IndexReport:
    """The database."""

    location: str
    error: str = ""
    """Why it cannot be read; nothing else is known then."""
    notes: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    """Rows of each level."""
    texts: dict[str, TextReport] = field(default_factory=dict)
    differences: list[TableDifference] = field(default_factory=list)
    missing_indices: list[str] = field(default_factory=list)
    own_tables: list[str] = field(default_factory=list)
    """Tables of dgate's: it has served this database before."""


@dataclass(slots=True)
class DeviceReport:
    """One storage device."""

    name: str
    folder: str
    problem: str = ""
    """Why it cannot be used; its files are not known then."""
    objects: int = 0
    """Rows of the index that name it."""
    files: int = 0
    without_row: int = 0
    """Files whose name no row has."""
    without_file: int = 0
    """Rows whose file is not there."""
    other_case: int = 0
    """Of those, files that are there under a name in other letter case."""
    doubled: int = 0
    """Rows whose file another row names, too."""
    files_examples: list[str] = field(default_factory=list)
    rows_examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class QueueFile:
    """A queue of the original's, with what it had not delivered. It is not read."""

    path: str
    bytes: int


@dataclass(slots=True)
class Survey:
    """The whole report, without the problems of the four files (`dgate.config.check`)."""

    configuration: str
    ae_title: str
    port: int
    nodes: int
    settings: SettingsReport
    index: IndexReport
    devices: list[DeviceReport] = field(default_factory=list)
    unknown_devices: dict[str, int] = field(default_factory=dict)
    """Rows on devices that are not configured, by their names."""
    queue_files: list[QueueFile] = field(default_factory=list)

    @property
    def obstacles(self) -> list[str]:
        """What keeps the archive, or a part of it, from being served."""
        found = []
        if self.index.error:
            found.append(f"the index: {self.index.error}")
        found += [
            f"{one.name} ({one.folder}): {one.problem}" for one in self.devices if one.problem
        ]
        if self.unknown_devices:
            count = sum(self.unknown_devices.values())
            names = ", ".join(self.unknown_devices)
            found.append(f"{count} object(s) are on devices that are not configured: {names}")
        return found


Progress = Callable[[str, int, int | None], None]
"""Is told what is being looked at, how much of it has been, and of how much if that is known."""


def _tell_nobody(what: str, done: int, total: int | None) -> None:
    """Show no progress."""


def survey(
    configuration: Configuration, *, in_use: bool, progress: Progress = _tell_nobody
) -> Survey:
    """Look at an installation; `in_use`: a dgate server works with it now."""
    settings = configuration.settings
    report = Survey(
        str(settings.ini_path),
        settings.ae_title,
        settings.tcp_port,
        len(configuration.nodes),
        _settings(configuration.values),
        IndexReport(Database(settings).location),
        [_device(f"MAG{number}", path) for number, path in enumerate(settings.mag_devices)],
    )
    report.queue_files = list(_queue_files({settings.base_folder, Path.cwd()}))
    names = NameSet()
    try:
        with open_read_only(settings, in_use=in_use) as opened:
            _look_at_index(report, configuration, opened, names, progress)
    except DgateError as exc:
        report.index.error = str(exc)
    for device in report.devices:
        if not device.problem:
            _look_at_files(device, names, progress, compare=not report.index.error)
    names.close()
    return report


# settings


def _settings(values: tuple[Value, ...]) -> SettingsReport:
    report = SettingsReport()
    for value in values:
        key = value.key
        if value.is_default:
            continue
        shown = "(not shown)" if key.secret else value.text
        if key.effective:
            # The registry says how, where it differs.
            text = key.differs
            if text and (key.is_family or value.text.strip() != key.default):
                report.differs.append(SettingNote(value.name, shown, value.line, text))
            else:
                report.works.append(value.name)
        elif key.mark is Mark.LEGACY:
            report.ignored.append(SettingNote(value.name, shown, value.line, key.reason))
        else:
            report.missing.append(SettingNote(value.name, shown, value.line, key.missing))
    return report


# the database


def _look_at_index(
    report: Survey,
    configuration: Configuration,
    opened: OpenIndex,
    names: NameSet,
    progress: Progress,
) -> None:
    settings, index = configuration.settings, report.index
    connection, database = opened.connection, opened.database
    catalog = read_catalog(connection, database, configuration.layout, settings)
    index.differences = [one for one in catalog.differences if not one.is_none]
    index.missing_indices = catalog.missing_indices
    index.own_tables = catalog.own
    if opened.note:
        index.notes.append(opened.note)
    if not catalog.keyed:
        index.notes.append("the image table has no primary key: a SOP instance may be in it twice")
    schema = catalog.required()
    index.rows = count_rows(connection, schema)
    if settings.engine is Engine.SQLITE:
        index.texts = _texts(connection, schema, index.rows, progress)
    devices = {device.name: device for device in report.devices}
    done = 0
    for rows in index_rows(connection, database, schema, _PAGE_ROWS):
        done += len(rows)
        progress("file names in the index", done, index.rows.get("image"))
        for row in rows:
            device = devices.get(row.device)
            if device is None:
                name = row.device or "(none)"
                report.unknown_devices[name] = report.unknown_devices.get(name, 0) + 1
            else:
                device.objects += 1
        by_device: dict[str, list[tuple[str, str]]] = {}
        for row in rows:
            by_device.setdefault(row.device, []).append((row.device, row.name))
        for name, places in by_device.items():
            doubled = names.add(places)
            if name in devices:
                devices[name].doubled += doubled


def _texts(
    connection: Connection, schema: Schema, counts: Mapping[str, int], progress: Progress
) -> dict[str, TextReport]:
    """Count the rows whose text is beyond ASCII, and beyond UTF-8."""
    connection.raw.create_function("dgate_is_utf8", 1, _is_utf8, deterministic=True)
    found = {}
    for table in schema.levels:
        level = table.level.value.lower()
        columns = (*table.names, *(table.extra[x] for x in ("objectfile",) if x in table.extra))
        beyond = [f"{column} GLOB {BEYOND_ASCII}" for column in columns]
        latin = [
            f"({condition} AND NOT dgate_is_utf8(CAST({column} AS BLOB)))"
            for condition, column in zip(beyond, columns, strict=True)
        ]
        sql = (
            f"SELECT count(*), coalesce(sum({' OR '.join(beyond)}), 0), "
            f"coalesce(sum({' OR '.join(latin)}), 0), max(rowid) "
            f"FROM (SELECT rowid, * FROM {table.name} WHERE rowid > ? "
            f"ORDER BY rowid LIMIT {_PAGE_ROWS})"
        )
        total = TextReport(0, 0, 0)
        last = -(1 << 62)
        # Page by page: whoever writes to the database meanwhile does not wait for long.
        while (row := connection.execute(sql, (last,)).fetchone())[0]:
            total.rows += row[0]
            total.beyond_ascii += row[1]
            total.latin_1 += row[2]
            last = row[3]
            progress(f"texts of {level} rows", total.rows, counts.get(level))
        found[level] = total
    return found


def _is_utf8(raw: bytes | None) -> int:
    if raw is None:
        return 1
    try:
        raw.decode()
    except UnicodeDecodeError:
        return 0
    return 1


# files


def _device(name: str, folder: Path) -> DeviceReport:
    report = DeviceReport(name, str(folder))
    if not folder.is_dir():
        other = _in_other_case(folder)
        advice = f"; there is {other}, in other letter case" if other else ""
        report.problem = f"the folder does not exist{advice}"
    elif not os.access(folder, os.R_OK | os.X_OK):
        report.problem = "the folder cannot be read by this user"
    elif not os.access(folder, os.W_OK):
        report.problem = "this user may not write in the folder"
    return report


def _in_other_case(folder: Path) -> str:
    """Return the folder that a name made on Windows may mean."""
    place = Path(folder.anchor)
    for part in folder.parts[1:]:
        if not (place / part).exists():
            try:
                found = [x.name for x in place.iterdir() if x.name.lower() == part.lower()]
            except OSError:
                return ""
            if not found:
                return ""
            part = found[0]
        place = place / part
    return str(place)


def _look_at_files(
    device: DeviceReport, names: NameSet, progress: Progress, *, compare: bool
) -> None:
    folder = FolderDevice(device.name, Path(device.folder))
    strange = NameSet()
    troubles: list[str] = []
    found = walk(folder.root, trouble=lambda path, text: troubles.append(f"{path}: {text}"))
    for batch in batched(found):
        device.files += len(batch)
        progress(f"files of {device.name}", device.files, device.objects or None)
        if not compare:
            continue
        unknown = names.find(device.name, [index_name(name) for name in batch])
        device.without_row += len(unknown)
        device.files_examples += unknown[: EXAMPLES - len(device.files_examples)]
        strange.add((device.name, name.lower()) for name in unknown)
    for number, name in enumerate(names.lost(device.name) if compare else ()):
        if number % _PAGE_ROWS == 0:
            progress(f"rows without file of {device.name}", number, None)
        # The walk passes over names that the rebuild of an index would not take.
        if folder.exists(name):
            device.files += 1
            continue
        device.without_file += 1
        if not strange.find(device.name, [name.lower()]):
            device.other_case += 1
        if len(device.rows_examples) < EXAMPLES:
            device.rows_examples.append(name)
    strange.close()
    if troubles:
        device.problem = f"a folder cannot be read: {troubles[0]}"


def _queue_files(folders: set[Path]) -> Iterator[QueueFile]:
    for folder in sorted(folders):
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue
        for entry in entries:
            if entry.name.lower().startswith(_QUEUE_FILES) and entry.is_file():
                yield QueueFile(str(entry), entry.stat().st_size)


__all__ = ["DeviceReport", "IndexReport", "Survey", "survey"]
