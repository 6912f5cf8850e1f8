"""The values of a comparison with another archive: what is asked for, and what differs. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace

from dgate.delivery.reconcile.windows import date_of
from dgate.errors import DgateError
from dgate.ops.control import Answer

LEVELS = ("study", "series", "object")
_OTHER_NAMES = {"image": "object"}
"""What is also understood for a level: DICOM's own name (PS3.4 C.3)."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be compared, and what done about differences."""

    node: str
    since: str = ""
    """First study date, YYYYMMDD; empty = from the beginning."""
    until: str = ""
    """Last study date; empty = to the end."""
    level: str = "study"
    """`study`, `series` or `object`: the level down to which numbers have to be compared even where
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
        days = [date_of(text) for text in (options.since, options.until)]
        for text, day in zip((options.since, options.until), days, strict=True):
            if text and day is None:
                raise DgateError(f"{text!r} is no date", remedy="write YYYYMMDD")
        first, last = days
        if first is not None and last is not None and first > last:
            raise DgateError(
                f"no day is from {options.since} to {options.until}",
                remedy="give --since a day that is not after that of --until",
            )
        level = _OTHER_NAMES.get(options.level, options.level)
        if level not in LEVELS:
            raise DgateError(f"{options.level!r} is no level", remedy=f"use {', '.join(LEVELS)}")
        return replace(options, level=level)


MOST_SERIES_SHOWN = 1000
"""Series of one study that are told with it; what is missing of further ones is told by object."""


@dataclass(slots=True)
class SeriesGap:
    """How much is missing of a series."""

    series: str
    here: int
    there: int
    missing_there: int = 0
    missing_here: int = 0


@dataclass(slots=True)
class StudyGap:
    """How much is missing of a study on either side, and what was done about it."""

    study: str
    patient_id: str
    accession: str
    date: str
    here: int
    there: int | None
    """None where the node does not say how many objects it has."""
    only: str = ""
    """`here` or `there` where only one side has it at all."""
    missing_there: int = 0
    """Objects that the node lacks and nothing is going to send."""
    waiting: int = 0
    """Objects that it lacks and that are on their way: a delivery, a rule or an operation waits."""
    uncommitted: int = 0
    """Objects that it accepted, does not list, and has not committed to yet."""
    stuck: int = 0
    """Objects that it lacks and whose delivery is stuck or held."""
    missing_here: int = 0
    """Objects that we lack."""
    owed: int = 0
    """Deliveries entered now."""
    came: int = 0
    """Objects fetched."""
    left: int = 0
    """Objects that nothing was done about, or not with success."""
    series: list[SeriesGap] = field(default_factory=list)
    more_series: int = 0
    """Further series that differ."""

    @property
    def lacking_there(self) -> int:
        """All objects that the node lacks."""
        return self.missing_there + self.waiting + self.uncommitted + self.stuck

    @property
    def kind(self) -> str:
        """Its kind of answer: `pending` for one that needs nobody, as all is on its way."""
        differs = self.missing_there or self.stuck or self.missing_here or self.only == "there"
        return "difference" if differs else "pending"

    def note_series(self, gap: SeriesGap) -> None:
        """Add a series."""
        if len(self.series) < MOST_SERIES_SHOWN:
            self.series.append(gap)
        else:
            self.more_series += 1

    def as_answer(self) -> Answer:
        """Return it for the control socket and for JSON."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(slots=True)
class ObjectsGap:
    """Some objects of a series that one side lacks."""

    study: str
    series: str
    missing_there: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    uncommitted: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    missing_here: list[str] = field(default_factory=list)

    def as_answer(self) -> Answer:
        """Return it for the control socket and for JSON."""
        return {"kind": "objects", **{name: value for name, value in asdict(self).items() if value}}


@dataclass(slots=True)
class Summary:
    """What a comparison found."""

    node: str
    studies: int = 0
    """Studies compared, of either side."""
    equal: int = 0
    pending: int = 0
    """Studies of which nothing is missing that is not on its way."""
    differing: int = 0
    only_here: int = 0
    only_there: int = 0
    missing_there: int = 0
    """Objects."""
    missing_here: int = 0
    """Objects, as far as the node says."""
    owed: int = 0
    waiting: int = 0
    uncommitted: int = 0
    stuck: int = 0
    came: int = 0
    left: int = 0
    """Studies that still differ: nothing was done about it, or not with success."""
    failed: int = 0
    """Studies that could not be compared, or mended."""
    uncompared: int = 0
    """Parts of the archives that could not be compared, each of which was told."""
    residual: int = 0
    """Kinds of studies that cannot be asked for, of which the node has shown none."""
    warnings: int = 0

    def add(self, gap: StudyGap) -> None:
        """Add what differs of a study, but for whether it still does."""
        self.differing += gap.kind == "difference"
        self.pending += gap.kind == "pending"
        self.only_here += gap.only == "here"
        self.only_there += gap.only == "there"
        for name in ("missing_there", "owed", "waiting", "uncommitted", "stuck", "came"):
            setattr(self, name, getattr(self, name) + getattr(gap, name))
        self.missing_here += gap.missing_here
        self.left += bool(gap.left)

    def as_answer(self) -> Answer:
        """Return it for the control socket and for JSON."""
        return {"kind": "summary", **asdict(self)}


def in_words(summary: Answer) -> str:
    """Return a summary as a sentence, without what is zero."""
    said = [f"{summary['studies']} studies compared, {summary['equal']} equal"]
    for name, text in (
        ("pending", "complete but for what is on its way"),
        ("only_here", "only here"),
        ("only_there", "only there"),
        ("missing_there", "objects missing there"),
        ("missing_here", "objects missing here"),
        ("owed", "deliveries owed"),
        ("waiting", "deliveries waiting already"),
        ("uncommitted", "objects not committed to yet"),
        ("stuck", "deliveries stuck or held (see `dgate queue list`)"),
        ("came", "objects fetched"),
        ("left", "studies still differ"),
        ("failed", "studies could not be dealt with"),
        ("uncompared", "parts not compared"),
        ("residual", "kinds of studies that cannot be asked for, none of which was seen"),
        ("warnings", "warnings"),
    ):
        if summary.get(name):
            said.append(f"{summary[name]} {text}")
    return ", ".join(said)


def is_equal(summary: Answer) -> bool:
    """Tell whether a summary says that nothing is left to be done, and all was compared that there
    is any sign of."""
    return not (summary["left"] or summary["failed"] or summary["uncompared"])
