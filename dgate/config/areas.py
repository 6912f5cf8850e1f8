"""The storage areas beside the MAG devices, and what is done when they run full (spec dicom-ini.md
section 6): mirrors, old read-only volumes, thresholds.

Owned by the thread that loads a configuration.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dgate.config.layout import Layout
from dgate.config.model import DuplicateContent, Settings, Value
from dgate.config.problem import Report
from dgate.config.reserve import LARGEST_SHARE, Reserve
from dgate.config.values import Values

_DEVICE = re.compile(r"(?:MAG)?\s*(\d{1,3})", re.IGNORECASE)
_TIME = re.compile(r"\s*(\d{1,2})(?::(\d{2}))?(?::\d{2})?\s*:?\s*")
_MOVE_MINUTE = 2 * 60
_COLUMN = re.compile(r"\s*(?:(\w+)\s*\.\s*)?(\w+)(?:\s+(?:asc|desc))?\s*", re.IGNORECASE)
_ADDED_COLUMNS = ("accesstime", "objectfile", "devicename")
_DEFAULT_TABLES = ("dicompatients", "dicomstudies", "dicomseries", "dicomimages")
_FIELD = re.compile(r"%0?\d{0,2}d")


def areas(values: Values, devices: Sequence[Path], report: Report) -> dict[str, Any]:
    """Return the fields of `Settings` that this module reads."""
    target = _move_target(values.get("NightlyMoveTarget"), len(devices), values, report)
    return {
        "mirror_devices": _mirrors(values, devices, report),
        "jukebox_devices": _volumes(values, "JUKEBOX", 1, report),
        "cache_devices": _volumes(values, "CACHE", 2, report),
        **_reserves(values, report),
        "nightly_move_target": target,
        "nightly_move_minute": _minute(values.get("NightlyStrTimeToMove"), report),
    }


def _reserves(values: Values, report: Report) -> dict[str, Reserve | None]:
    """Return what is kept free of each disk."""
    return {
        "disk_reserve": _reserve(values.get("DiskReserve"), "megabytes", report),
        "inode_reserve": _reserve(values.get("InodeReserve"), "inodes", report) or Reserve(),
    }


def _reserve(value: Value, unit: str, report: Report) -> Reserve | None:
    """Return a reserve; None where the setting is empty."""
    reserve = Reserve.parse(value.text)
    if reserve is None and value.text.strip():
        message = f"{value.name} = {value.text} is no reserve"
        advice = f"write a number of {unit}, or a share up to {LARGEST_SHARE:.0f}%, such as 5%"
        report.error(value.line, message, advice)
    return reserve


def look_at_cleaning(
    settings: Settings, layout: Layout, line_of: Callable[[str], int | None], report: Report
) -> None:
    """Report what `dgate check` has to say about making space."""
    item = _COLUMN.fullmatch(settings.lru_sort)
    if settings.lru_sort.strip() and (item is None or not _is_column(item, settings, layout)):
        message = f"LRUSort = {settings.lru_sort} names no column of the index"
        advice = "write a column of dicom.sql, such as StudyDate; until then AccessTime counts"
        report.warning(line_of("LRUSort"), message, advice)
    clean, full = settings.mag_device_threshold_mb, settings.mag_device_full_threshold_mb
    if 0 < clean <= full:
        message = f"MAGDeviceThreshold = {clean}: a device counts as full at {full} already"
        advice = "make it larger than MAGDeviceFullThreshold, or objects are refused before"
        report.warning(line_of("MAGDeviceThreshold"), message, advice)
    if settings.ignore_mag_device_threshold:
        for name, value in (
            ("MAGDeviceThreshold", clean),
            ("NightlyCleanThreshold", settings.nightly_clean_threshold_mb),
            ("DiskReserve", settings.disk_reserve),
        ):
            if value:
                message = f"{name} has no effect, as IgnoreMAGDeviceThreshold = 1"
                report.warning(line_of(name), message, "remove one of the two")
    if settings.ignore_rewrite and settings.duplicate_content is not DuplicateContent.REPLACE:
        message = "DuplicateContent has no effect, as IgnoreRewrite = 1"
        report.warning(line_of("DuplicateContent"), message, "remove one of the two")


def _is_column(item: re.Match[str], settings: Settings, layout: Layout) -> bool:
    tables = {
        settings.patient_table.lower(): layout.patient,
        settings.study_table.lower(): layout.study,
        settings.series_table.lower(): layout.series,
        settings.image_table.lower(): layout.image,
    }
    table, name = (item[1] or "").lower(), item[2].lower()
    if table and table not in tables:
        return table in _DEFAULT_TABLES
    wanted = [tables[table]] if table else list(tables.values())
    names = {
        spelling.lower()
        for each in wanted
        for column in each.columns
        for spelling in (column.name, column.full_name)
    }
    return name in names or name in _ADDED_COLUMNS


def _mirrors(values: Values, devices: Sequence[Path], report: Report) -> tuple[Path, ...]:
    """Return the mirror folders; they end at the first that is not set."""
    given = {value.name: value for value in values if value.key.name == "MIRRORDeviceN"}
    given = {name: value for name, value in given.items() if value.text.strip()}
    expected = values.integer("MIRRORDevices")
    count = values.get("MIRRORDevices")
    found: list[Path] = []
    for number in range(expected):
        value = given.pop(f"MIRRORDevice{number}", None)
        if value is None:
            message = f"MIRRORDevice{number} is not set, but MIRRORDevices = {expected}"
            report.error(count.line, message, f"set it, or write MIRRORDevices = {number}")
            break
        # The original starts no copies where the value is the number -1.
        if value.text.strip() == "-1":
            break
        folder = values.path(value.text, value)
        for other, what in ((devices, "MAGDevice"), (found, "MIRRORDevice")):
            if folder in other:
                message = f"{value.name} is the same folder as {what}{list(other).index(folder)}"
                report.error(value.line, message, "give each mirror a folder of its own")
        if number >= len(devices):
            message = f"{value.name} mirrors nothing, as there is no MAGDevice{number}"
            report.warning(value.line, message, "remove the line")
        found.append(folder)
    for value in given.values():
        if value.text.strip() != "-1":
            message = f"{value.name} is not used, as MIRRORDevices = {expected}"
            report.warning(value.line, message, "raise MIRRORDevices, or remove the line")
    return tuple(found)


def _volumes(values: Values, kind: str, fields: int, report: Report) -> tuple[tuple[int, str], ...]:
    """Return number and path template of the old volumes that may still be read."""
    found = []
    for value in values:
        if value.key.name != f"{kind}DeviceN" or not value.text.strip():
            continue
        if len(_FIELD.findall(value.text)) != fields:
            message = (
                f"{value.name} = {value.text} does not have {fields} %d for the volume's number"
            )
            report.warning(value.line, message, "write the path with %d in it")
            continue
        number = int(value.name.removeprefix(f"{kind}Device"))
        found.append((number, str(values.path(value.text, value))))
    return tuple(found)


def _move_target(value: Value, devices: int, values: Values, report: Report) -> str:
    """Return the device to which old data moves by night, `MAGn`; empty when nothing does."""
    if values.integer("NightlyMoveThreshold") <= 0:
        return ""
    match = _DEVICE.fullmatch(value.text.strip())
    if match is not None and int(match[1]) < devices and devices > 1 and not value.is_default:
        return f"MAG{int(match[1])}"
    message = f"{value.name} = {value.text} is not a device to which old data could move"
    report.warning(value.line, message, "write MAG1, or set NightlyMoveThreshold = 0")
    return ""


def _minute(value: Value, report: Report) -> int:
    """Return the minute of the day at which old data moves."""
    text = value.text.strip()
    if value.is_default or text in ("", "0"):
        return _MOVE_MINUTE
    match = _TIME.fullmatch(text)
    if match is not None and int(match[1]) < 24 and int(match[2] or 0) < 60:
        return int(match[1]) * 60 + int(match[2] or 0)
    message = f"{value.name} = {value.text} is no time of day; 02:00 is used"
    report.warning(value.line, message, "write hours and minutes, as in 02:00")
    return _MOVE_MINUTE
