"""The options and argument types that several commands share."""

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
