"""`dgate config history`, `rollback` and `reload`: the sets that a server has applied, and changes.

A running server does the work itself; without one, `rollback` only writes the files.
"""

from __future__ import annotations

import getpass
import json
import sys
import time
from pathlib import Path

import click

from dgate.cli.access import client_of, server_in
from dgate.cli.options import config_option
from dgate.config.history import History
from dgate.config.settings import INI_NAME
from dgate.config.store import settle
from dgate.ops.control import Answer
from dgate.ops.lock import FolderLock
from dgate.reloading import check_set

_MOST_CHANGES = 3


@click.command("history")
@config_option
@click.option("--changes", "all_changes", is_flag=True, help="Show every change of each set.")
@click.option("--json", "as_json", is_flag=True, help="Print the sets as JSON.")
def history_command(config: Path, all_changes: bool, as_json: bool) -> None:
    """Show the last 20 sets of the four files that a server has applied, newest first.

    Each with its number, the time, what made the server apply it, and what it changed of the set
    before it. Passwords are not shown.
    """
    sets = History(_folder(config)).sets()
    if as_json:
        rows = [
            {
                "number": one.number,
                "applied_at": one.applied_at,
                "why": one.why,
                "changes": one.changes,
            }
            for one in sets
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    if not sets:
        click.echo("No server has applied this configuration yet.")
    for one in sets:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.applied_at))
        click.echo(f"{one.number:>6}  {when}  {one.why}")
        shown = one.changes if all_changes else one.changes[:_MOST_CHANGES]
        for line in shown:
            click.echo(f"        {line}")
        if len(one.changes) > len(shown):
            click.echo(f"        and {len(one.changes) - len(shown)} more (--changes)")


@click.command("rollback")
@click.argument("number", type=click.IntRange(min=1), metavar="N")
@config_option
def rollback_command(number: int, config: Path) -> None:
    """Write the four files of set N back, and have the running server apply them.

    What is replaced stays beside each file, with .bak.1, .bak.2... at its name. A set that has
    errors today is refused, and no file is changed then.

    Exit code 0: done; 1: refused.
    """
    folder = _folder(config)
    lock = FolderLock(folder)
    holder = lock.acquire()
    if holder is not None:
        server = client_of(holder, folder)
        _print_outcome(server.call("rollback", {"number": number, "who": getpass.getuser()}))
        return
    try:
        settle(folder)
        history = History(folder)
        check_set(history, config / INI_NAME if config.is_dir() else config, number)
        written = history.write_back(number)
    finally:
        lock.release()
    for path, backup in written:
        kept = f"; what it held before is in {backup.name}" if backup is not None else ""
        click.echo(f"{path} was changed{kept}")
    if not written:
        click.echo(f"The files are those of set {number} already.")


@click.command("reload")
@config_option
def reload_command(config: Path) -> None:
    """Have the running server read its files again, and show what it changed.

    It does so by itself a second or two after a file was saved.

    Exit code 0: applied; 1: the files have errors, or no server runs.
    """
    server = server_in(_folder(config))
    if server is None:
        raise click.ClickException("no server is running on this configuration")
    _print_outcome(server.call("reload", {"who": getpass.getuser()}))


def _print_outcome(answer: Answer) -> None:
    if not answer["applied"]:
        for reason in answer["reasons"]:
            click.echo(f"error: {reason}", err=True)
        click.echo("Nothing was changed; the server goes on with the set that it has.", err=True)
        sys.exit(1)
    for line in answer["changes"] or ["nothing has changed"]:
        click.echo(line)
    for line in answer["waiting"]:
        click.echo(f"{line}.")
    click.echo(f"Applied in {answer['took_ms']:.0f} ms.")


def _folder(config: Path) -> Path:
    """Return the base folder without reading the files, which may be broken just now."""
    return (config if config.is_dir() else config.parent).absolute()
