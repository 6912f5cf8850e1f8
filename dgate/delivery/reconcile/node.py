"""The other side of a comparison: what a node says by C-FIND that it holds.

Peers answer as they like: some leave out counts, some end an answer at a number of matches, some
pad UIDs or take no notice of a range of dates. What an answer can be relied on for is told with it.
An answer may have megabytes: what is kept of it is no longer than its attributes may be.
A `NodeSide` belongs to one thread; `cut` may be called from others.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field

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
    STUDY_TIME,
    Answer,
    Inquiry,
    number_in,
    plain_uid,
)
from dgate.delivery.reconcile.parts import Part
from dgate.errors import Aborted, NoContext, PeerError, Rejected, Unreachable
from dgate.net import Association

_STUDY_KEYS = (STUDY, PATIENT_ID, ACCESSION, STUDY_DATE, STUDY_TIME, OBJECTS_OF_STUDY)
_UID = re.compile(r"[0-9A-Za-z._-]{1,64}")
"""What may be one: some systems write letters. Nothing of it means anything in a question, nor to a
terminal."""
NAMED_AT_ONCE = 64
"""UIDs in one question (PS3.4 C.2.2.2.2)."""
_LONGEST_ID, _LONGEST_SHORT = 64, 16
"""Characters that are kept of a Patient ID (LO), and of an accession number, a date and a time (SH,
DA, TM, PS3.5 6.2)."""
_CUT = "\u2026"
"""Ends a text that was longer, so that it equals none that was not."""


@dataclass(frozen=True, slots=True)
class StudyThere:
    """A study as the node lists it."""

    uid: str
    patient_id: str
    accession: str
    date: str
    time: str
    objects: int | None
    """None where the node does not say; 0 says nothing, either."""


@dataclass(frozen=True, slots=True)
class ObjectThere:
    """An object as the node lists it."""

    sop_instance: str
    sop_class: str


@dataclass(slots=True)
class Answers:
    """What came for one question."""

    found: list[Answer] = field(default_factory=list)
    """What was gathered; stays empty where answers are looked at one by one."""
    total: int = 0
    """Answers that came, with those that were of no use."""
    problem: str = ""
    """Why it is not all; empty = as far as the node says, it is."""
    too_many: bool = False
    """We did not want to hear more."""

    @property
    def is_cut(self) -> bool:
        """Tell whether it is known that there is more."""
        return bool(self.problem) or self.too_many


@dataclass(slots=True)
class Listing:
    """The studies that a node lists of a part."""

    found: dict[str, StudyThere]
    answers: Answers
    strays: int = 0
    """Answers that are no answer to the question: the node took no notice of one of its keys."""
    has_undated: bool = False
    """It also answered studies without a date; they are left out."""


class NodeSide:
    """A node that is asked, over one association at a time."""

    def __init__(self, connect: Callable[[], Association]) -> None:
        """`connect` opens an association for queries; raises ConfigError or PeerError."""
        self._connect = connect
        self._lock = threading.Lock()
        """Guards the association against `cut`."""
        self._association: Association | None = None
        self._is_cut = False
        self.was_asked = False
        """A connection to it has been tried."""

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
        self.was_asked = True
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
        *,
        may_refuse: bool = False,
    ) -> Answers:
        """Put a question and gather at most so many answers that are wanted; see `answers`.

        Raises:
            ConfigError, PeerError: as `answers` does.
        """
        result = Answers()
        with closing(self.answers(level, values, result, may_refuse=may_refuse)) as answers:
            for answer in answers:
                if not is_wanted(answer):
                    continue
                if len(result.found) == most:
                    result.too_many = True
                    break
                result.found.append(answer)
        return result

    def answers(
        self,
        level: Level,
        values: Mapping[int, str | None],
        result: Answers,
        *,
        may_refuse: bool = False,
    ) -> Generator[Answer, None, None]:
        """Put a question and yield the answers as they come; closing the iterator cancels it.

        A question is put once more when an association that was used before is lost.

        Args:
            result: is told how many there are, and why they are not all.
            may_refuse: a refusal before any answer is a `problem`, too, and no error: a node may
                say so that there would be too many.

        Raises:
            ConfigError: it is not known where the node is.
            PeerError: it cannot be reached, offers no queries, or refused the question before any
                answer; or the association was lost.
        """
        while True:
            association, is_used = self._open()
            try:
                with closing(Inquiry(association).find(level, values)) as answers:
                    for answer in answers:
                        result.total += 1
                        yield answer
                return
            except (NoContext, Rejected, Unreachable):
                self.close()
                raise
            except PeerError as exc:
                if association.is_alive() and (result.total or may_refuse):
                    result.problem = exc.what
                    return
                self.close()
                if not is_used or association.is_alive() or result.total:
                    raise

    # what it holds

    def studies(self, part: Part, most: int) -> Listing:
        """Return the studies of a part by their UIDs, at most so many.

        A node that refuses the question is one that lists none, for a reason (`Answers.problem`).
        """
        values: dict[int, str | None] = {**dict.fromkeys(_STUDY_KEYS, ""), **part.keys}
        listing, held = Listing({}, Answers()), 0
        told = self.answers(Level.STUDY, values, listing.answers, may_refuse=True)
        with closing(told) as answers:
            for study in map(_study, answers):
                place = study.date, study.time, study.patient_id
                listing.strays += part.is_stray(*place)
                if not part.holds(*place):
                    continue
                if held == most:
                    listing.answers.too_many = True
                    break
                held += 1
                if study.uid and study.date:
                    listing.found[study.uid] = study
                listing.has_undated |= bool(study.uid) and not study.date
        return listing

    def undated(self, result: Answers) -> Generator[StudyThere, None, None]:
        """Yield the studies without a date; `result` is told how many studies there are, and why
        they may not be all.

        All studies are listed for that, and looked at one by one.
        """
        values: dict[int, str | None] = dict.fromkeys(_STUDY_KEYS, "")
        with closing(self.answers(Level.STUDY, values, result, may_refuse=True)) as answers:
            for answer in answers:
                study = _study(answer)
                if study.uid and not study.date:
                    yield study

    def study(self, uid: str) -> StudyThere | None:
        """Return one study by its UID, None where the node says that it does not have it.

        Raises:
            ConfigError, PeerError: as `answers` does; or the node answers about other studies, or
                not to the end, which says nothing about this one.
        """
        values: dict[int, str | None] = {**dict.fromkeys(_STUDY_KEYS, ""), STUDY: uid}
        answers = self.ask(Level.STUDY, values, 1, lambda answer: _uid(answer, STUDY) == uid)
        if answers.found:
            return _study(answers.found[0])
        if answers.total:
            reason = answers.problem or "it answers about others"
            raise PeerError(f"the node does not tell whether it has study {uid}: {reason}")
        return None

    def patient_objects(self, patient_id: str) -> int | None:
        """Return how many objects a patient has, None where the node does not say."""
        values = {PATIENT_ID: patient_id, OBJECTS_OF_PATIENT: ""}
        answers = self.ask(Level.PATIENT, values, 2)
        same = [each for each in answers.found if each.get(PATIENT_ID, "").strip() == patient_id]
        return number_in(same[0], OBJECTS_OF_PATIENT) if len(same) == 1 else None

    def series(self, study: str, most: int) -> tuple[dict[str, int | None], Answers]:
        """Return the series of a study, with how many objects they have where the node says so."""
        result = Answers()
        found = dict(self.each_series(study, result, most))
        return found, result

    def each_series(
        self, study: str, result: Answers, most: int
    ) -> Iterator[tuple[str, int | None]]:
        """Yield the same one by one, at most so many."""
        values = {STUDY: study, SERIES: "", OBJECTS_OF_SERIES: ""}
        with closing(self.answers(Level.SERIES, values, result)) as answers:
            for answer in answers:
                uid = _uid(answer, SERIES)
                if result.total > most:
                    result.too_many = True
                    return
                if uid and _is_of(answer, STUDY, study):
                    yield uid, _count(answer, OBJECTS_OF_SERIES)

    def objects(self, study: str, series: str, most: int) -> tuple[dict[str, ObjectThere], Answers]:
        """Return the objects of a series by their UIDs."""
        result = Answers()
        found = {each.sop_instance: each for each in self.each_object(study, series, result, most)}
        return found, result

    def each_object(
        self, study: str, series: str, result: Answers, most: int
    ) -> Iterator[ObjectThere]:
        """Yield the objects of a series one by one, at most so many."""
        values = {STUDY: study, SERIES: series, SOP_INSTANCE: "", SOP_CLASS: ""}
        with closing(self.answers(Level.IMAGE, values, result)) as answers:
            for answer in answers:
                uid = _uid(answer, SOP_INSTANCE)
                if result.total > most:
                    result.too_many = True
                    return
                if uid and _is_of(answer, SERIES, series):
                    yield ObjectThere(uid, _uid(answer, SOP_CLASS))

    def named_objects(self, study: str, series: str, uids: Sequence[str]) -> tuple[set[str], bool]:
        """Return which of some objects the node lists when it is asked for them by name, and
        whether that was an answer to the question, as far as can be seen."""
        values = {STUDY: study, SERIES: series, SOP_INSTANCE: "\\".join(uids)}
        wanted, found, result = set(uids), set[str](), Answers()
        told = self.answers(Level.IMAGE, values, result, may_refuse=len(uids) > 1)
        with closing(told) as answers:
            for answer in answers:
                uid = _uid(answer, SOP_INSTANCE)
                if uid in wanted:
                    found.add(uid)
                if len(found) == len(wanted) < result.total:
                    break
        return found, not result.problem and result.total == len(found)


def _study(answer: Answer) -> StudyThere:
    return StudyThere(
        _uid(answer, STUDY),
        _text(answer, PATIENT_ID, _LONGEST_ID),
        _text(answer, ACCESSION, _LONGEST_SHORT),
        _date(answer),
        _text(answer, STUDY_TIME, _LONGEST_SHORT),
        _count(answer, OBJECTS_OF_STUDY),
    )


def _text(answer: Answer, tag: int, most: int) -> str:
    """Return a text without padding; of one that is too long, its beginning and a mark."""
    text = answer.get(tag, "").strip(" \0\t\r\n")
    return text if len(text) <= most else text[: most - 1] + _CUT


def _count(answer: Answer, tag: int) -> int | None:
    """Return how many objects there are. What is listed has one at least: 0 is what some answer
    that do not count."""
    return number_in(answer, tag) or None


def _date(answer: Answer) -> str:
    """Return the study date of an answer; early systems wrote dots into it (PS3.5 6.2, DA)."""
    return _text(answer, STUDY_DATE, _LONGEST_SHORT).replace(".", "")


def _is_of(answer: Answer, tag: int, uid: str) -> bool:
    """Tell whether an answer is of what was asked for; a peer that does not say is believed."""
    return plain_uid(answer.get(tag, "")) in ("", uid)


def _uid(answer: Answer, tag: int) -> str:
    """Return a UID; empty for what cannot be one, and could be asked for by no question."""
    uid = plain_uid(answer.get(tag, ""))
    return uid if _UID.fullmatch(uid) else ""
