"""SQL conditions of export filters, as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.rules.sqlfilter import is_no_filter, prepare
from dgate.rules.syntax import ParseError


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("Rows = 512 and Columns = 512", "Rows = 512 and Columns = 512"),
        ("ImageNumber LIKE '1%'", "ImageNumbe LIKE '1%'"),
        ("ImageNumber='1'", "ImageNumbe='1'"),
        ("SeriesDescription = 'AVeryLongDescription'", "SeriesDesc = 'AVeryLongDescription'"),
        ("Modality = 'it''s; -- fine'", "Modality = 'it''s; -- fine'"),
        ("DICOMImages.ImageNumber = 1", "DICOMImages.ImageNumbe = 1"),
        ("coalesce_longer (ImageNumber) = 1", "coalesce_longer (ImageNumbe) = 1"),
        ('"ImageNumberLong" = 1', '"ImageNumberLong" = 1'),
        ("StudyDate < CURRENT_DATE", "StudyDate < CURRENT_DATE"),
        ("(Rows = 1 or (Rows = 2))", "(Rows = 1 or (Rows = 2))"),
        ("  Rows = 1  ", "Rows = 1"),
    ],
)
def test_column_names_are_cut_and_nothing_else(condition: str, expected: str) -> None:
    assert prepare(condition, 10) == expected


def test_names_stay_whole_without_a_limit() -> None:
    assert prepare("ImageNumber = 1", 0) == "ImageNumber = 1"


@pytest.mark.parametrize(
    ("condition", "column"),
    [
        ("Rows = 1; drop table x", 9),
        ("Rows = 1 -- or", 10),
        ("Rows = 1 /* x */", 10),
        ("Rows = 1 # x", 10),
        ("Rows = 'x", 8),
        ('Rows = "x', 8),
        ("Rows = 1) or (1 = 1", 9),
        ("(Rows = 1", 1),
        ("Rows = 'a\0b", 8),
        ("Rows = \0", 8),
    ],
)
def test_what_is_not_one_condition_is_refused(condition: str, column: int) -> None:
    with pytest.raises(ParseError) as caught:
        prepare(condition, 10)
    assert caught.value.column == column


@pytest.mark.parametrize(("condition", "none"), [("*", True), ("*x", True), ("Rows = 1", False)])
def test_star_means_no_filter(condition: str, none: bool) -> None:
    assert is_no_filter(condition) is none


@given(st.text(), st.integers(0, 12))
def test_any_text_is_prepared_or_refused(condition: str, truncate: int) -> None:
    try:
        prepared = prepare(condition, truncate)
    except ParseError:
        return
    assert prepare(prepared, truncate) == prepared
