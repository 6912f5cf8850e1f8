"""The other side of a comparison: what a node says by C-FIND that it holds.

Peers answer as they like: some leave out counts, some end an answer at a number of matches, some
pad UIDs or take no notice of a range of dates. What an answer can be relied on for is told with it.
A `NodeSide` belongs to one thread; `cut` may be called from others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass

from dgate.archive.levels import Level
from dgate.delivery.inquiry import (
    ACCESSION,
    OBJECTS_OF_PATIENT,
    OBJECTS_OF_SERIES,
    OBJECTS_OF_STUDY,
    PATIENT_ID,
    SERIES,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY,
    STUDY_DATE,
    Answer,
    Inquiry,
    number_in,
    plain_uid,
)
from dgate.delivery.reconcile.windows import Window
from dgate.errors import Aborted, NoContext, PeerError, Rejected, Unreachable
from dgate.net import Association

_STUDY_KEYS = (STUDY, PATIENT_ID, ACCESSION, STUDY_DATE, OBJECTS_OF_STUDY)


@dataclass(frozen=True, slots=True)
class StudyThere:
    """A study as the node lists it."""

    uid: str
    patient_id: str
    accession: str
    date: str
    objects: int | None
    """None where the node does not say."""


@dataclass(frozen=True, slots=True)
class ObjectThere:
    """An object as the node lists it."""

    sop_instance: str
    sop_class: str


@dataclass(slots=True)
class Answers:
    """What came for one question."""

    found: list[Answer]
    total: int = 0
    """Answers that came, with those that were of no use."""
    problem: str = ""
    """Why it is not all; empty = as far as the node says, it is."""
    too_many: bool = False
    """We did not want to hear more."""


class NodeSide:
    """A node that is asked, over one association at a time."""

    def __init__(self, connect: Callable[[], Association]) -> None:
        """`connect` opens an association for queries; raises ConfigError or PeerError."""
        self._connect = connect
        self._lock = threading.Lock()
        """Guards the association against `cut`."""
        self._association: Association | None = None
        self._is_cut = False

    # the association

    def close(self) -> None:
        """Release the association; safe to call twice."""
        with self._lock:
            association, self._association = self._association, None
        if association is not None:
            with suppress(PeerError):
                association.release()

    def cut(self) -> None:
        """End the work, from another thread: what waits for an answer gets a PeerError."""
        with self._lock:
            self._is_cut = True
            if self._association is not None:
                self._association.cut()

    def _open(self) -> tuple[Association, bool]:
        """Return an association, and whether it was used before."""
        with self._lock:
            if self._is_cut:
                raise Aborted("the work was ended")
            if self._association is not None and self._association.is_alive():
                return self._association, True
        association = self._connect()
        with self._lock:
            if not self._is_cut:
                self._association = association
                return association, False
        association.abort("the work was ended")
        raise Aborted("the work was ended", where=association.called)

    def ask(
        self,
        level: Level,
        values: Mapping[int, str | None],
        most: int,
        is_wanted: Callable[[Answer], bool] = lambda answer: True,
    ) -> Answers:
        """Put a question and gather at most so many answers that are wanted.

        A question is put once more when an association that was used before is lost.

        Raises:
            ConfigError: it is not known where the node is.
            PeerError: it cannot be reached, offers no queries, or refused the question before any
                answer; or the association was lost.
        """
        while True:
            association, is_used = self._open()
            result = Answers([])
            try:
                with closing(Inquiry(association).find(level, values)) as answers:
                    for answer in answers:
                        result.total += 1
                        if not is_wanted(answer):
                            continue
                        if len(result.found) == most:
                            result.too_many = True
                            break
                        result.found.append(answer)
                return result
            except (NoContext, Rejected, Unreachable):
                self.close()
                raise
            except PeerError as exc:
                if association.is_alive() and result.total:
                    result.problem = exc.what
                    return result
                self.close()
                if not is_used or association.is_alive() or result.total:
                    raise

    # what it holds

    def studies(self, window: Window, most: int) -> tuple[dict[str, StudyThere], Answers]:
        """Return the studies of some days by their UIDs, at most so many."""
        values: dict[int, str | None] = dict.fromkeys(_STUDY_KEYS, "")
        values[STUDY_DATE] = window.key

        def is_within(answer: Answer) -> bool:
            date = _date(answer)
            return not date or window.holds(date)

        answers = self.ask(Level.STUDY, values, most, is_within)
        found = {study.uid: study for study in map(_study, answers.found) if study.uid}
        return found, answers

    def undated(self, most: int) -> tuple[list[StudyThere], str]:
        """Return the studies without a date, and why they may not be all.

        All studies are listed for that, and looked at one by one.
        """
        values: dict[int, str | None] = dict.fromkeys(_STUDY_KEYS, "")
        association, _ = self._open()
        found: list[StudyThere] = []
        try:
            with closing(Inquiry(association).find(Level.STUDY, values)) as answers:
                for answer in answers:
                    study = _study(answer)
                    if study.uid and not study.date:
                        found.append(study)
                    if len(found) == most:
                        return found, "there are more"
        except PeerError as exc:
            if not association.is_alive():
                self.close()
            return found, exc.what
        return found, ""

    def study(self, uid: str) -> StudyThere | None:
        """Return one study by its UID."""
        values: dict[int, str | None] = {**dict.fromkeys(_STUDY_KEYS, ""), STUDY: uid}
        answers = self.ask(Level.STUDY, values, 2)
        return next((study for study in map(_study, answers.found) if study.uid == uid), None)

    def patient_objects(self, patient_id: str) -> int | None:
        """Return how many objects a patient has, None where the node does not say."""
        values = {PATIENT_ID: patient_id, OBJECTS_OF_PATIENT: ""}
        answers = self.ask(Level.PATIENT, values, 2)
        same = [each for each in answers.found if each.get(PATIENT_ID, "").strip() == patient_id]
        return number_in(same[0], OBJECTS_OF_PATIENT) if len(same) == 1 else None

    def series(self, study: str, most: int) -> tuple[dict[str, int | None], Answers]:
        """Return the series of a study, with how many objects they have where the node says so."""
        values = {STUDY: study, SERIES: "", OBJECTS_OF_SERIES: ""}
        answers = self.ask(Level.SERIES, values, most)
        found = {
            plain_uid(each.get(SERIES, "")): number_in(each, OBJECTS_OF_SERIES)
            for each in answers.found
            if _is_of(each, STUDY, study)
        }
        found.pop("", None)
        return found, answers

    def objects(self, study: str, series: str, most: int) -> tuple[dict[str, ObjectThere], Answers]:
        """Return the objects of a series by their UIDs."""
        values = {STUDY: study, SERIES: series, SOP_INSTANCE: "", SOP_CLASS: ""}
        answers = self.ask(Level.IMAGE, values, most)
        found = {}
        for each in answers.found:
            uid = plain_uid(each.get(SOP_INSTANCE, ""))
            if uid and _is_of(each, SERIES, series):
                found[uid] = ObjectThere(uid, plain_uid(each.get(SOP_CLASS, "")))
        return found, answers

    def has_object(self, study: str, series: str, sop_instance: str) -> bool:
        """Tell whether the node knows an object, asking for it by name."""
        values = {STUDY: study, SERIES: series, SOP_INSTANCE: sop_instance}
        answers = self.ask(Level.IMAGE, values, 2)
        return any(plain_uid(each.get(SOP_INSTANCE, "")) == sop_instance for each in answers.found)


def _study(answer: Answer) -> StudyThere:
    return StudyThere(
        plain_uid(answer.get(STUDY, "")),
        answer.get(PATIENT_ID, "").strip(),
        answer.get(ACCESSION, "").strip(),
        _date(answer),
        number_in(answer, OBJECTS_OF_STUDY),
    )


def _date(answer: Answer) -> str:
    """Return the study date of an answer; early systems wrote dots into it (PS3.5 6.2, DA)."""
    return answer.get(STUDY_DATE, "").strip(" \0").replace(".", "")


def _is_of(answer: Answer, tag: int, uid: str) -> bool:
    """Tell whether an answer is of what was asked for; a peer that does not say is believed."""
    return plain_uid(answer.get(tag, "")) in ("", uid)
