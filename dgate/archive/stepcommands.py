"""The performed procedure steps as operators see them, in this process or over the socket.

Both ends of the wire in one place. Not for the table itself (`dgate.archive.steps`). Any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from dgate.archive.steps import Step, Steps, StepState, Wanted
from dgate.errors import DgateError
from dgate.ops.control import Answer, Command

MOST_LISTED = 10_000
"""Steps that one command lists at most."""
MOST_LACKING = 1000
"""Objects that a listing names of each step, of those that are not stored."""


def step_commands(steps: Steps) -> dict[str, Command]:
    """Return the commands for the control server."""
    return {"steps.list": lambda arguments: list_steps(steps, wanted_of(arguments))}


def wanted_of(arguments: Mapping[str, Any]) -> Wanted:
    """Return which steps a command is about; raises DgateError when that cannot be understood."""
    try:
        study, state = str(arguments.get("study", "")), str(arguments.get("state", ""))
        limit = int(arguments.get("limit", 100))
        if state:
            StepState(state)
    except (TypeError, ValueError) as exc:
        raise DgateError(f"the arguments cannot be understood: {exc}") from exc
    if not 0 < limit <= MOST_LISTED:
        raise DgateError(f"{limit} steps cannot be listed", remedy=f"1 to {MOST_LISTED} can")
    return Wanted(study, state, limit)


def list_steps(steps: Steps, wanted: Wanted) -> Iterator[Answer]:
    """Yield each step with how many objects it names and how many of these are stored; for a study
    also which are not (`lacking`, MOST_LACKING at most)."""
    for uid in steps.select(wanted):
        # One at a time: each may name thousands. It may be forgotten by now.
        step = steps.find(uid)
        if step is not None:
            yield {"step": _told(step, steps, with_lacking=bool(wanted.study))}


def _told(step: Step, steps: Steps, *, with_lacking: bool) -> Answer:
    named = step.objects()
    stored = steps.stored(named)
    told: Answer = {
        "uid": step.uid,
        "state": step.state.value,
        "studies": list(step.studies),
        "peer": step.peer,
        "station": step.station,
        "step": step.step_id,
        "modality": step.modality,
        "patient": step.patient,
        "accession": step.accession,
        "begun": step.begun,
        "ended": step.ended,
        "received": step.received,
        "closed": step.closed,
        "named": len(named),
        "stored": len(stored),
    }
    if with_lacking:
        told["lacking"] = list(islice((uid for uid in named if uid not in stored), MOST_LACKING))
    return told
