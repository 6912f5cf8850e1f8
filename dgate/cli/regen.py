"""`dgate regen`: the index rebuilt from the files, by the running server or directly."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from dgate.archive.database import Database
from dgate.archive.maintenance.backup import back_up
from dgate.archive.maintenance.regen import RegenOptions, in_words
from dgate.cli.access import running_server
from dgate.cli.options import config_option
from dgate.cli.progress import Ticker
from dgate.config.settings import Configuration, load
from dgate.errors import DgateError
from dgate.gateway import Gateway
from dgate.parts import make_regen

_BAD = ("refused", "unreadable", "missing")


@click.command(
    "regen",
    epilog="Exit code: 0 every image file has its row and every row its file, 1 some have not.",
)
@config_option
@click.option("--device", default="", metavar="MAGn", help="Only this device.")
@click.option(
    "--folder",
    default="",
    metavar="DIR",
    help="Only below this folder of the device; with * or ? the top folders that match.",
)
@click.option("--prune", is_flag=True, help="Remove index rows whose file is gone.")
@click.option("--restart", is_flag=True, help="Begin anew where an earlier run was not completed.")
@click.option(
    "--from-empty",
    is_flag=True,
    help="Clear patients, studies, series and images first; worklist and queue stay.",
)
@click.option(
    "--backup",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="With --from-empty: copy the database (SQLite) to FILE before.",
)
@click.option("--yes", is_flag=True, help="With --from-empty: do not ask.")
@click.option("--workers", type=click.IntRange(0, 64), help="Processes that read; 0 for none.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
def regen_command(
    config: Path,
    device: str,
    folder: str,
    prune: bool,
    restart: bool,
    from_empty: bool,
    backup: Path | None,
    yes: bool,
    workers: int | None,
    as_json: bool,
) -> None:
    """Rebuild the index from the image files.

    Rows are entered and refreshed, and none is removed unless asked for; rows without file are
    named. A running server does the work and goes on serving. A run that was ended goes on where
    it was when the same command is given again. Files that cannot be entered are named and stay.
    """
    configuration = load(config)
    options = RegenOptions(device, folder, from_empty, prune, restart, workers)
    if from_empty:
        _make_sure(configuration, backup, yes=yes)
    elif backup is not None:
        raise click.UsageError("--backup belongs to --from-empty")
    summary = _follow(_answers(configuration, options), as_json=as_json)
    sys.exit(1 if any(summary[name] for name in _BAD) else 0)


def _make_sure(configuration: Configuration, backup: Path | None, *, yes: bool) -> None:
    """Make the back-up, or ask; raises UsageError where nobody can be asked."""
    if backup is not None:
        size = back_up(Database(configuration.settings), backup)
        click.echo(f"The database was copied to {backup} ({size >> 20} MB).", err=True)
    elif not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("--from-empty needs --backup FILE or --yes")
        click.confirm(
            "Patients, studies, series and images will be cleared from the index and entered "
            "again from the files. What only the index had is lost. Go on?",
            abort=True,
        )


def _answers(configuration: Configuration, options: RegenOptions) -> Iterator[dict[str, Any]]:
    server = running_server(configuration.settings)
    if server is not None:
        yield from server.stream("regen", asdict(options))
        return
    with Gateway(configuration).offline() as gateway:
        regen = make_regen(gateway.foundation, gateway.generation, beside_server=False)
        yield from regen.run(options)


def _follow(answers: Iterator[dict[str, Any]], *, as_json: bool) -> dict[str, Any]:
    """Show what happens, and return the summary."""
    summary: dict[str, Any] | None = None
    with Ticker("regen") as ticker:
        for answer in answers:
            kind = answer["kind"]
            if kind == "summary":
                summary = answer
            if as_json and kind != "progress":
                ticker.say(json.dumps(answer, ensure_ascii=False))
            elif kind == "problem" and answer["fate"] != "foreign":
                ticker.say(f"{answer['path']}: {answer['text']}")
            elif kind == "progress":
                if answer["resumed"]:
                    ticker.say(f"{answer['scope']}: going on behind {answer['resumed']}", err=True)
                ticker.show(
                    f"{answer['scope']}: {answer['seen']}, {answer['rate']:.0f}/s",
                    answer["seen"],
                    answer["expected"] or None,
                )
    if summary is None:
        raise DgateError(
            "the rebuild was ended before it was complete",
            remedy="give the same command again: it goes on where it was",
        )
    if not as_json:
        click.echo(f"The index was rebuilt from the files: {in_words(summary)}.")
    return summary
