"""The walk through two archives, against nodes that list little in ways of their own.

Without sockets and databases, so that many nodes can be tried: whatever a node does, nothing of
ours is left out or compared twice, and nothing is called complete that is not.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from dgate.delivery.inquiry import PATIENT_ID, STUDY_DATE, STUDY_TIME
from dgate.delivery.reconcile.archive import ArchiveSide, StudyHere
from dgate.delivery.reconcile.node import Answers, Listing, NodeSide, StudyThere
from dgate.delivery.reconcile.parts import Part, is_usual
from dgate.delivery.reconcile.telling import Telling
from dgate.delivery.reconcile.values import Options
from dgate.delivery.reconcile.walk import MOST_QUESTIONS, Walk
from dgate.ops.control import Answer

TODAY = datetime.date(2026, 1, 31)


@dataclass
class Here:
    """Our side."""

    studies: dict[str, StudyHere]

    def earliest(self) -> str:
        return min((each.date for each in self.studies.values() if each.date), default="")

    def between(self, begin: str, end: str) -> Iterator[StudyHere]:
        for each in self.studies.values():
            if each.date and each.date >= begin and (not end or each.date < end):
                yield each

    def undated(self) -> Iterator[StudyHere]:
        yield from (each for each in self.studies.values() if not each.date)

    def study(self, uid: str) -> StudyHere | None:
        return self.studies.get(uid)


@dataclass
class There:
    """A node, and what it does with a question."""

    studies: dict[str, StudyThere]
    limit: int | None = None
    says_so: bool = True
    """It says so where it has cut a list."""
    refuses: bool = False
    heeds_days: bool = True
    ranges: str = "match"
    heeds_time: bool = True
    patients: str = "match"
    """`ignore`, or `literal`: `A*` is an ID."""
    questions: int = 0
    by_name: list[str] = field(default_factory=list)

    @property
    def is_honest(self) -> bool:
        """Tell whether its answers show that they are not all. One that is silent about that is
        found out by signs, which need not be there."""
        is_loud = self.limit is None or self.says_so or self.refuses
        return is_loud and self.ranges != "nothing"

    def _matches(self, keys: dict[int, str], each: StudyThere) -> bool:
        date, time, patient = (keys.get(tag, "") for tag in (STUDY_DATE, STUDY_TIME, PATIENT_ID))
        if "-" in date and self.ranges == "nothing":
            return False
        heeds = self.ranges == "match" if "-" in date else self.heeds_days
        if date and heeds:
            begin, _, end = date.partition("-") if "-" in date else (date, "", date)
            if not each.date or each.date < begin or (end and each.date > end):
                return False
        if time and self.heeds_time:
            begin, _, end = time.partition("-")
            if not each.time or not begin <= each.time <= end:
                return False
        if patient and self.patients != "ignore":
            if patient.endswith("*") and self.patients == "match":
                return each.patient_id.startswith(patient[:-1])
            return each.patient_id == patient
        return True

    def studies_of(self, keys: dict[int, str], most: int) -> tuple[list[StudyThere], Answers]:
        self.questions += 1
        found = [each for each in self.studies.values() if self._matches(keys, each)]
        answers = Answers()
        if self.limit is not None and len(found) > self.limit:
            answers.problem = "too many" if self.says_so or self.refuses else ""
            found = [] if self.refuses else found[: self.limit]
        answers.total = len(found)
        return found, answers

    def list(self, part: Part, most: int) -> Listing:
        found, answers = self.studies_of(part.keys, most)
        places = [(each, (each.date, each.time, each.patient_id)) for each in found]
        held = [each for each, place in places if part.holds(*place)]
        return Listing(
            {each.uid: each for each in held if each.date},
            answers,
            sum(part.is_stray(*place) for _, place in places),
            has_undated=any(not each.date for each in held),
        )

    def study(self, uid: str) -> StudyThere | None:
        self.by_name.append(uid)
        return self.studies.get(uid)

    def undated(self, result: Answers) -> Generator[StudyThere, None, None]:
        found, answers = self.studies_of({}, 10**9)
        result.total, result.problem = answers.total, answers.problem
        yield from (each for each in found if not each.date)


class Asked:
    """A node as the walk knows it."""

    def __init__(self, there: There) -> None:
        self.studies = there.list
        self.study = there.study
        self.undated = there.undated


@dataclass
class Walked:
    """What came of a walk."""

    compared: list[str]
    uncompared: int
    residual: int


def walked(here: Here, there: There, **options: Any) -> Walked:
    """Walk through both."""
    compared: list[str] = []
    tell = Telling("PEER")

    def compare(
        own: StudyHere | None, other: StudyThere | None, asked: float | None
    ) -> Iterator[Answer]:
        side = own or other
        assert side is not None
        compared.append(side.uid)
        if own is not None and other is None and asked is not None:
            assert side.uid not in there.studies
        yield from ()

    walk = Walk(
        cast(ArchiveSide, here),
        cast(NodeSide, Asked(there)),
        Options("PEER", **options),
        compare,
        tell,
        TODAY,
        lambda: 1.0,
    )
    list(walk.run())
    return Walked(compared, tell.summary.uncompared, tell.summary.residual)


def check(here: Here, there: There, found: Walked) -> None:
    """Nothing of ours is left out, and nothing compared twice. What only an honest node has and
    was not compared is told; where nothing but what cannot be asked for is told, it is nothing
    else."""
    assert len(found.compared) == len(set(found.compared))
    assert set(here.studies) <= set(found.compared)
    missed = [each for uid, each in there.studies.items() if uid not in set(found.compared)]
    if not there.is_honest or found.uncompared or not missed:
        return
    assert found.residual, "it is called complete"
    assert not any(is_usual(each.patient_id) for each in missed if each.date)


def sides(chance: random.Random) -> tuple[Here, There]:
    """Return two archives, and a node with ways of its own."""
    ours: dict[str, StudyHere] = {}
    theirs: dict[str, StudyThere] = {}
    days = [f"202601{chance.randint(1, 30):02d}" for _ in range(chance.randint(1, 4))]
    times = chance.choice([[""], ["120000"], ["", "120000"], None])
    patients = chance.choice([["H1"], ["", "H1"], None])
    for number in range(chance.randint(0, 60)):
        uid = f"1.2.{number}"
        time = chance.choice(times) if times else f"{chance.randrange(24):02d}{number % 60:02d}00"
        patient = chance.choice(patients) if patients else f"{chance.choice('ABab12')}{number}"
        date = chance.choice(days)
        where = chance.choice(["here", "there", "there", "both", "both"])
        if where != "there":
            ours[uid] = StudyHere(uid, patient, "", date, time)
        if where != "here":
            moved = chance.choice(days) if chance.random() < 0.1 else date
            theirs[uid] = StudyThere(uid, patient, "", moved, time, 1)
    there = There(
        theirs,
        chance.choice([None, 0, 3, 4, 7, 20]),
        chance.random() < 0.5,
        chance.random() < 0.3,
        chance.random() < 0.9,
        chance.choice(["match", "match", "match", "ignore", "nothing"]),
        chance.random() < 0.7,
        chance.choice(["match", "match", "ignore", "literal"]),
    )
    return Here(ours), there


@pytest.mark.parametrize("seed", range(150))
def test_nothing_is_left_out_and_nothing_called_complete_that_is_not(seed: int) -> None:
    here, there = sides(random.Random(seed))
    check(here, there, walked(here, there, since="20260101", until="20260131"))
    # Four days at most have studies; the others take a few questions each.
    assert there.questions <= 4 * MOST_QUESTIONS + 500


@pytest.mark.parametrize("seed", range(50))
def test_whole_archives(seed: int) -> None:
    here, there = sides(random.Random(1000 + seed))
    check(here, there, walked(here, there))
    assert there.questions <= 4 * MOST_QUESTIONS + 5000
