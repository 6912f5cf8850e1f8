"""What is kept of a node's answers, however much it sends."""

from __future__ import annotations

import datetime
import tracemalloc
from collections.abc import Generator, Mapping
from typing import Any

import pytest

from dgate.archive.levels import Level
from dgate.delivery.inquiry import (
    ACCESSION,
    OBJECTS_OF_SERIES,
    OBJECTS_OF_STUDY,
    PATIENT_ID,
    SERIES,
    SOP_INSTANCE,
    STUDY,
    STUDY_DATE,
    STUDY_ROOT,
    STUDY_TIME,
    Answer,
    find_proposals,
)
from dgate.delivery.reconcile.node import Answers, NodeSide
from dgate.delivery.reconcile.parts import Part
from dgate.delivery.reconcile.windows import Window
from dgate.net import CommandField, connect
from tests.delivery.reconcile.odd import Odd
from tests.net.kit import FAST, serving

DAY = datetime.date(2026, 1, 5)
PART = Part(Window(DAY, DAY))


class Chatty(NodeSide):
    """A node whose answers come from a test."""

    def __init__(self, told: Generator[Answer, None, None]) -> None:
        super().__init__(lambda: pytest.fail("it is not to be connected to"))
        self.told = told

    def answers(
        self,
        level: Level,
        values: Mapping[int, str | None],
        result: Answers,
        *,
        may_refuse: bool = False,
    ) -> Generator[Answer, None, None]:
        for answer in self.told:
            result.total += 1
            yield answer


def study(number: int, **changes: Any) -> Answer:
    """Return an answer at study level."""
    return {
        STUDY: f"1.2.{number}",
        STUDY_DATE: "20260105",
        STUDY_TIME: "101500",
        PATIENT_ID: "P1",
        ACCESSION: "A1",
        OBJECTS_OF_STUDY: "3",
    }


def test_nothing_large_is_kept_of_answers() -> None:
    """Each has a megabyte in each text, and some of it is not asked for."""

    def tell() -> Generator[Answer, None, None]:
        for number in range(100):
            long = str(number) * 500_000
            yield study(number) | {PATIENT_ID: long, ACCESSION: long, STUDY_TIME: long, 0x9: long}

    tracemalloc.start()
    try:
        listing = Chatty(tell()).studies(PART, 5000)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(listing.found) == 100
    # One answer at a time, of a hundred.
    assert peak < 20_000_000
    assert kept < 500_000


def test_text_that_is_cut_equals_none_that_is_not() -> None:
    longest, longer = "P" * 64, "P" * 65
    answers = [
        study(1) | {PATIENT_ID: longest, ACCESSION: "A" * 16},
        study(2) | {PATIENT_ID: longer, ACCESSION: "A" * 17},
        study(3) | {PATIENT_ID: f" P1{' ' * 100}\0", ACCESSION: "A1 "},
        study(4) | {PATIENT_ID: f"P1{' ' * 100}X"},
    ]
    found = Chatty(each for each in answers).studies(PART, 10).found
    assert (found["1.2.1"].patient_id, found["1.2.1"].accession) == (longest, "A" * 16)
    assert found["1.2.2"].patient_id not in (longest, longer)
    assert len(found["1.2.2"].patient_id) == 64
    assert len(found["1.2.2"].accession) == 16
    assert found["1.2.2"].accession != "A" * 16
    assert (found["1.2.3"].patient_id, found["1.2.3"].accession) == ("P1", "A1")
    assert found["1.2.4"].patient_id != "P1"


def test_study_that_is_listed_twice_is_no_study_without_a_date() -> None:
    listing = Chatty(each for each in [study(1), study(1), study(2)]).studies(PART, 10)
    assert (set(listing.found), listing.has_undated) == ({"1.2.1", "1.2.2"}, False)
    undated = study(3) | {STUDY_DATE: " "}
    listing = Chatty(each for each in [study(1), undated]).studies(PART, 10)
    assert (set(listing.found), listing.has_undated) == ({"1.2.1"}, True)


def test_no_more_answers_are_taken_than_wanted() -> None:
    others = (study(number) | {STUDY_DATE: "20250101"} for number in range(100, 120))
    listing = Chatty(each for each in [*others, *map(study, range(5))]).studies(PART, 3)
    assert listing.answers.too_many
    assert (set(listing.found), listing.strays) == ({"1.2.0", "1.2.1", "1.2.2"}, 20)
    whole = Chatty(each for each in map(study, range(3))).studies(PART, 3)
    assert not whole.answers.is_cut


@pytest.mark.parametrize(("text", "count"), [("3", 3), ("0", None), ("", None), ("-1", None)])
def test_number_of_objects_that_is_none(text: str, count: int | None) -> None:
    told = [study(1) | {OBJECTS_OF_STUDY: text}]
    assert Chatty(each for each in told).studies(PART, 3).found["1.2.1"].objects == count
    series = [{STUDY: "1.2", SERIES: "1.2.3", OBJECTS_OF_SERIES: text}]
    assert Chatty(each for each in series).series("1.2", 3)[0] == {"1.2.3": count}


def test_objects_that_were_asked_for_by_name() -> None:
    def told(*uids: str) -> Generator[Answer, None, None]:
        yield from ({SOP_INSTANCE: uid} for uid in uids)

    wanted = ["1.1", "1.2"]
    for uids, expected in (
        ((), (set(), True)),
        (("1.2",), ({"1.2"}, True)),
        (("1.2", "1.1"), ({"1.1", "1.2"}, True)),
        # What was not asked for, or came twice, is no answer to the question.
        (("1.9", "1.2"), ({"1.2"}, False)),
        (("1.2", "1.2"), ({"1.2"}, False)),
    ):
        assert Chatty(told(*uids)).named_objects("1", "1.0", wanted) == expected


@pytest.mark.integration
def test_node_that_sends_long_texts_over_a_socket() -> None:
    odd = Odd()
    odd.add("1.2.1", "20260105", patient="P" * 60_000)
    handlers = {(CommandField.C_FIND_RQ, f"{STUDY_ROOT}.1"): odd.handle}
    with serving(handlers=handlers) as server:
        side = NodeSide(
            lambda: connect(
                "127.0.0.1", server.port, "US", "PEER", find_proposals()[:1], timeouts=FAST
            )
        )
        listing = side.studies(PART, 10)
        named = side.study("1.2.1")
        side.close()
    assert named is not None
    assert len(named.patient_id) == len(listing.found["1.2.1"].patient_id) == 64
