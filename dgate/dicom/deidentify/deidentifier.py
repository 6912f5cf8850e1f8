"""De-identification of one object: PS3.15 Annex E on an element table, at every level of sequences.

What is done to which attribute: `dgate.dicom.deidentify.decisions`. Whatever cannot be understood
raises, and then the object must go no further: some of it is changed by then, some is not. A
`Deidentifier` is immutable, and may be used by any number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dgate.dicom.deidentify import marks, risks
from dgate.dicom.deidentify.cleaner import Cleaner
from dgate.dicom.deidentify.dates import shifted_date_times, shifted_dates
from dgate.dicom.deidentify.decisions import (
    PATIENT_ID,
    PATIENT_NAME,
    Action,
    Decisions,
    basic_profile,
)
from dgate.dicom.deidentify.dummies import REMOVED, dummy_items, dummy_value
from dgate.dicom.deidentify.options import Clean, Profile, Retain
from dgate.dicom.deidentify.pixels import PIXEL_DATA, black_out, has_pixels
from dgate.dicom.deidentify.pseudonyms import Pseudonyms
from dgate.dicom.element import TEXT_VRS
from dgate.dicom.scan import LONG_VRS, SHORT_VRS, show
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import convert
from dgate.dicom.uids import EXPLICIT_LE, RLE_LOSSLESS, STANDARD_PREFIX
from dgate.errors import RuleError

SOP_INSTANCE_UID = 0x00080018
STUDY_INSTANCE_UID = 0x0020000D
_BIRTH_DATE = 0x00100030
_ORIGINALS = {
    "PatientID": PATIENT_ID,
    "IssuerOfPatientID": 0x00100021,
    "PatientName": PATIENT_NAME,
    "PatientBirthDate": _BIRTH_DATE,
    "PatientSex": 0x00100040,
}
_LEAVES = SHORT_VRS
_ALL_VRS = SHORT_VRS | LONG_VRS
_CLEANED_VRS = TEXT_VRS - {"PN"}
_CODE_PARTS = frozenset(
    (0x00080100, 0x00080102, 0x00080103, 0x00080119, 0x00080120, 0x0008010C, 0x0008010F)
)
_SCHEME = 0x00080102
_PRIVATE_SCHEMES = ("99", "L")
_FIRST_CREATOR, _LAST_CREATOR = 0x10, 0xFF


@dataclass(frozen=True, slots=True)
class Replaced:
    """What was taken out of an object, for the table that leads back to it."""

    stage: str
    pseudonym: str
    """The patient ID that the object has now."""
    patient: Mapping[str, str]
    """What it had, by keyword; what was empty is not in it."""
    shift_days: int
    """By how many days its dates went back; 0 where they were not shifted."""
    sop_instance: str
    """The SOP Instance UID that the object has now."""
    uids: Mapping[str, str] = field(default_factory=dict)
    """The UIDs that were replaced, by those that stand there now."""


class Deidentifier:
    """Applies one profile."""

    __slots__ = ("_decisions", "_profile")

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._decisions = Decisions(profile)

    def apply(self, table: ElementTable, pseudonyms: Pseudonyms) -> Replaced:
        """De-identify an object in place with the pseudonyms of a stage, and say what was replaced.

        Raises:
            RuleError: it has to be held back, or cannot be de-identified.
            StoreError: a part of it cannot be parsed or decompressed.
        """
        if table.truncated:
            raise RuleError("the object is cut off, so nobody can tell what is in it")
        pixels_clean = self._take_care_of_pixels(table)
        work = _Work(table, self._profile, pseudonyms, self._decisions)
        work.run()
        marks.write(table, self._profile, pixels_clean=pixels_clean)
        return work.replaced()

    def _take_care_of_pixels(self, table: ElementTable) -> bool:
        """Mask the pixels where that is asked for; tell whether they are free of text now."""
        masks = self._profile.masks
        mask = masks.of(table) if masks is not None and has_pixels(table) else None
        if mask is None:
            reason = "" if self._profile.allow_burned_in else risks.reason_to_hold(table)
            if reason:
                raise RuleError(
                    f"held back: {reason}",
                    remedy="add a line for this device to the file of `clean pixels`, "
                    "or let it pass with `allow-burned-in`",
                )
            return False
        if mask.rectangles:
            if table.syntax == RLE_LOSSLESS:
                table.replace(convert(table.tobytes(), table.syntax, EXPLICIT_LE), EXPLICIT_LE)
            black_out(table, mask.rectangles)
        return True


class _Work:
    """One object on its way."""

    def __init__(
        self,
        table: ElementTable,
        profile: Profile,
        pseudonyms: Pseudonyms,
        decisions: Decisions,
    ) -> None:
        self._table = table
        self._pseudonyms = pseudonyms
        self._decide = decisions.of
        self._safe = profile.safe_list
        self._uids: dict[str, str] = {}
        """Old values by new ones."""
        self._new_uids: dict[str, str] = {}
        found = {keyword: table.text(tag).strip() for keyword, tag in _ORIGINALS.items()}
        self._originals = {keyword: text for keyword, text in found.items() if text}
        self._patient = self._identity()
        self._pseudonym = pseudonyms.identifier(self._patient)
        shifts = Retain.MODIFIED_DATES in profile.retain
        self._shift_days = pseudonyms.shift_days(self._patient) if shifts else 0
        cleans = profile.clean - {Clean.PIXELS}
        if cleans or not profile.retain.isdisjoint((Retain.DEVICE, Retain.PATIENT)):
            self._cleaner: Cleaner | None = Cleaner(table)
        else:
            self._cleaner = None

    def run(self) -> None:
        """Go through the object."""
        self._walk(self._table, cleaning=False)
        pseudonym = self._pseudonym.encode("ascii")
        self._table.set_raw(PATIENT_ID, "LO", pseudonym)
        self._table.set_raw(PATIENT_NAME, "PN", pseudonym)

    def replaced(self) -> Replaced:
        """Return what was replaced."""
        return Replaced(
            self._pseudonyms.stage,
            self._pseudonym,
            self._originals,
            self._shift_days,
            self._table.text(SOP_INSTANCE_UID),
            self._uids,
        )

    def _identity(self) -> str:
        """Return what tells the patient from others: the ID, else what else there is."""
        patient = self._originals.get("PatientID")
        if patient:
            return patient
        rest = [self._originals.get(key, "") for key in ("PatientName", "PatientBirthDate")]
        if any(rest):
            return "\0".join(("", *rest))
        return "\0\0\0" + self._table.text(STUDY_INSTANCE_UID)

    # Going through.

    def _walk(self, table: ElementTable, *, cleaning: bool) -> None:
        self._refuse_unseen(table)
        spared = self._code_parts(table) if cleaning else frozenset()
        decide = self._decide
        private: list[tuple[int, bytes | None, bool]] = []
        for tag, vr, undefined in table.found():
            if tag & 0x10000:
                private.append((tag, vr, undefined))
                continue
            action, usual = decide(tag)
            if action is Action.REMOVE:
                table.delete(tag)
            elif action is Action.KEEP:
                if vr in _LEAVES and not cleaning:
                    continue
                self._keep(table, tag, vr, usual, undefined, cleaning and tag not in spared)
            else:
                self._change(table, tag, action, usual)
        if private:
            self._private(table, private)

    def _refuse_unseen(self, table: ElementTable) -> None:
        """Refuse bytes that nobody looks at: behind the elements, or hidden by a second one."""
        rest = bytes(table.rest)
        if rest.strip(b"\0"):
            raise RuleError(f"{len(rest)} bytes behind the last element cannot be read as elements")
        for tag in table.repeated:
            if self._decide(tag)[0] in (Action.KEEP, Action.CLEAN):
                raise RuleError(f"element {show(tag)} is there more than once")

    def _keep(
        self,
        table: ElementTable,
        tag: int,
        vr: bytes | None,
        usual: str,
        undefined: bool,
        cleaning: bool,
    ) -> None:
        if vr == b"SQ" or (usual == "SQ" and (vr is None or vr == b"UN")):
            self._descend(table, tag, cleaning=cleaning)
        elif (undefined and tag != PIXEL_DATA) or (vr is not None and vr not in _ALL_VRS):
            table.delete(tag)
        elif cleaning and usual in _CLEANED_VRS:
            self._clean(table, tag, usual)

    def _descend(self, table: ElementTable, tag: int, *, cleaning: bool) -> None:
        items = table.items(tag)
        for item in items:
            self._walk(item, cleaning=cleaning)
        # Written anew in any case, so that nothing is left between and behind the items.
        table.set_items(tag, items)

    def _change(self, table: ElementTable, tag: int, action: Action, usual: str) -> None:
        if action is Action.UID:
            self._map_uids(table, tag)
        elif action is Action.EMPTY:
            self._empty(table, tag, usual)
        elif action is Action.DUMMY:
            self._dummy(table, tag, usual)
        elif action is Action.SHIFT:
            self._shift(table, tag, usual)
        elif action is Action.PSEUDONYM:
            text = table.text(tag).strip()
            name = self._pseudonyms.identifier(text) if text else ""
            table.set_raw(tag, usual, name.encode("ascii"))
        elif usual == "SQ":
            self._descend(table, tag, cleaning=True)
        else:
            self._clean(table, tag, usual)

    # What is done to single attributes.

    def _empty(self, table: ElementTable, tag: int, usual: str) -> None:
        if usual == "SQ":
            table.set_items(tag, [])
        else:
            table.set_raw(tag, usual, b"")

    def _dummy(self, table: ElementTable, tag: int, usual: str) -> None:
        if usual == "SQ":
            table.set_items(tag, dummy_items(table, tag, self._map))
        elif usual == "UI":
            self._map_uids(table, tag)
        else:
            table.set_raw(tag, usual, dummy_value(tag, usual))

    def _shift(self, table: ElementTable, tag: int, usual: str) -> None:
        shift = shifted_dates if usual == "DA" else shifted_date_times
        shifted = shift(table.text(tag), self._shift_days)
        if shifted is None:
            self._fall_back(table, tag, usual)
        else:
            table.set_raw(tag, usual, shifted.encode("ascii"))

    def _clean(self, table: ElementTable, tag: int, usual: str) -> None:
        assert self._cleaner is not None, "no decision cleans without an option that does"
        cleaned = self._cleaner.clean(table.text(tag))
        if cleaned:
            table.set_text(tag, cleaned)
        elif table.raw(tag):
            self._fall_back(table, tag, usual)

    def _fall_back(self, table: ElementTable, tag: int, usual: str) -> None:
        """Treat what could not be shifted or cleaned as the Basic Profile does."""
        action = basic_profile().get(tag, Action.REMOVE)
        if action is Action.EMPTY:
            table.set_raw(tag, usual, b"")
        elif action is Action.REMOVE:
            table.delete(tag)
        elif usual in _CLEANED_VRS:
            table.set_raw(tag, usual, REMOVED.encode("ascii"))
        else:
            table.set_raw(tag, usual, dummy_value(tag, usual))

    def _map_uids(self, table: ElementTable, tag: int) -> None:
        values = [self._map(value.strip()) for value in table.text(tag).split("\\")]
        table.set_raw(tag, "UI", "\\".join(values).encode("ascii"))

    def _map(self, old: str) -> str:
        """Return the UID in place of another; those that the standard defines stay."""
        if not old or old.startswith(STANDARD_PREFIX):
            return old
        new = self._new_uids.get(old)
        if new is None:
            new = self._new_uids[old] = self._pseudonyms.uid(old)
            self._uids[new] = old
        return new

    def _code_parts(self, table: ElementTable) -> frozenset[int]:
        """Return what must not be cleaned in an item: codes of a public scheme."""
        if _SCHEME not in table:
            return frozenset()
        scheme = table.text(_SCHEME).strip()
        return frozenset() if scheme.startswith(_PRIVATE_SCHEMES) else _CODE_PARTS

    # Private elements.

    def _private(self, table: ElementTable, elements: list[tuple[int, bytes | None, bool]]) -> None:
        """Remove private elements, but for the safe ones and the creators of their blocks."""
        kept: set[int] = set()
        for tag, vr, undefined in elements if self._safe is not None else ():
            if not undefined and self._is_safe(table, tag, vr):
                kept |= {tag, tag & 0xFFFF0000 | (tag & 0xFFFF) >> 8}
        if not kept.isdisjoint(table.repeated):
            raise RuleError("a private element is there more than once")
        for tag, _, _ in elements:
            if tag not in kept:
                table.delete(tag)

    def _is_safe(self, table: ElementTable, tag: int, vr: bytes | None) -> bool:
        assert self._safe is not None
        block = (tag & 0xFFFF) >> 8
        if not _FIRST_CREATOR <= block <= _LAST_CREATOR:
            return False
        creator = table.text(tag & 0xFFFF0000 | block)
        safe = self._safe.vr(creator, tag)
        # Without a VR in the object, or with UN, that of the list is believed.
        return safe is not None and vr in (None, b"UN", safe.encode("ascii"))
