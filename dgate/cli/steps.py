"""`dgate steps`: the procedure steps that modalities tell of (MPPS)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dgate.archive.stepcommands import MOST_LISTED
from dgate.archive.steps import StepState
from dgate.cli.options import config_option, printable
from dgate.cli.upkeep import answers

_STATES = {state.value.lower().replace(" ", "-"): state.value for state in StepState}
_TITLES = ("Study", "Station", "Status", "Begun", "Ended", "Named", "Stored")
_MOMENT = re.compile(r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)?)?")


@click.group("steps")
def steps_group() -> None:
    """See which procedure steps modalities perform, and whether what they made has come (MPPS).

    A step is kept until nothing has been heard of it for LedgerDays, longer while an older
    operation waits.
    """


@steps_group.command("list")
@config_option
@click.option("--study", default="", metavar="UID", help="Only the steps of a study.")
@click.option("--state", type=click.Choice(list(_STATES)), help="Only steps that are so far.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, MOST_LISTED))
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON object a line, with more: patient, accession; with --study what lacks.",
)
def list_command(config: Path, study: str, state: str | None, limit: int, as_json: bool) -> None:
    """List steps, those heard of last first: the study, the station's AE title, when it began and
    ended as the modality says, how many objects it names, and how many of these are stored.

    With --study and --json, `lacking` has the SOP Instance UIDs of up to 1000 objects that each
    step names and that are not stored.
    """
    arguments = {"study": study, "state": _STATES[state] if state else "", "limit": limit}
    found = (answer["step"] for answer in answers(config, "steps.list", arguments))
    if as_json:
        for step in found:
            click.echo(json.dumps(step))
        return
    rows = [_row(step) for step in found]
    if not rows:
        click.echo("No steps are known.")
        return
    table = Table(box=None)
    for title in _TITLES:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def _row(step: dict[str, Any]) -> tuple[str, ...]:
    return (
        " ".join(map(printable, step["studies"])),
        printable(step["station"] or step["peer"]),
        printable(step["state"].lower()),
        _when(step["begun"]),
        _when(step["ended"]),
        str(step["named"]),
        str(step["stored"]),
    )


def _when(moment: str) -> str:
    """Return date and time of the modality for people; what is none as it is."""
    match = _MOMENT.fullmatch(moment)
    if match is None:
        return printable(moment)
    year, month, day, hour, minute, _ = match.groups()
    return f"{year}-{month}-{day}" + (f" {hour}:{minute}" if hour else "")
