"""`dgate ledger`: what became of objects, from their receipt to the proof of their delivery."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click

from dgate.cli.access import open_ledger
from dgate.cli.ledger_files import FORMATS, format_of, replaced_file, values_of
from dgate.cli.options import config_option, printable
from dgate.cli.selecting import (
    described,
    filter_options,
    limit_option,
    moment,
    selection_of,
    spelled,
)
from dgate.delivery.commands import QueueAccess
from dgate.delivery.records import Entry, Life, Selection, State, Try

_PRIORITIES = {0: "stat", 1: "normal", 2: "bulk"}


@click.group("ledger")
def ledger_group() -> None:
    """Find out what became of objects: received, queued, tried, accepted, committed.

    The ledger has a row for every object and destination that a rule named. Rows that are done or
    cancelled stay for LedgerDays (30), the others for ever. A running server is asked; without one
    the commands read the database themselves.

    Exit code 0: done, also when nothing was found; 1: failed, or `show` knows nothing of it.
    """


@ledger_group.command("find")
@config_option
@filter_options
@limit_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
def find_command(config: Path, limit: int, as_json: bool, **filters: Any) -> None:
    """Search the ledger; the newest come first.

    Every condition has to be met. Texts count letter by letter; a destination may be written as it
    is in a rule.
    """
    selection = spelled(selection_of(**filters), config)
    with open_ledger(config) as ledger:
        found = list(ledger.find(selection, limit + 1, newest_first=True))
        advice = "" if found else _advice(ledger, selection)
    more, found = len(found) > limit, found[:limit]
    if as_json:
        for life in found:
            click.echo(json.dumps(values_of(life)))
        return
    if not found:
        click.echo(f"Nothing found for {printable(described(selection))}.{advice}")
        return
    _print_table([life.entry for life in found])
    if more:
        click.echo("… and more (--limit).")
    click.echo("`dgate ledger show` with a number or an object tells all about it.")


@ledger_group.command("show")
@config_option
@click.argument("key", metavar="SOPUID|ID")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
def show_command(config: Path, key: str, as_json: bool) -> None:
    """Tell all that is known of an object (by its SOP Instance UID) or of one delivery (by its
    number): received when and from whom, queued by which rule, each try, accepted, committed, and
    what operators did.
    """
    if not key.strip():
        raise click.UsageError("Give a SOP Instance UID or the number of a delivery.")
    with open_ledger(config) as ledger:
        lives = ledger.lives(key)
    if as_json:
        for life in lives:
            click.echo(json.dumps(values_of(life)))
        return
    for line in _story(lives):
        click.echo(printable(line))


@ledger_group.command("export")
@config_option
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@filter_options
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    help="csv: one row a delivery; json: one JSON object a line. Default: by FILE's ending, else "
    "csv.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def export_command(config: Path, file: Path, form: str | None, force: bool, **filters: Any) -> None:
    """Write the ledger, or the part that is meant, to FILE (- for the output), oldest first.

    The file is complete or not there. It names patients: only its owner may read it.
    """
    selection = spelled(selection_of(**filters), config)
    write = FORMATS[form or format_of(file)]
    with open_ledger(config) as ledger, _output(file, force=force) as output:
        count = write(ledger.find(selection), output)
    if str(file) != "-":
        click.echo(f"{count} written to {file}.")


@contextmanager
def _output(file: Path, *, force: bool) -> Iterator[TextIO]:
    if str(file) == "-":
        yield sys.stdout
        return
    with replaced_file(file, force=force) as output:
        yield output


def _advice(ledger: QueueAccess, selection: Selection) -> str:
    """Say what may be wrong with a search that found nothing."""
    if selection.destination is not None:
        known = sorted({count.destination for count in ledger.counts(closed=True)})
        if selection.destination not in known:
            close = difflib.get_close_matches(selection.destination, known, 3, 0.5)
            names = ", ".join(map(printable, close or known[:5])) or "none"
            return f" There are deliveries to: {names}."
    if selection == Selection():
        return " No rule has forwarded anything yet."
    return (
        " Only what rules forward is in the ledger, and what was settled more than LedgerDays ago "
        "is forgotten. Upper and lower case count."
    )


def _print_table(entries: list[Entry]) -> None:
    header = ("ID", "STATE", "DESTINATION", "RECEIVED", "FROM", "ACCESSION", "OBJECT", "RESULT")
    rows = [
        tuple(
            printable(" ".join(text.split()))
            for text in (
                str(entry.id),
                entry.state,
                entry.destination,
                moment(entry.received or entry.created),
                entry.source or "-",
                entry.accession or "-",
                entry.sop_instance,
                _result(entry),
            )
        )
        for entry in entries
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = zip(row, (*widths[:-1], 0), strict=True)
        click.echo("  ".join(text.ljust(width) for text, width in cells).rstrip())


def _result(entry: Entry) -> str:
    """Return in few words how far a delivery has come."""
    if entry.state == State.CANCELLED:
        return entry.why or entry.last_error
    if entry.committed is not None:
        return f"committed {moment(entry.committed)}"
    if entry.state in (State.DONE, State.COMMITTING) and entry.accepted is not None:
        return f"accepted {moment(entry.accepted)}"
    return entry.last_error


def _story(lives: Iterable[Life]) -> Iterator[str]:
    """Yield the lines that tell what happened, an object at a time."""
    last = None
    for life in lives:
        entry = life.entry
        if entry.sop_instance != last:
            last = entry.sop_instance
            yield f"Object {entry.sop_instance or '(none)'}"
            yield f"  patient    {entry.patient_id or '-'}, accession {entry.accession or '-'}"
            yield f"  study      {entry.study}"
            yield f"  series     {entry.series}"
        yield f"{_kind(entry)} {entry.id} to {entry.destination}: {entry.state}"
        yield f"  received   {_receipt(entry)}"
        if entry.digest:
            yield f"  SHA-256    {entry.digest} of {entry.size} bytes, as received"
        priority = _PRIORITIES.get(entry.priority, str(entry.priority))
        yield f"  queued     {moment(entry.created)} by {entry.rule}, {priority}"
        if entry.origin:
            yield f"  first to   {entry.origin}"
        yield from _events(life)
        if entry.accepted is not None:
            yield f"  accepted   {moment(entry.accepted)}"
        if entry.committed is not None:
            yield f"  committed  {moment(entry.committed)}"
        elif entry.commitment:
            yield f"  asked for commitment by transaction {entry.commitment}"
        yield from _outlook(entry)


def _kind(entry: Entry) -> str:
    kinds = {"deliver": "Delivery", "export": "Export", "request": "Request", "mirror": "Mirror"}
    return kinds.get(entry.kind, entry.kind.capitalize())


def _receipt(entry: Entry) -> str:
    if not entry.source and entry.received is None:
        return "not known: it came before the ledger kept this"
    host = f" ({entry.source_host})" if entry.source_host else ""
    return f"{moment(entry.received)} from {entry.source or 'somebody'}{host}"


def _events(life: Life) -> Iterator[str]:
    """Yield tries and decisions in the order of time."""
    events = [(one.at, f"  try        {moment(one.at)} {_tried(one)}") for one in life.tries]
    for done in life.decisions:
        why = f": {done.why}" if done.why else ""
        where = f", until then to {done.destination}" if done.decision == "reroute" else ""
        who = done.who or "somebody"
        text = f"  operator   {moment(done.at)} {done.decision} by {who}{where}{why}"
        events.append((done.at, text))
    events.sort(key=lambda event: event[0])
    yield from (text for _, text in events)


def _tried(one: Try) -> str:
    words = {
        State.DONE: "delivered",
        State.QUEUED: "failed, to be tried again",
        State.STUCK: "failed for good",
        State.COMMITTING: "accepted",
    }
    text = words.get(State(one.outcome), one.outcome) if one.outcome in set(State) else one.outcome
    status = "" if one.status is None or one.status < 0 else f", status {one.status:04X}"
    seconds = "" if one.seconds is None else f", {one.seconds:.2f} s"
    error = f": {one.error}" if one.error else ""
    return f"to {one.destination}: {text}{status}{seconds}{error}"


def _outlook(entry: Entry) -> Iterator[str]:
    """Yield what has to happen next."""
    if entry.state == State.QUEUED:
        yield f"  next try   {moment(entry.due)}"
    elif entry.state == State.STUCK:
        yield f"  stuck      {entry.last_error}"
        yield f"  to decide  dgate queue retry {entry.id} | reroute NODE {entry.id} | cancel " + (
            f"--why TEXT {entry.id}"
        )
    elif entry.state == State.CANCELLED:
        yield f"  cancelled  {moment(entry.finished)}: {entry.why or entry.last_error or '-'}"
    elif entry.repeats:
        yield f"  may have arrived {entry.repeats + 1} times: see REPEATS in the manual"
