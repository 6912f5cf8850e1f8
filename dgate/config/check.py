"""What the four files show together, and whether the folders that they name can be used.

It looks at the file system and never changes it. What the rules show comes with
`dgate.inspection`, which puts everything together for `dgate check`. Owned by the calling thread.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from dgate.config import codes
from dgate.config.areas import look_at_cleaning
from dgate.config.codes import CodeKind
from dgate.config.key_table import REGISTRY
from dgate.config.keys import KeyType
from dgate.config.model import Configuration, Durability, Engine, V2Content, Value
from dgate.config.problem import Problem, Report, Severity
from dgate.config.scriptcodes import look_at_script_codes
from dgate.config.virtual import look_at_servers
from dgate.config.worklist import look_at_worklist

_V2_SYNTAXES = ("0", "1", "2", "3", "5", "6", "7")
CHANGES = {
    CodeKind.REENCODE: "in another transfer syntax",
    CodeKind.LOSSY: "in another transfer syntax, with loss",
    CodeKind.RESIZE: "in a smaller size",
    CodeKind.SCRIPT: "by a script",
    CodeKind.RETIRED: "uncompressed",
}
"""What a compression code does to objects, for a message; codes that keep them are not named."""
_CODED = {
    "IncomingCompression": "received objects are stored",
    "DroppedFileCompression": "imported files are stored",
    "ArchiveCompression": "moved objects are stored",
}
_SORT_ITEM = re.compile(r"\s*(?:(\w+)\.)?(\w+)(?:\s+(?:asc|desc))?\s*", re.IGNORECASE)
PORTS = ("TCPPort", "TLSPort", "WebPort", "HL7Port")
_MOST_COLUMNS = 100
_ADDED_COLUMNS = ("accesstime", "objectfile", "devicename")


def check(configuration: Configuration) -> list[Problem]:
    """Return what loading found and what the files show together, by file and line."""
    look = _Look(configuration)
    return in_order(configuration, [*configuration.problems, *look.problems()])


def in_order(configuration: Configuration, found: Iterable[Problem]) -> list[Problem]:
    """Return problems by file and line, those of a whole file first, none of them twice."""
    settings = configuration.settings
    files = [
        settings.ini_path.name,
        settings.acrnema_map.name,
        settings.k_factor_file.name,
        settings.sop_class_list.name,
    ]

    def place(problem: Problem) -> tuple[int, str, int, int]:
        name = PurePath(problem.path).name
        number = files.index(name) if name in files else len(files)
        return (number, name, problem.line or 0, problem.column or 0)

    return sorted(dict.fromkeys(found), key=place)


@dataclass(frozen=True, slots=True)
class Count:
    """How many problems of each severity there are."""

    errors: int
    warnings: int
    infos: int

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> Count:
        """Count `problems`."""
        found = [problem.severity for problem in problems]
        return cls(*(found.count(severity) for severity in Severity))

    @property
    def exit_code(self) -> int:
        """Return 1 for errors, 2 for warnings only, 0 otherwise."""
        if self.errors:
            return 1
        return 2 if self.warnings else 0


class _Look:
    """One look at a loaded configuration as a whole."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._settings = configuration.settings
        self._values = {value.name: value for value in configuration.values}
        ini = configuration.ini
        self._ini = Report(str(self._settings.ini_path), place=None if ini is None else ini.place)
        self._map = Report(str(self._settings.acrnema_map))
        self._sql = Report(str(self._settings.k_factor_file))

    def problems(self) -> Iterator[Problem]:
        """Yield what is found, file by file."""
        self._look_at_promises()
        self._look_at_encoding()
        self._look_at_ports()
        self._look_at_folders()
        self._look_at_columns()
        look_at_cleaning(self._settings, self._configuration.layout, self._line, self._ini)
        self._look_at_delivery()
        look_at_servers(
            self._settings.virtual_servers,
            self._settings.ae_title,
            self._configuration.nodes,
            self._ini,
        )
        self._look_at_nodes()
        look_at_script_codes(
            self._values.values(),
            self._configuration.nodes,
            self._settings.converters,
            self._ini,
            self._map,
        )
        look_at_worklist(
            self._values.get("WorkListMode"),
            self._settings.engine,
            self._configuration.layout.worklist,
            self._ini,
            self._sql,
        )
        yield from self._ini.problems
        yield from self._map.problems
        yield from self._sql.problems

    def _line(self, name: str) -> int | None:
        value: Value | None = self._values.get(name)
        return None if value is None else value.line

    def _look_at_promises(self) -> None:
        settings = self._settings
        if self._line("MyACRNema") is None:
            message = f"MyACRNema is not set; the AE title is {settings.ae_title}"
            self._ini.warning(None, message, "give the server an AE title of its own")
        if settings.durability is not Durability.FULL:
            message = f"Durability = {settings.durability.value}: a power cut can lose objects"
            if settings.durability is Durability.NONE:
                message += ", and no peer that asks for storage commitment gets it"
            advice = "write Durability = full to keep every object that was acknowledged"
            self._ini.info(self._line("Durability"), message, advice)

    def _look_at_encoding(self) -> None:
        """Name each place of dicom.ini that re-encodes (rulings.md 1)."""
        settings = self._settings
        for value in self._values.values():
            if value.key.type is not KeyType.CODE or not value.key.effective:
                continue
            name, code = value.name, value.text.strip().lower()
            subject = _CODED.get(name, "objects are written")
            kind = codes.kind_of(code)
            if kind is CodeKind.INDEX_ONLY:
                message = f"{name} = {code}: {subject} in the index only, without a file"
                self._ini.warning(value.line, message, f"write {name} = as to store them")
            elif kind in CHANGES:
                message = f"{name} = {code}: {subject} {CHANGES[kind]}"
                advice = f"write {name} = as to leave them unchanged"
                self._ini.info(value.line, message, advice)
        mode = self._values.get("WorkListMode")
        if mode is not None and mode.key.effective and mode.text.strip()[:1] in ("1", "2"):
            message = f"WorkListMode = {mode.text}: objects get values of their worklist entry"
            self._ini.info(mode.line, message, "write WorkListMode = 0 to store them unchanged")
        if not self._names_v2():
            return
        line = self._line("FileNameSyntax")
        name = f"FileNameSyntax = {settings.file_name_syntax}"
        if settings.v2_content is V2Content.RAW:
            message = f"{name}: files named .v2 are stored as implicit little endian without header"
            self._ini.info(line, message, "write V2Content = part10 to store objects unchanged")
        else:
            message = f"{name}: files named .v2 have a DICOM header, unlike those of Conquest"
            self._ini.info(line, message, "write V2Content = raw if Conquest has to read them")

    def _names_v2(self) -> bool:
        syntax = self._settings.file_name_syntax
        return syntax in _V2_SYNTAXES or syntax.lower().endswith(".v2")

    def _look_at_ports(self) -> None:
        """Report two listeners on one port; whether a port is free is looked at elsewhere."""
        taken: dict[int, str] = {}
        for name, port in self.ports():
            if port in taken:
                message = f"{name} is the same port as {taken[port]}"
                self._ini.error(self._line(name), message, "give each listener a port of its own")
            taken.setdefault(port, name)

    def ports(self) -> Iterator[tuple[str, int]]:
        """Yield the ports that a server would listen on, except 0."""
        for name in PORTS:
            key = REGISTRY[name]
            port = getattr(self._settings, key.feeds) if key.effective else 0
            if isinstance(port, int) and port > 0:
                yield name, port

    def _look_at_folders(self) -> None:
        """Report folders that cannot be used; those that are only missing are made at start."""
        devices = {f"MAGDevice{n}": path for n, path in enumerate(self._settings.mag_devices)}
        for value in self._values.values():
            if value.key.name == "MIRRORDeviceN" and value.key.effective and value.text:
                folder = Path(value.text.replace("\\", "/"))
                devices[value.name] = self._settings.base_folder / folder
        self._look_at_nesting(devices)
        for name, folder in devices.items():
            self._look_at_folder(name, folder)
        if self._settings.engine is Engine.SQLITE:
            self._look_at_file("SQLServer", Path(self._settings.sql_server))
        self._look_at_file("UserLog", self._settings.user_log)
        self._look_at_file("TroubleLog", self._settings.trouble_log)

    def _look_at_nesting(self, devices: dict[str, Path]) -> None:
        """Report devices that are one folder by another name, or lie inside each other."""
        known: dict[Path, str] = {}
        for name, folder in devices.items():
            real = _real(folder)
            other = known.setdefault(real, name)
            if other != name:
                # Where the paths read the same, loading has said so.
                if devices[other] != folder or not name.startswith("MAG"):
                    message = f"{name} is the same folder as {other}"
                    advice = "give each device a folder of its own"
                    self._ini.error(self._line(name), message, advice)
                continue
        for name, folder in devices.items():
            outer = next((known[path] for path in _real(folder).parents if path in known), None)
            if outer is not None:
                message = f"{name} lies inside the folder of {outer}"
                advice = "put the devices beside each other, or the index may have files twice"
                self._ini.warning(self._line(name), message, advice)

    def _look_at_file(self, name: str, path: Path) -> None:
        """Report a file that cannot be written or made."""
        if path.is_dir():
            message = f"{name}: {path} is a folder"
            self._ini.error(self._line(name), message, "name a file")
        elif _exists(path) and not os.access(path, os.W_OK):
            message = f"{name}: {path} cannot be written"
            advice = "change its owner or mode, or name another file"
            self._ini.error(self._line(name), message, advice)
        else:
            self._look_at_folder(name, path.parent)

    def _look_at_folder(self, name: str, folder: Path) -> None:
        nearest = next((path for path in (folder, *folder.parents) if _exists(path)), folder)
        if not nearest.is_dir():
            message = f"{name}: {nearest} is not a folder"
            self._ini.error(self._line(name), message, "name another folder")
        elif not os.access(nearest, os.W_OK | os.X_OK):
            missing = "" if nearest == folder else f", so {folder} cannot be made"
            message = f"{name}: {nearest} cannot be written{missing}"
            advice = "change its owner or mode, or name another folder"
            self._ini.error(self._line(name), message, advice)

    def _look_at_columns(self) -> None:
        """Report columns that settings name and the layout does not have."""
        settings, layout = self._settings, self._configuration.layout
        tables = {
            settings.patient_table.lower(): layout.patient,
            settings.study_table.lower(): layout.study,
            settings.series_table.lower(): layout.series,
            settings.image_table.lower(): layout.image,
        }
        columns = {
            name: {column.name.lower() for column in table.columns} | set(_ADDED_COLUMNS)
            for name, table in tables.items()
        }
        everything = set().union(*columns.values())
        for level, order in (
            ("Patient", settings.patient_query_sort_order),
            ("Study", settings.study_query_sort_order),
            ("Series", settings.series_query_sort_order),
            ("Image", settings.image_query_sort_order),
        ):
            key = f"{level}QuerySortOrder"
            for item in filter(str.strip, order.split(",", _MOST_COLUMNS)[:_MOST_COLUMNS]):
                match = _SORT_ITEM.fullmatch(item)
                table, column = (match[1] or "", match[2]) if match else ("", item)
                known = columns.get(table.lower(), set()) if table else everything
                if column.lower() not in known:
                    message = f"{key}: the index has no column {item.strip()}"
                    cut = settings.truncate_field_names
                    advice = f"names are cut to {cut} characters" if cut else "see dicom.sql"
                    self._ini.warning(self._line(key), message, advice)
        for column in sorted(settings.allow_truncate):
            if column.lower() not in everything:
                message = f"AllowTruncate: the index has no column {column}"
                self._ini.warning(self._line("AllowTruncate"), message, "see dicom.sql")

    def _look_at_delivery(self) -> None:
        settings = self._settings
        if settings.retry_delay_s is None and settings.retry_first_s > settings.retry_max_s:
            message = "RetryFirst is longer than RetryMax"
            advice = "RetryMax is the longest pause between two tries; raise it"
            line = self._line("RetryFirst") or self._line("RetryMax")
            self._ini.warning(line, message, advice)
        if settings.retry_delay_s is not None:
            for name in ("RetryFirst", "RetryMax"):
                if self._line(name) is not None:
                    message = f"{name} has no effect, as RetryDelay is set"
                    self._ini.warning(self._line(name), message, "remove one of the two")

    def _look_at_nodes(self) -> None:
        nodes = self._configuration.nodes
        if not self._settings.allow_unknown and not len(nodes):
            message = "AllowUnknown = 0 and no node is known: callers can only use C-ECHO"
            self._map.warning(None, message, "add the callers to the node table")
        changing: dict[str, list[str]] = {}
        for node in nodes:
            if codes.kind_of(node.compression) in CHANGES:
                changing.setdefault(node.compression.lower(), []).append(node.ae_title)
        for code, titles in changing.items():
            shown = ", ".join(titles[:8]) + (f" and {len(titles) - 8} more" if titles[8:] else "")
            message = f"code {code}: objects are re-encoded where needed when sent to {shown}"
            self._map.info(None, message, "the code as sends them as they are stored")


def ports(configuration: Configuration) -> list[tuple[str, int]]:
    """Return the name and number of each port that a server of this configuration listens on."""
    return list(_Look(configuration).ports())


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
