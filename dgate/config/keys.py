"""The registry of every setting: its names, type, default, meaning, and whether it has an effect.

The rows themselves stand in `key_table`. Parser, lint, `dgate config explain` and the reference
page in docs all read them here. Immutable, safe between threads.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

MAIN = "sscscp"
"""Stands for the section that MicroPACS selects."""
NODE = "node"
"""Stands for every section `[node NAME]`."""
NODE_PREFIX = "node "
ANY_KEY = "*"
"""As a name: every key of the section."""


class Mark(Enum):
    """How the compatibility reference rates a key."""

    CORE = "CORE"
    CORE2 = "CORE2"
    LEGACY = "LEGACY"
    OWN = "dgate"
    """A key of dgate's own."""


class KeyType(Enum):
    """How a value is read; the text is what `dgate config explain` prints."""

    INT = "whole number"
    BOOL = "0 or 1"
    TEXT = "text"
    AE = "AE title, at most 16 characters"
    SECONDS = "seconds"
    PORT = "port number or service name"
    PATH = "file or folder"
    CODE = "compression code"
    CHOICE = "one of the words"
    LIST = "list separated by commas"
    PATTERN = "pattern: *, abc, abc*, *abc or *abc*"
    SCRIPT = "rule statements"
    LUA = "Lua code"
    MINUTES = "minutes"
    TIMES = "hours of the day, of some or all days"
    RATES = "kbit/s, by hour"
    SYNTAXES = "transfer syntaxes separated by commas"
    STATUSES = "statuses and what they mean, separated by commas"


@dataclass(frozen=True, slots=True)
class Key:
    """One setting, or one family of numbered settings."""

    name: str
    """As written in documents; a family ends in N, which stands for the number."""
    type: KeyType
    default: str
    """As it would be written in the file."""
    meaning: str
    mark: Mark
    feeds: str = ""
    """The field of `Settings` that the value becomes; empty when this version reads it nowhere."""
    waits: str = ""
    """Why the value has no effect yet although it is read."""
    reason: str = ""
    """LEGACY: why the key does nothing."""
    aliases: tuple[str, ...] = ()
    section: str = MAIN
    live: bool = True
    """Whether a change can be applied without a restart."""
    numbers: int = 0
    """How many members the family has, counted from 0; 0 for a single key."""
    choices: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None
    secret: bool = False
    """Never printed or logged."""
    details: str = ""
    """More than the meaning, for `dgate config explain`."""
    unit: str = ""
    """What the number counts: seconds, megabytes..."""
    example: str = ""
    """A value worth showing; empty where the default is one."""
    differs: str = ""
    """How the effect is another than in the original program, and why; a sentence."""

    @property
    def effective(self) -> bool:
        """Tell whether this version acts on the key."""
        return bool(self.feeds) and not self.waits

    @property
    def missing(self) -> str:
        """Say why a key that is not legacy has no effect."""
        return self.waits or "this version does not have the function"

    @property
    def is_family(self) -> bool:
        """Tell whether the name carries a number."""
        return self.numbers > 0

    @property
    def has_sample(self) -> bool:
        """Tell whether there is a value worth showing."""
        return not self.sample.endswith("=")

    @property
    def sample(self) -> str:
        """Return a line of dicom.ini that sets the key."""
        value = self.example or self.default or (self.choices[0] if self.choices else "")
        name = "tidy" if self.name == ANY_KEY else self.spelled(0 if self.is_family else None)
        return f"{name} = {value}".rstrip(" ")

    def spelled(self, number: int | None = None) -> str:
        """Return the name with its number in place."""
        return self.name if number is None else f"{self.name[:-1]}{number}"


@dataclass(frozen=True, slots=True)
class Match:
    """What a key text of the file was recognised as."""

    key: Key
    number: int | None
    alias: str = ""
    """The other spelling that was used; empty for the proper one."""

    @property
    def name(self) -> str:
        """Return the proper spelling, number included."""
        return self.key.spelled(self.number)


_LONGEST_KEY = 64
_NUMBERED = re.compile(r"(.*?)(0|[1-9][0-9]{0,5})")


def registered(section: str) -> str:
    """Return the name under which the registry has the keys of a section, in lower case."""
    lower = section.lower()
    return NODE if lower.startswith(NODE_PREFIX) else lower


class Registry:
    """All keys, found by section and by any of their spellings."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)
        self._single: dict[tuple[str, str], tuple[Key, str]] = {}
        self._family: dict[tuple[str, str], tuple[Key, str]] = {}
        self._suffix: dict[str, Key] = {}
        for key in self._keys:
            section = key.section.lower()
            for spelling in (key.name, *key.aliases):
                alias = "" if spelling == key.name else spelling
                if key.is_family:
                    entry = self._family.setdefault((section, spelling[:-1].lower()), (key, alias))
                elif spelling.startswith("<X>"):
                    entry = (self._suffix.setdefault(spelling[3:].lower(), key), alias)
                else:
                    entry = self._single.setdefault((section, spelling.lower()), (key, alias))
                assert entry[0] is key, f"two keys are called {spelling}"

    def __iter__(self) -> Iterator[Key]:
        """Yield the keys in the order of the reference."""
        return iter(self._keys)

    def __getitem__(self, name: str) -> Key:
        """Return the key of the main section that is written `name`."""
        found = self.find(name)
        if found is None:
            raise KeyError(name)
        return found.key

    def find(self, text: str, section: str = MAIN) -> Match | None:
        """Return what the key `text` of `section` is; None when it is not known there."""
        place = (registered(section), text.lower())
        if place in self._single:
            key, alias = self._single[place]
            return Match(key, None, alias)
        numbered = _NUMBERED.fullmatch(place[1])
        if numbered is not None:
            family = self._family.get((place[0], numbered[1]))
            if family is not None:
                return Match(family[0], int(numbered[2]), family[1])
        any_key = self._single.get((place[0], ANY_KEY))
        if any_key is not None:
            return Match(any_key[0], None)
        dot = place[1].rfind(".")
        if place[0] == MAIN and dot > 0 and place[1][dot:] in self._suffix:
            return Match(self._suffix[place[1][dot:]], None)
        return None

    def family(self, name: str) -> Key | None:
        """Return the family of the main section called `name`, N included."""
        entry = self._family.get((MAIN, name.lower().removesuffix("n")))
        return None if entry is None else entry[0]

    def search(self, name: str) -> list[Key]:
        """Return the keys of all sections that are written `name`, families also with their N."""
        sections = dict.fromkeys(key.section for key in self._keys)
        named = [key for key in self._keys if key.name.lower() == name.lower()]
        found = [match.key for s in sections if (match := self.find(name, s)) is not None]
        exact = [key for key in found if key.name != ANY_KEY]
        return list(dict.fromkeys(named + exact))

    def nearest(self, text: str, section: str = MAIN) -> str | None:
        """Return the known spelling that `text` probably means."""
        if len(text) > _LONGEST_KEY:
            return None
        lower = text.lower()
        numbered = _NUMBERED.fullmatch(lower)
        stem, number = (numbered[1], numbered[2]) if numbered else (lower, "")
        place = registered(section)
        if number:
            families = {s: k for (sec, s), (k, _) in self._family.items() if sec == place}
            if near := difflib.get_close_matches(stem, families, 1, 0.8):
                return families[near[0]].spelled(int(number))
        singles = {s: k for (sec, s), (k, _) in self._single.items() if sec == place}
        near = difflib.get_close_matches(lower, singles, 1, 0.75)
        return singles[near[0]].name if near else None
