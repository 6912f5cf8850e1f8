"""The levels of the query model and their tables, as the rest of the archive sees them.

Not for creating or changing tables (`dgate.archive.schema`). Pure data, safe between threads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from dgate.archive.fold import FoldState
from dgate.config.layout import Column, DicomType
from dgate.dicom.element import vr_of

MODALITY = 0x00080060
PATIENT_NAME = 0x00100010
STUDY_DATE = 0x00080020
MODALITIES_IN_STUDY = 0x00080061


class Level(Enum):
    """A level of the query model; the value is the text of (0008,0052)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"

    @property
    def depth(self) -> int:
        """0 for PATIENT to 3 for IMAGE."""
        return _DEPTHS[self]


LEVELS = tuple(Level)
_DEPTHS = {level: depth for depth, level in enumerate(LEVELS)}


@dataclass(frozen=True, slots=True)
class LevelTable:
    """The table of one level, with every name quoted for this database."""

    level: Level
    name: str
    columns: tuple[Column, ...]
    names: tuple[str, ...]
    """Quoted column names, in the order of `columns`; the first is the key, the last the link."""
    extra: dict[str, str] = field(hash=False)
    """Quoted names of the columns that dicom.sql does not list, by lower-case name."""

    @property
    def bare(self) -> str:
        """The table's name as the database spells it, without quotes."""
        return bare(self.name)

    @property
    def key(self) -> str:
        """Quoted name of the key column."""
        return self.names[0]

    @property
    def all_names(self) -> tuple[str, ...]:
        """Quoted names of all columns."""
        return (*self.names, *self.extra.values())

    @property
    def link(self) -> str | None:
        """Quoted name of the column that holds the parent's key."""
        return None if self.level is Level.PATIENT else self.names[-1]

    def position(self, tag: int) -> int | None:
        """Return which column holds an attribute; the key first, then the first one that has the
        tag."""
        for index, column in enumerate(self.columns):
            if column.tag == tag:
                return index
        return None


@dataclass(frozen=True, slots=True)
class Schema:
    """What the database holds. `levels` is empty when no index is kept."""

    levels: tuple[LevelTable, ...]
    worklist: str | None
    """Quoted name of the worklist table."""
    folded_indices: frozenset[tuple[Level, int]]
    """Columns (level, position) that have an index which ignores case."""
    unique_instances: bool = False
    """The database refuses a second image row with the same SOP Instance UID."""
    notes: tuple[str, ...] = ()
    """What was created or taken over, for the log."""
    lowered: dict[tuple[Level, int], str] = field(default_factory=dict, hash=False)
    """Quoted columns that hold the lower-case text of others (level, position), or compare without
    case themselves. Only on MariaDB, which has no index over an expression."""
    folding: FoldState = field(default_factory=FoldState, hash=False, compare=False)
    """Whether the side table of searches is complete (`dgate.archive.folding`)."""

    def table(self, level: Level) -> LevelTable:
        """Return the table of a level."""
        return self.levels[level.depth]


def foldable(table: LevelTable) -> dict[int, bool]:
    """Return the columns (by position) whose text is searched without case, and whether each is a
    person name."""
    found: dict[int, bool] = {}
    for position, column in enumerate(table.columns):
        vr = vr_of(column.tag)
        if vr in ("PN", "LO") or column.dicom_type is DicomType.ISTR:
            found[position] = vr == "PN"
    return found


def bare(quoted: str) -> str:
    """Return a quoted name without its quotes."""
    mark = quoted[0]
    return quoted[1:-1].replace(mark + mark, mark)
