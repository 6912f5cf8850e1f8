"""`dgate import`: files and folders into the archive, through the running server or directly."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from dgate.archive.importer import files_below
from dgate.cli.access import running_server
from dgate.cli.options import config_option
from dgate.cli.transfer import progress_bar
from dgate.config.settings import load
from dgate.gateway import Gateway

BATCH_FILES = 200


@click.command("import")
@config_option
@click.argument(
    "paths",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, path_type=Path, resolve_path=True),
)
def import_command(config: Path, paths: tuple[Path, ...]) -> None:
    """Store files, or all files below folders, in the archive.

    They take the same way as objects from the network: import rules, naming, index, export rules. A
    running server does the work itself. Files that are not DICOM are named and skipped. Exit code
    0: every file was stored; 1: one was not.
    """
    files = list(files_below(paths))
    stored = 0
    with progress_bar() as bar:
        task = bar.add_task("import", total=len(files))
        for result in _results(config, files):
            bar.advance(task)
            if result["error"]:
                click.echo(f"{result['path']}: {result['error']}", err=True)
            else:
                stored += 1
    click.echo(f"{stored} of {len(files)} file(s) imported.")
    if stored < len(files):
        sys.exit(1)


def _results(config: Path, files: list[Path]) -> Iterator[dict[str, Any]]:
    """Yield one result per file, from the running server or from an archive opened here."""
    configuration = load(config)
    server = running_server(configuration.settings)
    if server is not None:
        for start in range(0, len(files), BATCH_FILES):
            batch = [str(path) for path in files[start : start + BATCH_FILES]]
            yield from server.stream("import", {"paths": batch})
        return
    with Gateway(configuration).offline() as gateway:
        yield from gateway.import_files(files)
