"""`dgate queue`: what is still to be delivered, why it is not, and what to do about it."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from dgate.cli.access import open_ledger
from dgate.cli.options import config_option
from dgate.config.settings import load
from dgate.delivery.commands import QueueAccess
from dgate.delivery.destination import resolve
from dgate.delivery.records import Changed, Count, Entry, Selection, State
from dgate.rules.opaque import plain

_TIMES = ("due", "lease_until", "created", "finished")
_REASON_WIDTH_MIN = 20

Operation = Callable[[QueueAccess, Selection], Changed]


@click.group("queue")
def queue_group() -> None:
    """See and steer what is still to be delivered.

    Every delivery that an object owes is a numbered debt: queued (waits for its time), leased (a
    server works on it), held (stopped by hold), stuck (failed, somebody has to act), and afterwards
    done or cancelled. A running server is asked and told; without one the commands work on the
    database themselves.

    Exit code 0: done; 1: failed, or a debt that was named by its number was left alone.
    """


@queue_group.command("list")
@config_option
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in State]),
    help="Only debts in this state; may be repeated. Default: all that is still owed.",
)
@click.option("--destination", metavar="AE", help="Only debts to this destination.")
@click.option(
    "--limit",
    default=100,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="Show at most so many.",
)
@click.option("--offset", default=0, type=click.IntRange(min=0), help="Leave out the first ones.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
def list_command(
    config: Path,
    states: tuple[str, ...],
    destination: str | None,
    limit: int,
    offset: int,
    as_json: bool,
) -> None:
    """List debts, oldest first, then how many each destination has.

    TRIES counts failed and successful tries since the last retry. REPEATS counts how often the
    object may have arrived twice, because a connection or the server broke before the outcome was
    known.
    """
    selection = Selection(
        destination=destination, states=tuple(State(state) for state in states) or None
    )
    with open_ledger(config) as ledger:
        entries = ledger.entries(selection, limit, offset)
        counts = ledger.counts(closed=bool(states))
    if as_json:
        for entry in entries:
            click.echo(json.dumps(_as_data(entry), ensure_ascii=False))
        return
    wanted = [
        count
        for count in counts
        if destination in (None, count.destination) and (not states or count.state in states)
    ]
    _print_entries(entries)
    _print_counts(wanted, len(entries) + offset)


@queue_group.command("show")
@config_option
@click.argument("debt_id", metavar="ID", type=int)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def show_command(config: Path, debt_id: int, as_json: bool) -> None:
    """Show everything that is known about one debt."""
    with open_ledger(config) as ledger:
        entry = ledger.show(debt_id)
    if as_json:
        click.echo(json.dumps(_as_data(entry), ensure_ascii=False))
        return
    for name, value in _as_data(entry).items():
        if value is None or value == "":
            continue
        if name in _TIMES:
            value = _moment(value)
        elif name == "last_status":
            value = f"{value:04X}" if value >= 0 else f"none, the server ended ({-value} in a row)"
        click.echo(f"{name.replace('_', ' '):<14}{_plain(str(value))}")


def _as_data(entry: Entry) -> dict[str, Any]:
    """Return the values by name, with the script as it was written."""
    return {**entry.as_dict(), "script": plain(entry.script)}


def _moment(seconds: float) -> str:
    """Return a time for people; 0 is the due time of what need not wait."""
    if seconds == 0:
        return "at once"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _choice(command: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments that say which debts are meant."""
    for option in (
        click.option("--destination", metavar="AE", help="All debts to this destination."),
        click.option("--all", "everything", is_flag=True, help="All debts."),
        click.argument("ids", metavar="[ID]...", nargs=-1, type=int),
        config_option,
    ):
        command = option(command)
    return command


def _selected(ids: Sequence[int], everything: bool, destination: str | None) -> Selection:
    given = [bool(ids), everything, destination is not None]
    if sum(given) != 1:
        raise click.UsageError("Give either numbers, --all, or --destination.")
    return Selection(ids=tuple(ids) if ids else None, destination=destination)


def _run(config: Path, selection: Selection, verb: str, operation: Operation) -> None:
    """Carry out an operation and say what it did; exit code 1 when a named debt was skipped."""
    with open_ledger(config) as ledger:
        changed = operation(ledger, selection)
    click.echo(f"{changed.count} {verb}.")
    for debt_id, reason in changed.skipped:
        click.echo(f"{debt_id} was left alone: {reason}.", err=True)
    if changed.skipped:
        sys.exit(1)


@queue_group.command("retry")
@_choice
def retry_command(
    config: Path, ids: tuple[int, ...], everything: bool, destination: str | None
) -> None:
    """Try stuck and waiting debts again now.

    Their tries are counted afresh, and a destination that is paused after failures is tried at
    once.
    """
    selection = _selected(ids, everything, destination)
    _run(config, selection, "will be tried now", lambda ledger, which: ledger.retry(which))


@queue_group.command("hold")
@_choice
def hold_command(
    config: Path, ids: tuple[int, ...], everything: bool, destination: str | None
) -> None:
    """Stop waiting and stuck debts until they are released.

    New debts are not held.
    """
    selection = _selected(ids, everything, destination)
    _run(config, selection, "held", lambda ledger, which: ledger.hold(which))


@queue_group.command("release")
@_choice
def release_command(
    config: Path, ids: tuple[int, ...], everything: bool, destination: str | None
) -> None:
    """Let held debts go on now."""
    selection = _selected(ids, everything, destination)
    _run(config, selection, "released", lambda ledger, which: ledger.release(which))


@queue_group.command("cancel")
@_choice
@click.option("--yes", is_flag=True, help="Do not ask.")
def cancel_command(
    config: Path, ids: tuple[int, ...], everything: bool, destination: str | None, yes: bool
) -> None:
    """Give debts up: the objects will not be sent.

    The objects stay in the archive, and the debts in the history. Copies of objects that were
    forwarded without being stored are removed.
    """
    selection = _selected(ids, everything, destination)
    if not ids and not yes:
        whose = f"to {destination}" if destination else "to all destinations"
        click.confirm(f"Give up everything that is owed {whose}?", abort=True)
    _run(config, selection, "cancelled", lambda ledger, which: ledger.cancel(which))


@queue_group.command("reroute")
@_choice
@click.option("--to", "target", required=True, metavar="AE", help="The new destination.")
def reroute_command(
    config: Path,
    ids: tuple[int, ...],
    everything: bool,
    destination: str | None,
    target: str,
) -> None:
    """Send waiting, stuck and held deliveries to another destination.

    Held ones stay held. The destination must be a node of acrnema.map or an address.
    """
    selection = _selected(ids, everything, destination)
    configuration = load(config)
    resolve(target, configuration.nodes, configuration.settings)
    operation = partial(_reroute, target=target)
    _run(config, selection, f"rerouted to {target}", operation)


def _reroute(ledger: QueueAccess, selection: Selection, target: str) -> Changed:
    return ledger.reroute(selection, target)


def _print_entries(entries: Sequence[Entry]) -> None:
    header = ("ID", "STATE", "DESTINATION", "TRIES", "REPEATS", "NEXT", "OBJECT", "REASON")
    now = time.time()
    rows = [
        (
            str(entry.id),
            entry.state,
            entry.destination,
            str(entry.attempts),
            str(entry.repeats),
            _when(entry, now),
            entry.sop_instance,
            entry.last_error,
        )
        for entry in entries
    ]
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        fixed = "  ".join(text.ljust(width) for text, width in zip(row, widths[:-1], strict=False))
        click.echo(f"{fixed}  {_fitting(row[-1], len(fixed) + 2)}".rstrip())


def _when(entry: Entry, now: float) -> str:
    """Return when the debt is tried next, for one that waits."""
    if entry.state != State.QUEUED.value:
        return "-"
    wait = entry.due - now
    return "now" if wait <= 0 else f"{wait:.0f}s"


def _fitting(reason: str, used: int) -> str:
    """Return the reason on one line, cut to the terminal's width if there is a terminal."""
    reason = _plain(reason)
    width = _terminal_width()
    if width is None:
        return reason
    room = max(width - used, _REASON_WIDTH_MIN)
    return reason if len(reason) <= room else reason[: room - 1] + "…"


def _terminal_width() -> int | None:
    """Return how wide the terminal is, None when the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _plain(text: str) -> str:
    """Return text of a peer on one line, without what could steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def _print_counts(counts: Sequence[Count], shown: int) -> None:
    if not counts:
        click.echo("Nothing to show.")
        return
    total = sum(count.count for count in counts)
    if shown < total:
        click.echo(f"… and {total - shown} more (--limit, --offset).")
    click.echo()
    for destination in sorted({count.destination for count in counts}):
        own = [count for count in counts if count.destination == destination]
        text = ", ".join(f"{count.count} {count.state}" for count in own)
        repeats = sum(count.repeats for count in own)
        doubt = f"; {repeats} possibly repeated" if repeats else ""
        click.echo(f"{destination}: {text}{doubt}")
