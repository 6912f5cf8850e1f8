"""From the text of a setting to a typed value, the way the original reads it.

Types and paths: spec dicom-ini.md 1.2 and 1.5. What is odd about a text is noted with its line.
Owned by the thread that loads a configuration.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from dgate.config import codes
from dgate.config.ini import Section
from dgate.config.key_table import REGISTRY
from dgate.config.keys import MAIN, Key, KeyType, Match
from dgate.config.model import Value
from dgate.config.ports import service_port
from dgate.config.problem import Report

_INTEGER = re.compile(r"[ \t]*([+-]?[0-9]{1,18})")
_NUMBER = re.compile(r"[ \t]*([+-]?(?:[0-9]{1,18}(?:\.[0-9]*)?|\.[0-9]+))")
_TRUE_WORDS = ("yes", "true", "on", "y", "t")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_AE_LENGTH = 16
# Looking for the nearest known name costs about a millisecond each.
_ADVISED_KEYS = 20


class Values:
    """The settings of one section, as the file and the defaults give them."""

    def __init__(self, section: Section, base_folder: Path, report: Report) -> None:
        self._report = report
        self._base = base_folder
        self._values: dict[str, Value] = {}
        self._numbers: dict[str, int] = {}
        self._unknown = 0
        for entry in section.counting():
            match = REGISTRY.find(entry.key, MAIN)
            if match is None:
                self._note_unknown(entry.key, entry.line, entry.has_equals)
            else:
                value = Value(match.key, match.name, entry.value, entry.line, match.alias)
                self._take(value, match)

    def __iter__(self) -> Iterator[Value]:
        """Yield the settings that the file names, in file order."""
        return iter(self._values.values())

    def get(self, name: str) -> Value:
        """Return the setting `name`, its default where the file has none."""
        value = self._values.get(name.lower())
        if value is not None:
            return value
        key = REGISTRY[name]
        return Value(key, name, key.default)

    def all(self) -> tuple[Value, ...]:
        """Return every setting of the main section, in the order of the registry."""
        members: dict[str, list[Value]] = {}
        for value in self:
            members.setdefault(value.key.name, []).append(value)
        return tuple(
            value
            for key in REGISTRY
            if key.section == MAIN
            for value in members.get(key.name, [] if key.is_family else [self.get(key.name)])
        )

    def text(self, name: str) -> str:
        """Return a text as it stands."""
        return self.get(name).text

    def integer(self, name: str) -> int:
        """Return the number that the text begins with, 0 without one."""
        if name not in self._numbers:
            self._numbers[name] = self._integer(self.get(name))
        return self._numbers[name]

    def flag(self, name: str) -> bool:
        """Return whether the number is not 0."""
        return self.integer(name) != 0

    def typed(self, key: Key) -> object:
        """Return the value of a single key, of the Python type that its `KeyType` stands for."""
        value = self.get(key.name)
        if value.text == "" and key.default != "":
            self._note_empty(value)
        match key.type:
            case KeyType.INT:
                return self.integer(key.name)
            case KeyType.BOOL:
                return self.flag(key.name)
            case KeyType.SECONDS:
                return self._seconds(value)
            case KeyType.PORT:
                return self._port(value)
            case KeyType.PATH:
                return self.path(value.text or key.default, value)
            case KeyType.CODE:
                return self._code(value)
            case KeyType.CHOICE:
                return self._choice(value)
            case KeyType.AE:
                return self._ae_title(value)
            case KeyType.LIST:
                parts = (part.strip() for part in value.text.split(","))
                return frozenset(part for part in parts if part)
            case _:
                return value.text

    def path(self, text: str, value: Value) -> Path:
        """Return the file or folder meant by `text`, relative to the base folder."""
        if os.sep == "/" and _DRIVE.match(text):
            message = f"{value.name} = {text} is a Windows path"
            self._report.warning(value.line, message, "write the path on this machine")
        given = Path(text.replace("\\", "/"))
        here = self._base / given
        if given.is_absolute() or _exists(here) or not _exists(Path.cwd() / given):
            return here
        there = Path.cwd() / given
        message = f"{value.name} = {text} is not in {self._base} and is taken from {Path.cwd()}"
        self._report.info(value.line, message, f"write the whole path {there}")
        return there

    def note_without_effect(self) -> None:
        """Report each setting of the file that this version does not act on."""
        for value in self:
            key = value.key
            if key.effective:
                continue
            if key.reason:
                message = f"{value.name} has no effect: {key.reason}"
                self._report.info(value.line, message, "the line can be removed", 1)
            elif not self._is_default(value):
                message = f"{value.name} has no effect yet: {key.missing}"
                self._report.warning(
                    value.line, message, "put # in front of the line until then", 1
                )

    def _take(self, value: Value, match: Match) -> None:
        if value.alias:
            message = f"{value.alias} is read as {value.name}"
            self._report.info(value.line, message, f"write {value.name}", 1)
        numbers = value.key.numbers
        if match.number is not None and match.number >= numbers:
            message = f"{value.name} is never used: the numbers go from 0 to {numbers - 1}"
            self._report.warning(value.line, message, "use a free number", 1)
            return
        earlier = self._values.setdefault(value.name.lower(), value)
        if earlier is value:
            return
        # Two spellings of one setting: the proper one counts, wherever it stands.
        counts, other = (value, earlier) if earlier.alias and not value.alias else (earlier, value)
        self._values[value.name.lower()] = counts
        if counts.text != other.text:
            message = (
                f"{other.alias or other.name} is another spelling of {counts.name} with another "
                f"value; line {counts.line} counts"
            )
            self._report.warning(other.line, message, f"remove line {other.line}", 1)

    def _note_unknown(self, text: str, line: int, has_equals: bool) -> None:
        self._unknown += 1
        if not has_equals:
            message = f"the line {text[:40]!r} is neither a comment nor key = value"
            self._report.warning(line, message, "put # in front of comments", 1)
            return
        near = REGISTRY.nearest(text) if self._unknown <= _ADVISED_KEYS else None
        advice = f"did you mean {near}?" if near else "remove the line, or check the spelling"
        self._report.warning(line, f"{text} is not a known setting and has no effect", advice, 1)

    def _note_empty(self, value: Value) -> None:
        key = value.key
        if key.type in (KeyType.PATH, KeyType.PORT, KeyType.CHOICE, KeyType.AE):
            counts = f"{key.default} is used"
        elif key.type in (KeyType.INT, KeyType.BOOL, KeyType.SECONDS):
            counts = "it counts as 0, not as its default"
        else:
            counts = "it counts as empty text, not as its default"
        message = f"{value.name} has no value; {counts}"
        advice = f"write {value.name} = {key.default}, or remove the line"
        self._report.warning(value.line, message, advice)

    def _is_default(self, value: Value) -> bool:
        kind = value.key.type
        default = value.key.default
        if kind in (KeyType.INT, KeyType.BOOL) and default:
            return _leading_integer(value.text)[0] == _leading_integer(default)[0]
        return value.text.strip().lower() == default.lower()

    def _integer(self, value: Value) -> int:
        number, rest = _leading_integer(value.text)
        if rest:
            self._note_rest(value, str(number), rest)
        return int(self._within(value, number))

    def _seconds(self, value: Value) -> float | None:
        if value.is_default and value.text == "":
            return None
        match = _NUMBER.match(value.text)
        number = float(match[1]) if match else 0.0
        rest = value.text[match.end() :].strip() if match else value.text.strip()
        if rest:
            self._note_rest(value, f"{number:g}", rest)
        return self._within(value, number)

    def _note_rest(self, value: Value, number: str, rest: str) -> None:
        if rest == value.text.strip():
            word = rest.lower() in _TRUE_WORDS
            message = f"{value.name} = {value.text} is not a number and counts as 0"
            advice = f"write {value.name} = 1" if word else "write a number"
        else:
            message = f"{value.name} = {value.text} is read as {number}"
            advice = f"remove {rest!r}; there are no comments behind a value"
        self._report.warning(value.line, message, advice)

    def _within(self, value: Value, number: float) -> float:
        key = value.key
        low = key.least is not None and number < key.least
        high = key.most is not None and number > key.most
        if not low and not high:
            return number
        bound = f"at least {key.least}" if key.most is None else f"{key.least} to {key.most}"
        message = f"{value.name} = {value.text} is out of range"
        if key.default == "":
            advice, instead = f"write {bound}", float(key.least or 0)
            self._report.warning(value.line, f"{message}; {instead:g} is used", advice)
            return instead
        self._report.warning(
            value.line, f"{message}; the default {key.default} is used", f"write {bound}"
        )
        return float(key.default)

    def _port(self, value: Value) -> int:
        text = value.text.strip() or value.key.default
        number, rest = _leading_integer(text)
        if rest == text:
            port = service_port(text)
            if port is None:
                message = f"{value.name} = {value.text} is neither a number nor a known service"
                self._report.error(value.line, message, "write a port number")
                return int(value.key.default)
            return port
        if rest:
            self._note_rest(value, str(number), rest)
        if 0 <= number <= 65535:
            return number
        message = f"{value.name} = {value.text} is not a port"
        self._report.error(value.line, message, "write a number from 1 to 65535")
        return int(value.key.default)

    def _code(self, value: Value) -> str:
        text = value.text.strip().lower()
        if bad := codes.complaint(text):
            message, advice = bad
            self._report.warning(value.line, f"{value.name}: {message}", advice)
        return text

    def _choice(self, value: Value) -> str:
        text = value.text.strip().lower()
        choices = value.key.choices
        if text in choices:
            return text
        if text:
            near = difflib.get_close_matches(text, choices, 1)
            advice = f"did you mean {near[0]}?" if near else f"write one of {', '.join(choices)}"
            message = f"{value.name} = {value.text} is not known"
            self._report.error(value.line, message, advice)
        return value.key.default

    def _ae_title(self, value: Value) -> str:
        title = value.text.strip(" ") or value.key.default
        if len(title) > _AE_LENGTH:
            message = f"{value.name} = {title} is longer than {_AE_LENGTH} characters"
            self._report.error(value.line, message, "shorten it")
            return title[:_AE_LENGTH]
        if "\\" in title or not title.isascii() or not title.isprintable():
            message = f"{value.name} = {title!r} has characters that an AE title cannot have"
            self._report.error(value.line, message, "use letters, digits, - and _")
            return value.key.default
        return title


def _leading_integer(text: str) -> tuple[int, str]:
    """Return the number that `text` begins with, 0 without one, and what follows it."""
    match = _INTEGER.match(text)
    if match is None:
        return 0, text.strip()
    return int(match[1]), text[match.end() :].strip()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # A name that the file system cannot hold does not exist either.
        return False
