"""What becomes of a debt after a try: the one table from statuses and errors to fates.

Not for when the next try is (`dgate.delivery.schedule`). Pure functions over constants, safe from
any thread. Statuses are those of PS3.4 B.2.3 (C-STORE) and PS3.7 C (general).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from dgate.errors import (
    Aborted,
    CannotTranscode,
    ConfigError,
    DatabaseAway,
    Missing,
    NoContext,
    NotDicom,
    OutOfSpace,
    PeerError,
    ProtocolError,
    Rejected,
    RuleError,
    StoreError,
    TimedOut,
    Unreachable,
)


class Fate(Enum):
    """What happens to a debt after one try."""

    DONE = "done"
    """The peer has the object; a warning status is kept with the row."""
    WAIT = "wait"
    """The destination cannot take anything now: all its debts wait for the destination's pause."""
    AGAIN = "again"
    """The peer failed on this object: tried again later, for ever; others go on meanwhile."""
    DOUBTFUL = "doubtful"
    """Something is wrong with this object: tried a few times more, then stuck."""
    STUCK = "stuck"
    """Trying again cannot help before somebody has acted."""


DOUBTFUL_TRIES = 5
"""Tries of a debt whose object the peer claims not to understand, or whose file cannot be read.
Many archives answer Cxxx for a passing trouble of their own, so the first one is not believed."""

_STATUSES: dict[int, Fate] = {
    0x0000: Fate.DONE,
    0x0001: Fate.DONE,  # Requested optional attributes are not supported.
    0x0107: Fate.DONE,  # Attribute list error: a warning in PS3.7 C.4.2.
    0x0111: Fate.DONE,  # Duplicate SOP instance: the peer has the object.
    0x0116: Fate.DONE,  # Attribute value out of range: a warning in PS3.7 C.4.3.
    0x0110: Fate.AGAIN,  # Processing failure.
    0x0210: Fate.AGAIN,  # Duplicate invocation.
    0x0213: Fate.WAIT,  # Resource limitation.
    0x0117: Fate.STUCK,  # Invalid SOP instance.
    0x0122: Fate.STUCK,  # SOP class not supported.
    0x0124: Fate.STUCK,  # Not authorised.
}

_STATUS_RANGES: tuple[tuple[int, int, Fate], ...] = (
    (0xA700, 0xA7FF, Fate.WAIT),  # Out of resources.
    (0xA800, 0xA8FF, Fate.WAIT),  # Used for the same by older archives.
    (0xA900, 0xA9FF, Fate.STUCK),  # Data set does not match the SOP class.
    (0xB000, 0xBFFF, Fate.DONE),  # Warnings: stored.
)

SERVICE_USER, PRESENTATION = 1, 3
"""Sources of a rejection (PS3.8 table 9-21): the application, and the provider's presentation
layer."""
_TRANSIENT = 2
"""The result of a rejection that need not last (the same table)."""
_TITLE_REASONS = (3, 7)
"""Calling and called AE title not recognised; reasons of the application."""
_LOAD_REASONS = (1, 2)
"""Temporary congestion, and local limit exceeded; reasons of the presentation layer."""

_ERRORS: tuple[tuple[type[Exception], Fate], ...] = (
    (NoContext, Fate.STUCK),
    (CannotTranscode, Fate.STUCK),
    (Missing, Fate.STUCK),
    (NotDicom, Fate.STUCK),
    (RuleError, Fate.STUCK),
    (ConfigError, Fate.STUCK),
    (OutOfSpace, Fate.WAIT),
    (DatabaseAway, Fate.WAIT),
    (StoreError, Fate.DOUBTFUL),
    (PeerError, Fate.WAIT),
    (OSError, Fate.AGAIN),
)


_MEANINGS = {
    "wait": Fate.WAIT,
    "retry": Fate.AGAIN,
    "fail": Fate.STUCK,
    "delivered": Fate.DONE,
}
"""The words of `Statuses` in a section about a node."""


_NAMED_ERRORS: dict[str, tuple[type[PeerError], ...]] = {
    "refused": (Unreachable,),
    "rejected": (Rejected,),
    "aborted": (Aborted, ProtocolError),
    "timeout": (TimedOut,),
    "syntax": (NoContext,),
}


def fate_of_status(status: int, overrides: Sequence[tuple[int, int, str]] = ()) -> Fate:
    """Return what a C-STORE response status means for the debt.

    `overrides` are first and last status and meaning of those that the peer uses in its own way;
    the first that fits counts.
    """
    for first, last, meaning in overrides:
        if first <= status <= last:
            return _MEANINGS[meaning]
    fate = _STATUSES.get(status)
    if fate is not None:
        return fate
    for first, last, fate in _STATUS_RANGES:
        if first <= status <= last:
            return fate
    return Fate.DOUBTFUL


def fate_of_error(error: Exception) -> Fate:
    """Return what an error means for the debt; one that nobody foresaw makes it stuck."""
    if isinstance(error, Rejected) and is_about_titles(error):
        return Fate.AGAIN
    for kind, fate in _ERRORS:
        if isinstance(error, kind):
            return fate
    return Fate.STUCK


def named_fate(error: Exception, named: Sequence[tuple[str, str]]) -> Fate | None:
    """Return what an error at a peer means by its node's section; None where that says nothing.

    `named` are words of `dgate.config.node_values.ERRORS` with their meanings; the first that fits
    counts.
    """
    for word, meaning in named:
        if isinstance(error, _NAMED_ERRORS[word]):
            return _MEANINGS[meaning]
    return None


def is_about_titles(error: Rejected) -> bool:
    """Tell whether the peer does not know the calling or the called title: others may be served."""
    return error.source == SERVICE_USER and error.reason in _TITLE_REASONS


def is_passing(error: Rejected) -> bool:
    """Tell whether the peer rejected an association for the load that it has at the moment."""
    if is_about_titles(error):
        return False
    is_load = error.source == PRESENTATION and error.reason in _LOAD_REASONS
    return error.result == _TRANSIENT or is_load
