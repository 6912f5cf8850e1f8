"""From the folder of the four files to one `Configuration` with everything that is wrong in them.

`load` reads files and looks whether paths exist; it opens no sockets and no database.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from dgate.config import converters
from dgate.config.build import build_settings
from dgate.config.commitment_check import look_at_commitment
from dgate.config.ini import IniFile, Section
from dgate.config.keys import MAIN
from dgate.config.layout import Layout, default_layout, parse_layout
from dgate.config.model import (
    Configuration,
    ConverterText,
    DuplicateContent,
    Durability,
    Engine,
    Filters,
    MissingUids,
    ScriptTexts,
    Settings,
    V2Content,
    Value,
)
from dgate.config.node_sections import look_at_peers, node_values_of
from dgate.config.nodes import Node, NodeMap
from dgate.config.problem import Problem, Report, Severity
from dgate.config.sections import main_section, note_other_sections
from dgate.config.soplist import SopList
from dgate.config.steps_check import look_at_steps
from dgate.config.text import read_file
from dgate.config.values import Values
from dgate.errors import ConfigError

__all__ = [
    "Configuration",
    "ConverterText",
    "DuplicateContent",
    "Durability",
    "Engine",
    "Filters",
    "Layout",
    "MissingUids",
    "Node",
    "NodeMap",
    "Problem",
    "ScriptTexts",
    "Settings",
    "Severity",
    "SopList",
    "V2Content",
    "Value",
    "default_settings",
    "load",
]

INI_NAME = "dicom.ini"

_T = TypeVar("_T")


def load(
    path: Path,
    instead: Mapping[Path, bytes | None] | None = None,
    former: Configuration | None = None,
) -> Configuration:
    """Read dicom.ini and the three files that it names; `path` is the ini file or its folder.

    `instead` has the content of files that are not written yet, by absolute path; None stands for
    a file that will be missing. `former` is an earlier reading, of which the layout is taken over
    when it would be the same. What is wrong ends up in `problems`; only an ini file that cannot be
    read raises ConfigError.
    """
    ini_path = _ini_path(path)
    read = _Reader(instead or {})
    ini = IniFile.parse(_read_ini(ini_path, read), ini_path)
    report = Report(str(ini_path), list(ini.problems), ini.place)
    section = main_section(ini, report)
    values = Values(section, ini_path.parent, report)
    settings = build_settings(ini_path, ini, section, values, report)
    values.note_without_effect()
    converters.note_lua_events(ini, report)
    nodes = _read(
        read, settings.acrnema_map, values.get("ACRNemaMap"), NodeMap.parse, NodeMap, report
    )
    layout = _read_layout(read, settings, values.get("kFactorFile"), report, former)
    sop_list = _read(
        read,
        settings.sop_class_list,
        values.get("SOPClassList"),
        SopList.parse,
        SopList.accept_all,
        report,
        optional="every SOP class, transfer syntax and caller is accepted",
    )
    note_other_sections(ini, section, nodes, report)
    look_at_peers(settings.peers, ini, nodes, report)
    look_at_commitment(settings.peers, ini, sop_list, report)
    look_at_steps(settings.peers, ini, sop_list, report)
    found = (*values.all(), *node_values_of(ini))
    return Configuration(
        settings, nodes, layout, sop_list, tuple(report.problems), found, ini, read.contents
    )


def default_settings(base_folder: Path, **changes: Any) -> Settings:
    """Return the settings of an empty dicom.ini in the folder, with `changes`."""
    ini_path = base_folder / INI_NAME
    report = Report(str(ini_path))
    values = Values(Section(MAIN, 1), base_folder, report)
    ini = IniFile.parse(b"", ini_path)
    settings = build_settings(ini_path, ini, Section(MAIN, 1), values, report)
    return dataclasses.replace(settings, **changes)


def _ini_path(path: Path) -> Path:
    found = path / INI_NAME if path.is_dir() else path
    return found.absolute()


class _Reader:
    """Reads files, or takes what is to be written into them."""

    def __init__(self, instead: Mapping[Path, bytes | None]) -> None:
        self._instead = instead
        self.contents: dict[Path, bytes | None] = {}
        """What was read, by absolute path; None for a file that could not be read."""

    def __call__(self, path: Path) -> bytes:
        """Return the content; raises OSError."""
        place = path.absolute()
        self.contents[place] = None
        found = self._instead[place] if place in self._instead else read_file(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        self.contents[place] = found
        return found


def _read_ini(path: Path, read: _Reader) -> bytes:
    try:
        return read(path)
    except OSError as exc:
        remedy = "name a dicom.ini or its folder with -c, or write a set with: dgate init FOLDER"
        what = f"the configuration cannot be read: {exc.strerror}"
        raise ConfigError(what, where=str(path), remedy=remedy) from exc


def _read(
    read: _Reader,
    path: Path,
    value: Value,
    parse: Callable[[bytes, Path], tuple[_T, list[Problem]]],
    missing: Callable[[], _T],
    report: Report,
    optional: str = "",
) -> _T:
    """Parse one of the other files; without it, return `missing` with an error, or a warning."""
    try:
        data = read(path)
    except OSError as exc:
        message = f"{value.name}: {path} cannot be read: {exc.strerror}"
        advice = "name the file, or copy the one that `dgate init` writes"
        if optional:
            report.warning(value.line, f"{message}; {optional}", advice)
        else:
            report.error(value.line, message, advice)
        return missing()
    result, problems = parse(data, path)
    report.problems.extend(problems)
    return result


def _read_layout(
    read: _Reader, settings: Settings, value: Value, report: Report, former: Configuration | None
) -> Layout:
    truncate, max_length = settings.truncate_field_names, settings.max_field_length

    def parse(data: bytes, path: Path) -> tuple[Layout, list[Problem]]:
        if former is not None and former.contents.get(path.absolute()) == data:
            before = former.settings
            if (before.truncate_field_names, before.max_field_length) == (truncate, max_length):
                return former.layout, [p for p in former.problems if p.path == str(path)]
        return parse_layout(data, path, truncate, max_length)

    def shipped() -> Layout:
        return default_layout(truncate, max_length)

    return _read(read, settings.k_factor_file, value, parse, shipped, report)
