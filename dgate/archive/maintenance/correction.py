"""What a correction changes in a study, and how far it is: the values of `identity`. Pure data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dgate.archive.records import InstanceRef
from dgate.archive.writer import Transaction
from dgate.dicom.table import ElementTable
from dgate.rules.events import Event


@dataclass(frozen=True, slots=True)
class Correction:
    """What changes in the objects of one study."""

    study: str
    texts: Mapping[int, str] = field(default_factory=dict)
    """Elements to set, by tag."""
    series: frozenset[str] | None = None
    """Only the objects of these series; None = all."""
    into: str = ""
    """The Study Instance UID that they get; empty = theirs."""
    into_series: str = ""
    """The Series Instance UID that they get; empty = theirs. Only with `series`."""
    new_uids: bool = False
    """Study, series and objects get new UIDs, which are registered in UIDMODS."""
    event: Event | None = None
    """The converter that sees each object when all this is done to it."""
    alter: Callable[[ElementTable, InstanceRef], bool] | None = None
    """Changes an object in a way of its own; False leaves it out."""
    also: Callable[[Transaction, Sequence[InstanceRef]], None] | None = None
    """What belongs into the transaction that enters these objects, which are named as before."""
    takes_back: bool = False
    """It undoes an earlier change, and so is none that could be taken back itself."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """How far a correction is."""

    study: str
    objects: int
    """Objects corrected so far."""
    committed: bool = False
    """The study is complete."""
    left_out: tuple[str, ...] = ()
    """Objects that a converter wanted left as they are."""
