"""Server commands that list: rows of tables, series and images.

Run in the caller's thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dgate.console.arguments import demand, identifier, number, split
from dgate.console.formats import formatted
from dgate.console.server import Command, Tools
from dgate.errors import RuleError

_LOCAL = ("", "(local)", "local")
_RETURNED = ("", "cgi", "binary", "pre")
"""Instead of a file: the data come back as the response."""


def _delivered(tools: Tools, text: str, file: str) -> str:
    if file.lower() in _RETURNED:
        return text
    tools.files().write(file, text.encode("utf-8", "surrogateescape"))
    return "0"


def _listed(rows: Sequence[Sequence[str]], form: str) -> str:
    if form:
        return "".join(formatted(form, row) for row in rows)
    return "\n".join(" ".join(row) for row in rows)


def _query(tools: Tools, parts: Sequence[str], most: int | None, file: str, form: str) -> str:
    rows = tools.archive().query(demand(parts[0], "the table"), parts[1] or "*", parts[2])
    if rows is None:
        raise RuleError("the database refused the query: the log says why")
    return _delivered(tools, _listed(rows[:most], form), file)


def query(tools: Tools, arguments: str, upload: bytes) -> str:
    """`query:table|fields|where|format|file`."""
    parts = split(arguments, "|", 5)
    return _query(tools, parts, None, parts[4], parts[3])


def query_some(tools: Tools, arguments: str, upload: bytes) -> str:
    """`query2:table|fields|where|format|max|file`."""
    parts = split(arguments, "|", 6)
    most = number(parts[4], "a number of rows") if parts[4] else None
    return _query(tools, parts, most, parts[5], parts[3])


def list_series(tools: Tools, arguments: str, upload: bytes) -> str:
    """`serieslister:AE|patient|study|format|file`: Series Instance UIDs."""
    node, patient, study, form, file = split(arguments, "|", 5)
    asked = identifier(PatientID=patient, StudyInstanceUID=demand(study, "the study"))
    asked.set_text(0x0020000E, "")
    found = tools.peers().find(_node(tools, node), "SERIES", asked)
    if found is None:
        raise RuleError(f"{node or 'the server'} does not answer the query")
    uids = [[table.text(0x0020000E)] for table in found]
    return _delivered(tools, _listed(uids, form or "%s\\n"), file)


def list_images(tools: Tools, arguments: str, upload: bytes) -> str:
    """`imagelister:AE|patient|series|format|file`: SOP Instance UIDs, or names of own files."""
    node, patient, series, form, file = split(arguments, "|", 5)
    series = demand(series, "the series")
    if node.lower() in _LOCAL:
        names = [[path] for path in tools.archive().files_of(series)]
        return _delivered(tools, _listed(names, form) if form else _starred(names), file)
    asked = identifier(PatientID=patient, SeriesInstanceUID=series)
    asked.set_text(0x00080018, "")
    found = tools.peers().find(node, "IMAGE", asked)
    if found is None:
        raise RuleError(f"{node} does not answer the query")
    uids = [[table.text(0x00080018)] for table in found]
    return _delivered(tools, _listed(uids, form) if form else _starred(uids), file)


def _starred(rows: Sequence[Sequence[str]]) -> str:
    return "*".join(row[0] for row in rows)


def _node(tools: Tools, text: str) -> str:
    return tools.current().settings.ae_title if text.lower() in _LOCAL else text


COMMANDS: Mapping[str, Command] = {
    "query": query,
    "query2": query_some,
    "serieslister": list_series,
    "imagelister": list_images,
}
