"""What becomes of an attribute under a profile: table E.1-1 and its options, worked out by tag.

Where the table leaves a choice by the attribute's type (`Z/D`, `X/Z/D`...), the one that is valid
for each type is taken (PS3.15 E.3.1; spec anonymization.md 7.1). A `Decisions` is immutable but for
its memory, and may be used by any number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache

from dgate.dicom import element
from dgate.dicom.deidentify import annex_e
from dgate.dicom.deidentify.known import KNOWN
from dgate.dicom.deidentify.options import Clean, Profile, Retain
from dgate.dicom.element import TEXT_VRS

PATIENT_NAME = 0x00100010
PATIENT_ID = 0x00100020


class Action(IntEnum):
    """What is done to an attribute; sequences that are kept are gone through."""

    KEEP = 0
    REMOVE = 1
    EMPTY = 2
    DUMMY = 3
    UID = 4
    CLEAN = 5
    SHIFT = 6
    PSEUDONYM = 7


_BASIC = {
    "D": Action.DUMMY,
    "Z/D": Action.DUMMY,
    "X/D": Action.DUMMY,
    "X/Z/D": Action.DUMMY,
    "Z": Action.EMPTY,
    "X/Z": Action.EMPTY,
    "X": Action.REMOVE,
    "U": Action.UID,
    "X/Z/U*": Action.KEEP,
}
_SHIFTED = frozenset(("DA", "DT"))
_KEPT_WHEN_SHIFTING = frozenset(("TM", "SH"))
"""Times of day and (0008,0201), the offset from UTC: a shift by whole days leaves them."""
_GRAPHIC_TEXT = 0x00700006
_TEXT_VALUE = 0x0040A160


@lru_cache(maxsize=1)
def basic_profile() -> Mapping[int, Action]:
    """Return the action of the Basic Profile for every attribute that dgate knows.

    What is in neither list is not there, and has to be removed.
    """
    actions = dict.fromkeys(annex_e.tags(KNOWN), Action.KEEP)
    kept = set(annex_e.tags(annex_e.NOT_INSTANCES))
    for tag in actions:
        # Not asked for by the table, but a UID that nobody knows the purpose of links objects.
        if tag not in kept and element.vr_of(tag) == "UI":
            actions[tag] = Action.UID
    for table in (annex_e.BASIC, annex_e.ALSO):
        for code, tags in table.items():
            actions.update(dict.fromkeys(annex_e.tags(tags), _BASIC[code]))
    actions[PATIENT_ID] = Action.PSEUDONYM
    return actions


class Decisions:
    """The action for each attribute under one profile."""

    __slots__ = ("_actions",)

    def __init__(self, profile: Profile) -> None:
        actions = dict(basic_profile())
        _clean(actions, profile)
        _keep(actions, profile)
        if Retain.MODIFIED_DATES in profile.retain:
            _shift(actions)
        self._actions: dict[int, tuple[Action, str]] = {
            tag: (action, element.vr_of(tag)) for tag, action in actions.items()
        }

    def of(self, tag: int) -> tuple[Action, str]:
        """Return the action for a tag, and the VR of the dictionary.

        What is in no list is removed: attributes of later editions, retired ones, private ones,
        lengths of groups, and the groups that repeat: curves, and overlays as a whole, because one
        without its bits is void.
        """
        found = self._actions.get(tag)
        if found is not None:
            return found
        return Action.REMOVE, "UN"


def _clean(actions: dict[int, Action], profile: Profile) -> None:
    tables = {
        Clean.DESCRIPTORS: annex_e.DESCRIPTORS + annex_e.ALSO_DESCRIPTORS,
        Clean.STRUCTURED: annex_e.STRUCTURED,
        Clean.GRAPHICS: annex_e.GRAPHICS,
    }
    for option, table in tables.items():
        if option in profile.clean:
            _clean_texts(actions, table)
    if Clean.STRUCTURED in profile.clean:
        actions[_TEXT_VALUE] = Action.CLEAN
    if Clean.GRAPHICS in profile.clean:
        actions[_GRAPHIC_TEXT] = Action.CLEAN
    if Retain.DEVICE in profile.retain:
        _clean_texts(actions, annex_e.DEVICE_CLEANED)
    if Retain.PATIENT in profile.retain:
        _clean_texts(actions, annex_e.PATIENT_CLEANED)


def _clean_texts(actions: dict[int, Action], table: str) -> None:
    """Clean what can be cleaned word by word; codes, titles and bytes stay with the profile."""
    for tag in annex_e.tags(table):
        vr = element.vr_of(tag)
        if vr == "SQ" or (vr in TEXT_VRS and vr != "PN"):
            actions[tag] = Action.CLEAN


def _keep(actions: dict[int, Action], profile: Profile) -> None:
    tables = {
        Retain.FULL_DATES: annex_e.DATES,
        Retain.UIDS: annex_e.UIDS,
        Retain.DEVICE: annex_e.DEVICE_KEPT + annex_e.ALSO_DEVICE,
        Retain.PATIENT: annex_e.PATIENT_KEPT,
        Retain.INSTITUTION: annex_e.INSTITUTION,
    }
    for option, table in tables.items():
        if option in profile.retain:
            actions.update(dict.fromkeys(annex_e.tags(table), Action.KEEP))
    if Retain.UIDS in profile.retain:
        listed = set(annex_e.tags(annex_e.BASIC["U"]))
        for tag, action in actions.items():
            if action is Action.UID and tag not in listed:
                actions[tag] = Action.KEEP


def _shift(actions: dict[int, Action]) -> None:
    """Shift dates also where another option would keep them: half of them would give the rest."""
    for tag in annex_e.tags(annex_e.DATES):
        vr = element.vr_of(tag)
        if vr in _SHIFTED:
            actions[tag] = Action.SHIFT
        elif vr in _KEPT_WHEN_SHIFTING:
            actions[tag] = Action.KEEP
