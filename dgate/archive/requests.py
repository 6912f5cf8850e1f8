"""Delayed operations as debts: how a request of a rule is written down, and found again.

A debt of kind `request` waits for its quiet time in a lane of its own; an equal request that comes
meanwhile restarts that time (spec converters.md 8.6). Not for working it off. Pure functions.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json

from dgate.archive.records import DebtDraft, DebtKind
from dgate.rules.effects import ObjectScope, Request

LANE_PREFIX = "delayed "
"""Begins the destination of every request; a target of `forward` cannot hold a blank."""


def request_draft(request: Request, default_delay_s: float) -> DebtDraft:
    """Return the debt for a request; `default_delay_s` is ForwardCollectDelay."""
    content = dataclasses.asdict(request)
    rule = content.pop("rule")
    delay = content.pop("delay_s")
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
