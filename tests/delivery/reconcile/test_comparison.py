"""Comparing with nodes that answer in their own ways."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.levels import Level
from dgate.archive.maintenance.holdings import Holdings
from dgate.archive.schema import prepare
from dgate.delivery.inquiry import STUDY, STUDY_ROOT, find_proposals
from dgate.delivery.reconcile import sheet, walk
from dgate.delivery.reconcile.archive import ArchiveSide
from dgate.delivery.reconcile.comparison import Comparison
from dgate.delivery.reconcile.gaps import Gaps
from dgate.delivery.reconcile.node import NodeSide
from dgate.delivery.reconcile.values import Options, is_equal
from dgate.dicom.encode import QUERY_RETRIEVE_LEVEL
from dgate.errors import DgateError, PeerError
from dgate.net import Association, CommandField, Message, Status, connect
from tests.archive.maintenance.ward import Ward, open_ward
from tests.delivery.reconcile.odd import Odd
from tests.net.kit import FAST, serving

pytestmark = pytest.mark.integration

TODAY = datetime.date(2026, 11, 22)


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


STRANGE = (
    "studies that only PEER has, of days that it does not list whole, of patients whose ID is "
    "empty or goes on with no letter, digit or usual sign"
)
UNTIMED = f"{STRANGE}, without a study time"


def parts_left(answers: list[dict[str, Any]]) -> list[str]:
    """Return what was not compared."""
    return [each["part"] for each in told(answers, "uncompared")]


def rests(answers: list[dict[str, Any]]) -> list[str]:
    """Return what cannot be asked for, without a sign that there is any."""
    return [each["part"] for each in told(answers, "residual")]


def compared(
    ward: Ward,
    odd: Odd,
    handle: Callable[[Association, Message], None] | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Compare and return all that is said."""
    schema = prepare(ward.database, ward.configuration.layout, ward.settings)
    holdings = Holdings(ward.database, schema, ward.configuration.layout, ward.index)
    here = ArchiveSide(ward.database, schema, holdings)
    gaps = Gaps(ward.database, ward.writer, ward.index, ward.clock, lambda: None)
    handlers = {(CommandField.C_FIND_RQ, f"{STUDY_ROOT}.1"): handle or odd.handle}
    with serving(handlers=handlers) as server:
        there = NodeSide(
            lambda: connect(
                "127.0.0.1", server.port, "US", "PEER", find_proposals()[:1], timeouts=FAST
            )
        )
        made = Comparison(here, there, Options("PEER", **options), gaps, lambda: TODAY)
        return list(made.run())


def told(answers: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in answers if each["kind"] == kind]


def lacking(answers: list[dict[str, Any]], name: str) -> set[str]:
    return {uid for each in told(answers, "objects") for uid in each.get(name, ())}


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


def test_level_object_asks_for_every_object(ward: Ward) -> None:
    odd = Odd()
    both(ward, odd, 1)
    odd.studies[uid_of(1)] = "20260102", {f"{uid_of(1)}.1": ["1.2.9"]}
    assert differing(compared(ward, odd)) == set()
    assert differing(compared(ward, odd, level="series")) == set()
    [gap] = told(compared(ward, odd, level="object"), "difference")
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
    # All studies without a date cannot be asked for by day; it has shown none.
    assert rests(answers) == ["studies without a date that only PEER has"]
    assert parts_left(answers) == []
    assert (summary(answers)["residual"], summary(answers)["uncompared"]) == (1, 0)


@pytest.mark.parametrize("where", ["both", "there"])
def test_studies_without_a_date_are_not_compared_where_the_node_has_shown_one(
    ward: Ward, where: str
) -> None:
    """In a list, or asked by name for one of ours."""
    odd = Odd(limit=7, final=0xA700)
    if where == "both":
        both(ward, odd, 30)
        keep(ward, 90, "", 1)
        odd.add(uid_of(90), "", 1)
    else:
        odd.add(uid_of(90), "", 1)
        both(ward, odd, 30)
    answers = compared(ward, odd)
    assert parts_left(answers) == ["studies without a date that only PEER has"]
    assert rests(answers) == []
    assert is_equal(summary(answers)) is False


NARROW = [
    pytest.param({}, id="in silence"),
    pytest.param({"final": 0xA700}, id="A700"),
    pytest.param({"final": 0xFE00}, id="FE00"),
    pytest.param({"final": 0xC001}, id="C001"),
    pytest.param({"final": 0xB000}, id="B000"),
    pytest.param({"final": 0xA700, "refuses": True}, id="refused"),
]
JANUARY = {"since": "20260101", "until": "20260131"}


@pytest.mark.parametrize("answers_so", NARROW)
@pytest.mark.parametrize("limit", [4, 7])
def test_day_with_more_than_the_node_answers_is_asked_for_by_time(
    ward: Ward, limit: int, answers_so: dict[str, Any]
) -> None:
    odd = Odd(limit=limit, **answers_so)
    for number in range(1, 31):
        time = f"{number // 3 + 8:02d}{number:02d}30.5"
        odd.add(uid_of(number), "20260105", 1, time=time, patient=f"H{number:03d}")
    for number in (3, 17, 30):
        keep(ward, number, "20260105", 1)
    keep(ward, 31, "20260105", 1)
    answers = compared(ward, odd, **JANUARY)
    assert (parts_left(answers), rests(answers)) == ([], [UNTIMED])
    assert summary(answers)["equal"] == 3
    assert differing(answers) == {uid_of(number) for number in range(1, 32)} - {
        uid_of(number) for number in (3, 17, 30)
    }
    only_here = {each["study"] for each in told(answers, "difference") if each["only"] == "here"}
    assert only_here == {uid_of(31)}
    assert summary(answers)["studies"] == 31


@pytest.mark.parametrize("answers_so", [NARROW[0], NARROW[1], NARROW[-1]])
def test_what_time_does_not_divide_is_asked_for_by_patient(
    ward: Ward, answers_so: dict[str, Any]
) -> None:
    """As where a migration gave all studies the same time, or none."""
    odd = Odd(limit=5, **answers_so)
    for number in range(1, 21):
        time = "120000" if number % 2 else ""
        odd.add(uid_of(number), "20260105", 1, time=time, patient=f"H{number % 10}{number:04d}")
    keep(ward, 4, "20260105", 1)
    answers = compared(ward, odd, **JANUARY)
    assert (parts_left(answers), rests(answers)) == ([STRANGE], [])
    assert differing(answers) == {uid_of(number) for number in range(1, 21) if number != 4}


@pytest.mark.parametrize("strange", [False, True], ids=["usual", "strange"])
def test_patients_are_left_out_where_the_node_has_shown_strange_ones(
    ward: Ward, strange: bool
) -> None:
    """All studies have one time, so that what is asked for by patient is a second."""
    odd = Odd(limit=5, final=0xA700)
    if strange:
        odd.add(uid_of(50), "20260120", 1, time="080000", patient="A_1")
    for number in range(1, 21):
        odd.add(uid_of(number), "20260105", 1, time="120000", patient=f"H{number % 10}{number}")
    answers = compared(ward, odd, **JANUARY)
    told_of = (parts_left(answers), rests(answers))
    assert told_of == (([STRANGE], []) if strange else ([], [STRANGE]))
    assert len(differing(answers)) == 20 + strange


def test_later_day_with_a_study_without_a_time_speaks_against_an_earlier_one(ward: Ward) -> None:
    odd = Odd(limit=5, final=0xA700)
    for number in range(1, 13):
        odd.add(uid_of(number), "20260105", 1, time=f"{number + 6:02d}1500", patient=f"H{number}")
    odd.add(uid_of(20), "20260130", 1, time="", patient="H20")
    answers = compared(ward, odd, **JANUARY)
    assert (parts_left(answers), rests(answers)) == ([UNTIMED], [])


def test_day_that_times_do_not_divide_is_not_compared_whole(ward: Ward) -> None:
    odd = Odd(limit=5, final=0xA700, heeds_time=False)
    for number in range(1, 13):
        odd.add(uid_of(number), "20260105", 1, time=f"{number + 6:02d}1500", patient=f"{number}")
    answers = compared(ward, odd, **JANUARY)
    assert (parts_left(answers), rests(answers)) == ([STRANGE], [])
    assert len(differing(answers)) == 12


@pytest.mark.parametrize("answers_so", NARROW)
def test_studies_without_a_time_are_looked_for_where_a_list_was_cut(
    ward: Ward, answers_so: dict[str, Any]
) -> None:
    """The list that was cut need not show any of them."""
    odd = Odd(limit=5, **answers_so)
    for number in range(1, 13):
        time = f"{number + 6:02d}1500" if number < 12 else ""
        odd.add(uid_of(number), "20260105", 1, time=time, patient=f"H{number:03d}")
    answers = compared(ward, odd, **JANUARY)
    assert differing(answers) == {uid_of(number) for number in range(1, 13)}
    # One has been found, so there may be more.
    assert (parts_left(answers), rests(answers)) == ([UNTIMED], [])


def test_studies_without_a_time_that_cannot_be_looked_for_are_told(ward: Ward) -> None:
    odd = Odd(limit=5, final=0xA700, heeds_patient=False)
    for number in range(1, 13):
        time = f"{number + 6:02d}1500" if number < 12 else ""
        odd.add(uid_of(number), "20260105", 1, time=time, patient=f"H{number:03d}")
    answers = compared(ward, odd, **JANUARY)
    assert differing(answers) == {uid_of(number) for number in range(1, 12)}
    assert parts_left(answers) == ["studies of 20260105 without a study time that only PEER has"]


@pytest.mark.parametrize(
    "heeds", [(False, False), (False, True), (True, False)], ids=["nothing", "patient", "time"]
)
def test_node_that_refuses_is_not_asked_without_end(ward: Ward, heeds: tuple[bool, bool]) -> None:
    odd = Odd(limit=5, final=0xA700, refuses=True, heeds_time=heeds[0], heeds_patient=heeds[1])
    for number in range(1, 41):
        odd.add(uid_of(number), f"202601{number % 2 + 5:02d}", 1, time="120000", patient="H")
        if number % 4 == 0:
            keep(ward, number, f"202601{number % 2 + 5:02d}", 1)
    answers = compared(ward, odd, **JANUARY)
    assert parts_left(answers) != []
    assert summary(answers)["equal"] == 10
    assert len(odd.asked) < 1500


def test_day_has_a_budget_of_questions(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "MOST_QUESTIONS", 60)
    odd = Odd(limit=3, final=0xA700)
    for number in range(1, 41):
        time = f"{number % 24:02d}{number:02d}00"
        odd.add(uid_of(number), "20260105", 1, time=time, patient=f"H{number:03d}")
    odd.add(uid_of(50), "20260107", 1)
    for number in (7, 40):
        keep(ward, number, "20260105", 1)
    answers = compared(ward, odd, **JANUARY)
    assert "studies of 20260105 that only PEER has" in parts_left(answers)
    assert "more than 60 questions" in str(told(answers, "uncompared"))
    assert summary(answers)["equal"] == 2
    assert uid_of(50) in differing(answers)
    assert len(odd.asked) < 150


def test_node_that_refuses_all_lists_but_answers_by_name(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Odd(limit=1, final=0xA700, refuses=True, ranges="ignore", ignores_days=True)
    odd.heeds_time = odd.heeds_patient = False
    both(ward, odd, 3)
    keep(ward, 4, "20260104", 1)
    answers = compared(ward, odd)
    assert summary(answers)["equal"] == 3
    assert differing(answers) == {uid_of(4)}
    assert parts_left(answers) != []
    assert len(odd.asked) < 1000


def test_first_day_that_is_refused_is_told_and_the_others_compared(ward: Ward) -> None:
    odd = Odd(limit=3, final=0xA700, refuses=True, heeds_time=False, heeds_patient=False)
    for number in range(1, 6):
        odd.add(uid_of(number), "20260101", 1)
    odd.add(uid_of(10), "20260102", 1)
    keep(ward, 1, "20260101", 1)
    answers = compared(ward, odd, since="20260101", until="20260102")
    assert parts_left(answers) == ["studies of 20260101 that only PEER has"]
    assert summary(answers)["equal"] == 1
    assert differing(answers) == {uid_of(10)}


@pytest.mark.parametrize("final", [Status.SUCCESS, 0xA700], ids=["in silence", "A700"])
@pytest.mark.parametrize("time", ["", "120000"])
def test_part_that_cannot_be_divided_is_told(ward: Ward, final: int, time: str) -> None:
    odd = Odd(limit=5, final=final, heeds_time=False, heeds_patient=False)
    for number in range(1, 9):
        odd.add(uid_of(number), "20260105", 1, time=time)
    keep(ward, 7, "20260105", 1)
    keep(ward, 8, "20260105", 1)
    keep(ward, 9, "20260105", 1)
    answers = compared(ward, odd, send=True, **JANUARY)
    [missed] = told(answers, "uncompared")
    assert missed["part"] == "studies of 20260105 that only PEER has"
    # What we have is asked for by name, and not sent where it is only not listed.
    assert differing(answers) == {uid_of(number) for number in (1, 2, 3, 4, 5, 9)}
    assert ward.rows("SELECT sop_instance FROM dgate_debts") == [(f"{uid_of(9)}.1.1",)]
    assert (summary(answers)["uncompared"], is_equal(summary(answers))) == (1, False)


def test_patients_whose_ids_cannot_be_asked_for_are_told(ward: Ward) -> None:
    odd = Odd(limit=5, final=0xA700)
    for number in range(1, 9):
        odd.add(uid_of(number), "20260105", 1, time="120000", patient="" if number == 2 else "A1")
    answers = compared(ward, odd, **JANUARY)
    parts = [each["part"] for each in told(answers, "uncompared")]
    assert any("ID is empty" in part for part in parts), parts


def test_node_that_takes_no_notice_of_dates_and_limits_its_answers(ward: Ward) -> None:
    odd = Odd(limit=50, ranges="ignore", ignores_days=True)
    for number in range(1, 61):
        odd.add(uid_of(number), f"202601{number % 28 + 1:02d}", 1)
    keep(ward, 60, "20260105", 1)
    answers = compared(ward, odd, send=True, **JANUARY)
    parts = [each["part"] for each in told(answers, "uncompared")]
    assert parts == ["studies that only PEER has"]
    assert uid_of(60) not in differing(answers)
    assert ward.rows("SELECT 1 FROM dgate_debts") == []


def test_node_that_refuses_every_list_ends_the_comparison(ward: Ward) -> None:
    odd = Odd(limit=0, final=0xA700, refuses=True)
    both(ward, odd, 3)
    with pytest.raises(PeerError, match="too many"):
        compared(ward, odd)


def test_node_that_does_not_answer_by_name_is_not_believed(ward: Ward) -> None:
    odd = Odd(limit=3, ignores_uids=True)
    for number in range(1, 9):
        odd.add(uid_of(number), f"2026010{number}", 1)
    keep(ward, 9, "20260108", 1)
    answers = compared(ward, odd, send=True)
    assert "does not tell whether it has study" in str(told(answers, "warning"))
    assert (summary(answers)["failed"], differing(answers) & {uid_of(9)}) == (1, set())
    assert ward.rows("SELECT 1 FROM dgate_debts") == []


def test_node_that_answers_nothing_by_name_ends_the_comparison(ward: Ward) -> None:
    odd = Odd(ignores_uids=True)
    odd.add(uid_of(1), "20260101", 1)
    for number in range(2, 7):
        keep(ward, number, "20260108", 1)
    with pytest.raises(PeerError, match="does not tell whether it has study"):
        compared(ward, odd, send=True)
    assert ward.rows("SELECT 1 FROM dgate_debts") == []
    assert len(odd.asked) < 40


def test_own_studies_of_a_large_day_are_asked_for_where_dates_are_ignored(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "MOST_STUDIES", 5)
    odd = Odd(limit=4, ranges="ignore", ignores_days=True)
    for number in range(1, 9):
        keep(ward, number, "20260105", 1)
        if number != 8:
            odd.add(uid_of(number), "20260105" if number > 5 else "20250101", 1)
    answers = compared(ward, odd, **JANUARY)
    assert (summary(answers)["studies"], summary(answers)["equal"]) == (8, 7)
    assert differing(answers) == {uid_of(8)}
    assert parts_left(answers) == ["studies that only PEER has"]


@pytest.mark.parametrize("since", ["", "20260101"])
def test_studies_without_a_date_are_counted_once(ward: Ward, since: str) -> None:
    odd = Odd(ranges="ignore", ignores_days=True)
    both(ward, odd, 3)
    odd.add(uid_of(9), "", 1)
    answers = compared(ward, odd, since=since)
    assert differing(answers) == (set() if since else {uid_of(9)})
    assert summary(answers)["studies"] == (3 if since else 4)
    assert parts_left(answers) == (["studies without a date that only PEER has"] if since else [])


def test_uids_with_odd_characters_are_none(ward: Ward) -> None:
    odd = Odd()
    odd.add("1.2.\x1b[2J", "20260105", 1)
    odd.add("1.2.*", "20260105", 1)
    assert differing(compared(ward, odd)) == set()


@pytest.mark.parametrize("dates", [JANUARY, {}], ids=["days", "all"])
def test_what_is_delivered_between_question_and_comparison_is_no_gap(
    ward: Ward, dates: dict[str, str]
) -> None:
    """All of the second study arrives after the node has said that it does not have it, while it is
    asked for another list."""
    odd = Odd()
    keep(ward, 1, "20260105", 1)
    keep(ward, 2, "20260105", 2)
    for number in range(3, 7):
        odd.add(uid_of(number), "20260105", 1)
    odd.add(uid_of(1), "20260105", 1)
    for number in (1, 2):
        ward.owe(f"{uid_of(2)}.1.{number}", "PEER")
    answer = odd.handle
    arrived: list[float] = []

    def handle(association: Association, message: Message) -> None:
        was_asked = any(keys.get(STUDY) == uid_of(2) for keys in odd.asked)
        answer(association, message)
        ward.clock.seconds += 1
        if was_asked and not arrived:
            arrived.append(ward.clock.seconds)
            values = ("done", ward.clock.seconds)
            statement = "UPDATE dgate_debts SET state = ?, finished = ?"
            ward.writer.transact(lambda tx: tx.execute(statement, values))
            ward.clock.seconds += 1

    answers = compared(ward, odd, handle=handle, send=True, **dates)
    assert arrived
    assert (summary(answers)["missing_there"], summary(answers)["owed"]) == (0, 0)
    assert ward.rows("SELECT 1 FROM dgate_debts WHERE rule = 'reconcile'") == []


def test_lists_are_proven_by_few_questions(ward: Ward) -> None:
    odd = Odd()
    both(ward, odd, 120)
    answers = compared(ward, odd)
    assert summary(answers)["equal"] == 120
    assert len(odd.asked) < 60


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
    parts = [each["part"] for each in told(answers, "uncompared")]
    assert parts == (
        ["studies that only PEER has of days on which this archive has none"]
        if ranges == "nothing"
        else []
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


@pytest.mark.parametrize("knows_lists", [True, False], ids=["lists of UIDs", "no lists"])
def test_list_that_is_shorter_than_the_node_says_is_checked_by_name(
    ward: Ward, knows_lists: bool
) -> None:
    odd = Odd(limit=3)
    keep(ward, 1, "20260105", 6)
    odd.add(uid_of(1), "20260105", 5)
    odd.knows_lists = knows_lists
    answers = compared(ward, odd, send=True)
    [gap] = told(answers, "difference")
    [series] = gap["series"]
    assert (series["missing_there"], series["there"]) == (1, 5)
    assert lacking(answers, "missing_there") == {f"{uid_of(1)}.1.6"}
    # It says that it has five, and all of these have been found.
    assert told(answers, "uncompared") == []
    rows = ward.rows("SELECT sop_instance FROM dgate_debts")
    assert rows == [(f"{uid_of(1)}.1.6",)]


def test_node_that_counts_studies_but_no_series(ward: Ward) -> None:
    odd = Odd(series_counts=False)
    keep(ward, 1, "20260105", 3)
    odd.add(uid_of(1), "20260105", 4)
    answers = compared(ward, odd)
    assert told(answers, "uncompared") == []
    assert lacking(answers, "missing_here") == {f"{uid_of(1)}.1.4"}


@pytest.mark.parametrize("count", [0, 1], ids=["none", "too few"])
def test_number_that_is_too_small_proves_no_list(ward: Ward, count: int) -> None:
    """What is behind the end of the list is asked for by name, and not sent."""
    odd = Odd(limit=3, count=count)
    keep(ward, 1, "20260105", 8)
    odd.add(uid_of(1), "20260105", 7)
    answers = compared(ward, odd, send=True)
    assert lacking(answers, "missing_there") == {f"{uid_of(1)}.1.8"}
    assert ward.rows("SELECT sop_instance FROM dgate_debts") == [(f"{uid_of(1)}.1.8",)]
    # There may be more behind the end that we do not have.
    [missed] = parts_left(answers)
    assert missed.startswith(f"objects of series {uid_of(1)}.1")


@pytest.mark.parametrize("count", [0, 1], ids=["none", "too few"])
def test_number_that_is_too_small_is_none(ward: Ward, count: int) -> None:
    odd = Odd(count=count)
    keep(ward, 1, "20260105", 4)
    odd.add(uid_of(1), "20260105", 4)
    answers = compared(ward, odd)
    assert summary(answers)["equal"] == 1
    assert parts_left(answers) == []


def test_number_of_a_study_that_is_too_small_proves_no_list_of_series(ward: Ward) -> None:
    odd = Odd(limit=2, count=1, final=0xA700)
    keep(ward, 1, "20260105", 4)
    series = {f"{uid_of(1)}.{number}": [f"{uid_of(1)}.1.{number}"] for number in (1, 2, 3)}
    odd.studies[uid_of(1)] = "20260105", series
    answers = compared(ward, odd)
    assert f"series of study {uid_of(1)} that only PEER has" in parts_left(answers)


def test_study_that_the_node_says_is_empty_is_no_equal_one(ward: Ward) -> None:
    odd = Odd(count=0)
    odd.add(uid_of(1), "20260105", 4)
    [gap] = told(compared(ward, odd), "difference")
    assert (gap["missing_here"], gap["only"]) == (4, "there")


def test_study_that_is_listed_twice_is_compared_once(ward: Ward) -> None:
    odd = Odd(repeats=2)
    both(ward, odd, 3)
    answers = compared(ward, odd, since="20260101")
    assert (summary(answers)["studies"], summary(answers)["equal"]) == (3, 3)
    assert (parts_left(answers), rests(answers)) == ([], [])


def test_objects_that_only_the_node_may_have_are_told_of(ward: Ward) -> None:
    odd = Odd(limit=3)
    keep(ward, 1, "20260105", 2)
    odd.add(uid_of(1), "20260105", 6)
    answers = compared(ward, odd)
    [missed] = told(answers, "uncompared")
    assert missed["part"].startswith(f"objects of series {uid_of(1)}.1")
    assert "lists 3 of 6 objects" in missed["text"]


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
    answers = compared(ward, odd, send=True)
    stuck = summary(answers)
    assert (stuck["owed"], stuck["waiting"], stuck["stuck"], stuck["left"]) == (0, 0, 2, 1)
    assert lacking(answers, "stuck") == set(uids)


@pytest.mark.parametrize("send", [True, False], ids=["sending", "looking"])
@pytest.mark.parametrize(
    ("state", "counted"),
    [
        ("queued", "waiting"),
        ("leased", "waiting"),
        ("committing", "uncommitted"),
        ("stuck", "stuck"),
        ("held", "stuck"),
        ("done", "missing_there"),
        ("cancelled", "missing_there"),
    ],
)
def test_what_is_owed_is_no_gap(ward: Ward, state: str, counted: str, send: bool) -> None:
    odd = Odd()
    keep(ward, 1, "20260105", 3)
    odd.add(uid_of(1), "20260105", 1)
    for number in (2, 3):
        ward.owe(f"{uid_of(1)}.1.{number}", "peer")
    # Ended long before the node was asked.
    values = (state, ward.clock.now() - 60)
    statement = "UPDATE dgate_debts SET state = ?, finished = ?"
    ward.writer.transact(lambda tx: tx.execute(statement, values))
    answers = compared(ward, odd, send=send)
    counts = {
        name: summary(answers)[name]
        for name in ("waiting", "uncommitted", "stuck", "missing_there")
    }
    assert counts == {name: 2 * (name == counted) for name in counts}
    uids = {f"{uid_of(1)}.1.{number}" for number in (2, 3)}
    assert lacking(answers, counted) == uids
    is_pending = counted in ("waiting", "uncommitted")
    assert summary(answers)["pending"] == is_pending
    assert differing(answers) == (set() if is_pending else {uid_of(1)})
    assert summary(answers)["left"] == (counted == "stuck" or (state in ENDED and not send))
    entered = ward.rows("SELECT COUNT(*) FROM dgate_debts WHERE rule = 'reconcile'")
    assert entered == [(2 * (state in ENDED and send),)]


ENDED = ("done", "cancelled")


def test_what_was_delivered_since_the_node_was_asked_is_no_gap(ward: Ward) -> None:
    odd = Odd()
    keep(ward, 1, "20260105", 2)
    odd.add(uid_of(1), "20260105", 1)
    ward.owe(f"{uid_of(1)}.1.2", "PEER")
    statement = "UPDATE dgate_debts SET state = 'done', finished = ?"
    ward.writer.transact(lambda tx: tx.execute(statement, (ward.clock.now() + 1,)))
    answers = compared(ward, odd, send=True)
    assert (summary(answers)["waiting"], summary(answers)["owed"]) == (1, 0)


def test_large_study_is_told_and_owed_by_pages(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "PAGE", 3)
    odd = Odd(counts=False)
    keep(ward, 1, "20260105", 10)
    odd.add(uid_of(1), "20260105", 2)
    answers = compared(ward, odd, send=True)
    pages = [each["missing_there"] for each in told(answers, "objects")]
    assert [len(page) for page in pages] == [3, 3, 2]
    assert summary(answers)["owed"] == 8
    assert len(ward.rows("SELECT id FROM dgate_debts")) == 8


def test_single_study_that_nobody_has(ward: Ward) -> None:
    with pytest.raises(DgateError, match="neither side has a study"):
        compared(ward, Odd(), study="1.2.3")


def test_options_are_checked_where_they_arrive() -> None:
    assert Options.of({"node": "A", "level": "series"}).level == "series"
    assert Options.of({"node": "A", "level": "image"}).level == "object"
    assert Options.of({"node": "A", "since": "20260101", "until": "20260101"}).study == ""
    for wrong in (
        {},
        {"node": "A", "what": 1},
        {"node": "A", "since": "yesterday"},
        {"node": "A", "until": "20260230"},
        {"node": "A", "since": "20260102", "until": "20260101"},
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
