"""The ledger as files: CSV for spreadsheets, JSON lines for programs.

Header values are anybody's: no cell of the CSV may be taken for a formula or act on a terminal.
Not for what is searched (`dgate.cli.ledger`).
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from dgate.delivery.records import Life
from dgate.errors import DgateError
from dgate.printable import on_one_line
from dgate.rules.opaque import plain

COLUMNS = (
    "id", "state", "kind", "destination", "first_destination", "rule", "priority", "accession",
    "patient_id", "study", "series", "sop_class", "sop_instance", "source", "source_host",
    "received", "bytes", "sha256", "queued", "tries", "repeats", "last_status", "last_error",
    "accepted", "committed", "finished", "decision", "decided", "decided_by", "why",
)  # fmt: skip
"""Of the CSV. Times are ISO 8601 in local time; `tries` counts all of them; the last decision of an
operator is in the last four."""
_FORMULAS = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")
"""What makes a spreadsheet take a text for a formula, also in full width."""


def values_of(life: Life) -> dict[str, Any]:
    """Return a debt with its tries and decisions, for JSON; the script as it was written."""
    values = life.as_dict()
    entry = values.pop("entry")
    return {**entry, "script": plain(entry["script"]), **values}


def format_of(file: Path) -> str:
    """Return the format that the ending of a file's name asks for."""
    return "json" if file.suffix.lower() in (".json", ".jsonl", ".ndjson") else "csv"


def write_json(lives: Iterable[Life], output: TextIO) -> int:
    """Write one JSON object a line, ASCII only; return how many."""
    count = 0
    for life in lives:
        output.write(json.dumps(values_of(life)) + "\n")
        count += 1
    return count


def write_csv(lives: Iterable[Life], output: TextIO) -> int:
    """Write one row for each debt below a row of `COLUMNS`; return how many."""
    writer = csv.writer(output, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    count = 0
    for life in lives:
        writer.writerow(map(_cell, _row(life)))
        count += 1
    return count


FORMATS: dict[str, Callable[[Iterable[Life], TextIO], int]] = {
    "csv": write_csv,
    "json": write_json,
}


@contextmanager
def replaced_file(file: Path, *, force: bool) -> Iterator[TextIO]:
    """Give a file to write that takes its name when it is complete; after an error there is none.

    Only its owner may read it.

    Raises:
        DgateError: it exists and is not to be replaced, or it cannot be written.
    """
    if not force and os.path.lexists(file):
        raise DgateError("the file exists", where=str(file), remedy="--force replaces it")
    try:
        descriptor, temporary = tempfile.mkstemp(
            prefix=f".{file.name[:100]}.", dir=file.parent or None
        )
    except OSError as exc:
        raise _unwritable(file, exc) from exc
    try:
        # What a file name or a database held that is no text must not end the export.
        with os.fdopen(
            descriptor, "w", encoding="utf-8", errors="backslashreplace", newline=""
        ) as output:
            yield output
            output.flush()
            os.fsync(descriptor)
        Path(temporary).replace(file)
    except OSError as exc:
        raise _unwritable(file, exc) from exc
    finally:
        Path(temporary).unlink(missing_ok=True)


def _unwritable(file: Path, exc: OSError) -> DgateError:
    return DgateError(
        f"the file cannot be written: {exc.strerror or exc}",
        where=str(file),
        remedy="give the name of a file in a folder that you may write",
    )


def _row(life: Life) -> tuple[Any, ...]:
    entry = life.entry
    last = life.decisions[-1] if life.decisions else None
    status = entry.last_status
    return (
        entry.id,
        entry.state,
        entry.kind,
        entry.destination,
        entry.origin,
        entry.rule,
        entry.priority,
        entry.accession,
        entry.patient_id,
        entry.study,
        entry.series,
        entry.sop_class,
        entry.sop_instance,
        entry.source,
        entry.source_host,
        _time(entry.received),
        entry.size,
        entry.digest,
        _time(entry.created),
        len(life.tries),
        entry.repeats,
        None if status is None or status < 0 else f"{status:04X}",
        entry.last_error,
        _time(entry.accepted),
        _time(entry.committed),
        _time(entry.finished),
        last and last.decision,
        last and _time(last.at),
        last and last.who,
        entry.why,
    )


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


def _cell(value: Any) -> Any:
    """Return a value that no spreadsheet takes for a formula, without control characters."""
    if not isinstance(value, str):
        return value
    value = on_one_line(value)
    return f"'{value}" if value.lstrip()[:1] in _FORMULAS and value.strip() else value
