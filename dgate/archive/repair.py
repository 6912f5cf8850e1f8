"""Attribute repair: what the index enters for objects whose names, IDs or UIDs are missing or odd
(spec dicom-sql.md 4.1).

Ingest and regeneration share it. The object itself keeps its bytes; only a UID that had to be
generated is for the caller to write into it (rulings.md 1). Pure functions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

from dgate.archive.levels import PATIENT_NAME
from dgate.config.layout import PATIENT_ID, SERIES_UID, SOP_UID, STUDY_UID
from dgate.config.settings import MissingUids
from dgate.dicom.table import ElementTable
from dgate.errors import Refused

NO_NAME = "NO NAME"
NO_ID = "00000000"
UNDEFINED = "undefined"
INSTANCE_CREATION_DATE = 0x00080012

_ALTERNATIVES = {STUDY_UID: 0x00211070, SERIES_UID: 0x00211071}
_WORDS = {STUDY_UID: "Study", SERIES_UID: "Series"}
_PADDING = b" \0"
_MAX_UID = 64
_ID_LIMIT = 1_000_000


class PaddingSettings(Protocol):
    """The settings that decide about zeros before patient IDs."""

    @property
    def fix_philips(self) -> bool: ...
    @property
    def fix_kodak(self) -> bool: ...


class RepairSettings(PaddingSettings, Protocol):
    """The settings that decide about repairs."""

    @property
    def allow_empty_patient_id(self) -> bool: ...
    @property
    def missing_uids(self) -> MissingUids: ...
    @property
    def uid_prefix(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Repaired:
    """What the index enters in place of the object's own values; empty = the object's value
    counts."""

    patient_id: str = ""
    patient_name: str = ""
    study: str = ""
    series: str = ""
    received_id: str = ""
    """PatientID as received: where a rule changed it afterwards, the rule's value counts."""
    may_be_empty: bool = False
    """AllowEmptyPatientID: nothing is repaired."""
    generated: tuple[tuple[int, str], ...] = ()
    """Tags and UIDs that the caller has to write into the object, and to log."""


SOUND = Repaired()
"""The result for nearly every object."""
_AS_IT_IS = Repaired(may_be_empty=True)


def repair(table: ElementTable, settings: RepairSettings) -> Repaired:
    """Return what the index enters differently; raises Refused when `MissingUIDs = reject`.

    To be called before import rules run.
    """
    if settings.allow_empty_patient_id:
        return _AS_IT_IS
    raw = table.raw
    fixes = settings.fix_philips or settings.fix_kodak
    if (
        not fixes
        and len((raw(PATIENT_ID) or b"").rstrip(_PADDING)) > 1
        and PATIENT_NAME in table
        and (raw(STUDY_UID) or b"").strip(_PADDING)
        and (raw(SERIES_UID) or b"").strip(_PADDING)
    ):
        return SOUND
    received = table.text(PATIENT_ID)
    patient_id = fix_patient_id(received, settings) if len(received) > 1 else NO_ID
    generated: list[tuple[int, str]] = []
    return Repaired(
        patient_id=patient_id if patient_id != received else "",
        patient_name="" if PATIENT_NAME in table else NO_NAME,
        study=_missing_uid(table, STUDY_UID, settings, generated),
        series=_missing_uid(table, SERIES_UID, settings, generated),
        received_id=received if patient_id != received else "",
        generated=tuple(generated),
    )


def indexed_patient_id(text: str, settings: RepairSettings) -> str:
    """Return an object's patient ID as the index has it."""
    text = text.rstrip(" ")
    if len(text) < 2 and not settings.allow_empty_patient_id:
        return NO_ID
    return fix_patient_id(text, settings)


def fix_patient_id(patient_id: str, settings: PaddingSettings) -> str:
    """Return an ID without the leading zeros that FixPhilips and FixKodak remove, on receipt and in
    queries."""
    if settings.fix_philips and _is_padded(patient_id, 10, "00"):
        return patient_id[3:] if patient_id[2] == "0" else patient_id[2:]
    if settings.fix_kodak and _is_padded(patient_id, 8, "0"):
        return patient_id[1:]
    return patient_id


def _is_padded(text: str, length: int, zeros: str) -> bool:
    if len(text) != length or not text.startswith(zeros):
        return False
    return text.isascii() and text.isdigit() and int(text) > _ID_LIMIT


def _missing_uid(
    table: ElementTable, tag: int, settings: RepairSettings, generated: list[tuple[int, str]]
) -> str:
    if table.text(tag):
        return ""
    alternative = table.text(_ALTERNATIVES[tag])
    if alternative:
        return alternative
    if settings.missing_uids is MissingUids.UNDEFINED:
        return UNDEFINED
    word = _WORDS[tag]
    if settings.missing_uids is MissingUids.REJECT:
        raise Refused(f"the object has no {word} Instance UID")
    uid = derived_uid(settings.uid_prefix, word, table.text(SOP_UID))
    generated.append((tag, uid))
    return uid


def derived_uid(prefix: str, word: str, sop_instance: str) -> str:
    """Return the UID generated for an object: the same each time, so that the object can be
    received again."""
    digest = hashlib.sha256(f"{word}|{sop_instance}".encode()).digest()
    number = str(int.from_bytes(digest[:16]))
    return f"{prefix}.7.{number}"[:_MAX_UID].rstrip(".")
