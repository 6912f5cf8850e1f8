"""`dgate init`: a commented set of the four files in a new folder."""

from __future__ import annotations

import re
from pathlib import Path

import click

from dgate.config.template import AE_TITLE, PORT, new_set

_AE_TITLE = re.compile(r"[A-Za-z0-9_.-]{1,16}")


def _ae_title(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if _AE_TITLE.fullmatch(value) is None:
        raise click.BadParameter("use at most 16 letters, digits, dots, - and _")
    return value


@click.command(
    "init",
    epilog="Next: dgate check -c FOLDER, then dgate serve -c FOLDER.",
)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--ae-title",
    default=AE_TITLE,
    show_default=True,
    callback=_ae_title,
    help="AE title of the server.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=PORT,
    show_default=True,
    help="DICOM port of the server.",
)
@click.option("--force", is_flag=True, help="Overwrite files that exist already.")
def init_command(folder: Path, ae_title: str, port: int, force: bool) -> None:
    """Write a commented set of the four files into FOLDER, ready to serve.

    dicom.ini holds the settings and rules, acrnema.map the nodes, dicom.sql the layout of the
    index, dgatesop.lst what senders may ask for. Objects will be stored in FOLDER/data.
    """
    files = new_set(ae_title, port)
    existing = [name for name in files if (folder / name).exists()]
    if existing and not force:
        message = f"{folder} has {', '.join(existing)} already; nothing was written (use --force)"
        raise click.ClickException(message)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_bytes(text)
    except OSError as exc:
        place = exc.filename or folder
        raise click.ClickException(f"{place} cannot be written: {exc.strerror}") from exc
    for name in files:
        click.echo(f"wrote {folder / name}")
    click.echo(f"Start the server with: dgate serve -c {folder}")
