"""Parts of a day: which studies are in them, and that together they leave none out."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.delivery.inquiry import PATIENT_ID, STUDY_DATE, STUDY_TIME
from dgate.delivery.reconcile.parts import (
    DAY_S,
    LONGEST_PREFIX,
    Part,
    is_in_one,
    is_usual,
    seconds_of,
)
from dgate.delivery.reconcile.windows import Window

DATE = datetime.date(2026, 1, 5)
DAY = Part(Window(DATE, DATE))
TEXT = "20260105"


@pytest.mark.parametrize(
    ("text", "second"),
    [
        ("", None),
        ("000000", 0),
        ("235959.999999", DAY_S - 1),
        ("10", 36000),
        ("1030", 37800),
        ("10:30:15", 37815),
        ("103060", 37859),
        ("240000", None),
        ("106000", None),
        ("1", None),
        ("abc", None),
        ("\u0661\u0660", None),
        (" 103015 ", 37815),
    ],
)
def test_seconds_of_a_time(text: str, second: int | None) -> None:
    assert seconds_of(text) == second


def test_day_asks_for_no_time() -> None:
    assert DAY.keys == {STUDY_DATE: TEXT}
    assert DAY.holds(TEXT, "", "")
    assert not DAY.holds("20260106", "", "")


def test_keys_of_a_part() -> None:
    morning, evening = DAY.by_time()
    assert morning.keys == {STUDY_DATE: TEXT, STUDY_TIME: "000000-115959.999999"}
    assert evening.keys == {STUDY_DATE: TEXT, STUDY_TIME: "120000-235959.999999"}
    assert replace(evening, prefix="AB").keys[PATIENT_ID] == "AB*"
    assert replace(evening, prefix="AB", exact=True).keys[PATIENT_ID] == "AB"
    # What has no time cannot be asked for by time.
    assert DAY.without_time().keys == {STUDY_DATE: TEXT}


def leaves(part: Part, second: int) -> list[Part]:
    """Return the smallest parts of time that hold a second, and their number is to be one."""
    while halves := part.by_time():
        holding = [half for half in halves if half.begin_s <= second < half.end_s]
        assert len(holding) == 1
        part = holding[0]
    return [part]


@given(st.integers(0, DAY_S - 1))
def test_halves_of_a_day_leave_no_second_out(second: int) -> None:
    [leaf] = leaves(DAY, second)
    assert (leaf.begin_s, leaf.end_s) == (second, second + 1)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20))
def test_every_time_is_in_one_part(time: str) -> None:
    parts = [*DAY.by_time(), DAY.without_time()]
    assert [part.holds(TEXT, time, "") for part in parts].count(True) == 1


@given(st.text(st.sampled_from("0123456789ABCxyz-. "), min_size=1, max_size=LONGEST_PREFIX - 2))
def test_every_usual_patient_is_in_one_part(patient_id: str) -> None:
    patient_id = f"A{patient_id}"
    part = DAY
    while parts := part.by_patient():
        holding = [each for each in parts if each.holds(TEXT, "", patient_id)]
        assert len(holding) == 1
        part = holding[0]
        assert is_in_one(parts, patient_id)
    assert part.exact
    assert part.prefix == patient_id


@pytest.mark.parametrize("patient_id", ["", "*", "\\", "\u00c4", "?1", "_1", "%"])
def test_patients_that_cannot_be_asked_for(patient_id: str) -> None:
    assert not is_in_one(DAY.by_patient(), patient_id)


@given(st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=8))
def test_usual_patients_are_in_a_part_however_far_it_is_divided(patient_id: str) -> None:
    patient_id = patient_id.strip()
    part, is_in = DAY, True
    while not part.exact and is_in:
        holding = [each for each in part.by_patient() if each.holds(TEXT, "", patient_id)]
        is_in = bool(holding)
        part = holding[0] if holding else part
    assert is_in == is_usual(patient_id)


def test_answers_that_are_none() -> None:
    morning = DAY.by_time()[0]
    assert morning.is_stray("20260106", "", "")
    assert morning.is_stray(TEXT, "130000", "")
    assert not morning.is_stray(TEXT, "", "")
    assert not morning.is_stray("", "1000", "")
    of_patient = replace(DAY, prefix="ab")
    assert of_patient.is_stray(TEXT, "", "XY")
    # Letter case may not count there.
    assert not of_patient.is_stray(TEXT, "", "ABC")
    assert not of_patient.holds(TEXT, "", "ABC")


def test_what_cannot_be_divided() -> None:
    second = replace(DAY, begin_s=5, end_s=6)
    assert second.by_time() == []
    assert DAY.without_time().by_time() == []
    assert Part(Window(DATE, None)).by_time() == []
    assert DAY.by_days() == []
    assert replace(DAY, prefix="A" * LONGEST_PREFIX).by_patient() == []


def test_words() -> None:
    assert DAY.in_words() == "studies of 20260105"
    assert DAY.by_time()[1].in_words() == "studies of 20260105 from 120000 to 235959"
    assert DAY.without_time().in_words() == "studies of 20260105 without a study time"
    part = replace(DAY, prefix="A", exact=True)
    assert part.in_words() == "studies of 20260105 of patients whose ID is 'A'"
