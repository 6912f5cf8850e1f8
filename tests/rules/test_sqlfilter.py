"""SQL conditions of export filters, as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.rules.sqlfilter import check, is_no_filter
from dgate.rules.syntax import ParseError


@pytest.mark.parametrize(
    "condition",
    [
        "Rows = 512 and Columns = 512",
        "ImageNumber LIKE '1%'",
        "Modality = 'it''s; -- fine?'",
        "\"Modality\" = 'CT'",
        "DICOMImages.ImageNumber = 1 - 2 / 3",
        "(Rows = 1 or (Rows = 2)) and upper(Modality) = 'CT'",
    ],
)
def test_one_condition_is_accepted(condition: str) -> None:
    check(condition)


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
        ("Rows = ?", 8),
        ("Rows = \0", 8),
    ],
)
def test_what_is_not_one_condition_is_refused(condition: str, column: int) -> None:
    with pytest.raises(ParseError) as caught:
        check(condition)
    assert caught.value.column == column


@pytest.mark.parametrize(("condition", "none"), [("*", True), ("*x", True), ("Rows = 1", False)])
def test_star_means_no_filter(condition: str, none: bool) -> None:
    assert is_no_filter(condition) is none


@given(st.text(alphabet="'\"();-*/#?a 1\0"))
def test_accepted_text_stays_inside_parentheses(condition: str) -> None:
    try:
        check(condition)
    except ParseError:
        return
    check(f"({condition}) and ({condition})")
