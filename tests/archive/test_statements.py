"""The SQL of index rows, and what an update makes of a stored row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.archive.debttable import DEBT_COLUMNS
from dgate.archive.levels import LEVELS, Level
from dgate.archive.statements import compile_statements, insert_debt, joined_modalities
from dgate.archive.writer import Transaction
from tests.archive.database_kit import Archive, image, open_archive, setup


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    found = open_archive(setup(tmp_path_factory.mktemp("statements")))
    found.store(image())
    yield found
    found.close()


@pytest.mark.parametrize("level", LEVELS)
def test_row_is_selected_inserted_updated_and_deleted_by_its_key(
    tmp_path: Path, level: Level
) -> None:
    archive = open_archive(setup(tmp_path))
    archive.store(image())
    statements = compile_statements(archive.database, archive.schema).rows[level]

    def work(transaction: Transaction) -> None:
        key = {
            Level.PATIENT: "P1",
            Level.STUDY: "1.2.3.1",
            Level.SERIES: "1.2.3.1.1",
            Level.IMAGE: "1.2.3.1.1.1",
        }[level]
        row = transaction.execute(statements.select, [key]).fetchone()
        assert row is not None
        assert row[0] == key
        values = list(row[:-1])
        extra = [7] if level is not Level.IMAGE else [7, "there.dcm", "MAG1"]
        assert transaction.execute(statements.update, [*values[1:], *extra, key]).rowcount == 1
        assert transaction.execute(statements.select, [key]).fetchone()[-1] == 7
        transaction.execute(statements.insert, ["9.9", *values[1:], *extra])
        assert transaction.execute(statements.select, ["9.9"]).fetchone()[0] == "9.9"
        assert transaction.execute(statements.delete, ["9.9"]).rowcount == 1

    archive.writer.transact(work)
    archive.close()


def test_image_and_its_parents_are_found(archive: Archive) -> None:
    statements = compile_statements(archive.database, archive.schema)

    [found] = archive.rows(statements.find_image, "1.2.3.1.1.1")
    assert found[:2] == ("1.2.3.1.1", "P1")
    assert found[-2:] == ("1.2.3.1.1.1.dcm", "MAG0")
    assert archive.rows(statements.find_parents, "1.2.3.1.1") == [("1.2.3.1", "P1")]
    assert archive.rows(statements.find_parents, "1.2") == []


def test_debt_has_a_parameter_for_each_column(archive: Archive) -> None:
    sql = insert_debt(archive.database)
    assert sql.count("?") == len(DEBT_COLUMNS)


VALUE = st.one_of(st.none(), st.text("ab", max_size=2))


@given(st.data())
@pytest.mark.parametrize("level", LEVELS)
def test_update_keeps_key_and_link_and_never_empties_a_column(
    archive: Archive, level: Level, data: st.DataObject
) -> None:
    statements = compile_statements(archive.database, archive.schema).rows[level]
    size = len(statements.columns)
    old = tuple(data.draw(st.lists(VALUE, min_size=size, max_size=size)))
    new = tuple(data.draw(st.lists(VALUE, min_size=size, max_size=size)))

    merged = statements.merged(old, new)

    fixed = {0} if level is Level.PATIENT else {0, size - 1}
    for place, (before, after, result) in enumerate(zip(old, new, merged, strict=True)):
        keeps = after is None or (place in fixed and bool(before))
        assert result == (before if keeps else after)


def test_only_what_plain_comparison_misses_goes_to_the_side_table(archive: Archive) -> None:
    statements = compile_statements(archive.database, archive.schema).rows[Level.PATIENT]
    blank = [None] * len(statements.columns)
    name = next(at for at, is_name in statements.folded.items() if is_name)

    def forms(text: str) -> set[str]:
        row = [*blank]
        row[0], row[name] = "P1", text
        return {form for _, _, form, entity in statements.search_rows(tuple(row)) if entity == "P1"}

    assert forms("MÜLLER^Ä")
    assert all(form.isascii() and form == form.lower() for form in forms("MÜLLER^Ä"))
    assert statements.search_rows(tuple(blank)) == []


@pytest.mark.parametrize(
    ("stored", "modality", "limit", "expected"),
    [
        (None, "CT", 64, "CT"),
        ("", "CT", 64, "CT"),
        ("CT", "CT", 64, "CT"),
        ("CT", "MR", 64, "MR\\CT"),
        ("MR\\CT", "XA", 7, "XA\\MR"),
        ("CT", "", 64, "CT"),
        (None, "", 64, None),
        ("CT", "OVERLONG", 4, "OVERLONG"),
    ],
)
def test_modalities_of_a_study(
    stored: str | None, modality: str, limit: int, expected: str | None
) -> None:
    assert joined_modalities(stored, modality, limit) == expected


@given(st.lists(st.sampled_from(["CT", "MR", "XA", "SR", "PT", "US", "NM"]), max_size=30))
def test_modalities_are_each_named_once_within_the_column(arriving: list[str]) -> None:
    joined: str | None = None
    for modality in arriving:
        joined = joined_modalities(joined, modality, 14)
    parts = joined.split("\\") if joined else []

    assert len(parts) == len(set(parts))
    assert len(joined or "") <= 14
    assert set(parts) <= set(arriving)
    assert not arriving or arriving[-1] in parts
