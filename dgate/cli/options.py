"""The options and argument types that several commands share, and how they show foreign text."""

from __future__ import annotations

from pathlib import Path

import click

from dgate.printable import printable

__all__ = ["config_option", "printable"]

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
