"""`dgate aside`: objects whose SOP instance is stored already with other content."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dgate.cli.options import config_option, printable
from dgate.cli.upkeep import amount, answers, yes_option

json_option = click.option("--json", "as_json", is_flag=True, help="JSON, one object a line.")


@click.group("aside")
def aside_group() -> None:
    """Decide about objects that were put aside (DuplicateContent = aside).

    ID is what `dgate aside list` shows, or a SOP Instance UID.
    """


@aside_group.command("list")
@config_option
@json_option
def list_command(config: Path, as_json: bool) -> None:
    """Show what was put aside."""
    reports = _reports(config, "aside.list", {})
    if as_json:
        _print_json(reports)
        return
    if not reports:
        click.echo("Nothing was put aside.")
        return
    table = Table(box=None)
    for title in ("ID", "From", "Last", "Times", "Differences"):
        table.add_column(title, overflow="fold")
    for each in reports:
        sender, times = _safe(str(each["calling"])), str(each["times"])
        table.add_row(each["id"], sender, _when(each["last"]), times, str(each["differences"]))
    Console().print(table)


@aside_group.command("show")
@config_option
@click.argument("name", metavar="ID")
@json_option
def show_command(config: Path, name: str, as_json: bool) -> None:
    """Show how an object differs from the one that is stored."""
    reports = _reports(config, "aside.show", {"name": name})
    if as_json:
        _print_json(reports)
        return
    for each in reports:
        _print_report(each)


@aside_group.command("accept")
@config_option
@click.argument("name", metavar="ID")
@yes_option
def accept_command(config: Path, name: str, apply: bool) -> None:
    """Let the object take the place of the stored one.

    It is delivered as export rules say, like an object that has just come; import rules have seen
    it before. The content that was stored is gone then.
    """
    for each in _reports(config, "aside.accept", {"name": name, "apply": apply}):
        _print_outcome(each, "took the place of the stored object", apply=apply)


@aside_group.command("discard")
@config_option
@click.argument("name", metavar="ID")
@yes_option
def discard_command(config: Path, name: str, apply: bool) -> None:
    """Remove the object; the stored one stays."""
    for each in _reports(config, "aside.discard", {"name": name, "apply": apply}):
        _print_outcome(each, "was removed; the stored object stays", apply=apply)


def _reports(config: Path, command: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    return [answer["aside"] for answer in answers(config, command, arguments) if "aside" in answer]


def _print_json(reports: list[dict[str, Any]]) -> None:
    for report in reports:
        click.echo(json.dumps(report, ensure_ascii=False))


def _print_outcome(report: dict[str, Any], done: str, *, apply: bool) -> None:
    if apply:
        click.echo(f"{report['id']} {done}.")
    else:
        click.echo(f"{report['id']} is there; nothing was done, add --yes to do it.")


def _print_report(report: dict[str, Any]) -> None:
    table = Table(show_header=False, box=None)
    table.add_row("ID", report["id"])
    table.add_row("File", report["file"])
    table.add_row("From", _safe(f"{report['calling']} {report['host']}".strip()))
    times = (
        "" if report["times"] == 1 else f", {report['times']} times, last {_when(report['last'])}"
    )
    table.add_row("Came", _when(report["first"]) + times)
    for title, content in (("Stored", report["stored"]), ("Aside", report["aside"])):
        table.add_row(
            title, f"{amount(content['size'])}, {content['syntax']}, sha256 {content['sha256']}"
        )
    console = Console()
    console.print(table)
    differences = Table("Element", "Name", "Stored", "Aside", box=None)
    for each in report["differences"]:
        differences.add_row(
            each["tag"], each["name"], _value(each["stored"]), _value(each["aside"])
        )
    if report["differences"]:
        console.print(differences)
    else:
        console.print("No element of the header differs; see the hashes.")
    if report["more"]:
        console.print(f"... and {report['more']} more elements.")


def _value(text: str | None) -> Text:
    return _safe("(not there)" if text is None else text)


def _safe(text: str) -> Text:
    """Return what a sender wrote such that it is neither markup nor a control character."""
    return Text(printable(text))


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
