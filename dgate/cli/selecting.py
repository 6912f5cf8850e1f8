"""How commands say which deliveries they mean, since when, and who gives the order.

Not for what is done with them (`dgate.cli.queue`, `dgate.cli.ledger`).
"""

from __future__ import annotations

import os
import pwd
import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from dgate.config.settings import load
from dgate.config.targets import lane_name
from dgate.delivery.internal import node_of_lane
from dgate.delivery.records import Selection, State

FILTERS = ("accession", "patient", "study", "series", "sop", "destination", "rule")
"""Options that take a text, which has to be equal."""
_AGO = re.compile(r"(\d{1,6})\s*([smhdw])\Z")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M")


class Moment(click.ParamType):  # type: ignore[type-arg]
    """A point of time as people write it; becomes seconds since the epoch."""

    name = "time"

    def __init__(self, *, ends: bool = False) -> None:
        """`ends`: a day without a time means its end."""
        self._ends = ends

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip()
        found = self._moment(text)
        if found is None:
            self.fail(
                f"{text!r} is no time; write 2024-01-31, '2024-01-31 10:15', 10:15 (today), or "
                "90m, 2h, 3d (ago)",
                param,
                ctx,
            )
        return found

    def _moment(self, text: str) -> float | None:
        now = datetime.now()
        ago = _AGO.match(text.lower())
        try:
            if ago:
                return (now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).timestamp()
            if re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", text):
                day = datetime.strptime(text.replace("-", ""), "%Y%m%d")
                end = timedelta(days=1, microseconds=-1)
                return (day + end if self._ends else day).timestamp()
            if re.fullmatch(r"\d{1,2}:\d{2}", text):
                at = datetime.strptime(text, "%H:%M").time()
                return datetime.combine(now.date(), at).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
        for form in _FORMATS:
            try:
                return datetime.strptime(text, form).timestamp()
            except (ValueError, OverflowError, OSError):
                continue
        return None


limit_option = click.option(
    "--limit",
    default=100,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="Show at most so many.",
)


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which deliveries are meant; the command gets them by name."""
    for option in reversed(
        (
            click.option("--accession", metavar="TEXT", help="Of this accession number."),
            click.option("--patient", metavar="ID", help="Of this patient ID."),
            click.option("--study", metavar="UID", help="Of this study."),
            click.option("--series", metavar="UID", help="Of this series."),
            click.option("--sop", metavar="UID", help="Of this object (SOP Instance UID)."),
            click.option("--destination", metavar="AE", help="To this destination."),
            click.option("--rule", metavar="NAME", help="Asked for by this rule."),
            click.option(
                "--state",
                "states",
                multiple=True,
                type=click.Choice([state.value for state in State]),
                help="In this state; may be repeated.",
            ),
            click.option("--since", type=Moment(), help="Entered at this time or later."),
            click.option("--until", type=Moment(ends=True), help="Entered at this time or before."),
        )
    ):
        command = option(command)
    return command


def selection_of(ids: tuple[int, ...] = (), **given: Any) -> Selection:
    """Return what the options of `filter_options` mean.

    Raises:
        UsageError: they cannot mean anything.
    """
    values: dict[str, Any] = {"ids": ids or None}
    for name in FILTERS:
        value = given.get(name)
        if value is not None and not value.strip():
            raise click.UsageError(f"--{name} is empty: give a value, or leave it out.")
        values[name] = value and value.strip()
    states = given.get("states") or ()
    values["states"] = tuple(State(state) for state in states) or None
    since, until = given.get("since"), given.get("until")
    if since is not None and until is not None and since > until:
        raise click.UsageError("--since is later than --until.")
    return Selection(**values, since=since, until=until)


def spelled(selection: Selection, config: Path) -> Selection:
    """Return the selection with the one name that the ledger has for its destination.

    Deliveries only: the lanes of what is no delivery have names of their own.
    """
    destination = selection.destination
    if destination is None:
        return selection
    nodes = load(config).nodes
    if node_of_lane(destination, nodes) != destination:
        return selection
    return replace(selection, destination=lane_name(destination, nodes))


def described(selection: Selection) -> str:
    """Return in words which deliveries are meant, for a question."""
    parts = [
        f"{name} {value}" for name in FILTERS if (value := getattr(selection, name)) is not None
    ]
    if selection.states is not None:
        parts.append(f"state {' or '.join(selection.states)}")
    if selection.since is not None:
        parts.append(f"since {moment(selection.since)}")
    if selection.until is not None:
        parts.append(f"until {moment(selection.until)}")
    return ", ".join(parts) or "everything"


def moment(seconds: float | None) -> str:
    """Return a time for people; 0 is the due time of what need not wait."""
    if seconds is None:
        return "-"
    if seconds == 0:
        return "at once"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def current_user() -> str:
    """Return the name of the user who gives the command, with who became it by sudo."""
    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = f"uid {number}"
    before = os.environ.get("SUDO_USER", "")
    return f"{before} as {name}" if number == 0 and before not in ("", name) else name
