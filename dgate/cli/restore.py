"""`dgate restore`: takes back what rules changed in stored objects, by the record of change."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from dgate.cli.options import config_option, printable
from dgate.cli.upkeep import even_owed_option, report, yes_option
from dgate.dicom.differences import change_line


@click.command("restore")
@config_option
@click.argument("key", metavar="UID")
@click.option(
    "--level",
    type=click.Choice(["patient", "study", "series", "image"]),
    default="image",
    show_default=True,
    help="What UID names; for a patient it is the ID.",
)
@yes_option
@even_owed_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def restore_command(
    config: Path, key: str, level: str, apply: bool, even_owed: bool, as_json: bool
) -> None:
    """Make stored objects what they were before rules changed them.

    UID is the SOP Instance UID that the object has now, or with --level that of a series or study,
    or a patient ID. Needs the record that is kept with ChangeLog = 1, for ChangeLogDays. Without
    --yes only shows what would change. A rule that gave a study another patient is taken back for
    the whole study (--level study), as a study cannot belong to two patients.

    Exit code 0: done or shown; 1: refused or failed.
    """
    found = report(
        config,
        "maintenance.restore",
        {"level": level, "key": key, "apply": apply, "even_owed": even_owed},
    )
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    elif apply:
        click.echo(f"Restored: {found['restored']} object(s).")
    else:
        for each in found["objects"]:
            _show(each)
        click.echo(f"{len(found['objects'])} object(s) can be restored; add --yes to do it.")
    if apply and not found["restored"]:
        sys.exit(1)


def _show(each: dict[str, Any]) -> None:
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each["made"]))
    becomes = each["becomes"] if each["becomes"] != each["sop_instance"] else "the same UID"
    rules = each["rules"] or "a rule"
    click.echo(f"{each['sop_instance']} -> {becomes}, changed by {rules} on {made}")
    for change in each["changes"]:
        click.echo(printable(f"  {change_line(**change)}"))
