"""What an operator's correction means: merge, split and change, as corrections of single studies.

Checks everything that can be checked before anything changes. Carrying out is
`dgate.archive.maintenance.identity`. Pure but for reading the index and stored objects.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dgate.archive.levels import PATIENT_NAME, Level
from dgate.archive.maintenance.correction import Correction
from dgate.archive.maintenance.delete import check_key
from dgate.archive.maintenance.holdings import Holdings
from dgate.archive.maintenance.identity import Corrector
from dgate.archive.records import InstanceRef
from dgate.config.layout import ACCESSION_NUMBER, PATIENT_ID
from dgate.dicom.uids import UidGenerator, is_uid
from dgate.errors import DgateError
from dgate.rules.events import Event

BIRTH_DATE = 0x00100030
SEX = 0x00100040
PATIENT = (PATIENT_ID, PATIENT_NAME, BIRTH_DATE, SEX)
STUDY = (0x00080020, 0x00080030, ACCESSION_NUMBER, 0x00080090, 0x00081030, 0x00200010)
"""Date, time, accession number, referring physician, description and ID of a study."""
SERIES = (0x00080021, 0x00080031, 0x0008103E, 0x00181030, 0x00200011)
"""Date, time, description, protocol and number of a series."""
_MODALITY = 0x00080060
NAMES = {PATIENT_ID: "id", PATIENT_NAME: "name", BIRTH_DATE: "birth date", SEX: "sex"}
_LONGEST_ID = 64
_LONGEST_NAME = 64 * 5 + 4


@dataclass(frozen=True, slots=True)
class Plan:
    """A correction that was asked for, study by study."""

    corrections: tuple[Correction, ...]
    objects: int
    before: Mapping[str, str]
    after: Mapping[str, str]
    what: str
    """In words, for log and journal."""


class Planner:
    """Makes plans."""

    def __init__(self, holdings: Holdings, corrector: Corrector, uids: UidGenerator) -> None:
        self._holdings = holdings
        self._corrector = corrector
        self._uids = uids

    def merge_patient(self, patient_id: str, into: str, *, new_uids: bool = False) -> Plan:
        """Give all studies of one patient to another, whose identity they get.

        Raises:
            DgateError: one of them is not known, or both are the same.
        """
        if patient_id == into:
            raise DgateError("both patients are the same", remedy="name two patient IDs")
        refs = self._of_patient(patient_id)
        after = self._identity(self._of_patient(into), into)
        return self._plan(refs, after, "merge patient", new_uids=new_uids)

    def merge_study(self, study: str, into: str, *, new_uids: bool = False) -> Plan:
        """Give all series of one study to another of the same patient.

        Raises:
            DgateError: one of them is not known, they are the same or of different patients.
        """
        if study == into:
            raise DgateError("both studies are the same", remedy="name two Study Instance UIDs")
        refs, target = self._of_study(study), self._of_study(into)
        if refs[0].patient_id != target[0].patient_id:
            raise DgateError(
                "the studies belong to different patients",
                remedy="give both the same one first: `dgate correct study` or `dgate merge "
                "patient`",
            )
        texts = _given(self._corrector.texts(target[-1], STUDY))
        correction = Correction(
            study, texts, into=into, new_uids=new_uids, event=Event.MERGE_STUDIES
        )
        before, after = {"study": study}, {"study": into}
        return Plan((correction,), len(refs), before, after, "merge study")

    def merge_series(self, series: str, into: str, *, new_uids: bool = False) -> Plan:
        """Give all objects of one series to another of the same study.

        Raises:
            DgateError: one of them is not known, they are the same, of different studies or of
                different modalities.
        """
        if series == into:
            raise DgateError("both series are the same", remedy="name two Series Instance UIDs")
        refs, target = self._found(Level.SERIES, series), self._found(Level.SERIES, into)
        if refs[0].study != target[0].study:
            raise DgateError(
                "the series belong to different studies",
                remedy="merge the studies first: `dgate merge study`",
            )
        given = self._corrector.texts(target[-1], (_MODALITY, *SERIES))
        modality = given.pop(_MODALITY)
        own = self._corrector.texts(refs[-1], (_MODALITY,))[_MODALITY]
        if own != modality:
            raise DgateError(
                f"the series are of different modalities, {own!r} and {modality!r}",
                remedy="a series has one modality; leave them apart",
            )
        correction = Correction(
            refs[0].study,
            _given(given),
            frozenset((series,)),
            into_series=into,
            new_uids=new_uids,
            event=Event.MERGE_SERIES,
        )
        before, after = {"series": series}, {"series": into}
        return Plan((correction,), len(refs), before, after, "merge series")

    def split_study(self, study: str, series: Sequence[str], *, new_uids: bool = False) -> Plan:
        """Give some series of a study a new study of their own.

        Raises:
            DgateError: the study or a series of it is not known, or nothing would be left.
        """
        refs = self._of_study(study)
        there = {ref.series for ref in refs}
        for uid in series:
            check_key(Level.SERIES, uid)
            if uid not in there:
                raise DgateError(f"series {uid} is not in study {study}", remedy="see `dgate find`")
        wanted = frozenset(series)
        if not wanted or wanted == there:
            raise DgateError(
                "a split needs some of the study's series, and leaves some",
                remedy="name them with --series, once for each",
            )
        into = self._uids.new()
        correction = Correction(study, {}, wanted, into, new_uids=new_uids)
        count = sum(ref.series in wanted for ref in refs)
        return Plan((correction,), count, {"study": study}, {"study": into}, "split study")

    def correct(
        self, level: Level, key: str, changes: Mapping[int, str], *, new_uids: bool = False
    ) -> Plan:
        """Change the identity of a patient, or of the patient of one study.

        Raises:
            DgateError: a value is not fit, nothing would change, or the new ID is known already.
        """
        for tag, text in changes.items():
            check_value(tag, text)
        refs = self._of_patient(key) if level is Level.PATIENT else self._of_study(key)
        own, wanted = refs[0].patient_id, changes.get(PATIENT_ID)
        after = dict(changes)
        if wanted is not None and wanted != own and self._holdings.knows(Level.PATIENT, wanted):
            if level is Level.PATIENT and not self._is_under_way(refs[-1], wanted, changes):
                raise DgateError(
                    f"there is a patient {wanted[:80]!r} already",
                    remedy="`dgate merge patient` joins two patients",
                )
            if level is Level.STUDY:
                # The study joins a known patient, whose identity it must have.
                after = self._identity(self._of_patient(wanted), wanted) | after
        if not after:
            raise DgateError("nothing to change", remedy="give --id, --name, --birth-date or --sex")
        if level is Level.STUDY and (wanted is None or wanted == own):
            others = set(self._holdings.studies(own)) - {key}
            if others:
                raise DgateError(
                    f"the patient has {len(others)} other studies, which would say otherwise",
                    remedy="correct the patient, or give the study another --id",
                )
        return self._plan(refs, after, f"correct {level.value.lower()}", new_uids=new_uids)

    def _plan(
        self, refs: Sequence[InstanceRef], after: Mapping[int, str], what: str, *, new_uids: bool
    ) -> Plan:
        studies = dict.fromkeys(ref.study for ref in refs)
        corrections = tuple(Correction(study, after, new_uids=new_uids) for study in studies)
        before = self._corrector.texts(refs[-1], PATIENT)
        return Plan(corrections, len(refs), _named(before), _named({**before, **after}), what)

    def _identity(self, refs: Sequence[InstanceRef], patient_id: str) -> dict[int, str]:
        """Return the identity of a known patient, from an object; what it lacks is left alone."""
        return {**_given(self._corrector.texts(refs[-1], PATIENT)), PATIENT_ID: patient_id}

    def _is_under_way(self, ref: InstanceRef, wanted: str, changes: Mapping[int, str]) -> bool:
        """Tell whether the known patient is what this correction makes: it was interrupted."""
        known = self._corrector.texts(self._of_patient(wanted)[-1], PATIENT)
        return known == {**self._corrector.texts(ref, PATIENT), **changes}

    def _of_patient(self, patient_id: str) -> list[InstanceRef]:
        return self._found(Level.PATIENT, patient_id)

    def _of_study(self, study: str) -> list[InstanceRef]:
        return self._found(Level.STUDY, study)

    def _found(self, level: Level, key: str) -> list[InstanceRef]:
        check_key(level, key)
        refs = self._holdings.select(level, key)
        if not refs:
            raise DgateError(
                f"there are no objects of {level.value.lower()} {key[:80]!r}",
                remedy="the whole key is needed, and letter case counts; see `dgate find`",
            )
        return refs


def check_value(tag: int, text: str) -> None:
    """Raise DgateError for what cannot be a patient's ID, name, birth date or sex."""
    name = NAMES[tag]
    if "\\" in text or any(ord(character) < 32 for character in text):
        raise DgateError(f"the {name} has a character that DICOM does not allow there")
    if tag == PATIENT_ID and not 2 <= len(text.strip()) <= _LONGEST_ID:
        raise DgateError(f"a patient ID has 2 to {_LONGEST_ID} characters")
    if tag == PATIENT_ID and text != text.strip():
        raise DgateError("the patient ID begins or ends with a blank")
    if tag == PATIENT_NAME and (len(text) > _LONGEST_NAME or not text.strip()):
        raise DgateError("the name is empty or too long", remedy="write FAMILY^GIVEN")
    if tag == SEX and text not in ("M", "F", "O", ""):
        raise DgateError(f"{text!r} is no sex that DICOM knows", remedy="write M, F or O")
    if tag == BIRTH_DATE and text:
        try:
            if len(text) != 8 or not text.isdecimal() or not text.isascii():
                raise ValueError(text)
            datetime.date(int(text[:4]), int(text[4:6]), int(text[6:]))
        except ValueError as exc:
            raise DgateError(f"{text!r} is no date", remedy="write YYYYMMDD") from exc


def series_uids(texts: Iterable[str]) -> list[str]:
    """Return the UIDs, each once; raises DgateError for what is none."""
    found = list(dict.fromkeys(texts))
    for uid in found:
        if not is_uid(uid):
            raise DgateError(f"{uid[:80]!r} is not a UID")
    return found


def _given(texts: Mapping[int, str]) -> dict[int, str]:
    return {tag: text for tag, text in texts.items() if text}


def _named(texts: Mapping[int, str]) -> dict[str, str]:
    return {NAMES[tag]: texts.get(tag, "") for tag in PATIENT}
