"""What no question to a node asks for, and whether there is likely to be anything of it.

Where a node does not list a day whole, something is left that neither a time nor the beginning of a
Patient ID asks for; nor is there a question for studies without a date. That alone is no reason to
believe that the node has such studies. It is one if it has shown any of the kind: in a list, or
where it was asked for a study by name. Belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Iterator

from dgate.delivery.reconcile.node import Listing, StudyThere
from dgate.delivery.reconcile.parts import Part, is_usual, seconds_of
from dgate.delivery.reconcile.telling import Telling
from dgate.ops.control import Answer

_NO_QUESTION = "no question asks for these where dates and times do not do"
_NONE_SEEN = "it has shown none of the kind"


class Rests:
    """Looks at all that a node tells during a walk, and tells at its end what may be left."""

    def __init__(self, tell: Telling) -> None:
        self._tell = tell
        self._only = f"that only {tell.node} has"
        self._has_undated = False
        """It has studies without a date."""
        self._has_untimed = False
        """It has studies without a Study Time, or with none that can be read."""
        self._has_unusual = False
        """It has patients without an ID, or with one that `Part.by_patient` has no beginning of."""
        self._untimed = False
        """Studies without a time were asked for by patient only."""
        self._timed = False
        """Studies of one second were asked for by patient."""
        self._whole = False
        """Studies of a day were asked for by patient, with or without a time."""

    def see(self, study: StudyThere | None) -> None:
        """Look at a study that the node has."""
        if study is not None:
            self._has_undated |= not study.date
            self._has_untimed |= seconds_of(study.time) is None
            self._has_unusual |= not is_usual(study.patient_id)

    def see_all(self, listing: Listing) -> None:
        """Look at what the node lists."""
        self._has_undated |= listing.has_undated
        for study in listing.found.values():
            self.see(study)

    def leave(self, wanted: Part) -> None:
        """Note that a part was asked for by patient, so that strange IDs of it are left."""
        self._untimed |= wanted.untimed
        self._timed |= wanted.is_timed
        self._whole |= not (wanted.untimed or wanted.is_timed)

    def tell(self) -> Iterator[Answer]:
        """Say what is left of days that were not listed whole."""
        if not (self._untimed or self._timed or self._whole):
            return
        part = (
            f"studies {self._only}, of days that it does not list whole, of patients whose ID is "
            "empty or goes on with no letter, digit or usual sign"
        )
        if not (self._timed or self._whole):
            part += ", without a study time"
        sign = self._sign()
        if sign:
            yield from self._tell.uncompared(part, f"{_NO_QUESTION}, and {sign}")
        else:
            yield from self._tell.residual(part, f"{_NO_QUESTION}; {_NONE_SEEN}")

    def tell_undated(self, reason: str) -> Iterator[Answer]:
        """Say that studies without a date were not listed whole."""
        part = f"studies without a date {self._only}"
        if self._has_undated:
            yield from self._tell.uncompared(part, reason)
        else:
            yield from self._tell.residual(part, f"{reason}; {_NONE_SEEN}")

    def _sign(self) -> str:
        """Return what speaks for there being something left of days; empty = nothing."""
        if self._whole:
            return "times did not divide these days"
        if self._untimed and self._has_untimed:
            return f"{self._tell.node} has studies without a time"
        if self._timed and self._has_unusual:
            return f"{self._tell.node} has patients with such IDs, or without one"
        return ""
