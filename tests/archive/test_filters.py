"""Conditions of export filters as they go into a statement."""

from __future__ import annotations

import pytest

from dgate.archive.filters import FilterText
from dgate.errors import RuleError

COLUMNS = frozenset(("studydescr", "imagenumbe", "qrows", "studydate", "modality", "accesstime"))


def text_of(condition: str, *, compares_types: bool = False, limit: int = 10) -> str:
    def table_name(name: str) -> str | None:
        return '"DICOMStudies"' if name.lower() == "dicomstudies" else None

    return FilterText(limit, table_name, COLUMNS, compares_types=compares_types).of(condition)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("StudyDescription = 'StudyDescription'", "StudyDescr = 'StudyDescription'"),
        ("DICOMStudies . StudyDescription LIKE 'a%'", "\"DICOMStudies\".StudyDescr LIKE 'a%'"),
        ("StudyDate < CURRENT_TIMESTAMP", "StudyDate < CURRENT_TIMESTAMP"),
        ("length(ImageNumber) = 3", "length(ImageNumbe) = 3"),
        ('Modality = "CT; -- x"', 'Modality = "CT; -- x"'),
        ("QRows=512 or QRows IN (1,2)", "QRows=512 or QRows IN (1,2)"),
    ],
)
def test_names_become_those_of_the_database(condition: str, expected: str) -> None:
    assert text_of(condition) == expected


def test_names_stay_where_they_are_not_cut() -> None:
    assert text_of("StudyDescription = 'x'", limit=0) == "StudyDescription = 'x'"


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("QRows = 512 and 256<QRows", "QRows = '512' and '256'<QRows"),
        ("QRows >= 1.5", "QRows >= '1.5'"),
        ("QRows <> 512", "QRows <> '512'"),
        ("QRows NOT IN (1, 2)", "QRows NOT IN ('1', '2')"),
        ("QRows BETWEEN 1 AND 3 AND 1 = 1", "QRows BETWEEN '1' AND '3' AND 1 = 1"),
        ("DICOMStudies.Modality = 5", "\"DICOMStudies\".Modality = '5'"),
        ("length(Modality) = 2", "length(Modality) = 2"),
        ("substr(StudyDate, 1, 4) = '2024'", "substr(StudyDate, 1, 4) = '2024'"),
        ("1 = 1", "1 = 1"),
    ],
)
def test_numbers_beside_columns_become_text_where_types_count(
    condition: str, expected: str
) -> None:
    assert text_of(condition, compares_types=True) == expected


@pytest.mark.parametrize("condition", ["1=1; x", "a = ?", "(1=1", "nowhere.Modality = 'CT'"])
def test_what_is_no_condition_on_the_index_is_refused(condition: str) -> None:
    with pytest.raises(RuleError):
        text_of(condition)
