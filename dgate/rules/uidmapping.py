"""Which UIDs of an object are replaced, and where: `newuids` and `olduids` (anonymization.md 2).

What replaces them is the register's affair (`dgate.rules.actions.UidRegister`). Everything is
looked up before anything is changed, so a failure leaves the object as it was. Pure but for the
register.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from dgate.dicom.dictionary import ROWS
from dgate.dicom.element import keyword_of
from dgate.dicom.table import ElementTable
from dgate.errors import RuleError, StoreError
from dgate.rules.actions import UidRegister

_PIXELS = 0x7FE0
_META = 0x0002
_TERMS = frozenset(
    (
        0x0008010C,  # Coding Scheme UID
        0x00080117,  # Context UID
        0x00080118,  # Mapping Resource UID
        0x0008010D,  # Context Group Extension Creator UID
    )
)
"""UIDs of code systems: they tell what codes mean and nothing of a patient (PS3.3 8)."""


@dataclass(frozen=True, slots=True)
class Exceptions:
    """What `except` names."""

    tags: frozenset[int] = frozenset()
    """Elements that stay as they are."""
    uids: frozenset[str] = frozenset()
    """Values that stay as they are."""
    fixed: Mapping[int, str] = field(default_factory=dict)
    """Elements that get a value of their own."""


@dataclass(slots=True)
class _Level:
    """One data set with what is to be replaced in it."""

    table: ElementTable
    uids: list[tuple[int, str]] = field(default_factory=list)
    sequences: list[tuple[int, list[_Level]]] = field(default_factory=list)

    def values(self) -> Iterator[tuple[int, str]]:
        """Yield every element with its text, those of inner data sets too."""
        yield from self.uids
        for _, items in self.sequences:
            for item in items:
                yield from item.values()

    def apply(self, news: Mapping[tuple[int, str], str]) -> bool:
        """Set the new texts and return whether anything has changed."""
        changed = False
        for tag, text in self.uids:
            new = news.get((tag, text), text)
            if new != text:
                self.table.set_text(tag, new)
                changed = True
        for tag, items in self.sequences:
            # Each one, or the first change would hide the others.
            if any([item.apply(news) for item in items]):
                self.table.set_items(tag, [item.table for item in items])
                changed = True
        return changed


def replace_uids(
    table: ElementTable, register: UidRegister, stage: str, exceptions: Exceptions
) -> None:
    """Replace the UIDs of an object by those of a stage.

    Raises:
        RuleError: a value cannot be replaced, or a sequence cannot be read.
        StoreError: the register does not answer. Nothing has changed in either case.
    """
    top = _gathered(table, mapped_tags(), exceptions)
    kinds: dict[str, str] = {}
    for tag, text in top.values():
        if tag not in exceptions.fixed:
            for uid in text.split("\\"):
                if uid and uid not in exceptions.uids:
                    kinds.setdefault(uid, keyword_of(tag))
    news = register.forward_all(kinds, stage)

    def replaced(tag: int, text: str) -> str:
        fixed = exceptions.fixed.get(tag)
        if fixed is not None:
            return fixed
        return "\\".join(news.get(uid, uid) for uid in text.split("\\"))

    top.apply({(tag, text): replaced(tag, text) for tag, text in top.values()})


def restore_uids(
    table: ElementTable, register: UidRegister, stage: str, exceptions: Exceptions
) -> list[str]:
    """Put back what the UIDs of a stage stand for; return the keywords of those nobody knows.

    Also where the original would have replaced the UID of a code system.

    Raises:
        RuleError: a sequence cannot be read, or the stage is a hashed one.
        StoreError: the register does not answer. Nothing has changed in either case.
    """
    if stage.startswith("#"):
        raise RuleError("a hashed stage has no way back", remedy="use a stage without #")
    top = _gathered(table, mapped_tags() | _TERMS, exceptions)
    known: dict[str, str | None] = {}
    news: dict[tuple[int, str], str] = {}
    unknown: dict[str, None] = {}
    for tag, text in top.values():
        if tag in exceptions.fixed:
            news[tag, text] = exceptions.fixed[tag]
            continue
        olds = []
        for uid in text.split("\\"):
            if uid and uid not in exceptions.uids and uid not in known:
                known[uid] = register.back(uid, stage)
            old = known.get(uid, uid)
            if old is None and tag not in _TERMS:
                unknown[keyword_of(tag)] = None
            olds.append(uid if old is None else old)
        news[tag, text] = "\\".join(olds)
    top.apply(news)
    return list(unknown)


@cache
def mapped_tags() -> frozenset[int]:
    """Return the standard elements whose UIDs are replaced.

    All of VR UI but those that name classes, transfer syntaxes or code systems.
    """
    return frozenset(
        tag
        for tag, row in ROWS.items()
        if row[0] == "UI"
        and tag >> 16 > _META
        and tag not in _TERMS
        and "Class" not in row[4]
        and "TransferSyntax" not in row[4]
    )


def _gathered(table: ElementTable, mapped: frozenset[int], exceptions: Exceptions) -> _Level:
    try:
        return _level(table, mapped - exceptions.tags | exceptions.fixed.keys())
    except StoreError as exc:
        raise RuleError(f"a sequence of the object cannot be read: {exc}") from exc


def _level(table: ElementTable, mapped: frozenset[int]) -> _Level:
    level = _Level(table)
    for tag in table.tags():
        if tag in mapped:
            text = table.text(tag)
            if text:
                level.uids.append((tag, text))
        elif tag >> 16 != _PIXELS and table.is_sequence(tag):
            items = [_level(item, mapped) for item in table.items(tag)]
            if any(item.uids or item.sequences for item in items):
                level.sequences.append((tag, items))
    return level
