"""Comparing with nodes that answer in their own ways."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.levels import Level
from dgate.archive.maintenance.holdings import Holdings
from dgate.archive.schema import prepare
from dgate.delivery.inquiry import (
    ACCESSION,
    OBJECTS_OF_SERIES,
    OBJECTS_OF_STUDY,
    PATIENT_ID,
    SERIES,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY,
    STUDY_DATE,
    STUDY_ROOT,
    find_proposals,
)
from dgate.delivery.reconcile.archive import ArchiveSide
from dgate.delivery.reconcile.comparison import Comparison
from dgate.delivery.reconcile.gaps import Gaps
from dgate.delivery.reconcile.node import NodeSide
from dgate.delivery.reconcile.values import Options
from dgate.dicom.encode import QUERY_RETRIEVE_LEVEL, encode_data_set
from dgate.dicom.table import ElementTable
from dgate.errors import DgateError, PeerError
from dgate.net import Association, CommandField, Message, Status, connect
from tests.archive.maintenance.ward import Ward, open_ward
from tests.net.kit import CT, FAST, serving

pytestmark = pytest.mark.integration

TODAY = datetime.date(2026, 11, 22)


@dataclass
class Odd:
    """A node with studies, and its ways to answer about them."""

    studies: dict[str, tuple[str, dict[str, list[str]]]] = field(default_factory=dict)
    """By UID: the date, and the objects by series."""
    limit: int | None = None
    """It answers no more than so many matches..."""
    final: int = Status.SUCCESS
    """... and says so by this status."""
    counts: bool = True
    ranges: str = "match"
    """`ignore` or `nothing`: what a range of dates leads to."""
    pad: str = ""
    broken_series: frozenset[str] = frozenset()
    """Studies whose series cannot be asked for."""
    asked: list[dict[int, str]] = field(default_factory=list)

    def add(self, study: str, date: str, objects: int = 2) -> None:
        """Give it a study of one series."""
        series = f"{study}.1"
        self.studies[study] = date, {series: [f"{series}.{n + 1}" for n in range(objects)]}

    def handle(self, association: Association, message: Message) -> None:
        """Answer a C-FIND."""
        assert message.payload is not None
        syntax = message.context.transfer_syntax
        table = ElementTable(message.payload.view(), syntax)
        keys = {tag: table.text(tag) for tag in table.tags()}
        self.asked.append(keys)
        found = self.rows(keys)
        if keys.get(STUDY) in self.broken_series and keys[QUERY_RETRIEVE_LEVEL] == "SERIES":
            association.respond(message, Status.UNABLE_TO_PROCESS, comment="broken")
            return
        for row in found[: self.limit]:
            association.respond(message, Status.PENDING, data=[encode_data_set(row, syntax, "")])
        is_cut = self.limit is not None and len(found) > self.limit
        association.respond(message, self.final if is_cut else Status.SUCCESS)

    def rows(self, keys: dict[int, str]) -> list[dict[int, Any]]:
        """Return what matches."""
        level = keys[QUERY_RETRIEVE_LEVEL]
        if level == "STUDY":
            return [
                self._study(uid)
                for uid, (date, _) in self.studies.items()
                if keys.get(STUDY, "") in ("", uid) and self._is_of(date, keys.get(STUDY_DATE, ""))
            ]
        _, series = self.studies.get(keys[STUDY], ("", {}))
        if level == "SERIES":
            return [
                {
                    STUDY: keys[STUDY],
                    SERIES: uid + self.pad,
                    OBJECTS_OF_SERIES: str(len(objects)) if self.counts else None,
                }
                for uid, objects in series.items()
            ]
        wanted = keys.get(SOP_INSTANCE, "")
        return [
            {SERIES: keys[SERIES], SOP_INSTANCE: uid + self.pad, SOP_CLASS: CT}
            for uid in series.get(keys[SERIES], [])
            if wanted in ("", uid)
        ]

    def _study(self, uid: str) -> dict[int, Any]:
        date, series = self.studies[uid]
        count = sum(map(len, series.values()))
        return {
            STUDY: uid + self.pad,
            STUDY_DATE: date,
            PATIENT_ID: "THERE",
            ACCESSION: "A1",
            OBJECTS_OF_STUDY: str(count) if self.counts else None,
        }

    def _is_of(self, date: str, wanted: str) -> bool:
        if not wanted:
            return True
        if "-" not in wanted:
            return date == wanted
        if self.ranges != "match":
            return self.ranges == "ignore"
        begin, _, end = wanted.partition("-")
        return bool(date) and date >= begin and (not end or date <= end)


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = open_ward(tmp_path)
    yield ward
    ward.close()


def uid_of(number: int) -> str:
    """Return the UID of a study that both sides call the same."""
    return f"1.2.801.{number}"


def keep(ward: Ward, number: int, date: str, objects: int = 2) -> None:
    """Store a study."""
    for each in range(objects):
        ward.add(each + 1, study=number, StudyDate=date)


def compared(ward: Ward, odd: Odd, **options: Any) -> list[dict[str, Any]]:
    """Compare and return all that is said."""
    schema = prepare(ward.database, ward.configuration.layout, ward.settings)
    holdings = Holdings(ward.database, schema, ward.configuration.layout, ward.index)
    here = ArchiveSide(ward.database, schema, holdings)
    gaps = Gaps(ward.database, ward.writer, ward.index, here, ward.clock, lambda: None)
    handlers = {(CommandField.C_FIND_RQ, f"{STUDY_ROOT}.1"): odd.handle}
    with serving(handlers=handlers) as server:
        there = NodeSide(
            lambda: connect(
                "127.0.0.1", server.port, "US", "PEER", find_proposals()[:1], timeouts=FAST
            )
        )
        made = Comparison(here, there, Options("PEER", **options), gaps.mend, lambda: TODAY)
        return list(made.run())


def told(answers: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in answers if each["kind"] == kind]


def differing(answers: list[dict[str, Any]]) -> set[str]:
    return {each["study"] for each in told(answers, "difference")}


def summary(answers: list[dict[str, Any]]) -> dict[str, Any]:
    [found] = told(answers, "summary")
    return found


def both(ward: Ward, odd: Odd, count: int, first_day: str = "20260101") -> None:
    """Give both sides the same studies, one for each day."""
    day = datetime.datetime.strptime(first_day, "%Y%m%d")
    for number in range(1, count + 1):
        date = f"{day + datetime.timedelta(days=number):%Y%m%d}"
        keep(ward, number, date, 1)
        odd.add(uid_of(number), date, 1)


@pytest.mark.parametrize("counts", [True, False], ids=["counts", "no counts"])
def test_equal_sides(ward: Ward, counts: bool) -> None:
    odd = Odd(counts=counts)
    both(ward, odd, 3)
    answers = compared(ward, odd)
    assert (told(answers, "difference"), told(answers, "warning")) == ([], [])
    assert (summary(answers)["studies"], summary(answers)["equal"]) == (3, 3)
    levels = {keys[QUERY_RETRIEVE_LEVEL] for keys in odd.asked}
    assert levels == ({"STUDY"} if counts else {"STUDY", "SERIES", "IMAGE"})


def test_level_image_asks_for_every_object(ward: Ward) -> None:
    odd = Odd()
    both(ward, odd, 1)
    odd.studies[uid_of(1)] = "20260102", {f"{uid_of(1)}.1": ["1.2.9"]}
    assert differing(compared(ward, odd)) == set()
    assert differing(compared(ward, odd, level="series")) == set()
    [gap] = told(compared(ward, odd, level="image"), "difference")
    assert (gap["missing_there"], gap["missing_here"]) == (1, 1)


@pytest.mark.parametrize("pad", ["\0", " ", "  "])
def test_padding_of_uids_is_no_difference(ward: Ward, pad: str) -> None:
    odd = Odd(pad=pad, counts=False)
    both(ward, odd, 2)
    assert differing(compared(ward, odd)) == set()


def test_dates_with_dots(ward: Ward) -> None:
    odd = Odd(ranges="ignore")
    both(ward, odd, 2)
    odd.studies = {
        uid: (f"{date[:4]}.{date[4:6]}.{date[6:]}", series)
        for uid, (date, series) in odd.studies.items()
    }
    assert differing(compared(ward, odd)) == set()


@pytest.mark.parametrize("final", [Status.SUCCESS, 0xA700], ids=["in silence", "A700"])
@pytest.mark.parametrize("limit", [7, 50])
def test_node_that_limits_its_answers_is_asked_for_fewer_days(
    ward: Ward, limit: int, final: int
) -> None:
    """What only it has is found all the same, as no day has more than it answers."""
    odd = Odd(limit=limit, final=final)
    both(ward, odd, 60)
    for number in range(100, 110):
        odd.add(uid_of(number), f"202601{number - 90:02d}", 1)
    answers = compared(ward, odd)
    assert differing(answers) == {uid_of(number) for number in range(100, 110)}
    assert summary(answers)["equal"] == 60
    # All studies without a date cannot be asked for by day.
    texts = [each["text"] for each in told(answers, "warning")]
    assert all("at once" in text for text in texts)


def test_day_with_more_than_the_node_answers_is_told(ward: Ward) -> None:
    odd = Odd(limit=5, final=0xA700)
    for number in range(1, 9):
        odd.add(uid_of(number), "20260105", 1)
    keep(ward, 8, "20260105", 1)
    answers = compared(ward, odd, since="20260101", until="20260131")
    [warning] = told(answers, "warning")
    assert "lists only 5 studies of 20260105" in warning["text"]
    # What we have is asked for by name.
    assert uid_of(8) not in differing(answers)
    assert summary(answers)["warnings"] == 1


@pytest.mark.parametrize("ranges", ["ignore", "nothing"])
def test_node_that_knows_no_ranges(ward: Ward, ranges: str) -> None:
    odd = Odd(ranges=ranges)
    both(ward, odd, 3)
    odd.add(uid_of(50), "20260103", 1)
    answers = compared(ward, odd, since="20260101", until="20260110")
    assert summary(answers)["equal"] == 3
    assert differing(answers) == {uid_of(50)}
    texts = [each["text"] for each in told(answers, "warning")]
    assert [text for text in texts if "other dates" in text] == (
        [] if ranges == "nothing" else texts
    )


def test_study_with_another_date_there_is_compared_once(ward: Ward) -> None:
    odd = Odd()
    keep(ward, 1, "20260105")
    odd.add(uid_of(1), "20260601")
    answers = compared(ward, odd)
    assert differing(answers) == set()
    assert summary(answers)["studies"] == 1
    # Neither when only one of the dates is asked for.
    for since in ("20260101", "20260501"):
        assert differing(compared(ward, odd, since=since)) == set()


def test_studies_without_dates_on_either_side(ward: Ward) -> None:
    odd = Odd()
    keep(ward, 1, "")
    keep(ward, 2, "")
    odd.add(uid_of(2), "")
    odd.add(uid_of(3), "")
    odd.add(uid_of(4), "18500101")
    answers = compared(ward, odd)
    assert differing(answers) == {uid_of(1), uid_of(3), uid_of(4)}
    assert summary(answers)["studies"] == 4
    assert differing(compared(ward, odd, since="20260101")) == set()


def test_objects_that_we_have_elsewhere_are_not_missing(ward: Ward) -> None:
    odd = Odd()
    keep(ward, 1, "20260105", 1)
    odd.studies[uid_of(1)] = (
        "20260105",
        {f"{uid_of(1)}.1": [f"{uid_of(1)}.1.1", f"{uid_of(2)}.1.1"]},
    )
    keep(ward, 2, "20260105", 1)
    odd.add(uid_of(2), "20260105", 1)
    assert differing(compared(ward, odd)) == set()


def test_list_that_is_shorter_than_the_node_says_is_checked_by_name(ward: Ward) -> None:
    odd = Odd(limit=3)
    keep(ward, 1, "20260105", 6)
    odd.add(uid_of(1), "20260105", 5)
    answers = compared(ward, odd)
    [gap] = told(answers, "difference")
    [series] = gap["series"]
    assert series["missing_there"] == [f"{uid_of(1)}.1.6"]
    assert any("lists 3 of 5 objects" in each["text"] for each in told(answers, "warning"))


def test_study_that_cannot_be_asked_about_does_not_end_the_comparison(ward: Ward) -> None:
    odd = Odd(counts=False, broken_series=frozenset([uid_of(2)]))
    both(ward, odd, 3)
    answers = compared(ward, odd)
    assert (summary(answers)["equal"], summary(answers)["failed"]) == (2, 1)
    assert "broken" in str(told(answers, "warning"))


def test_node_that_refuses_everything_ends_it(ward: Ward) -> None:
    odd = Odd(counts=False)
    both(ward, odd, 5)
    odd.broken_series = frozenset(odd.studies)
    with pytest.raises(PeerError, match="broken"):
        compared(ward, odd)


def test_deliveries_are_owed_in_the_bulk_lane_but_once(ward: Ward) -> None:
    odd = Odd()
    keep(ward, 1, "20260105", 3)
    odd.add(uid_of(1), "20260105", 1)
    first = summary(compared(ward, odd, send=True))
    again = summary(compared(ward, odd, send=True))
    assert (first["owed"], first["waiting"], first["left"]) == (2, 0, 0)
    assert (again["owed"], again["waiting"], again["left"]) == (0, 2, 0)
    rows = ward.rows("SELECT sop_instance, destination, rule, priority, kind FROM dgate_debts")
    uids = [f"{uid_of(1)}.1.{number}" for number in (2, 3)]
    assert sorted(rows) == [(uid, "PEER", "reconcile", 2, "deliver") for uid in uids]
    ward.writer.transact(lambda tx: tx.execute("UPDATE dgate_debts SET state = 'stuck'"))
    stuck = summary(compared(ward, odd, send=True))
    assert (stuck["owed"], stuck["waiting"], stuck["left"]) == (0, 0, 1)


def test_single_study_that_nobody_has(ward: Ward) -> None:
    with pytest.raises(DgateError, match="neither side has a study"):
        compared(ward, Odd(), study="1.2.3")


def test_options_are_checked_where_they_arrive() -> None:
    assert Options.of({"node": "A", "level": "image"}).level == "image"
    for wrong in (
        {},
        {"node": "A", "what": 1},
        {"node": "A", "since": "yesterday"},
        {"node": "A", "level": "pixel"},
    ):
        with pytest.raises(DgateError):
            Options.of(wrong)


def test_connection_that_was_closed_between_questions_is_opened_anew(ward: Ward) -> None:
    odd = Odd()
    both(ward, odd, 1)
    handlers = {(CommandField.C_FIND_RQ, f"{STUDY_ROOT}.1"): odd.handle}
    opened = []
    with serving(handlers=handlers) as server:

        def open_association() -> Association:
            opened.append(
                connect("127.0.0.1", server.port, "US", "PEER", find_proposals()[:1], timeouts=FAST)
            )
            return opened[-1]

        there = NodeSide(open_association)
        assert there.study(uid_of(1)) is not None
        opened[0].abort("as a peer that does not wait")
        assert there.study(uid_of(1)) is not None
        there.cut()
        with pytest.raises(PeerError):
            there.ask(Level.STUDY, {STUDY: ""}, 1)
        there.close()
    assert len(opened) == 2
