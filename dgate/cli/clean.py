"""`dgate clean`: makes space now, by deleting the least recent patients."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from dgate.cli.options import config_option
from dgate.cli.upkeep import amount, report, yes_option


@click.command("clean")
@config_option
@click.option("--free", "free_mb", metavar="MB", type=click.IntRange(1), help="Free so much.")
@click.option("--device", metavar="MAGn", help="Of this device; default: of the emptiest one.")
@yes_option
@click.option("--dry-run", is_flag=True, help="Only show what would be done (the default).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
def clean_command(
    config: Path,
    free_mb: int | None,
    device: str | None,
    apply: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete the least recent patients until enough is free.

    How much is --free, else what MAGDeviceThreshold or NightlyCleanThreshold ask for. The order is
    that of LRUSort. Patients with open deliveries, of whom an object was stored within the last
    hour, or with objects that cannot be reached are spared. Exit code 0: enough is, or would be,
    free; 1: not.
    """
    if apply and dry_run:
        raise click.UsageError("Give either --yes or --dry-run.")
    verb = "deleted" if apply else "would go"

    def show(answer: dict[str, Any]) -> None:
        victim = answer["victim"]
        if as_json:
            click.echo(json.dumps(victim, ensure_ascii=False))
        elif victim["spared"]:
            click.echo(f"{victim['patient_id']}: spared, {victim['spared']}")
        else:
            size = amount(victim["size"])
            click.echo(f"{victim['patient_id']}: {verb}, {victim['images']} image(s), {size}")

    found = report(
        config,
        "maintenance.clean",
        {"free_mb": free_mb, "device": device, "apply": apply},
        show,
    )
    if as_json:
        click.echo(json.dumps(found))
    else:
        if found["sort_problem"]:
            click.echo(f"{found['sort_problem']}; the AccessTime counts.", err=True)
        click.echo(
            f"{found['patients']} patient(s) {verb}, {found['spared']} spared; "
            f"{amount(found['free'])} free {'now' if apply else 'then'}, "
            f"{amount(found['before'])} before, {amount(found['wanted'])} wanted."
        )
        if not apply:
            click.echo("Nothing was deleted; add --yes to do it.")
    if found["free"] < found["wanted"]:
        click.echo("Not enough can be freed.", err=True)
        sys.exit(1)
