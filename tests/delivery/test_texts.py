"""Texts of peers and headers in the form that the ledger's columns hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.archive.records import DebtDraft, DebtKind
from dgate.delivery.texts import fitting, fitting_draft


@pytest.mark.parametrize(
    ("text", "length", "result"),
    [
        ("plain", 10, "plain"),
        ("much too long", 4, "much"),
        ("two\nlines\tand a tab", 100, "two lines and a tab"),
        ("nul\0inside", 100, "nulinside"),
        ("bell\x07", 100, "bell?"),
        ("lone \udcff", 100, "lone ?"),
        ("Größe", 100, "Größe"),
        ("", 5, ""),
    ],
)
def test_text_is_made_to_fit(text: str, length: int, result: str) -> None:
    assert fitting(text, length) == result


@given(st.text(), st.integers(min_value=0, max_value=50))
def test_any_text_fits_and_can_be_encoded(text: str, length: int) -> None:
    result = fitting(text, length)

    assert len(result) <= length
    assert result.isprintable()
    assert "\0" not in result.encode().decode()


def test_names_of_a_draft_are_cut_and_its_script_is_not() -> None:
    draft = DebtDraft(
        DebtKind.DELIVER,
        "D" * 5000,
        "R" * 5000,
        calling="C\n" * 300,
        called="A" * 300,
        compression="j" * 300,
        script='set 0010,0010 to "x"\n' * 500,
    )

    fitted = fitting_draft(draft)

    assert fitted.script == draft.script
    for text in (fitted.destination, fitted.rule, fitted.calling, fitted.called):
        assert 0 < len(text) < 5000
        assert text.isprintable()
