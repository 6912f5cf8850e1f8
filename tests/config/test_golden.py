"""Golden pairs: each file in tests/data/config and what its parser makes of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from dgate.config.ini import IniFile
from dgate.config.layout import Table, parse_layout
from dgate.config.nodes import NodeMap
from dgate.config.problem import Problem
from dgate.config.soplist import SopList

FOLDER = Path(__file__).parent.parent / "data" / "config"
INPUTS = sorted(path for path in FOLDER.iterdir() if path.suffix != ".expected")


def dump_ini(data: bytes, name: str) -> Iterable[str]:
    ini = IniFile.parse(data, name)
    for section in (ini.head, *ini.sections):
        yield f"[{section.name}] line {section.line}"
        for entry in section.entries:
            counts = "" if entry in section.counting() else " (ignored)"
            yield f"  {entry.line}:{entry.column} {entry.key!r} = {entry.value!r}{counts}"
    yield from problems(ini.problems)


def dump_map(data: bytes, name: str) -> Iterable[str]:
    nodes, found = NodeMap.parse(data, name)
    for node in nodes:
        columns = (node.ae_title, node.host, node.port, node.compression, *node.extra)
        yield f"{node.line}: {' | '.join(columns)}"
    yield from problems(found)


def dump_sql(data: bytes, name: str) -> Iterable[str]:
    layout, found = parse_layout(data, name)
    for title in ("patient", "study", "series", "image", "worklist"):
        table: Table | None = getattr(layout, title)
        link = table.link.name if table is not None and table.link is not None else "-"
        yield f"{title}: link {link}"
        for column in table.columns if table is not None else ():
            nested = "".join(f" in {tag:08X}" for tag in column.sequence)
            yield (
                f"  {column.tag:08X} {column.name} ({column.full_name}) {column.length} "
                f"{column.sql_type.value} {column.dicom_type.value} {column.hl7}{nested}"
            ).rstrip()
    yield from problems(found)


def dump_lst(data: bytes, name: str) -> Iterable[str]:
    sop_list, found = SopList.parse(data, name)
    for title in ("abstract", "transfer", "application", "remote_ae", "local_ae"):
        values: frozenset[str] | None = getattr(sop_list, title)
        yield f"{title}: {'accept all' if values is None else ' '.join(sorted(values))}"
    yield from problems(found)


def problems(found: Iterable[Problem]) -> Iterable[str]:
    for problem in found:
        yield f"{problem.severity.value} {problem}"


DUMPS = {".ini": dump_ini, ".map": dump_map, ".sql": dump_sql, ".lst": dump_lst}


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.name)
def test_file_is_read_as_expected(path: Path) -> None:
    dump = "\n".join(DUMPS[path.suffix](path.read_bytes(), path.name)) + "\n"
    expected = path.with_name(f"{path.name}.expected")
    if os.environ.get("DGATE_WRITE_GOLDEN"):
        expected.write_text(dump, encoding="utf-8")
    assert dump == expected.read_text(encoding="utf-8")
