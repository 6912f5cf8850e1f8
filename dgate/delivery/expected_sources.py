"""Who may know how many objects a study will have, and for whom it is asked (`delivery.expected`).

Protocols and values, nothing of how they are used.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Protocol

from dgate.archive.requests import REQUEST_IDENTITIES, request_of
from dgate.rules.effects import ObjectScope, Request


class CountSource(Protocol):
    """Somebody elsewhere who may know how many objects a patient, study or series will have."""

    def concerns(self, source: str, scope: ObjectScope) -> bool:
        """Tell, without waiting, whether it may know about objects that a node sends us."""
        ...

    def expected(self, source: str, scope: ObjectScope) -> int | None:
        """Return how many objects there will be, None when that is not known; may take long.

        Raises:
            DgateError: it could not be found out now.
        """
        ...

    def close(self) -> None:
        """Nothing more is asked for now: let connections go."""
        ...

    def cut(self) -> None:
        """End a question that is under way, from another thread."""
        ...


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that waits for its quiet time."""

    id: int
    source: str
    scope: ObjectScope
    sop_instance: str
    """The object that it was entered for first."""
    created: float
    """When, in Unix seconds by the clock of the database."""


class Witness(Protocol):
    """Somebody here who may know whether all objects of a study or series have come.

    Whatever changes what it knows rings the bell. Used by the thread that looks.
    """

    def concerns(self, source: str, scope: ObjectScope) -> bool:
        """Tell whether it counts for objects that a node sends us; then nobody else is asked."""
        ...

    def is_complete(self, waiting: Waiting) -> bool | None:
        """Tell whether all is there; None where it does not know what there will be.

        Raises:
            DgateError: it could not be found out now.
        """
        ...


def scope_of(context: str, rule: str) -> ObjectScope | None:
    """Return what a request is about, None where that cannot be counted: filters choose a part, and
    a single object needs no counting."""
    try:
        request: Request = request_of(context, rule)
    except (ValueError, json.JSONDecodeError):
        return None
    scope = request.scope
    ids = {name: getattr(scope, name) for name in REQUEST_IDENTITIES}
    if scope != ObjectScope(**ids) or scope.sop_instance:
        return None
    return scope if any(ids.values()) else None
