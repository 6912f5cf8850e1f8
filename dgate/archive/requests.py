"""Delayed operations as debts: how a request of a rule is written down, and found again.

A debt of kind `request` waits for its quiet time in a lane of its own; an equal request that comes
meanwhile restarts that time (spec converters.md 8.6). What is asked of this archive names patients,
studies, series and objects as the index has them, whatever statements and repairs made of the IDs
after the rule asked; what is asked of another node names them as the rule saw them. Not for working
requests off. Pure functions.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Protocol

from dgate.archive.records import DebtDraft, DebtKind
from dgate.rules.effects import ObjectScope, Request

LANE_PREFIX = "delayed "
"""Begins the destination of every request; a target of `forward` cannot hold a blank."""
REQUEST_IDENTITIES = ("patient_id", "study", "series", "sop_instance")
"""Fields of a scope, and of whatever has an identity in the index, from the highest level down."""
OF_ARCHIVE = frozenset(("forward", "delete", "merge", "submit", "submit2", "prefetch"))
"""Operations on objects of this archive. The others name things to a node or to a program."""


class Identified(Protocol):
    """Whatever the index knows by its IDs: an entry, or a reference to a stored object."""

    @property
    def patient_id(self) -> str: ...
    @property
    def study(self) -> str: ...
    @property
    def series(self) -> str: ...
    @property
    def sop_instance(self) -> str: ...


def resolved(request: Request, indexed: Identified) -> Request:
    """Return a request with the object's own IDs as the index has them.

    A UID that the object has lost since stays as it was: nothing is found by it then, where an
    empty one would mean more than was asked for.
    """
    if request.operation not in OF_ARCHIVE:
        return request
    wanted = {
        name: getattr(indexed, name)
        for name in request.own
        if getattr(indexed, name) or name == "patient_id"
    }
    if all(getattr(request.scope, name) == value for name, value in wanted.items()):
        return request
    return dataclasses.replace(request, scope=dataclasses.replace(request.scope, **wanted))


def request_draft(
    request: Request, default_delay_s: float, indexed: Identified | None = None
) -> DebtDraft:
    """Return the debt for a request.

    Args:
        default_delay_s: ForwardCollectDelay.
        indexed: the object that the rule saw, as the index has it or will have it.
    """
    if indexed is not None:
        request = resolved(request, indexed)
    content = dataclasses.asdict(request)
    rule = content.pop("rule")
    delay = content.pop("delay_s")
    del content["own"]
    text = json.dumps(content, sort_keys=True)
    lane = f"{LANE_PREFIX}{request.operation}"
    if request.peer and request.operation in ("get", "preretrieve"):
        # One node that does not answer holds up nobody else.
        lane = f"{lane} {request.peer}"
    return DebtDraft(
        DebtKind.REQUEST,
        destination=lane,
        rule=rule,
        context=text,
        identity=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
        delay_s=default_delay_s if delay is None else delay,
    )


def request_of(context: str, rule: str) -> Request:
    """Return the request that a debt was made of.

    Raises:
        ValueError: the text is not one that `request_draft` wrote.
    """
    try:
        content = json.loads(context)
        scope = ObjectScope(**content.pop("scope"))
        arguments = tuple(content.pop("arguments"))
        return Request(scope=scope, arguments=arguments, rule=rule, **content)
    except (TypeError, KeyError, AttributeError) as exc:
        raise ValueError(f"not a request: {exc}") from exc


def is_of(scope: ObjectScope, indexed: Identified) -> bool:
    """Tell whether an object has all IDs that a scope names; its filters do not count."""
    names = [name for name in REQUEST_IDENTITIES if getattr(scope, name)]
    return bool(names) and all(
        getattr(indexed, name).rstrip(" ") == getattr(scope, name).rstrip(" ") for name in names
    )
