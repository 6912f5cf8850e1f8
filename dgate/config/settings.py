"""From the folder of the four files to one `Configuration` with everything that is wrong in them.

`load` reads files and looks whether paths exist; it opens no sockets and no database.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from dgate.config import converters
from dgate.config.build import build_settings
from dgate.config.ini import IniFile, Section
from dgate.config.keys import MAIN
from dgate.config.layout import Layout, default_layout, parse_layout
from dgate.config.model import (
    Configuration,
    ConverterText,
    Durability,
    Engine,
    Filters,
    MissingUids,
    ScriptTexts,
    Settings,
    V2Content,
    Value,
)
from dgate.config.nodes import Node, NodeMap
from dgate.config.problem import Problem, Report, Severity
from dgate.config.sections import main_section, note_other_sections
from dgate.config.soplist import SopList
from dgate.config.values import Values
from dgate.errors import ConfigError

__all__ = [
    "Configuration",
    "ConverterText",
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


def load(path: Path) -> Configuration:
    """Read dicom.ini and the three files that it names; `path` is the ini file or its folder.

    What is wrong ends up in `problems`; only an ini file that cannot be read raises ConfigError.
    """
    ini_path = _ini_path(path)
    ini = IniFile.parse(_read_ini(ini_path), ini_path)
    report = Report(str(ini_path), list(ini.problems))
    section = main_section(ini, report)
    values = Values(section, ini_path.parent, report)
    settings = build_settings(ini_path, ini, section, values, report)
    values.note_without_effect()
    converters.note_lua_events(ini, report)
    nodes = _read(settings.acrnema_map, values.get("ACRNemaMap"), NodeMap.parse, NodeMap, report)
    layout = _read_layout(settings, values.get("kFactorFile"), report)
    sop_list = _read(
        settings.sop_class_list,
        values.get("SOPClassList"),
        SopList.parse,
        SopList.accept_all,
        report,
        optional="every SOP class, transfer syntax and caller is accepted",
    )
    note_other_sections(ini, section, nodes, report)
    return Configuration(settings, nodes, layout, sop_list, tuple(report.problems), values.all())


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


def _read_ini(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        remedy = "name a dicom.ini or its folder with -c, or write a set with: dgate init FOLDER"
        what = f"the configuration cannot be read: {exc.strerror}"
        raise ConfigError(what, where=str(path), remedy=remedy) from exc


def _read(
    path: Path,
    value: Value,
    parse: Callable[[bytes, Path], tuple[_T, list[Problem]]],
    missing: Callable[[], _T],
    report: Report,
    optional: str = "",
) -> _T:
    """Parse one of the other files; without it, return `missing` with an error, or a warning."""
    try:
        data = path.read_bytes()
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


def _read_layout(settings: Settings, value: Value, report: Report) -> Layout:
    truncate, max_length = settings.truncate_field_names, settings.max_field_length

    def parse(data: bytes, path: Path) -> tuple[Layout, list[Problem]]:
        return parse_layout(data, path, truncate, max_length)

    def shipped() -> Layout:
        return default_layout(truncate, max_length)

    return _read(settings.k_factor_file, value, parse, shipped, report)
