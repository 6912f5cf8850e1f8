"""`dgate trace`: what the rules would do to objects; nothing is stored, sent or written."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from dgate.archive.importer import files_below
from dgate.archive.query import QueryKey
from dgate.cli.options import config_option, printable
from dgate.clock import SystemClock
from dgate.config.settings import load
from dgate.dicom.element import parse_tag, tag_of
from dgate.errors import DgateError
from dgate.ops.lock import FolderLock
from dgate.tracing.opening import Opened, open_trace
from dgate.tracing.report import ObjectTrace


@click.command("trace")
@config_option
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path, resolve_path=True))
@click.option(
    "--from-archive",
    "query",
    metavar="QUERY",
    help="Trace stored objects: KEY=VALUE pairs with commas between, wildcards as in C-FIND.",
)
@click.option("--calling", default="", metavar="AE", help="AE title of the sender (%u).")
@click.option("--called", default="", metavar="AE", help="AE title called (%c); else MyACRNema.")
@click.option("--limit", type=click.IntRange(min=1), help="Trace so many objects at most.")
@click.option("--network", is_flag=True, help="Let scripts query other nodes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.option("--short", is_flag=True, help="Leave out the rules that do not run.")
def trace_command(
    config: Path,
    paths: tuple[Path, ...],
    query: str | None,
    calling: str,
    called: str,
    limit: int | None,
    network: bool,
    as_json: bool,
    short: bool,
) -> None:
    """Show what the rules would do to FILES, or to objects of the archive.

    For each object: which import and export rules run and why the others do not, what each test
    compared, every element changed, before and after and by which statement, and every destination.
    Nothing is stored, sent or written; a running server is not disturbed.

    Example: dgate trace --calling CT1 scan.dcm

    Exit code 0: every object was traced; 1: one could not be read, or none was found.
    """
    if bool(paths) == bool(query):
        raise click.UsageError("name files, or objects of the archive by --from-archive")
    # What rules log stands in the report already.
    logging.getLogger("dgate").addHandler(logging.NullHandler())
    configuration = load(config)
    in_use = FolderLock(configuration.settings.base_folder).is_held()
    traced, failed = 0, 0
    with open_trace(configuration, SystemClock(), in_use=in_use, network=network) as opened:
        if opened.note and query:
            raise DgateError(f"the archive cannot be asked: {opened.note}")
        found = _stored(opened, query, calling, called) if query else None
        for trace in found or _files(opened, paths, calling, called):
            if isinstance(trace, str):
                failed += 1
                click.echo(trace, err=True)
                continue
            traced += 1
            _print(trace, as_json=as_json, short=short)
            if limit is not None and traced >= limit:
                break
    if not traced and not failed:
        click.echo("No object was found.", err=True)
    if failed or not traced:
        sys.exit(1)


def _print(trace: ObjectTrace, *, as_json: bool, short: bool) -> None:
    if as_json:
        click.echo(json.dumps(trace.as_json(), ensure_ascii=False))
        return
    for line in trace.lines(verbose=not short):
        click.echo(printable(line))


def _files(
    opened: Opened, paths: tuple[Path, ...], calling: str, called: str
) -> Iterator[ObjectTrace | str]:
    """Yield a trace for each file, or why there is none."""
    for path in files_below(paths):
        try:
            yield opened.tracer.trace(opened.file(path, calling, called))
        except DgateError as exc:
            yield f"{path}: {exc}"
        except OSError as exc:
            yield f"{path}: {exc.strerror}"


def _stored(opened: Opened, query: str, calling: str, called: str) -> Iterator[ObjectTrace | str]:
    """Yield a trace for each object that matches, or why there is none."""
    for ref in opened.select(_keys(query)):
        try:
            with opened.stored(ref, calling, called) as subject:
                yield opened.tracer.trace(subject)
        except DgateError as exc:
            yield f"{ref.sop_instance}: {exc}"


def _keys(query: str) -> list[QueryKey]:
    keys = []
    for pair in query.split(","):
        name, equals, value = pair.partition("=")
        name = name.strip()
        tag = tag_of(name) or parse_tag(name)
        if tag is None or not equals:
            raise click.UsageError(
                f"{pair.strip()[:80]!r} is not KEY=VALUE with a DICOM keyword, "
                "such as PatientID=123,StudyDate=20260101-"
            )
        keys.append(QueryKey(tag, value.strip()))
    return keys
