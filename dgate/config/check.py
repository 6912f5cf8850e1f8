"""Everything that `dgate check` prints: what loading found, and what the files show together.

It looks at the file system and never changes it. Rule problems come from outside, as the
configuration does not know the rules. Owned by the calling thread.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from dgate.config import codes
from dgate.config.codes import CodeKind
from dgate.config.model import Configuration, Durability, Engine, V2Content, Value
from dgate.config.problem import Problem, Report, Severity

_VERIFICATION = "1.2.840.10008.1.1"
_IMPLICIT_LE = "1.2.840.10008.1.2"
_V2_SYNTAXES = ("0", "1", "2", "3", "5", "6", "7")
_CHANGES = {
    CodeKind.REENCODE: "in another transfer syntax",
    CodeKind.LOSSY: "in another transfer syntax, with loss",
    CodeKind.RESIZE: "in a smaller size",
    CodeKind.SCRIPT: "by a script",
    CodeKind.RETIRED: "uncompressed",
}
_SORT_ITEM = re.compile(r"\s*(?:(\w+)\.)?(\w+)(?:\s+(?:asc|desc))?\s*", re.IGNORECASE)
_FORWARD = re.compile(r"\bforward (?:compressed as \S+ )?to ([^\s;\"}]+)", re.IGNORECASE)
_ADDED_COLUMNS = ("accesstime", "objectfile", "devicename")


def check(configuration: Configuration, rule_problems: Iterable[Problem] = ()) -> list[Problem]:
    """Return all problems by file and line, those of the whole file first."""
    look = _Look(configuration)
    found = [*configuration.problems, *look.problems(), *rule_problems]
    settings = configuration.settings
    files = [
        settings.ini_path.name,
        settings.acrnema_map.name,
        settings.k_factor_file.name,
        settings.sop_class_list.name,
    ]

    def place(problem: Problem) -> tuple[int, str, int]:
        name = PurePath(problem.path).name
        return (files.index(name) if name in files else len(files), name, problem.line or 0)

    return sorted(found, key=place)


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
        self._ini = Report(str(self._settings.ini_path))
        self._map = Report(str(self._settings.acrnema_map))
        self._list = Report(str(self._settings.sop_class_list))

    def problems(self) -> Iterator[Problem]:
        """Yield what is found, file by file."""
        self._look_at_promises()
        self._look_at_encoding()
        self._look_at_folders()
        self._look_at_columns()
        self._look_at_delivery()
        self._look_at_targets()
        self._look_at_nodes()
        self._look_at_acceptance()
        for report in (self._ini, self._map, self._list):
            yield from report.problems

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
            advice = "write Durability = full to keep every object that was acknowledged"
            self._ini.info(self._line("Durability"), message, advice)

    def _look_at_encoding(self) -> None:
        """Name each place of dicom.ini that re-encodes (rulings.md 1)."""
        settings = self._settings
        for name, code, subject in (
            ("IncomingCompression", settings.incoming_compression, "received objects"),
            ("DroppedFileCompression", settings.dropped_file_compression, "imported files"),
        ):
            kind = codes.kind_of(code)
            if kind is CodeKind.INDEX_ONLY:
                message = f"{name} = {code}: {subject} are indexed, but not stored"
                self._ini.warning(self._line(name), message, f"write {name} = as to store them")
            elif kind in _CHANGES:
                message = f"{name} = {code}: {subject} are stored {_CHANGES[kind]}"
                advice = f"write {name} = as to store them unchanged"
                self._ini.info(self._line(name), message, advice)
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

    def _look_at_folders(self) -> None:
        """Report folders that cannot be used; those that are only missing are made at start."""
        for number, folder in enumerate(self._settings.mag_devices):
            self._look_at_folder(f"MAGDevice{number}", folder)
        if self._settings.engine is Engine.SQLITE:
            self._look_at_folder("SQLServer", Path(self._settings.sql_server).parent)
        for name, path in (
            ("UserLog", self._settings.user_log),
            ("TroubleLog", self._settings.trouble_log),
        ):
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
            for item in filter(str.strip, order.split(",")):
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

    def _look_at_targets(self) -> None:
        """Report destinations of rules that the node table does not know."""
        for rule in self._settings.converters:
            for target in () if rule.lua else _FORWARD.findall(rule.text):
                # What holds a % is known only when an object comes.
                if "%" in target or self._configuration.nodes.names(target):
                    continue
                line = int(rule.where.rpartition(":")[2])
                name = f"{rule.family}Converter{rule.index}"
                message = f"{name} forwards to {target}, which acrnema.map does not name"
                if "." in target or ":" in target:
                    self._ini.info(line, f"{message}; it is called as host[:port]", "name it there")
                else:
                    self._ini.warning(line, message, "add it to acrnema.map, or mend its name")

    def _look_at_nodes(self) -> None:
        nodes = self._configuration.nodes
        if not self._settings.allow_unknown and not len(nodes):
            message = "AllowUnknown = 0 and no node is known: callers can only use C-ECHO"
            self._map.warning(None, message, "add the callers to the node table")
        changing: dict[str, list[str]] = {}
        for node in nodes:
            if codes.kind_of(node.compression) in _CHANGES:
                changing.setdefault(node.compression.lower(), []).append(node.ae_title)
        for code, titles in changing.items():
            shown = ", ".join(titles[:8]) + (f" and {len(titles) - 8} more" if titles[8:] else "")
            message = f"code {code}: objects are re-encoded where needed when sent to {shown}"
            self._map.info(None, message, "the code as sends them as they are stored")

    def _look_at_acceptance(self) -> None:
        sop_list, title = self._configuration.sop_list, self._settings.ae_title
        if sop_list.local_ae is not None and title not in sop_list.local_ae:
            message = f"no LocalAE line names {title}, so calls to MyACRNema are rejected"
            self._list.warning(None, message, f"add: own {title} LocalAE")
        if sop_list.transfer is not None and _IMPLICIT_LE not in sop_list.transfer:
            message = (
                "implicit little endian is not listed, which every DICOM node can fall back to"
            )
            self._list.warning(None, message, f"add: LittleEndianImplicit {_IMPLICIT_LE} transfer")
        if sop_list.abstract is not None and _VERIFICATION not in sop_list.abstract:
            message = "Verification is not listed, so C-ECHO is refused"
            self._list.warning(None, message, f"add: Verification {_VERIFICATION} sop")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
