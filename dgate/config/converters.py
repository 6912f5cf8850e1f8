"""Which rule lines of dicom.ini are switched on, with their filters (spec dicom-ini.md section 9).

The text of a rule is not looked at here (`dgate.rules.grammar`). Pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

from dgate.config.ini import Entry, IniFile
from dgate.config.key_table import CONVERTER_FAMILIES, REGISTRY
from dgate.config.keys import Key, KeyType
from dgate.config.model import ConverterText, Filters, LuaEvent, ScriptTexts, Value
from dgate.config.problem import Report
from dgate.config.values import Values

LUA_SECTION = "lua"
SCRIPT_SECTION = "scripts"
_FILTER_FIELDS = {
    "Modality": "modality",
    "StationName": "station",
    "CallingAE": "calling",
    "CalledAE": "called",
    "Filter": "sql",
}
_NEED_TEXT = ("Archive", "MoveDevice")
"""Families whose Lua line runs only beside a text line (spec converters.md 3)."""


def active(
    values: Values, ini: IniFile, limits: Mapping[str, int], report: Report
) -> tuple[ConverterText, ...]:
    """Return the rule lines that run, by family and number.

    `limits` is how many of a family are switched on, where the file can tell (ImportConverters).
    """
    if values.get("ImportConverters").is_default:
        # The default is one less than there may be, and nobody has to raise it (spec S23).
        limits = {family: limit for family, limit in limits.items() if family != "Import"}
    lines = _lua_lines(ini, report)
    twins: set[str] = set()
    for value in values:
        if value.key.type is not KeyType.SCRIPT or not value.text.strip():
            continue
        name = value.name.lower()
        if name in lines:
            twins.add(name)
            message = f"{value.name} is not used: [{LUA_SECTION}] has one of the same name"
            report.warning(value.line, message, "remove one of the two", 1)
            continue
        lines[name] = (value, False)
    _drop_lonely(lines, twins, report)
    running = []
    for value, lua in lines.values():
        family, index = _family_and_index(value)
        if index < limits.get(family, index + 1):
            filters = Filters() if lua else _filters(values, family, index)
            where = f"{PurePath(ini.path).name}:{value.line}"
            running.append(ConverterText(family, index, value.text, lua, filters, where))
        else:
            message = f"{value.name} never runs, as {family}Converters = {limits[family]}"
            report.warning(value.line, message, f"write {family}Converters = {index + 1}", 1)
    _note_idle_filters(values, {(line.family, line.index) for line in running}, report)
    running.sort(key=lambda line: (CONVERTER_FAMILIES.index(line.family), line.index))
    return tuple(running)


def scripts(ini: IniFile) -> ScriptTexts:
    """Return the named scripts."""
    section = ini.section(SCRIPT_SECTION)
    entries = section.counting() if section is not None else []
    return ScriptTexts({entry.key: entry.value for entry in entries})


def lua_events(ini: IniFile) -> tuple[LuaEvent, ...]:
    """Return the Lua code that runs on events which are not those of a rule."""
    name = PurePath(ini.path).name
    return tuple(
        LuaEvent(key.name, entry.value, f"{name}:{entry.line}")
        for key, entry in _lua_entries(ini)
        if key is not None and key.feeds == "lua_events" and entry.value.strip()
    )


def note_lua_events(ini: IniFile, report: Report) -> None:
    """Report what section [lua] asks for and this version does not do."""
    for key, entry in _lua_entries(ini):
        if key is None:
            near = REGISTRY.nearest(entry.key, LUA_SECTION)
            advice = f"did you mean {near}?" if near else "remove the line"
            message = f"{entry.key} in [{LUA_SECTION}] is not known and has no effect"
            report.warning(entry.line, message, advice, 1)
        elif entry.value.strip() and key.waits:
            message = f"{entry.key} in [{LUA_SECTION}] has no effect yet: {key.waits}"
            report.warning(entry.line, message, "put # in front of the line until then", 1)
        elif entry.value.strip() and key.reason:
            message = f"{entry.key} in [{LUA_SECTION}] has no effect: {key.reason}"
            report.info(entry.line, message, "the line can be removed", 1)


def _lua_entries(ini: IniFile) -> list[tuple[Key | None, Entry]]:
    section = ini.section(LUA_SECTION)
    entries = section.counting() if section is not None else []
    matches = [(REGISTRY.find(entry.key, LUA_SECTION), entry) for entry in entries]
    return [(match.key if match else None, entry) for match, entry in matches]


def _lua_lines(ini: IniFile, report: Report) -> dict[str, tuple[Value, bool]]:
    """Return the rules of section [lua] under their lower-case names."""
    lines: dict[str, tuple[Value, bool]] = {}
    for key, entry in _lua_entries(ini):
        match = REGISTRY.find(entry.key, LUA_SECTION)
        if key is None or match is None or match.number is None or not entry.value.strip():
            continue
        if match.number >= key.numbers:
            message = f"{match.name} is never used: the numbers go from 0 to {key.numbers - 1}"
            report.warning(entry.line, message, "use a free number", 1)
            continue
        value = Value(key, match.name, entry.value, entry.line)
        lines[match.name.lower()] = (value, True)
    return lines


def _drop_lonely(lines: dict[str, tuple[Value, bool]], twins: set[str], report: Report) -> None:
    """Take away what only section [lua] has and the main section has to have as well."""
    for name, (value, lua) in list(lines.items()):
        if lua and name not in twins and _family(value.key) in _NEED_TEXT:
            del lines[name]
            message = (
                f"{value.name} in [{LUA_SECTION}] has no effect alone: it runs only where the main "
                "section has a line of this name"
            )
            report.warning(value.line, message, f"write {value.name} = nop there, too", 1)


def _family_and_index(value: Value) -> tuple[str, int]:
    return _family(value.key), int(value.name[len(value.key.name) - 1 :])


def _family(key: Key) -> str:
    return key.name.removesuffix("ConverterN")


def _filters(values: Values, family: str, index: int) -> Filters:
    texts = {
        field: values.text(f"{family}{part}{index}")
        for part, field in _FILTER_FIELDS.items()
        if part != "Filter" or family == "Export"
    }
    return Filters(**texts)


def _note_idle_filters(values: Values, running: set[tuple[str, int]], report: Report) -> None:
    """Report filters whose rule does not exist or does not run."""
    for value in values:
        key = value.key
        is_filter = key.feeds == "converters" and key.type is not KeyType.SCRIPT
        if not is_filter or not key.effective or value.text == key.default:
            continue
        number = int(value.name[len(key.name) - 1 :])
        family = next(
            family
            for part in _FILTER_FIELDS
            for family in CONVERTER_FAMILIES
            if key.name == f"{family}{part}N"
        )
        if (family, number) not in running:
            message = f"{value.name} has no effect: no {family}Converter{number} runs"
            report.info(value.line, message, "the line can be removed", 1)
