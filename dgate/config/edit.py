"""Changes of single settings in dicom.ini that leave every other byte as it is.

The result is text that nobody has judged yet: `dgate.inspection` does, and `dgate.config.store`
writes it. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from dgate.config.ini import Entry, IniFile, Section
from dgate.config.key_table import REGISTRY
from dgate.config.keys import MAIN, registered
from dgate.config.problem import Report
from dgate.config.sections import PROFILE_KEY, main_section
from dgate.errors import ConfigError

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NUMBER = re.compile(r"\d+\Z")
_FIXED = {key.section.lower() for key in REGISTRY}
_ANY = ("*", "<")
"""Begin of the names in the registry that stand for any number of keys."""
_LINE_END = re.compile(r"\r\n|\r|\n")


def quoted(value: str) -> str:
    """Return a value as it has to be written so that reading gives it back."""
    if value != value.strip(" \t") or (
        len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'"
    ):
        quote = "'" if value[:1] == '"' else '"'
        return f"{quote}{value}{quote}"
    return value


def registered_in(section: str | None) -> str:
    """Return the section under which the registry has the keys of a section of the file."""
    lower = registered(section or MAIN)
    return lower if lower in _FIXED else MAIN


def home_of(ini: IniFile, section: str | None, key: str) -> Section | None:
    """Return the section that a key of `section` is read from; None when there is none yet.

    Without a section, the one that holds the settings is meant.
    """
    if section is not None and section.lower() != MAIN:
        return ini.section(section)
    if key.lower() == PROFILE_KEY.lower() and (exact := ini.section(MAIN)) is not None:
        return exact
    return main_section(ini, Report(ini.path))


def entries_of(home: Section | None, section: str | None, key: str) -> list[Entry]:
    """Return the entries of a key in whatever spelling, the one that counts first."""
    if home is None:
        return []
    place = registered_in(section)
    wanted = REGISTRY.find(key, place)
    if wanted is None or wanted.name.startswith(_ANY):
        # In [scripts] every name is a key of its own.
        return [entry for entry in home.entries if entry.key.lower() == key.lower()]
    proper: list[Entry] = []
    others: list[Entry] = []
    for entry in home.entries:
        match = REGISTRY.find(entry.key, place)
        if match is not None and match.name == wanted.name:
            (others if match.alias else proper).append(entry)
    return [*proper, *others]


def with_value(ini: IniFile, section: str | None, key: str, value: str) -> bytes:
    """Return the file's bytes with one setting changed, or added where it fits.

    Raises ConfigError: the value cannot be written into this file.
    """
    _check_text(key, value)
    home = home_of(ini, section, key)
    found = entries_of(home, section, key)
    lines = ini.written_lines
    if found:
        at = found[0].line - 1
        lines[at] = _with_value(lines[at], value)
    else:
        match = REGISTRY.find(key, registered_in(section))
        proper = key if match is None or match.name.startswith(_ANY) else match.name
        _insert(ini, lines, home, section, proper, value)
    return _encoded(ini, lines, section, key, value)


def without(ini: IniFile, section: str | None, key: str) -> bytes:
    """Return the file's bytes without any line of one setting.

    Raises ConfigError: there is none.
    """
    found = entries_of(home_of(ini, section, key), section, key)
    if not found:
        raise ConfigError(f"{key} is not set", where=ini.path, remedy="dgate config show --changed")
    gone = {entry.line - 1 for entry in found}
    lines = [line for at, line in enumerate(ini.written_lines) if at not in gone]
    return ini.render(lines)


def with_values(ini: IniFile, changes: Iterable[tuple[int, str]]) -> bytes:
    """Return the file's bytes with other values in some lines, counted from 1.

    Raises ConfigError: a value cannot be written into this file.
    """
    lines = ini.written_lines
    for line, value in changes:
        entry = ini.entry_at(line)
        assert entry is not None, "only entries have values"
        _check_text(entry.key, value)
        lines[line - 1] = _with_value(lines[line - 1], value)
    return _render(ini, lines)


def _with_value(line: str, value: str) -> str:
    end = _end_of(line)
    content = line[: len(line) - len(end)]
    key, equals, rest = content.partition("=")
    if not equals:
        return f"{content.rstrip()} = {quoted(value)}{end}"
    blank = rest[: len(rest) - len(rest.lstrip(" \t"))] if rest.strip(" \t") else " "
    return f"{key}={blank}{quoted(value)}{end}"


def _end_of(line: str) -> str:
    found = _LINE_END.search(line)
    return found[0] if found else ""


def _insert(
    ini: IniFile,
    lines: list[str],
    home: Section | None,
    section: str | None,
    key: str,
    value: str,
) -> None:
    """Put a new line below its relatives, its switched-off twin, or the section's last entry."""
    end = next((found for line in lines if (found := _end_of(line))), "\n")
    if lines and not _end_of(lines[-1]):
        lines[-1] += end
    new = f"{key} = {quoted(value)}{end}"
    if home is None:
        lines += [*([end] if lines else []), f"[{section or MAIN}]{end}", new]
        return
    lines.insert(_place(ini, home, key), new)


def _place(ini: IniFile, home: Section, key: str) -> int:
    """Return the index in the list of lines at which a new line of the section goes."""
    twin = re.compile(rf"[#;/]+[ \t]*{re.escape(key)}[ \t]*=", re.IGNORECASE)
    first = home.line if home.name else 0
    last = max((entry.line for entry in home.entries), default=first)
    for at in range(first, last):
        if twin.match(ini.lines[at]):
            return at + 1
    stem = _NUMBER.sub("", key).lower()
    if stem != key.lower():
        family = [entry for entry in home.entries if _NUMBER.sub("", entry.key).lower() == stem]
        if family:
            return family[-1].line
    return last


def _check_text(key: str, value: str) -> None:
    if _CONTROL.search(value):
        what = f"the value of {key} has a line end or another control character"
        raise ConfigError(what, remedy="a setting is one line of text")
    if (
        not key.strip()
        or key != key.strip()
        or _CONTROL.search(key)
        or key[0] in "[#;/"
        or "=" in key
    ):
        raise ConfigError(f"{key!r} cannot be the name of a setting", remedy="dgate config explain")


def _encoded(ini: IniFile, lines: list[str], section: str | None, key: str, value: str) -> bytes:
    """Return the bytes of the lines, after making sure that they are read as they are meant."""
    data = _render(ini, lines)
    again = IniFile.parse(data, ini.path)
    found = entries_of(home_of(again, section, key), section, key)
    if again.encoding != ini.encoding or not found or found[0].value != value:
        what = f"{key} = {value} would not be read back as it is written"
        raise ConfigError(what, where=ini.path, remedy="save the file as UTF-8 and try again")
    return data


def _render(ini: IniFile, lines: list[str]) -> bytes:
    try:
        return ini.render(lines)
    except UnicodeEncodeError as exc:
        what = f"the file is in {ini.encoding}, which has no character {exc.object[exc.start]!r}"
        raise ConfigError(what, where=ini.path, remedy="save the file as UTF-8 first") from exc
