"""The options and argument types that several commands share, and how they show foreign text."""

from __future__ import annotations

from pathlib import Path

import click

config_option = click.option(
    "-c",
    "--config",
    "config",
    type=click.Path(path_type=Path),
    default=Path("conf"),
    show_default=True,
    metavar="PATH",
    help="A dicom.ini, or the folder that holds it.",
)


def printable(line: str) -> str:
    """Return a line without what would act on a terminal: names in it are anybody's."""
    return "".join(char if char.isprintable() else "?" for char in line)
