"""`dgate merge`, `split` and `correct`: whose images they are, put right after the fact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dgate.cli.options import config_option
from dgate.cli.upkeep import even_owed_option, report, yes_option

_NEW_UIDS_HELP = "Give the objects new UIDs, which are registered in UIDMODS."


@click.group("merge")
def merge_group() -> None:
    """Join two patients, two studies of one patient, or two series of one study.

    Without --yes only shows what would change. Files, index and open deliveries change together,
    study by study. UIDs stay, as a correction makes no new images, unless --new-uids is given.
    """


@click.group("split")
def split_group() -> None:
    """Give a part of a study a study of its own."""


@click.group("correct")
def correct_group() -> None:
    """Change ID, name, birth date or sex of a patient, or whose study one is."""


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what all corrections have."""
    new_uids = click.option("--new-uids", is_flag=True, help=_NEW_UIDS_HELP)
    for option in (even_owed_option, new_uids, yes_option, config_option):
        command = option(command)
    return command


def _identity_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--sex", help="M, F or O."),
        click.option("--birth-date", metavar="YYYYMMDD", help="The new birth date."),
        click.option("--name", metavar="FAMILY^GIVEN", help="The new name."),
        click.option("--id", "new_id", metavar="ID", help="The new patient ID."),
    ):
        command = option(command)
    return command


@merge_group.command("patient")
@click.argument("source", metavar="FROM")
@click.argument("into", metavar="INTO")
@_options
def merge_patient_command(source: str, into: str, **options: Any) -> None:
    """Give all studies of patient FROM to patient INTO, whose identity they get."""
    _run("merge-patient", {"key": source, "into": into}, options)


@merge_group.command("study")
@click.argument("source", metavar="UID")
@click.argument("into", metavar="INTO_UID")
@_options
def merge_study_command(source: str, into: str, **options: Any) -> None:
    """Give all series of study UID to study INTO_UID of the same patient."""
    _run("merge-study", {"key": source, "into": into}, options)


@merge_group.command("series")
@click.argument("source", metavar="UID")
@click.argument("into", metavar="INTO_UID")
@_options
def merge_series_command(source: str, into: str, **options: Any) -> None:
    """Give all images of series UID to series INTO_UID of the same study."""
    _run("merge-series", {"key": source, "into": into}, options)


@split_group.command("study")
@click.argument("study", metavar="UID")
@click.option(
    "--series", multiple=True, required=True, metavar="UID", help="A series that leaves; repeat it."
)
@_options
def split_study_command(study: str, series: tuple[str, ...], **options: Any) -> None:
    """Give some series of study UID a new study."""
    _run("split-study", {"key": study, "series": list(series)}, options)


@correct_group.command("patient")
@click.argument("key", metavar="ID")
@_identity_options
@_options
def correct_patient_command(
    key: str,
    new_id: str | None,
    name: str | None,
    birth_date: str | None,
    sex: str | None,
    **options: Any,
) -> None:
    """Change the identity of patient ID in all studies."""
    changes = {"id": new_id, "name": name, "birth_date": birth_date, "sex": sex}
    _run("correct-patient", {"key": key, **changes}, options)


@correct_group.command("study")
@click.argument("key", metavar="UID")
@_identity_options
@_options
def correct_study_command(
    key: str,
    new_id: str | None,
    name: str | None,
    birth_date: str | None,
    sex: str | None,
    **options: Any,
) -> None:
    """Give study UID to another patient: a known one by --id alone, or a new one."""
    changes = {"id": new_id, "name": name, "birth_date": birth_date, "sex": sex}
    _run("correct-study", {"key": key, **changes}, options)


def _run(operation: str, arguments: dict[str, Any], options: dict[str, Any]) -> None:
    config: Path = options.pop("config")
    apply: bool = options["apply"]
    found = report(config, "maintenance.correct", {"operation": operation, **arguments, **options})
    for name, before in found["before"].items():
        after = found["after"].get(name, "")
        if operation == "split-study" and not apply:
            after = "a new study"
        mark = "" if after == before else f" -> {after or '(empty)'}"
        click.echo(f"{name:<12}{before or '(empty)'}{mark}")
    what = f"{found['objects']} object(s) in {len(found['studies'])} study(ies)"
    if apply:
        click.echo(f"Corrected: {what}.")
        if found["left_out"]:
            click.echo(f"{found['left_out']} object(s) were left as they are by a rule.")
    else:
        click.echo(f"Would correct: {what}.")
        click.echo("Nothing was changed; add --yes to do it.")
