"""`dgate worklist`: see, enter and remove what is scheduled, load HL7 orders."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from dgate.archive.database import Database
from dgate.archive.orders import Order, read_orders
from dgate.archive.scheduling import Ask, Values, change, entries, here, remove
from dgate.archive.schema import prepare
from dgate.archive.worklist import NO_WORKLIST, NO_WORKLIST_REMEDY, Columns, Named, Worklist
from dgate.archive.writer import Writer
from dgate.cli.access import client_of
from dgate.cli.options import config_option, printable
from dgate.clock import SystemClock
from dgate.config.settings import Configuration, load
from dgate.dicom.uids import UidGenerator
from dgate.errors import DgateError
from dgate.ops.lock import FolderLock

_SHOWN = ("AccessionNumber", "SchedPSID", "StartDate", "StartTime", "Modality", "PatientID")
_WIDEST = 24


@click.group("worklist")
def worklist_group() -> None:
    """See and fill the modality worklist.

    An entry is told from others by accession number and scheduled step (SchedPSID): entering it
    again corrects it. Columns are named as in dicom.sql, whole or cut, by DICOM keyword, or as
    ggggeeee. A running server is asked and told; without one the commands work on the database
    themselves.
    """


@worklist_group.command("list")
@config_option
@click.argument("keys", metavar="[COLUMN=VALUE]...", nargs=-1)
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--offset", default=0, type=click.IntRange(min=0), help="Leave out the first ones.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, all columns.")
def list_command(
    config: Path, keys: tuple[str, ...], limit: int, offset: int, as_json: bool
) -> None:
    """List entries that match: values as in a query, with * and ?, dates also as A-B."""
    with _worklist(config) as (ask, columns):
        found = entries(ask, dict(map(_pair, keys)), limit, offset)
    if as_json:
        for entry in found:
            click.echo(json.dumps(_named(entry, columns), ensure_ascii=False))
        return
    shown = [column for name in _SHOWN if (column := columns.named(name)) is not None]
    name = columns.named("PatientName")
    shown += [] if name is None else [name]
    rows = [[_plain(entry.get(column.name)) for column in shown] for entry in found]
    heads = [column.full_name for column in shown]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in [heads, *rows]:
        line = "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


@worklist_group.command("add")
@config_option
@click.argument("values", metavar="COLUMN=VALUE...", nargs=-1, required=True)
def add_command(config: Path, values: tuple[str, ...]) -> None:
    """Enter an entry, or correct it; an empty value removes what was there.

    *AN as accession number and *UI as UID have one made.
    """
    with _worklist(config) as (ask, columns):
        entry: dict[str, str] = {}
        for name, value in map(_pair, values):
            column = columns.named(name)
            if column is None:
                raise _unknown(name, columns)
            entry[column.name] = value
        for done in change(ask, [Order(entry)]):
            word = "entered" if done["new"] else "corrected"
            click.echo(f"{word} {done['accession']} {done['step']}".rstrip())
            _warn_of_cuts(done["accession"], done["truncated"])


@worklist_group.command("load")
@config_option
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
def load_command(config: Path, files: tuple[Path, ...]) -> None:
    """Load orders from HL7 or JSON files.

    Where in an HL7 message a column stands says the 7th field of its row in dicom.sql. An order
    that was cancelled (ORC-1 = CA, DC and the like) is removed. JSON is a list of objects with
    columns and values. A file that cannot be understood changes nothing, and the others are
    loaded; the exit code is 1 then.
    """
    failed = False
    with _worklist(config) as (ask, columns):
        for path in files:
            counts = {"entered": 0, "corrected": 0, "removed": 0}
            try:
                orders = read_orders(_content(path), columns, str(path))
                for done in change(ask, orders):
                    if "removed" in done:
                        counts["removed"] += done["removed"]
                        continue
                    counts["entered" if done["new"] else "corrected"] += 1
                    _warn_of_cuts(done["accession"], done["truncated"])
            except DgateError as exc:
                click.echo(f"dgate: {exc}", err=True)
                failed = True
            click.echo(f"{path}: " + ", ".join(f"{n} {word}" for word, n in counts.items()))
    if failed:
        sys.exit(1)


@worklist_group.command("delete")
@config_option
@click.argument("accession", required=False, default="")
@click.option("--step", help="Only this scheduled step (SchedPSID).")
@click.option("--patient", default="", metavar="ID", help="All entries of a patient.")
@click.option("--all", "everything", is_flag=True, help="Every entry.")
def delete_command(
    config: Path, accession: str, step: str | None, patient: str, everything: bool
) -> None:
    """Remove the entries of an accession number, of a patient, or all."""
    named = Named(accession, step, patient)
    if everything == bool(accession or patient):
        raise click.UsageError("give an accession number, --patient ID or --all")
    with _worklist(config) as (ask, _):
        click.echo(f"{remove(ask, named, everything=everything)} removed")


@contextmanager
def _worklist(config: Path) -> Iterator[tuple[Ask, Columns]]:
    """Give access to the worklist: the running server's, or the database opened here."""
    configuration = load(config)
    settings = configuration.settings
    columns = Columns(configuration.layout.worklist)
    if not columns:
        raise DgateError(NO_WORKLIST, remedy=NO_WORKLIST_REMEDY)
    lock = FolderLock(settings.base_folder)
    holder = lock.acquire()
    if holder is not None:
        yield client_of(holder, settings.base_folder).call, columns
        return
    try:
        with _opened(configuration) as worklist:
            yield here(worklist), columns
    finally:
        lock.release()


@contextmanager
def _opened(configuration: Configuration) -> Iterator[Worklist]:
    settings = configuration.settings
    database = Database(settings)
    database.open()
    writer = Writer(database, settings.durability)
    try:
        clock = SystemClock()
        schema = prepare(database, configuration.layout, settings)
        uids = UidGenerator(settings.uid_prefix, clock)
        table = configuration.layout.worklist
        yield Worklist(database, schema, table, writer, settings, clock, uids.new)
    finally:
        writer.close()
        database.close()


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise click.UsageError(f"{text!r} is not COLUMN=VALUE")
    return name.strip(), value


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise DgateError(f"the file cannot be read: {exc.strerror}", where=str(path)) from exc


def _named(entry: Values, columns: Columns) -> Values:
    return {column.full_name: entry.get(column.name) for column in columns.all}


def _plain(value: str | None) -> str:
    """Return a value fit for a terminal."""
    text = printable(value or "")
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _warn_of_cuts(accession: str, columns: list[str]) -> None:
    if columns:
        click.echo(f"{accession}: cut to its column: {', '.join(columns)}", err=True)


def _unknown(name: str, columns: Columns) -> DgateError:
    known = ", ".join(column.full_name for column in columns.all)
    return DgateError(f"the worklist has no column {name!r}", remedy=f"its columns: {known}")
