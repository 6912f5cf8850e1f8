"""`dgate takeover`: what dgate would make of an installation of the original, changing nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from dgate.archive.maintenance.takeover import DeviceReport, SettingNote, Survey, survey
from dgate.cli.options import printable
from dgate.cli.progress import Ticker
from dgate.config.check import Count
from dgate.config.problem import Problem
from dgate.config.settings import load
from dgate.inspection import blocking, inspect
from dgate.ops.lock import FolderLock
from dgate.rules.hooks import Rules


@click.command(
    "takeover",
    epilog="Exit code: 0 the whole archive can be served, 1 something keeps the server from "
    "starting or a part of the archive from being served.",
)
@click.argument("folder", type=click.Path(exists=True, path_type=Path, resolve_path=True))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
def takeover_command(folder: Path, as_json: bool) -> None:
    """Report what dgate would make of a Conquest installation; nothing is changed or written.

    FOLDER holds its dicom.ini. The report names what works, what differs and what is ignored,
    counts the objects of each device, and finds files without index row and rows without file by
    their names. `dgate serve -c FOLDER` then serves it as it is.
    """
    configuration = load(folder)
    in_use = FolderLock(configuration.settings.base_folder).is_held()
    rules = Rules.build(configuration.settings)
    problems = inspect(configuration, rules)
    with Ticker("takeover") as ticker:

        def show(what: str, done: int, total: int | None) -> None:
            ticker.show(f"{what}: {done}", done, total)

        report = survey(configuration, in_use=in_use, progress=show)
    obstacles = [str(one) for one in blocking(problems, rules)]
    obstacles += report.obstacles
    if as_json:
        data = {**asdict(report), "obstacles": obstacles, "problems": list(_as_data(problems))}
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        for line in _lines(report, problems, obstacles):
            click.echo(printable(line))
    sys.exit(1 if obstacles else 0)


def _as_data(problems: Sequence[Problem]) -> Iterator[dict[str, object]]:
    for one in problems:
        yield {
            "severity": one.severity.value,
            "file": one.path,
            "line": one.line,
            "message": one.message,
            "advice": one.advice,
        }


def _lines(report: Survey, problems: Sequence[Problem], obstacles: list[str]) -> Iterator[str]:
    yield f"Installation   {report.configuration}"
    yield f"Server         {report.ae_title}, port {report.port}, {report.nodes} node(s)"
    count = Count.of(problems)
    yield (
        f"Files          {count.errors} error(s), {count.warnings} warning(s), {count.infos} "
        f"note(s): dgate check -c {Path(report.configuration).parent}"
    )
    yield from _index_lines(report)
    yield ""
    yield "Devices"
    for device in report.devices:
        yield from _device_lines(device)
    for name, rows in report.unknown_devices.items():
        yield f"  {name}: not configured, {rows} object(s) of the index are there"
    if report.queue_files:
        yield ""
        yield "Queues of the original: not read, so deliver them before the take-over"
        for queue in report.queue_files:
            yield f"  {queue.path}: {queue.bytes} bytes"
    settings = report.settings
    yield ""
    yield f"Settings       {len(settings.works)} work as they did"
    yield from _setting_lines("work differently", settings.differs)
    yield from _setting_lines("do nothing, and nothing is lost by it", settings.ignored)
    yield from _setting_lines("do nothing in this version", settings.missing)
    yield ""
    if obstacles:
        yield "In the way of serving all of it:"
        for one in obstacles:
            yield f"  {one}"
    else:
        yield "Nothing is in the way: dgate serve -c FOLDER serves all of it."


def _index_lines(report: Survey) -> Iterator[str]:
    index = report.index
    yield f"Index          {index.location}"
    if index.error:
        yield f"  cannot be read: {index.error}"
        return
    yield "  " + ", ".join(f"{count} {level}" for level, count in index.rows.items()) + " row(s)"
    latin = {level: text.latin_1 for level, text in index.texts.items() if text.latin_1}
    if latin:
        rows = ", ".join(f"{count} {level}" for level, count in latin.items())
        yield f"  text that is not UTF-8, read as Latin-1: {rows} row(s)"
    for note in index.notes:
        yield f"  {note}"
    for one in index.differences:
        if not one.exists:
            yield f"  table {one.table} does not exist and will be created"
        for column in one.missing:
            yield f"  table {one.table} has no column {column}"
        if one.extra:
            yield f"  table {one.table} has further columns, left alone: {', '.join(one.extra)}"
        for text in one.types:
            yield f"  table {one.table}: {text}"
    if index.missing_indices:
        names = ", ".join(index.missing_indices)
        yield f"  indices not there, to be made under names beginning with dgate_: {names}"
    if index.own_tables:
        yield "  dgate has served this database before"


def _device_lines(device: DeviceReport) -> Iterator[str]:
    yield f"  {device.name} {device.folder}: {device.objects} object(s) in the index"
    if device.problem:
        yield f"    {device.problem}"
        return
    yield f"    {device.files} file(s) that may be images"
    if device.without_row:
        examples = ", ".join(device.files_examples)
        yield f"    {device.without_row} of them without index row: {examples}"
    if device.without_file:
        examples = ", ".join(device.rows_examples)
        yield f"    {device.without_file} row(s) without file: {examples}"
    if device.other_case:
        yield (
            f"    {device.other_case} of these have a file whose name differs in letter case only: "
            "dgate regen finds them"
        )
    if device.doubled:
        yield f"    {device.doubled} row(s) name a file that another row names too"


def _setting_lines(title: str, notes: Sequence[SettingNote]) -> Iterator[str]:
    if notes:
        yield f"  {len(notes)} {title}:"
    for note in notes:
        yield f"    {note.name} = {note.value} (line {note.line}): {note.text}"
