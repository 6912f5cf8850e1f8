"""`dgate check`: every problem of the four files and of the rules, with what to do about it."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dgate.cli.options import config_option, printable
from dgate.cli.port_check import port_problems
from dgate.config.check import Count, in_order
from dgate.config.problem import Problem, Severity
from dgate.config.settings import Configuration, load
from dgate.inspection import inspect

if TYPE_CHECKING:
    from rich.table import Table

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
_CONTEXT = 76


@click.command(
    "check",
    epilog="Exit code: 0 nothing wrong, 1 errors (the server would not start, or a rule would "
    "fail), 2 warnings only. Notes do not count.",
)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Leave out the notes (severity info).")
def check_command(config: Path, as_json: bool, quiet: bool) -> None:
    """Report every problem of the four files and of the rules.

    Each comes with its file and line and with what to do about it; a caret points at the place.
    Folders and ports are looked at too. Nothing is changed and no server is needed; one that runs
    on this configuration is not disturbed.
    """
    with _without_collector():
        configuration = load(config)
        found = [*inspect(configuration), *port_problems(configuration)]
    problems = in_order(configuration, found)
    count = Count.of(problems)
    shown = [p for p in problems if not quiet or p.severity is not Severity.INFO]
    if as_json:
        click.echo(json.dumps(_as_data(configuration, shown, count), indent=2))
    else:
        print_problems(shown)
        click.echo(
            f"{count.errors} error(s), {count.warnings} warning(s), {count.infos} note(s) in "
            f"{configuration.settings.ini_path}"
        )
    sys.exit(count.exit_code)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep the garbage collector from looking through thousands of small trees, none of it garbage.

    It takes a fifth of the time otherwise.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _as_data(
    configuration: Configuration, problems: Sequence[Problem], count: Count
) -> dict[str, object]:
    return {
        "configuration": str(configuration.settings.ini_path),
        "errors": count.errors,
        "warnings": count.warnings,
        "infos": count.infos,
        "problems": [
            {
                "severity": problem.severity.value,
                "file": problem.path,
                "line": problem.line,
                "column": problem.column,
                "message": problem.message,
                "advice": problem.advice,
                "text": problem.source,
            }
            for problem in problems
        ],
    }


def print_problems(problems: Sequence[Problem]) -> None:
    """Print a table on a terminal, elsewhere one line for each problem and its place below."""
    # Telling a terminal costs less than loading what draws tables.
    if not sys.stdout.isatty():
        for problem in problems:
            click.echo(f"{problem.severity.value}: {problem}")
            for line in _caret(problem):
                click.echo(f"    {line}")
        return
    if problems:
        from rich.console import Console

        Console().print(problem_table(problems))


def problem_table(problems: Sequence[Problem]) -> Table:
    """Return the problems as a table for a terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("Where", no_wrap=True)
    table.add_column("What, and what to do")
    for problem in problems:
        text = Text(problem.message)
        for line in _caret(problem):
            text.append(f"\n{line}", style="bold")
        if problem.advice:
            text.append(f"\n→ {problem.advice}", style="green")
        severity = Text(problem.severity.value, style=_STYLES[problem.severity])
        table.add_row(severity, problem.where, text)
    return table


def _caret(problem: Problem) -> list[str]:
    """Return the part of the source around the place, and a line with a caret below it."""
    # A mistake in column 1 is that of the key, which the message names.
    if problem.column is None or problem.column == 1 or not problem.source:
        return []
    place = problem.column - 1
    start = max(0, place - _CONTEXT // 2)
    piece = problem.source[start : start + _CONTEXT]
    # A tab would move the caret; other control characters could steer the terminal.
    shown = printable(piece, " ")
    return [shown, " " * (place - start) + "^"]
