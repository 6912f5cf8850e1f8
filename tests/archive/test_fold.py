"""Folding: what a search without case and accents finds."""

from __future__ import annotations

import pytest

from dgate.archive.fold import FOLDED_LENGTH, fold, fold_key, search_forms


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("SMITH^John", "smith^john"),
        ("MÜLLER", "muller"),
        ("Mu\u0308ller", "muller"),
        ("Straße", "strasse"),
        ("ΑΛΈΞΗΣ", "αλεξησ"),
        ("\uff21\uff22\uff23", "abc"),
        ("ガ", "ガ"),
        ("カ", "カ"),
        ("한글", "한글"),
    ],
)
def test_text_is_folded(text: str, folded: str) -> None:
    assert fold(text) == folded


@pytest.mark.parametrize(
    ("value", "is_name", "forms"),
    [
        (None, True, ()),
        ("", True, ()),
        ("SMITH^JOHN", True, ()),
        ("SMITH^JOHN^^", True, ("smith^john",)),
        ("SMITH^", False, ()),
        ("Müller", False, ("muller",)),
        ("A=B", False, ()),
        ("A=B", True, ("a", "a=b", "b")),
        ("Wang=王", True, ("wang", "wang=王", "王")),
    ],
)
def test_only_what_plain_comparison_misses_has_search_forms(
    value: str | None, is_name: bool, forms: tuple[str, ...]
) -> None:
    assert search_forms(value, is_name) == forms


def test_long_forms_are_cut_to_their_column() -> None:
    assert [len(form) for form in search_forms("é" * 400, False)] == [FOLDED_LENGTH]


def test_empty_components_of_a_queried_name_mean_nothing() -> None:
    assert fold_key("Smith^John^^^=", True) == "smith^john"
    assert fold_key("Smith^", False) == "smith^"
