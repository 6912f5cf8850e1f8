"""Runs a maintenance command: in the running server, or on the archive opened here (rulings.md 20).

Not for what a command prints. Used by the one thread of a command.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from dgate.cli.access import running_server
from dgate.cli.transfer import progress_bar
from dgate.config.settings import load
from dgate.errors import DgateError
from dgate.gateway import Gateway
from dgate.ops.control import Answer
from dgate.parts import control_commands

_UNITS = ("bytes", "kB", "MB", "GB", "TB")

yes_option = click.option(
    "--yes", "apply", is_flag=True, help="Do it; without this it is only shown what would be done."
)
even_owed_option = click.option(
    "--even-owed", is_flag=True, help="Even where deliveries are still open."
)


def answers(config: Path, name: str, arguments: dict[str, Any]) -> Iterator[Answer]:
    """Yield the answers of a command, named as on the control socket.

    Raises:
        DgateError: the command failed, or the archive cannot be opened.
    """
    arguments = {**arguments, "who": _who()}
    configuration = load(config)
    server = running_server(configuration.settings)
    if server is not None:
        yield from server.stream(name, arguments)
        return
    with Gateway(configuration).offline() as gateway:
        commands = control_commands(gateway.foundation, lambda: gateway.generation)
        result = commands[name](arguments)
        if isinstance(result, dict):
            yield result
        else:
            yield from result


def report(
    config: Path,
    name: str,
    arguments: dict[str, Any],
    on_answer: Callable[[Answer], None] = lambda answer: None,
) -> dict[str, Any]:
    """Run a command with a progress bar and return its report; raises DgateError."""
    found: dict[str, Any] | None = None
    with progress_bar() as bar:
        task = bar.add_task(name.removeprefix("maintenance."), total=None)
        for answer in answers(config, name, arguments):
            if "total" in answer:
                bar.update(task, total=answer["total"])
            elif "done" in answer:
                bar.update(task, completed=answer["done"])
            elif "report" in answer:
                found = answer["report"]
            else:
                on_answer(answer)
    if found is None:
        raise DgateError("the server gave no report", remedy="look into its log")
    return found


def amount(size: float) -> str:
    """Return a number of bytes for people."""
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def _who() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        # A user without an entry, as in a container.
        name = f"user {os.getuid()}"
    return f"{name} at the command line"
