"""Server commands that hand out objects and rows in bulk, or fetch them: export, tables, grab.

Run in the caller's thread.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from dgate.archive.naming import clean
from dgate.console.arguments import demand, identifier, number, objects_of, split
from dgate.console.server import Command, Tools
from dgate.dicom.table import ElementTable
from dgate.errors import RuleError
from dgate.rules.effects import Outcome
from dgate.rules.objectfiles import part10
from dgate.rules.run import log

_PATIENT_ID, _STUDY, _SERIES, _SOP_INSTANCE = 0x00100020, 0x0020000D, 0x0020000E, 0x00080018
_AT_ONCE: Final = 50
"""So many objects are named in one C-MOVE."""


def export(tools: Tools, arguments: str, upload: bytes) -> str:
    """`export:patient,study,series,sop,file,script`: a zip file of the objects.

    The script, import statements, runs on a copy of each; what it destroys or rejects is left out.
    The file is there when all are in it, or not at all.
    """
    patient, study, series, sop, file, script = split(arguments, ",", 6)
    query = objects_of(patient, study, series, sop)
    tools.files().save(demand(file, "the file"), _zipped(tools, query, script))
    return "0"


class _Pieces(io.RawIOBase):
    """What a zip file is written into: keeps it until somebody takes it away."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        return len(piece)

    def take(self) -> list[bytes]:
        """Return what was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return pieces


def _zipped(tools: Tools, query: ElementTable, script: str) -> Iterator[bytes]:
    """Yield a zip file, an object at a time."""
    pieces = _Pieces()
    count = 0
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_DEFLATED) as archive:
        for table in tools.archive().named(query):
            if script and not _processed(tools, table, script):
                continue
            with archive.open(_name(table), "w", force_zip64=table.size >> 30 > 0) as entry:
                for part in part10(table):
                    entry.write(part)
            count += 1
            yield from pieces.take()
    if not count:
        raise RuleError("there is no object to export")
    yield from pieces.take()


def _processed(tools: Tools, table: ElementTable, script: str) -> bool:
    verdict = tools.current().hooks.run_statements(script, table)
    if verdict.forwards:
        raise RuleError(
            "the script of an export cannot forward",
            remedy="write the forward into an export converter",
        )
    return verdict.outcome is Outcome.KEEP


def _name(table: ElementTable) -> str:
    parts = (table.text(tag).strip() for tag in (_PATIENT_ID, _STUDY, _SERIES, _SOP_INSTANCE))
    return "/".join(map(clean, parts)) + ".dcm"


def write_table(tools: Tools, arguments: str, upload: bytes) -> str:
    """`todbf:folder|table|query|sort|max`: rows of a table, as a CSV file TABLE.csv."""
    folder, table, where, sort, most = split(arguments, "|", 5)
    demand(folder, "the folder")
    if not demand(table, "the table").isidentifier():
        raise RuleError(f"{table[:40]!r} is not the name of a table")
    limit = number(most, "a number of rows") if most else None
    rows = tools.archive().query(table, "*", where, sort)
    if rows is None:
        raise RuleError("the database refused the query: the log says why")
    tools.files().write(f"{folder}/{table}.csv", _as_csv(rows[:limit]))
    return "0"


def _as_csv(rows: Sequence[Sequence[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode("utf-8", "surrogateescape")


def grab(tools: Tools, arguments: str, upload: bytes) -> str:
    """`grabimagesfromserver:AE,date`: fetch by C-MOVE what that server has of a date, or range of
    dates, and this one does not.

    Returns `0`, or `1` and what failed last.
    """
    node, date = split(arguments, ",", 2)
    demand(node, "the AE title")
    asked = identifier(StudyDate=demand(date, "the date"))
    asked.set_text(_STUDY, "")
    studies = tools.peers().find(node, "STUDY", asked)
    if studies is None:
        raise RuleError(f"{node} does not answer the query")
    answer = "0"
    for study in dict.fromkeys(each.text(_STUDY).strip() for each in studies):
        if study:
            answer = _grab_study(tools, node, study) or answer
    return answer


def _grab_study(tools: Tools, node: str, study: str) -> str:
    """Fetch what is missing of a study; return what went wrong."""
    asked = identifier(StudyInstanceUID=study)
    for tag in (_SERIES, _SOP_INSTANCE):
        asked.set_text(tag, "")
    there = tools.peers().find(node, "IMAGE", asked)
    if there is None:
        return f"1 {node} does not say what study {study} consists of"
    missing: dict[str, list[str]] = {}
    for each in there:
        uid = each.text(_SOP_INSTANCE).strip()
        if uid and tools.current().finder.instance(uid) is None:
            missing.setdefault(each.text(_SERIES).strip(), []).append(uid)
    own = tools.current().settings.ae_title
    problem = ""
    for series, uids in missing.items():
        for start in range(0, len(uids), _AT_ONCE):
            query = identifier(
                QueryRetrieveLevel="IMAGE",
                StudyInstanceUID=study,
                SeriesInstanceUID=series,
                SOPInstanceUID="\\".join(uids[start : start + _AT_ONCE]),
            )
            problem = tools.peers().move(node, own, query) or problem
    if problem:
        log.warning("What is missing of study %s could not be fetched: %s", study, problem)
    return f"1 Move failed: {problem}" if problem else ""


COMMANDS: Mapping[str, Command] = {
    "export": export,
    "todbf": write_table,
    "grabimagesfromserver": grab,
}
