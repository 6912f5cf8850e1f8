"""From the values of dicom.ini to `Settings`: the fields that take more than one key or rule.

Owned by the thread that loads a configuration.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dgate.config import converters
from dgate.config.areas import areas
from dgate.config.ini import IniFile, Section
from dgate.config.key_table import REGISTRY
from dgate.config.keys import MAIN
from dgate.config.model import (
    DuplicateContent,
    Durability,
    Engine,
    MissingUids,
    Settings,
    V2Content,
    Value,
)
from dgate.config.node_sections import node_table
from dgate.config.problem import Report
from dgate.config.sqlhost import address
from dgate.config.values import Values
from dgate.config.virtual import virtual_servers
from dgate.config.watching import watched
from dgate.config.worklist import worklist_iso_ir

_LEVELS = ("PATIENT", "STUDY", "SERIES", "IMAGE", "SOPCLASS", "GLOBAL")
_FIXED_SYNTAXES = range(13)
# The original's own product root plus `.6.<seconds>.<counter>` must stay within 64 characters.
_PREFIX_LENGTH = 40
_UID_ROOT = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_OWN_PRAGMA = re.compile(r"\s*PRAGMA\s+(?:\w+\.)?(synchronous|journal_mode)\b", re.IGNORECASE)
_FAILURE_STATUSES = range(0x0100, 0x10000)


def build_settings(
    ini_path: Path, ini: IniFile, section: Section, values: Values, report: Report
) -> Settings:
    """Return the typed settings: plain ones by the registry, then those that take several keys."""
    fields: dict[str, Any] = {}
    for key in REGISTRY:
        if key.feeds and key.section == MAIN and not key.is_family:
            fields[key.feeds] = values.typed(key)
    fields["profile"] = section.name or MAIN
    fields["durability"] = Durability(fields["durability"])
    fields["missing_uids"] = MissingUids(fields["missing_uids"])
    fields["duplicate_content"] = DuplicateContent(fields["duplicate_content"])
    fields["v2_content"] = V2Content(fields["v2_content"])
    fields["classic_status_codes"] = fields["classic_status_codes"] == "classic"
    fields["accept_unknown_sop_classes"] = fields["accept_unknown_sop_classes"] == "accept"
    fields["script_errors_reject"] = fields["script_errors_reject"] == "reject"
    engine, server = _database(values, report)
    fields["engine"], fields["sql_server"] = engine, server
    fields["sql_host"] = fields["sql_host"].strip() or values.get("SQLHost").key.default
    fields["sqlite_startup"] = _sqlite_startup(values.get("SQLiteStartup"), report)
    _check_tables(values, report)
    devices = _devices(values, engine, report)
    fields["mag_devices"] = devices
    fields |= areas(values, devices, report)
    if not values.text("TempDir"):
        fields["temp_dir"] = (devices[0] if devices else ini_path.parent) / "printer_files"
    fields["script_folders"] = _script_folders(values.get("ScriptFolders"), values, report)
    fields["worklist_iso_ir"] = worklist_iso_ir(values, report)
    fields["uid_prefix"] = _uid_prefix(values.get("UIDPrefix"), report)
    fields["file_name_syntax"] = _file_name_syntax(values.get("FileNameSyntax"), report)
    fields["storage_failed_error_code"] = _failure_status(
        values.get("StorageFailedErrorCode"), fields["storage_failed_error_code"], report
    )
    fields["forward_association_level"] = _level(values.get("ForwardAssociationLevel"), report)
    limits = {"Import": fields["import_converters"], "Export": fields["export_converters"]}
    fields["converters"] = converters.active(values, ini, limits, report)
    fields["scripts"] = converters.scripts(ini)
    fields["lua_events"] = converters.lua_events(ini)
    fields |= watched(values, devices, fields["profile"], report)
    fields["virtual_servers"] = virtual_servers(values, report)
    fields["peers"] = node_table(ini, report)
    return Settings(ini_path=ini_path, base_folder=ini_path.parent, **fields)


def _script_folders(value: Value, values: Values, report: Report) -> tuple[Path, ...]:
    """Return the folders that scripts may use; one that is not there is reported."""
    parts = (part.strip() for part in value.text.split(","))
    folders = tuple(values.path(part, value) for part in parts if part)
    for folder in folders:
        if not folder.is_dir():
            message = f"{value.name} names {folder}, which is no folder"
            report.warning(value.line, message, "create it, or correct the name")
    return folders


def _database(values: Values, report: Report) -> tuple[Engine, str]:
    """Return the engine and its database name or file (spec dicom-ini.md section 4)."""
    server = values.get("SQLServer")
    name = server.text.strip()
    # The order is that of the original when it connects: SQLite wins where several are set.
    flags = [
        (values.get(key), engine)
        for key, engine in (
            ("SQLite", Engine.SQLITE),
            ("PostGres", Engine.POSTGRES),
            ("MySQL", Engine.MYSQL),
        )
        if values.flag(key)
    ]
    for value, _ in flags[1:]:
        message = f"{value.name} = {value.text} is ignored, as {flags[0][0].name} is set too"
        report.warning(value.line, message, "set only one of SQLite, PostGres and MySQL to 1")
    if not name:
        for value, _ in flags[:1]:
            message = f"{value.name} is set but SQLServer is empty: no index is kept"
            report.warning(server.line or value.line, message, "name the database in SQLServer")
        return Engine.NONE, ""
    if flags:
        engine = flags[0][1]
        if engine is not Engine.SQLITE:
            _check_host(values.get("SQLHost"), report)
        return engine, str(values.path(name, server)) if engine is Engine.SQLITE else name
    if "/" in name or "\\" in name:
        folder = values.path(name, server)
        message = f"SQLServer = {name} meant dBase files; an SQLite file in that folder is used"
        report.warning(server.line, message, f"write SQLite = 1 and SQLServer = {name}/dgate.db3")
        return Engine.SQLITE, str(folder / "dgate.db3")
    message = f"SQLServer = {name} is an ODBC data source, which is not supported"
    report.error(server.line, message, "write SQLite = 1, PostGres = 1 or MySQL = 1")
    return Engine.NONE, ""


def _check_host(value: Value, report: Report) -> None:
    try:
        address(value.text)
    except ValueError as exc:
        report.error(value.line, f"{value.name}: {exc}", "write host or host:port")


def _sqlite_startup(value: Value, report: Report) -> str:
    kept = []
    for statement in value.text.split(";"):
        own = _OWN_PRAGMA.match(statement)
        if own is None:
            kept.append(statement.strip())
            continue
        message = f"{own[1].lower()} in {value.name} is ignored: Durability decides"
        report.warning(value.line, message, "remove it, and set Durability instead")
    return "; ".join(statement for statement in kept if statement)


def _check_tables(values: Values, report: Report) -> None:
    seen: dict[str, str] = {}
    for level in ("Patient", "Study", "Series", "Image", "WorkList"):
        value = values.get(f"{level}TableName")
        if _IDENTIFIER.fullmatch(value.text) is None:
            message = f"{value.name} = {value.text} cannot be the name of a table"
            report.error(value.line, message, "use letters, digits and underscores")
        elif value.text.lower() in seen:
            message = f"{value.name} = {value.text} is also {seen[value.text.lower()]}"
            report.error(value.line, message, "give each table a name of its own")
        seen.setdefault(value.text.lower(), value.name)


def _devices(values: Values, engine: Engine, report: Report) -> tuple[Path, ...]:
    """Return the storage folders MAG0, MAG1…; they end at the first that is not set."""
    given = {value.name: value for value in values if value.key.name == "MAGDeviceN" and value.text}
    devices: list[Path] = []
    count = values.get("MAGDevices")
    for number in range(values.integer("MAGDevices")):
        value = given.pop(f"MAGDevice{number}", None)
        if value is None:
            break
        folder = values.path(value.text, value)
        if folder in devices:
            message = f"{value.name} is the same folder as MAGDevice{devices.index(folder)}"
            report.error(value.line, message, "give each device a folder of its own")
        devices.append(folder)
    expected = values.integer("MAGDevices")
    if devices and len(devices) < expected:
        message = f"MAGDevice{len(devices)} is not set, but MAGDevices = {expected}"
        report.error(count.line, message, f"set it, or write MAGDevices = {len(devices)}")
    elif not devices:
        message = "MAGDevice0 is not set: there is no folder to store objects in"
        note = report.warning if engine is Engine.NONE else report.error
        note(count.line, message, "write MAGDevice0 = ./data/")
    for value in given.values():
        message = f"{value.name} is not used, as MAGDevices = {expected}"
        report.warning(value.line, message, "raise MAGDevices, or remove the line")
    return tuple(devices)


def _uid_prefix(value: Value, report: Report) -> str:
    text = value.text.strip(" .")
    default = value.key.default
    if _UID_ROOT.fullmatch(text) is None or len(text) > _PREFIX_LENGTH:
        message = f"{value.name} = {value.text} cannot begin a UID; {default} is used"
        advice = f"a root has numbers separated by dots, at most {_PREFIX_LENGTH} characters"
        report.error(value.line, message, advice)
        return default
    if text.split(".")[0] not in ("0", "1", "2"):
        message = f"{value.name} = {text} is a placeholder, not a registered root"
        advice = "UIDs made with it may clash with others; register a root of your own"
        report.warning(value.line, message, advice)
    return text


def _file_name_syntax(value: Value, report: Report) -> str:
    text = value.text.strip()
    if text.lower().startswith("lua:"):
        return text
    if "%" in text:
        parts = text.replace("\\", "/").split("/")
        if ".." in parts or text.startswith(("/", "\\")):
            message = f"{value.name} = {text} leads out of the device"
            report.error(value.line, message, "write a name below the device, without ..")
            return value.key.default
        if "." not in parts[-1]:
            message = f"{value.name} = {text} has no extension"
            report.warning(value.line, message, "end it in .dcm")
        return text
    number = re.match(r"[0-9]{1,9}", text)
    if number is not None and int(number[0]) in _FIXED_SYNTAXES:
        if number[0] != text:
            message = f"{value.name} = {text} is read as {number[0]}"
            report.warning(value.line, message, "remove what follows the number")
        return str(int(number[0]))
    message = f"{value.name} = {text} is not known and counts as 0"
    report.warning(value.line, message, "use a number from 0 to 12, or a template with %")
    return "0"


def _failure_status(value: Value, status: int, report: Report) -> int:
    if status in _FAILURE_STATUSES and not 0xB000 <= status <= 0xBFFF:
        return status
    default = int(value.key.default)
    message = f"{value.name} = {value.text} is no failure status; {default} is used"
    advice = "a sender would take it for success and delete its copy; write 272"
    report.error(value.line, message, advice)
    return default


def _level(value: Value, report: Report) -> str:
    text = value.text.strip()
    for level in _LEVELS:
        if text.startswith(level):
            return level
    upper = text.upper()
    advice = f"write {upper}" if upper in _LEVELS else f"write one of {', '.join(_LEVELS)}"
    message = f"{value.name} = {value.text} is not known and counts as GLOBAL"
    report.warning(value.line, message, f"{advice}; only upper case counts")
    return "GLOBAL"
