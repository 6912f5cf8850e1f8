"""The ledger as files: nothing in them may act on who opens them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.cli.ledger_files import COLUMNS, format_of, replaced_file, write_csv, write_json
from dgate.delivery.records import ENTRY_COLUMNS, Entry, Life

TEXTS = {
    name
    for name, field in Entry.__dataclass_fields__.items()
    if field.type in ("str", "str | None")
}


def life(text: str) -> Life:
    """Return a debt with this text wherever a peer or header could have put it."""
    numbers = dict.fromkeys(ENTRY_COLUMNS, 1)
    return Life(Entry(**(numbers | dict.fromkeys(TEXTS, text))))  # type: ignore[arg-type]


def cells(text: str) -> list[str]:
    output = io.StringIO(newline="")
    assert write_csv([life(text)], output) == 1
    header, row = csv.reader(io.StringIO(output.getvalue(), newline=""))
    assert tuple(header) == COLUMNS
    return [cell for name, cell in zip(header, row, strict=True) if name == "patient_id"]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("P1", "P1"),
        ("MÜLLER^KÄTHE", "MÜLLER^KÄTHE"),
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "' =1"),
        ("  =1", "'  =1"),
        ("\uff1d1", "'\uff1d1"),
        ('a,"b"', 'a,"b"'),
        ("two\r\nlines", "two  lines"),
        ("\x1b[31mred\0", "?[31mred?"),
        ("-", "'-"),
        ("", ""),
    ],
)
def test_cell_is_text_and_nothing_else(text: str, cell: str) -> None:
    assert cells(text) == [cell]


@given(st.text())
def test_no_text_makes_a_formula_or_a_row_of_its_own(text: str) -> None:
    [cell] = cells(text)

    assert cell.isprintable()
    assert cell.lstrip()[:1] not in tuple("=+-@")


@given(st.text())
def test_json_is_one_line_of_ascii(text: str) -> None:
    output = io.StringIO()

    write_json([life(text)], output)

    assert output.getvalue().count("\n") == 1
    assert output.getvalue().isascii()
    assert json.loads(output.getvalue())["patient_id"] == text


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.csv", "csv"), ("a.JSONL", "json"), ("a.json", "json"), ("a", "csv"), ("-", "csv")],
)
def test_ending_of_a_name_says_the_format(name: str, form: str) -> None:
    assert format_of(Path(name)) == form


def test_failed_export_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "ledger.csv"
    file.write_text("old")

    def lives() -> Iterator[Life]:
        yield life("half")
        raise KeyError

    with pytest.raises(KeyError), replaced_file(file, force=True) as output:
        write_csv(lives(), output)

    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
