"""`dgate move-device`: moves stored objects from one storage device to another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from dgate.cli.options import config_option, printable
from dgate.cli.upkeep import amount, report
from dgate.ops.control import Answer


@click.command("move-device")
@config_option
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--patient", metavar="ID", help="Only the objects of this patient.")
@click.option("--study", metavar="UID", help="Only those of this study.")
@click.option("--series", metavar="UID", help="Only those of this series.")
@click.option(
    "--rename-only",
    is_flag=True,
    help="Move no files: those that are in the folder of TO already are entered as there.",
)
@click.option("--dry-run", is_flag=True, help="Only count what would move.")
def move_device_command(
    config: Path,
    source: str,
    target: str,
    patient: str | None,
    study: str | None,
    series: str | None,
    rename_only: bool,
    dry_run: bool,
) -> None:
    """Move objects between storage devices while everything goes on, as from MAG0 to MAG1.

    Each object is copied, synced, entered and only then removed from the old device. To be stopped
    at any time: the same command goes on. Files stay byte for byte what they are, unless
    ArchiveCompression asks otherwise. Exit code 0: everything moved; 1: some stayed, or TO is full.
    """
    scopes = {"patient": patient, "study": study, "series": series}
    given = {level: key for level, key in scopes.items() if key is not None}
    if len(given) > 1 or (given and rename_only):
        raise click.UsageError("Give one of --patient, --study, --series, --rename-only.")
    arguments: dict[str, Any] = {
        "source": source.upper(),
        "target": target.upper(),
        "rename": rename_only,
        "apply": not dry_run,
    }
    for level, key in given.items():
        arguments |= {"level": level, "key": key}

    def on_answer(answer: Answer) -> None:
        click.echo(printable(answer["problem"]), err=True)

    found = report(config, "maintenance.move-device", arguments, on_answer)
    if dry_run:
        click.echo(f"{found['total']} object(s) would move.")
        return
    verb = "entered" if rename_only else "moved"
    size = "" if rename_only else f", {amount(found['size'])}"
    click.echo(f"{found['objects']} of {found['total']} object(s) {verb}{size}.")
    if found["skipped"]:
        why = "their files are not there or cannot be read, or they changed meanwhile"
        click.echo(f"{found['skipped']} object(s) stayed: {why}.", err=True)
        sys.exit(1)
