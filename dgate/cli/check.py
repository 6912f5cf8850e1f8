"""`dgate check`: every problem of the four files and of the rules, with what to do about it."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dgate.cli.options import config_option
from dgate.config.check import Count, check
from dgate.config.problem import Problem, Severity
from dgate.config.settings import Configuration, load
from dgate.rules.hooks import Rules

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
_CONTEXT = 48


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

    Each comes with its file and line and with what to do about it; in a rule a caret points at the
    place. Nothing is changed and no server is needed.
    """
    configuration = load(config)
    rules = Rules.build(configuration.settings)
    problems = check(configuration, _rule_problems(configuration, rules))
    count = Count.of(problems)
    shown = [p for p in problems if not quiet or p.severity is not Severity.INFO]
    if as_json:
        click.echo(json.dumps(_as_data(configuration, shown, count), indent=2))
    else:
        _print(shown)
        click.echo(
            f"{count.errors} error(s), {count.warnings} warning(s), {count.infos} note(s) in "
            f"{configuration.settings.ini_path}"
        )
    sys.exit(count.exit_code)


def _rule_problems(configuration: Configuration, rules: Rules) -> list[Problem]:
    """Return the problems of the rules, with whole paths like those of the files."""
    ini_path = configuration.settings.ini_path
    return [
        dataclasses.replace(problem, path=str(ini_path.parent / problem.path))
        for problem in (found.problem() for found in rules.problems)
    ]


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
                "source": problem.source,
            }
            for problem in problems
        ],
    }


def _print(problems: Sequence[Problem]) -> None:
    """Print a table on a terminal, one line for each problem elsewhere."""
    console = Console()
    if not console.is_terminal:
        for problem in problems:
            click.echo(f"{problem.severity.value}: {problem}")
            for line in _caret(problem):
                click.echo(f"    {line}")
        return
    if problems:
        console.print(problem_table(problems))


def problem_table(problems: Sequence[Problem]) -> Table:
    """Return the problems as a table for a terminal."""
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
    if problem.column is None or not problem.source:
        return []
    place = problem.column - 1
    start = max(0, place - _CONTEXT // 2)
    piece = problem.source[start : start + _CONTEXT]
    # A tab would move the caret; other control characters could steer the terminal.
    shown = "".join(char if char.isprintable() else " " for char in piece)
    return [shown, " " * (place - start) + "^"]
