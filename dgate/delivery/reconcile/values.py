"""The values of a comparison with another archive: what is asked for, and what differs. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields

from dgate.archive.records import InstanceRef
from dgate.delivery.inquiry import plain_uid
from dgate.delivery.reconcile.node import ObjectThere
from dgate.delivery.reconcile.windows import date_of
from dgate.errors import DgateError
from dgate.ops.control import Answer

LEVELS = ("study", "series", "image")


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be compared, and what done about differences."""

    node: str
    since: str = ""
    """First study date, YYYYMMDD; empty = from the beginning."""
    until: str = ""
    """Last study date; empty = to the end."""
    level: str = "study"
    """`study`, `series` or `image`: the level down to which numbers have to be compared even where
    those of the level above are equal."""
    study: str = ""
    """Only this study."""
    send: bool = False
    """Owe the node what it lacks."""
    fetch: bool = False
    """Fetch what we lack."""
    as_stored: bool = False
    """Send even where rules give the node something else than what is stored."""

    @classmethod
    def of(cls, values: Answer) -> Options:
        """Return the options that were sent over the control socket.

        Raises:
            DgateError: one is not known, or makes no sense.
        """
        known = {each.name for each in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown or "node" not in values:
            raise DgateError(f"the server does not know the option {', '.join(unknown) or 'none'}")
        options = cls(**values)
        for text in (options.since, options.until):
            if text and date_of(text) is None:
                raise DgateError(f"{text!r} is no date", remedy="write YYYYMMDD")
        if options.level not in LEVELS:
            raise DgateError(f"{options.level!r} is no level", remedy=f"use {', '.join(LEVELS)}")
        return options


@dataclass(slots=True)
class SeriesGap:
    """What is missing of a series."""

    series: str
    here: int
    there: int | None
    missing_there: list[InstanceRef] = field(default_factory=list)
    missing_here: list[ObjectThere] = field(default_factory=list)


@dataclass(slots=True)
class StudyGap:
    """What is missing of a study on either side."""

    study: str
    patient_id: str
    accession: str
    date: str
    here: int
    there: int | None
    """None where the node does not say how many objects it has."""
    series: list[SeriesGap] = field(default_factory=list)
    whole: str = ""
    """`here` or `there` where only one side has it at all."""

    @property
    def lacking_there(self) -> list[InstanceRef]:
        """The objects that the node lacks."""
        return [ref for each in self.series for ref in each.missing_there]

    @property
    def lacking_here(self) -> int | None:
        """How many objects we lack; None where the node does not say."""
        if self.whole == "there" and not self.series:
            return self.there
        return sum(len(each.missing_here) for each in self.series)

    def as_answer(self) -> Answer:
        """Return it for the control socket and for JSON."""
        return {
            "kind": "difference",
            "study": self.study,
            "patient_id": self.patient_id,
            "accession": self.accession,
            "date": self.date,
            "here": self.here,
            "there": self.there,
            "missing_there": len(self.lacking_there),
            "missing_here": self.lacking_here,
            "only": self.whole,
            "series": [
                {
                    "series": each.series,
                    "here": each.here,
                    "there": each.there,
                    "missing_there": [plain_uid(ref.sop_instance) for ref in each.missing_there],
                    "missing_here": [found.sop_instance for found in each.missing_here],
                }
                for each in self.series
            ],
        }


Mend = Callable[[StudyGap, Options], dict[str, int]]
"""Fills the gaps of a study as far as asked for; returns how many objects were `owed`, `waiting`
for their delivery already, `came`, and are `left`. Raises DgateError."""


@dataclass(slots=True)
class Summary:
    """What a comparison found."""

    node: str
    studies: int = 0
    """Studies compared, of either side."""
    equal: int = 0
    differing: int = 0
    only_here: int = 0
    only_there: int = 0
    missing_there: int = 0
    """Objects."""
    missing_here: int = 0
    """Objects, as far as the node says."""
    owed: int = 0
    waiting: int = 0
    came: int = 0
    left: int = 0
    """Studies that still differ: nothing was done about it, or not with success."""
    failed: int = 0
    """Studies that could not be compared, or mended."""
    warnings: int = 0

    def as_answer(self) -> Answer:
        """Return it for the control socket and for JSON."""
        return {"kind": "summary", **asdict(self)}


def in_words(summary: Answer) -> str:
    """Return a summary as a sentence, without what is zero."""
    said = [f"{summary['studies']} studies compared, {summary['equal']} equal"]
    for name, text in (
        ("only_here", "only here"),
        ("only_there", "only there"),
        ("missing_there", "objects missing there"),
        ("missing_here", "objects missing here"),
        ("owed", "deliveries owed"),
        ("waiting", "deliveries waiting already"),
        ("came", "objects fetched"),
        ("left", "studies still differ"),
        ("failed", "studies could not be dealt with"),
        ("warnings", "warnings"),
    ):
        if summary.get(name):
            said.append(f"{summary[name]} {text}")
    return ", ".join(said)
