"""`dgate queue`: what is still to be delivered, why it is not, and what to do about it."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from dgate.cli.access import open_ledger
from dgate.cli.destinations import refusals_command, site_states
from dgate.cli.options import config_option, printable
from dgate.cli.selecting import (
    current_user,
    described,
    filter_options,
    limit_option,
    moment,
    selection_of,
    spelled,
)
from dgate.config.settings import Configuration, load
from dgate.config.targets import owed_as
from dgate.delivery.commands import QueueAccess
from dgate.delivery.destination import resolve
from dgate.delivery.records import Changed, Count, Entry, Order, Selection, State
from dgate.delivery.sites import SiteStatus
from dgate.rules.opaque import plain

_TIMES = ("due", "lease_until", "created", "finished", "received", "accepted", "committed")
_PRIORITIES = {0: "stat", 1: "normal", 2: "bulk"}
_REASON_WIDTH_MIN = 20

Operation = Callable[[QueueAccess, Selection, Order], Changed]


@click.group("queue")
def queue_group() -> None:
    """See and steer what is still to be delivered.

    Every delivery that an object owes is a numbered debt: queued (waits for its time), leased (a
    server works on it), held (stopped by hold), stuck (failed, somebody has to act), committing
    (the peer has it, and has yet to commit to it), and afterwards done or cancelled. A running
    server is asked and told; without one the commands work on the database themselves.

    Exit code 0: done; 1: failed, or a debt that was named by its number was left alone.
    """


queue_group.add_command(refusals_command)


@queue_group.command("list")
@config_option
@filter_options
@limit_option
@click.option("--offset", default=0, type=click.IntRange(min=0), help="Leave out the first ones.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
def list_command(
    config: Path,
    limit: int,
    offset: int,
    as_json: bool,
    **filters: Any,
) -> None:
    """List debts, oldest first, then how many each destination has.

    Without --state, all that is still owed.

    TRIES counts failed and successful tries since the last retry. REPEATS counts how often the
    object may have arrived twice, because a connection or the server broke before the outcome was
    known.
    """
    selection = spelled(selection_of(**filters), config)
    destination, states = selection.destination, selection.states
    with open_ledger(config) as ledger:
        entries = ledger.entries(selection, limit, offset)
        counts = ledger.counts(closed=bool(states))
    sites = site_states(config)
    if as_json:
        for entry in entries:
            site = sites.get(entry.destination)
            state = {"site": None if site is None else site.as_dict()}
            click.echo(json.dumps(_as_data(entry) | state, ensure_ascii=False))
        return
    wanted = [
        count
        for count in counts
        if destination in (None, count.destination) and (not states or count.state in states)
    ]
    _print_entries(entries)
    if selection != Selection(destination=destination, states=states):
        # The totals know nothing of studies and times.
        wanted = []
        if len(entries) == limit:
            click.echo("… and perhaps more (--limit, --offset).")
        if entries:
            return
    _print_counts(wanted, len(entries) + offset, sites)


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
            value = moment(value)
        elif name == "priority":
            value = _PRIORITIES.get(value, value)
        elif name == "last_status":
            value = f"{value:04X}" if value >= 0 else f"none, the server ended ({-value} in a row)"
        click.echo(f"{name.replace('_', ' '):<14}{_plain(str(value))}")


def _as_data(entry: Entry) -> dict[str, Any]:
    """Return the values by name, with the script as it was written."""
    return {**entry.as_dict(), "script": plain(entry.script)}


def _choice(command: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments that say which debts are meant."""
    for option in (
        click.option("--why", default="", metavar="TEXT", help="Kept with the debts."),
        filter_options,
        click.option("--all", "everything", is_flag=True, help="All debts."),
        config_option,
    ):
        command = option(command)
    return command


_numbers = click.argument("ids", metavar="[ID]...", nargs=-1, type=int)


def _selected(ids: Sequence[int], everything: bool, filters: dict[str, Any]) -> Selection:
    """Return what is meant; a mistake must not make it everything."""
    selection = selection_of(**filters)
    if sum((bool(ids), everything, selection != Selection())) != 1:
        raise click.UsageError(
            "Give either numbers, --all, or which ones (--destination, --study, --state and so on)."
        )
    return selection_of(tuple(ids)) if ids else selection


def _run(
    config: Path, selection: Selection, verb: str, operation: Operation, why: str = ""
) -> None:
    """Carry out an operation and say what it did; exit code 1 when a named debt was skipped."""
    selection = spelled(selection, config)
    with open_ledger(config) as ledger:
        changed = operation(ledger, selection, Order(current_user(), why.strip()))
    click.echo(f"{changed.count} {verb}.{_left(changed.busy)}")
    for debt_id, reason in changed.skipped:
        click.echo(f"{debt_id} was left alone: {reason}.", err=True)
    if changed.skipped:
        sys.exit(1)


def _left(busy: int) -> str:
    """Say what was meant and left as it is, because somebody is working on it."""
    if not busy:
        return ""
    # Another gateway in the same database may have more than one in hand.
    words = ("is", "was") if busy == 1 else ("are", "were")
    return f" {busy} {words[0]} being worked on and {words[1]} left."


@queue_group.command("retry")
@_choice
@_numbers
def retry_command(
    config: Path, ids: tuple[int, ...], everything: bool, why: str, **filters: Any
) -> None:
    """Try stuck and waiting debts again now.

    Their tries are counted afresh, and a destination that is paused after failures is tried at
    once.
    """
    selection = _selected(ids, everything, filters)
    _run(config, selection, "will be tried now", lambda ledger, *what: ledger.retry(*what), why)


@queue_group.command("hold")
@_choice
@_numbers
def hold_command(
    config: Path, ids: tuple[int, ...], everything: bool, why: str, **filters: Any
) -> None:
    """Stop waiting and stuck debts until they are released.

    New debts are not held.
    """
    selection = _selected(ids, everything, filters)
    _run(config, selection, "held", lambda ledger, *what: ledger.hold(*what), why)


@queue_group.command("release")
@_choice
@_numbers
def release_command(
    config: Path, ids: tuple[int, ...], everything: bool, why: str, **filters: Any
) -> None:
    """Let held debts go on now."""
    selection = _selected(ids, everything, filters)
    _run(config, selection, "released", lambda ledger, *what: ledger.release(*what), why)


@queue_group.command("cancel")
@_choice
@_numbers
@click.option("--yes", is_flag=True, help="Do not ask.")
def cancel_command(
    config: Path, ids: tuple[int, ...], everything: bool, why: str, yes: bool, **filters: Any
) -> None:
    """Give debts up: the objects will not be sent.

    The objects stay in the archive, and the debts in the history, with the reason that --why gives.
    Only with --yes it may be left out. Copies of objects that were forwarded without being stored
    are removed.
    """
    selection = _selected(ids, everything, filters)
    if not why.strip() and not yes:
        if not _is_interactive():
            raise click.UsageError("Say why with --why TEXT: the ledger keeps it with the debts.")
        why = click.prompt("Why")
    if not ids and not yes:
        click.confirm(f"Give up all that is owed of {described(selection)}?", abort=True)
    _run(config, selection, "cancelled", lambda ledger, *what: ledger.cancel(*what), why)


@queue_group.command("reroute")
@_choice
@click.argument("words", metavar="[NODE] [ID]...", nargs=-1)
@click.option("--to", "target", metavar="AE", help="The new destination, where NODE is not given.")
def reroute_command(
    config: Path,
    words: tuple[str, ...],
    everything: bool,
    target: str | None,
    why: str,
    **filters: Any,
) -> None:
    """Send waiting, stuck and held deliveries to another destination.

    Held ones stay held. NODE must be a node of acrnema.map or an address; the ledger keeps where
    the deliveries were to go before.
    """
    target, ids = _target_and_numbers(words, target)
    selection = _selected(ids, everything, filters)
    configuration = load(config)
    _check_target(target, configuration)
    target, called = owed_as(target, "", configuration.nodes)
    operation = partial(_reroute, target=target, called=called)
    _run(config, selection, f"rerouted to {target}", operation, why)


def _is_interactive() -> bool:
    """Tell whether a person can be asked."""
    return sys.stdin.isatty()


def _target_and_numbers(words: tuple[str, ...], target: str | None) -> tuple[str, tuple[int, ...]]:
    """Tell the new destination from the numbers: it is what is no number, unless --to names it."""
    names = [word for word in words if not (word.isascii() and word.isdigit())]
    numbers = tuple(int(word) for word in words if word not in names)
    named = names if target is None else [target, *names]
    if len(named) != 1 or not named[0].strip():
        what = "one new destination" if len(named) < 2 else "only one new destination"
        raise click.UsageError(f"Give {what}: dgate queue reroute NODE ID..., or --to NODE.")
    return named[0].strip(), numbers


def _check_target(target: str, configuration: Configuration) -> None:
    """Refuse what nothing could be sent to; the members of a group are nodes themselves."""
    if not configuration.settings.peers.members(target):
        resolve(target, configuration.nodes, configuration.settings)


def _reroute(
    ledger: QueueAccess, selection: Selection, order: Order, target: str, called: str
) -> Changed:
    return ledger.reroute(selection, target, order, called=called)


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
    return printable(" ".join(text.split()))


def _print_counts(counts: Sequence[Count], shown: int, sites: Mapping[str, SiteStatus]) -> None:
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
        remark = sites[destination].remark if destination in sites else ""
        click.echo(f"{destination}: {text}{doubt}{remark and f'; {remark}'}")
