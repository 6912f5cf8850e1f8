"""`dgate delete`: removes a patient, study, series or image with all its files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from dgate.cli.options import config_option
from dgate.cli.upkeep import amount, even_owed_option, report, yes_option


@click.command("delete")
@config_option
@click.argument("level", type=click.Choice(["patient", "study", "series", "image"]))
@click.argument("key", metavar="KEY")
@yes_option
@even_owed_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def delete_command(
    config: Path, level: str, key: str, apply: bool, even_owed: bool, as_json: bool
) -> None:
    """Delete a patient by ID, or a study, series or image by UID.

    Files on all devices and mirrors go, rows, and levels above that are left empty; of a patient
    also the worklist entries. KEY is one whole ID or UID, letter case counts, nothing is a
    wildcard. Without --yes only shows what would go. Refuses while deliveries are open, unless
    --even-owed gives them up. Exit code 0: done or shown; 1: refused or failed.
    """
    found = report(
        config,
        "maintenance.delete",
        {"level": level, "key": key, "apply": apply, "even_owed": even_owed},
    )
    if as_json:
        click.echo(json.dumps(found))
    else:
        what = (
            f"{found['patients']} patient(s), {found['studies']} study(ies), "
            f"{found['series']} series, {found['images']} image(s), {amount(found['size'])}"
        )
        click.echo(f"Deleted: {what}." if apply else f"Would delete: {what}.")
        if found["owed"]:
            click.echo(f"Open deliveries: {found['owed']}.")
        if found["uncommitted"]:
            click.echo(f"Not committed to by a node (CommitBeforeDelete): {found['uncommitted']}.")
        if found["missing"]:
            click.echo(f"Files that are not there: {found['missing']}.")
        if found["unreachable"]:
            click.echo(
                f"Files on devices that are read only or away, left: {found['unreachable']}."
            )
        if not apply:
            click.echo("Nothing was deleted; add --yes to do it.")
    if found.get("waiting"):
        click.echo(f"{found['waiting']} file(s) could not be removed yet; see the log.", err=True)
        sys.exit(1)
