"""`dgate status`: health, counters, disk and queue depth of the running server."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dgate.cli.access import running_server
from dgate.cli.options import config_option, printable
from dgate.config.settings import load
from dgate.delivery.sites import SiteStatus
from dgate.ops import health


@click.command("status")
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def status_command(config: Path, as_json: bool) -> None:
    """Show the state of the running server.

    Exit code 0: it runs and is well; 1: no server runs on this configuration, or it does not
    answer; 2: it runs, but something is wrong that a person has to look after.
    """
    server = running_server(load(config).settings)
    if server is None:
        click.echo("No server is running on this configuration.", err=True)
        sys.exit(1)
    status = server.call("status")
    if as_json:
        click.echo(json.dumps(status, ensure_ascii=False))
    else:
        print_status(status)
    if status["health"]["state"] != health.OK:
        sys.exit(2)


def print_status(status: dict[str, Any]) -> None:
    """Print the answer of a server for people."""
    table = Table(show_header=False, box=None)
    table.add_row(
        "Server", f"{status['ae_title']} on port {status['port']}, process {status['pid']}"
    )
    table.add_row("Health", status["health"]["state"])
    for problem in status["health"]["problems"]:
        table.add_row("", problem)
    table.add_row("Up", f"{status['up_s']:.0f} s")
    table.add_row("Associations", f"{status['associations']} of {status['max_associations']}")
    archive = ", ".join(_counted(number, what) for what, number in status["archive"].items())
    table.add_row("Archive", archive or "not known")
    for device in status["devices"]:
        table.add_row(device["name"], disk_line(device))
    for place in status.get("disks", ()):
        table.add_row(place["name"].capitalize(), disk_line(place))
    for queued in status["queue"]:
        repeats = f", {queued['repeats']} perhaps sent twice" if queued["repeats"] else ""
        table.add_row(
            f"To {queued['destination']}", f"{queued['count']} {queued['state']}{repeats}"
        )
    for site in status.get("destinations", ()):
        if remark := SiteStatus(**site).remark:
            table.add_row(f"Sending to {site['destination']}", remark)
    if not status["queue"]:
        table.add_row("Queue", "nothing to deliver")
    for compared in status.get("reconciled", ()):
        ended = datetime.datetime.fromtimestamp(compared["ended"])
        # The node may have said why it failed.
        text = escape(printable(f"{ended:%Y-%m-%d %H:%M}: {compared['text']}"))
        table.add_row(escape(printable(f"Compared with {compared['node']}")), text)
    Console().print(table)


def disk_line(disk: dict[str, Any]) -> str:
    """Return what is told of a disk in one line."""
    text = f"{disk['free_mb']} MB free"
    if disk.get("reserve_mb"):
        text += f", {disk['reserve_mb']} MB kept in reserve"
    if disk.get("days_left") is not None:
        text += f", full in about {disk['days_left']:.0f} days"
    return text if disk.get("state", "ok") == "ok" else f"{text}, {disk['state']}"


def _counted(number: int, plural: str) -> str:
    """Return a number of things; the server names them in the plural."""
    singular = {"studies": "study", "series": "series"}.get(plural, plural.removesuffix("s"))
    return f"{number} {singular if number == 1 else plural}"
