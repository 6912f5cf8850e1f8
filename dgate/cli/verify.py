"""`dgate verify`: files against the index, both ways, and whether they can be read."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from dgate.archive.devices import FolderDevice
from dgate.archive.maintenance.catalog import read_catalog
from dgate.archive.maintenance.readonly import open_read_only
from dgate.archive.maintenance.verify import Verification
from dgate.cli.options import config_option
from dgate.cli.progress import Ticker
from dgate.config.settings import load
from dgate.ops.lock import FolderLock

_WORDS = {
    "unreadable": "file(s) unreadable or cut off",
    "without_row": "file(s) that the index does not know",
    "copies": "file(s) of objects for which the index names another file",
    "mixed_up": "row(s) whose file holds another object",
    "without_file": "row(s) without file",
    "unreachable": "row(s) on devices that are not configured",
}


@click.command(
    "verify", epilog="Exit code: 0 everything is in order, 1 something is not, or cannot be read."
)
@config_option
@click.option("--deep", is_flag=True, help="Read every byte, and compare the length of the pixels.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
@click.option("--workers", type=click.IntRange(0, 64), help="Processes that read; 0 for none.")
def verify_command(config: Path, deep: bool, as_json: bool, workers: int | None) -> None:
    """Compare the files with the index, both ways, and look whether each file can be read.

    Each problem is named with its file. Nothing is changed, and the server may go on running.
    `dgate regen` enters files that the index does not know, `dgate regen --prune` also removes
    rows without file.
    """
    configuration = load(config)
    settings = configuration.settings
    in_use = FolderLock(settings.base_folder).is_held()
    devices = [
        FolderDevice(f"MAG{number}", path) for number, path in enumerate(settings.mag_devices)
    ]
    with open_read_only(settings, in_use=in_use) as opened:
        catalog = read_catalog(opened.connection, opened.database, configuration.layout, settings)
        if opened.note:
            click.echo(f"note: {opened.note}", err=True)
        work = Verification(
            opened.database, opened.connection, catalog.required(), devices, deep, workers
        )
        summary = _follow(work.run(), as_json=as_json)
    sys.exit(0 if summary["clean"] else 1)


def _follow(answers: Iterable[dict[str, Any]], *, as_json: bool) -> dict[str, Any]:
    """Show what happens, and return the summary."""
    summary: dict[str, Any] = {}
    with Ticker("verify") as ticker:
        for answer in answers:
            kind = answer["kind"]
            if kind == "progress":
                ticker.show(f"{answer['scope']}: {answer['files']} files, {answer['rows']} rows")
                continue
            if kind == "summary":
                summary = answer
            if as_json:
                ticker.say(json.dumps(answer, ensure_ascii=False))
            elif kind == "problem":
                ticker.say(f"{answer['path']}: {answer['text']}")
    if not as_json:
        click.echo(
            f"{summary['files']} file(s), {summary['rows']} row(s) in the index: "
            f"{summary['sound']} in order."
        )
        for name, text in _WORDS.items():
            if summary[name]:
                click.echo(f"  {summary[name]} {text}")
        if summary["foreign"]:
            click.echo(f"  {summary['foreign']} other file(s), no images by their names")
    return summary
