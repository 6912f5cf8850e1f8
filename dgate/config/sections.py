"""Which section of dicom.ini counts (spec dicom-ini.md 1.3), and what becomes of the others.

Pure functions.
"""

from __future__ import annotations

import difflib

from dgate.config.ini import Entry, IniFile, Section
from dgate.config.key_table import REGISTRY
from dgate.config.keys import ANY_KEY, MAIN, NODE, NODE_PREFIX
from dgate.config.nodes import NodeMap
from dgate.config.problem import Report

PROFILE_KEY = "MicroPACS"
_FIXED = {key.section.lower(): key.section for key in REGISTRY if key.section != MAIN}
_IGNORED = {key.section.lower(): key for key in REGISTRY if key.name == ANY_KEY and not key.feeds}
_READ_ELSEWHERE = _FIXED.keys() - _IGNORED.keys() - {NODE}
_PAGE_KEYS = ("source", "header", "line0")


def main_section(ini: IniFile, report: Report) -> Section:
    """Return the section that holds the settings; an empty one when none can be told."""
    exact = ini.section(MAIN)
    if exact is not None:
        _note_head(ini, report)
        return _profile(ini, exact, exact.get(PROFILE_KEY), report)
    holders = [section for section in ini.sections if section.get(PROFILE_KEY) is not None]
    if len(holders) == 1:
        _note_head(ini, report)
        holder = holders[0]
        named = _profile_name(holder)
        section = (ini.section(named) if named else None) or holder
        it = "it" if section is holder else f"[{holder.name}]"
        message = (
            f"there is no section [{MAIN}]; [{section.name}] is used, as {it} holds {PROFILE_KEY}"
        )
        report.warning(holder.line, message, f"write [{MAIN}] instead of [{holder.name}]")
        return section
    if len(ini.sections) == 1:
        _note_head(ini, report)
        section = ini.sections[0]
        message = f"there is no section [{MAIN}]; [{section.name}] is used, as it is the only one"
        report.warning(section.line, message, f"write [{MAIN}] instead of [{section.name}]")
        return section
    if not ini.sections:
        message = "the file has no section header; all of it is used"
        report.warning(1, message, f"write [{MAIN}] in the first line")
        return ini.head
    names = ", ".join(f"[{section.name}]" for section in ini.sections)
    near = difflib.get_close_matches(MAIN, [section.name.lower() for section in ini.sections], 1)
    found = ini.section(near[0]) if near else None
    advice = f"did you mean [{MAIN}] by [{found.name}]?" if found else f"add a section [{MAIN}]"
    line = found.line if found else ini.sections[0].line
    report.error(line, f"no section holds the settings; the file has {names}", advice)
    return Section(MAIN, 1)


def note_other_sections(ini: IniFile, main: Section, nodes: NodeMap, report: Report) -> None:
    """Report the sections that nothing reads, each once."""
    for section in ini.sections:
        lower = section.name.lower()
        if section is main or lower == MAIN or lower in _READ_ELSEWHERE:
            continue
        if lower in _IGNORED:
            message = f"section [{section.name}] has no effect: {_IGNORED[lower].reason}"
            report.info(section.line, message, "it can be removed")
        elif lower.startswith(NODE_PREFIX) or lower == NODE:
            _note_node(section, nodes, report)
        elif _is_profile(section):
            message = f"section [{section.name}] is a profile that is not selected"
            report.info(section.line, message, f"{PROFILE_KEY} = {section.name} selects it")
        elif any(section.get(key) is not None for key in _PAGE_KEYS):
            message = f"section [{section.name}] has no effect: the old web pages do not exist"
            report.info(section.line, message, "it can be removed")
        else:
            near = difflib.get_close_matches(lower, [MAIN, *_FIXED], 1, 0.75)
            meant = _FIXED.get(near[0], MAIN) if near else ""
            advice = f"did you mean [{meant}]?" if meant else "remove it, or check its name"
            report.warning(section.line, f"section [{section.name}] is not known", advice)


def _note_node(section: Section, nodes: NodeMap, report: Report) -> None:
    name = section.name[len(NODE_PREFIX) :].strip()
    if not name:
        message = f"section [{section.name}] names no node and has no effect"
        report.warning(section.line, message, "write [node NAME], with the name in acrnema.map")
    elif not nodes.names(name) and not _is_pattern(name, nodes):
        message = f"section [{section.name}] names a node that acrnema.map does not have"
        near = nodes.nearest(name)
        advice = f"did you mean {near}?" if near else "write the name as in acrnema.map"
        report.warning(section.line, message, advice)


def _is_pattern(name: str, nodes: NodeMap) -> bool:
    """Tell whether a name that ends in * stands for any title of acrnema.map."""
    begin = name.removesuffix("*").lower()
    return name.endswith("*") and any(node.ae_title.lower().startswith(begin) for node in nodes)


def _profile(ini: IniFile, exact: Section, entry: Entry | None, report: Report) -> Section:
    """Return the section that MicroPACS in [sscscp] selects."""
    if entry is None:
        return exact
    if not entry.value:
        message = f"{PROFILE_KEY} is empty and selects no section"
        report.error(entry.line, message, f"remove the line, or write {PROFILE_KEY} = {MAIN}")
        return exact
    selected = ini.section(entry.value.strip())
    if selected is not None:
        return selected
    names = ", ".join(f"[{section.name}]" for section in ini.sections)
    message = f"{PROFILE_KEY} selects section [{entry.value}], but the file has {names}"
    report.error(entry.line, message, f"write {PROFILE_KEY} = {MAIN}, or add the section")
    return exact


def _profile_name(section: Section) -> str:
    entry = section.get(PROFILE_KEY)
    return "" if entry is None else entry.value.strip()


def _is_profile(section: Section) -> bool:
    """Tell whether most keys of the section are settings."""
    entries = section.counting()
    known = sum(REGISTRY.find(entry.key) is not None for entry in entries)
    return known > 0 and known * 2 >= len(entries)


def _note_head(ini: IniFile, report: Report) -> None:
    alive = [entry for entry in ini.head.entries if entry.has_equals]
    if not alive:
        return
    first, last = alive[0].line, alive[-1].line
    lines = f"line {first} stands" if first == last else f"lines {first} to {last} stand"
    message = f"{lines} above the first section header and is ignored"
    if first != last:
        message = message.replace("is ignored", "are ignored")
    report.warning(first, message, f"move the section header [{MAIN}] to the top")
