"""Matching of query keys, compared with what PS3.4 C.2.2.2 says in a few lines of Python."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.archive.joins import Joins
from dgate.archive.levels import Level
from dgate.archive.matching import MOST_PARAMETERS, MOST_VALUES, NOTHING, Matcher, like_pattern
from tests.archive.database_kit import Archive, image, open_archive, setup

PATIENT_ID, PATIENT_NAME, STUDY_DATE, STUDY_TIME = 0x00100020, 0x00100010, 0x00080020, 0x00080030
STUDY, MODALITIES, DESCRIPTION, ROWS = 0x0020000D, 0x00080061, 0x00081030, 0x00280010

NAMES = [
    "SMITH^JOHN", "smith^john", "Smith^Jane", "SMITHERS^A", "MÜLLER^Ä", "muller^a", "O'NEIL^X",
    "A_B^C", "AxB^C", "50%^OFF", "500^OFF", "[ABC]^D", "A^D", "A!B^C", "ŁUKASZ^Ó", "X", "A*B",
]  # fmt: skip
DATES = ["20240131", "20240201", "20231231", "19991231", "20240229"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """Patients whose name is one of NAMES each, with studies on DATES in turn."""
    found = open_archive(setup(tmp_path_factory.mktemp("matching")))
    for number, name in enumerate(NAMES):
        found.store(
            image(
                SpecificCharacterSet="ISO_IR 192",
                PatientID=f"P{number}",
                PatientName=name,
                StudyDate=DATES[number % len(DATES)],
                StudyTime="101500.25" if number % 2 else "1530",
                StudyInstanceUID=f"1.2.{number}",
                SeriesInstanceUID=f"1.2.{number}.1",
                SOPInstanceUID=f"1.2.{number}.1.1",
                Rows=number,
            )
        )
    yield found
    found.close()


def matched(
    archive: Archive, level: Level, tag: int, value: str, *, exact: bool = False, case: bool = False
) -> set[str] | None:
    """Return the patient IDs of what a key matches; None when it restricts nothing."""
    joins = Joins(archive.database, archive.schema)
    target = joins.target(level, tag)
    assert target is not None
    condition = Matcher(
        archive.database, match_case=case, folding=archive.schema.folding
    ).condition(target, value, exact=exact)
    if condition is None:
        return None
    sql, parameters = condition
    source = joins.source(level, {Level.PATIENT}, patient_known=True)
    found = joins.target(Level.PATIENT, PATIENT_ID)
    assert found is not None
    rows = archive.rows(f"SELECT {found.expression} FROM {source} WHERE {sql}", *parameters)
    return {row[0] for row in rows}


def folded(text: str) -> str:
    """Take case and accents away."""
    text = text.replace("Ł", "L").replace("ł", "l")
    plain = unicodedata.normalize("NFD", text)
    return "".join(c for c in plain if not unicodedata.combining(c)).casefold()


def expected(pattern: str, *, exact: bool) -> set[str]:
    """Return the patients whose name a wildcard text means."""
    as_regex = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern)
    found = set()
    for number, name in enumerate(NAMES):
        if re.fullmatch(as_regex if exact else folded(as_regex), name if exact else folded(name)):
            found.add(f"P{number}")
    return found


PATTERNS = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(NAMES).flatmap(
        lambda name: st.tuples(st.integers(0, len(name)), st.sampled_from("*?")).map(
            lambda at: name[: at[0]] + at[1] + name[at[0] + 1 :]
        )
    ),
    st.text("AB!%_[]*?^'SmithÜüÄ50", max_size=8),
)


@given(PATTERNS, st.booleans())
def test_names_match_as_the_standard_says(archive: Archive, pattern: str, exact: bool) -> None:
    # A letter that folds into several, or to nothing, is the side table's own business.
    found = matched(archive, Level.PATIENT, PATIENT_NAME, pattern, exact=exact)

    if not pattern.strip("* "):
        assert found is None
    else:
        assert found == expected(pattern.rstrip(" "), exact=exact)


@pytest.mark.parametrize(
    "value", ["'; DROP TABLE DICOMPatients; --", "' OR '1'='1", "\\", "%", "!"]
)
@pytest.mark.parametrize("tag", [PATIENT_ID, PATIENT_NAME], ids=["id", "name"])
def test_text_of_a_peer_is_never_sql(archive: Archive, tag: int, value: str) -> None:
    assert matched(archive, Level.PATIENT, tag, value) == set()
    assert len(matched(archive, Level.PATIENT, PATIENT_ID, "P*") or ()) == len(NAMES)


@given(st.sampled_from(DATES), st.sampled_from(DATES))
def test_date_ranges_include_both_ends(archive: Archive, first: str, last: str) -> None:
    for low, high in ((first, last), (first, ""), ("", last)):
        found = matched(archive, Level.STUDY, STUDY_DATE, f"{low}-{high}")
        wanted = {
            f"P{number}"
            for number in range(len(NAMES))
            if (low or "0") <= DATES[number % len(DATES)] <= (high or "9")
        }
        assert found == wanted


@pytest.mark.parametrize(
    ("tag", "value", "is_like"),
    [
        (STUDY_DATE, "2024.01.31", "20240131"),
        (STUDY_DATE, "202401*", "20240131-20240131"),
        (STUDY_TIME, "10:15:00", "101500"),
        (STUDY_TIME, "-1015", "101500"),
        (STUDY_TIME, "1015-1015", "101500"),
    ],
)
def test_old_forms_and_precisions_mean_the_same(
    archive: Archive, tag: int, value: str, is_like: str
) -> None:
    found = matched(archive, Level.STUDY, tag, value)
    assert found == matched(archive, Level.STUDY, tag, is_like)
    assert found


def test_range_without_ends_matches_nothing(archive: Archive) -> None:
    assert matched(archive, Level.STUDY, STUDY_DATE, "-") == set()


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20))
def test_uid_list_means_each_of_them(archive: Archive, numbers: list[int]) -> None:
    value = "\\".join(f"1.2.{number}" for number in numbers)
    assert matched(archive, Level.STUDY, STUDY, value) == {
        f"P{number}" for number in numbers if number < len(NAMES)
    }


def test_long_uid_list_is_one_parameter(archive: Archive) -> None:
    value = "\\".join(f"1.2.{number}" for number in range(MOST_PARAMETERS + 1))
    assert matched(archive, Level.STUDY, STUDY, value) == {f"P{n}" for n in range(len(NAMES))}


@pytest.mark.parametrize(("value", "found"), [("7", {"P7"}), ("07", {"P7"}), ("seven", set())])
def test_numbers_are_compared_as_numbers(archive: Archive, value: str, found: set[str]) -> None:
    assert matched(archive, Level.IMAGE, ROWS, value) == found


@pytest.mark.parametrize(
    ("value", "found"),
    [("SMITH^JOHN", {"P0"}), ("smith^john", {"P1"}), ("SMITH*", {"P0", "P3"})],
)
def test_letter_case_counts_where_it_is_asked_for(
    archive: Archive, value: str, found: set[str]
) -> None:
    assert matched(archive, Level.PATIENT, PATIENT_NAME, value, case=True) == found


@pytest.mark.parametrize("value", ["", "*", "**", " ", "\0", "* *"])
def test_empty_key_restricts_nothing(archive: Archive, value: str) -> None:
    assert matched(archive, Level.PATIENT, PATIENT_NAME, value) is None


def test_pattern_beyond_any_text_matches_nothing_and_costs_nothing(archive: Archive) -> None:
    joins = Joins(archive.database, archive.schema)
    target = joins.target(Level.PATIENT, PATIENT_NAME)
    assert target is not None
    matcher = Matcher(archive.database, match_case=False, folding=archive.schema.folding)

    assert matcher.condition(target, "a?" * 5000) == NOTHING


def test_list_of_values_is_bounded(archive: Archive) -> None:
    joins = Joins(archive.database, archive.schema)
    target = joins.target(Level.STUDY, MODALITIES)
    if target is None:
        pytest.fail("the shipped layout collects the modalities of a study")
    matcher = Matcher(archive.database, match_case=False)
    condition = matcher.condition(target, "\\".join(f"M{number}" for number in range(1000)))

    assert condition is not None
    assert len(condition[1]) == 4 * MOST_VALUES


@pytest.mark.parametrize(
    ("value", "pattern", "prefix"),
    [
        ("A*", "A%", "A"),
        ("***", "%", ""),
        ("A?B", "A_B", "A"),
        ("50%_!*", "50!%!_!!%", "50%_!"),
        ("plain", "plain", "plain"),
    ],
)
def test_like_patterns(value: str, pattern: str, prefix: str) -> None:
    assert like_pattern(value) == (pattern, prefix)
