"""The register of replaced values: one replacement for a value and stage, for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dgate.archive import uidregister
from dgate.archive.uidregister import Register, hashed_uid
from dgate.dicom.uids import is_uid
from dgate.errors import DatabaseAway, RuleError
from tests.archive.database_kit import ALL_ENGINES, Archive, Place, open_archive, place_of

PREFIX = "1.2.826.0.1.3680043.2.135.1066"
NOW = 1_795_298_517
WAIT_S = 60


class StillClock:
    """A clock that stands, so that only the counter tells new values apart."""

    def now(self) -> float:
        return float(NOW)

    def monotonic(self) -> float:
        return 0.0


def register_of(archive: Archive, prefix: str = PREFIX) -> Register:
    return Register(archive.database, archive.writer, StillClock(), prefix)


@pytest.fixture(params=ALL_ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request, tmp_path)


@pytest.fixture
def archive(place: Place) -> Iterator[Archive]:
    opened = open_archive(place())
    yield opened
    opened.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Archive]:
    """Return an archive on SQLite."""
    opened = open_archive(Place(tmp_path)())
    yield opened
    opened.close()


def count(archive: Archive) -> int:
    return int(archive.value("SELECT count(*) FROM UIDMODS"))


# One mapping for a value and stage.


def test_a_value_keeps_its_replacement_across_restarts(archive: Archive) -> None:
    first = register_of(archive)

    new = first.forward("1.2.3", "trial", "SOPInstanceUID")

    assert new.startswith(f"{PREFIX}.7.{NOW}.")
    assert is_uid(new)
    assert first.forward("1.2.3", "trial") == new
    assert register_of(archive).forward("1.2.3", "trial") == new
    rows = archive.rows("SELECT MODTime, OldUID, MODType, NewUID, Stage, Annotation FROM UIDMODS")
    assert rows == [(NOW, "1.2.3", "SOPInstanceUID", new, "trial", None)]


def test_a_mapping_without_stage_is_kept_as_empty(archive: Archive) -> None:
    made = register_of(archive)

    new = made.forward("1.2.3")

    assert archive.value("SELECT Stage FROM UIDMODS") == "(empty)"
    assert made.forward("1.2.3", "(empty)") == new
    assert made.back(new) == "1.2.3"


def test_stages_with_the_same_letters_are_apart(archive: Archive) -> None:
    made = register_of(archive)

    first, second = made.forward("1.2.3", "trial12"), made.forward("1.2.3", "trial21")

    assert first != second
    assert made.back(second, "trial21") == "1.2.3"
    assert made.back(second, "trial12") is None


def test_letter_case_and_blanks_are_part_of_value_and_stage(archive: Archive) -> None:
    """A server's collation may take them for equal."""
    made = register_of(archive)
    values = ["smith", "Smith", "SMITH", "smith "]

    news = {made.forward(value, "st") for value in values}
    news |= {made.forward("smith", stage) for stage in ("ST", "st ")}

    assert len(news) == 6
    assert [
        register_of(archive).back(made.forward(value, "st"), "st") for value in values
    ] == values


def test_a_proposal_counts_only_the_first_time(archive: Archive) -> None:
    made = register_of(archive)

    assert made.forward("P1", "s", "PatientID", "TRIAL01") == "TRIAL01"
    assert made.forward("P1", "s", "PatientID", "TRIAL02") == "TRIAL01"
    assert made.forward("P1", "s") == "TRIAL01"
    assert made.back("TRIAL01", "s") == "P1"
    assert made.back("TRIAL01", "s", "PatientID") == "P1"
    assert made.back("TRIAL01", "s", "PatientName") is None


def test_a_proposal_that_stands_for_another_value_is_kept_and_reported(
    local: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    made = register_of(local)
    made.forward("P1", "s", "PatientID", "SAME")

    assert made.forward("P2", "s", "PatientID", "SAME") == "SAME"

    assert made.back("SAME", "s") == "P1"
    assert "same replacement in stage s" in caplog.text
    assert "P2" not in caplog.text


def test_a_long_kind_is_cut(archive: Archive) -> None:
    made = register_of(archive)
    kind = "SynchronizationFrameOfReferenceUID"

    new = made.forward("1.2.3", "", kind)

    assert archive.value("SELECT MODType FROM UIDMODS") == kind[:32]
    assert made.back(new, "", kind) == "1.2.3"


def test_an_empty_value_stays_empty_and_is_not_kept(local: Archive) -> None:
    made = register_of(local)

    assert made.forward("", "s", "", "X") == ""
    assert made.forward("", "#s") == ""
    assert made.forward_all({"": "SOPInstanceUID"}) == {"": ""}
    assert made.back("") is None
    assert count(local) == 0


def test_many_values_are_entered_in_one_commit(local: Archive) -> None:
    made = register_of(local)
    before = made.forward("1.1", "s", "StudyInstanceUID")

    news = made.forward_all({"1.1": "X", "1.2": "SeriesInstanceUID", "1.3": "SOPInstanceUID"}, "s")

    assert news["1.1"] == before
    assert len(set(news.values())) == 3
    kinds = dict(local.rows("SELECT OldUID, MODType FROM UIDMODS"))
    assert kinds["1.2"] == "SeriesInstanceUID"
    assert kinds["1.3"] == "SOPInstanceUID"


def test_many_values_are_entered_together_or_not_at_all(local: Archive) -> None:
    made = register_of(local)

    with pytest.raises(RuleError, match="more than 64 characters"):
        made.forward_all({"1.1": "A", "9" * 65: "B"}, "s")

    assert count(local) == 0


def test_a_new_value_never_stands_for_two(local: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    made = register_of(local)
    drawn = iter(["1.7.1", "1.7.1", "1.7.1", "1.7.2"])
    monkeypatch.setattr(made._uids, "new", lambda: next(drawn))

    assert made.forward("a") == "1.7.1"
    assert made.forward("b") == "1.7.2"


def test_running_out_of_new_values_is_an_error(
    local: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = register_of(local)
    monkeypatch.setattr(made._uids, "new", lambda: "1.7.1")
    made.forward("a")

    with pytest.raises(RuleError, match="no unused replacement"):
        made.forward("b")

    assert count(local) == 1


# Registers of the original.


def test_rows_of_the_original_count(local: Archive) -> None:
    rows = [
        (20, "1.2.3", "SOPInstanceUID", "9.2", "(empty)", ""),
        (10, "1.2.3", "SOPInstanceUID", "9.1", "(empty)", ""),
    ]
    local.writer.transact(
        lambda turn: turn.executemany("INSERT INTO UIDMODS VALUES (?, ?, ?, ?, ?, ?)", rows)
    )
    made = register_of(local)

    assert made.forward("1.2.3") == "9.1"
    assert made.back("9.2") == "1.2.3"
    assert count(local) == 2


def test_a_changed_table_is_seen_after_forgetting(local: Archive) -> None:
    made = register_of(local)
    made.forward("1.2.3", "", "", "9.1")
    local.writer.transact(lambda turn: turn.execute("UPDATE UIDMODS SET NewUID = '9.2'"))

    made.forget()

    assert made.forward("1.2.3") == "9.2"


def test_the_memory_is_bounded(local: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uidregister, "_REMEMBERED", 3)
    made = register_of(local)
    news = {str(number): made.forward(str(number)) for number in range(1, 8)}

    assert len(made._known) == 3
    assert {old: made.forward(old) for old in news} == news


# Hashed stages.


@pytest.mark.parametrize(
    ("prefix", "old", "stage", "new"),
    [
        ("99999.99999", "1.1", "#s1", "99999.99999.7.4257113246488711328535367611711163033859"),
        (
            PREFIX,
            "1.2.3",
            "#trial",
            "1.2.826.0.1.3680043.2.135.50736019582970447828546621366533936",
        ),
    ],
    ids=["short", "default"],
)
def test_hashed_stages_give_what_the_original_gives(
    prefix: str, old: str, stage: str, new: str
) -> None:
    assert hashed_uid(prefix, old, stage) == new


def test_hashed_stages_keep_nothing_and_have_no_way_back(local: Archive) -> None:
    made = register_of(local)

    new = made.forward("1.2.3", "#trial")

    assert made.forward_all({"1.2.3": "SOPInstanceUID"}, "#trial") == {"1.2.3": new}
    assert made.forward("1.2.3", "#trial", "", "X") == new
    assert made.back(new, "#trial") is None
    assert count(local) == 0


def test_hashed_stages_below_a_long_prefix_are_reported_once(
    local: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    made = register_of(local)

    made.forward("1.2.3", "#a")
    made.forward("1.2.4", "#a")

    assert caplog.text.count("leave that root") == 1


def test_hashed_stages_below_a_short_prefix_are_not_reported(
    local: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    register_of(local, "99999.99999").forward("1.1", "#s1")

    assert "leave that root" not in caplog.text


def test_a_component_with_a_leading_zero_is_reported() -> None:
    assert uidregister.is_doubtful("1.2", "1.2.7.0123")
    assert not uidregister.is_doubtful("1.2", "1.2.7.0.123")


# What is no value.


@pytest.mark.parametrize(
    ("old", "stage", "kind", "proposal", "what"),
    [
        ("x" * 65, "", "", "", "the value to replace has more than 64"),
        ("x" * 10_000, "", "", "", "the value to replace has more than 64"),
        ("x", "s" * 33, "", "", "the stage has more than 32"),
        ("x", "", "", "p" * 65, "the proposed value has more than 64"),
        ("x\0y", "", "", "", "contains a NUL"),
        ("x", "s\0", "", "", "contains a NUL"),
        ("\udcff", "", "", "", "is not text"),
        ("x", "#" + "s" * 64, "", "", "the stage has more than 64"),
    ],
)
def test_what_the_columns_cannot_hold_is_an_error(
    local: Archive, old: str, stage: str, kind: str, proposal: str, what: str
) -> None:
    with pytest.raises(RuleError, match=what):
        register_of(local).forward(old, stage, kind, proposal)
    assert count(local) == 0


HOSTILE = (
    "'; DROP TABLE UIDMODS; --",
    '"',
    "%s %%",
    "?",
    "a\nb",
    "../..",
    "$(x)`y`|&",
    "\\",
    "é漢",
)


def test_hostile_values_are_kept_as_they_are(archive: Archive) -> None:
    made = register_of(archive)

    news = {value: made.forward(value, value[:32]) for value in HOSTILE}
    proposed = [made.forward(f"old {value}", "", "", value) for value in HOSTILE]

    again = register_of(archive)
    assert {value: again.forward(value, value[:32]) for value in HOSTILE} == news
    assert [again.back(new, value[:32]) for value, new in news.items()] == list(HOSTILE)
    assert proposed == list(HOSTILE)
    assert [again.back(value) for value in HOSTILE] == [f"old {value}" for value in HOSTILE]


def test_a_database_that_is_away_is_an_error(local: Archive) -> None:
    made = register_of(local)
    made.forward("1.2.3")
    Path(local.database.location).unlink()

    with pytest.raises(DatabaseAway):
        made.forward("1.2.4")
    with pytest.raises(DatabaseAway):
        made.back("1.2.4")


# Many at once.


def test_first_uses_from_many_threads_and_gateways_give_one_mapping(
    archive: Archive, place: Place
) -> None:
    others = [open_archive(replace(place())) for _ in range(2)]
    gateways = [archive, *others]
    registers = [register_of(each) for each in gateways for _ in range(3)]
    values = [f"1.2.{number}" for number in range(25)]
    begin = threading.Barrier(len(registers))
    found: list[dict[str, str]] = []
    errors: list[BaseException] = []

    def work(made: Register, number: int) -> None:
        try:
            begin.wait(WAIT_S)
            # In different orders, and so with every chance to wait for each other.
            order = values[number:] + values[:number]
            news = {old: made.forward(old, "s") for old in order[: len(order) // 2]}
            news |= made.forward_all(dict.fromkeys(order, "k"), "s")
            found.append(news)
        except BaseException as exc:
            errors.append(exc)

    threads = [
        threading.Thread(target=work, args=(made, number)) for number, made in enumerate(registers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    for other in others:
        other.close()

    assert errors == []
    assert len(found) == len(registers)
    assert all(news == found[0] for news in found)
    assert len(set(found[0].values())) == len(values)
    assert count(archive) == len(values)


def test_the_table_of_turns_is_completed_at_start(
    place: Place,
) -> None:
    first = open_archive(place())
    if not first.database.embedded:
        first.writer.transact(
            lambda turn: turn.execute("DELETE FROM dgate_register_turns WHERE slot > 3")
        )
    first.close()
    again = open_archive(place())
    try:
        if again.database.embedded:
            names = [row[0] for row in again.rows("SELECT name FROM sqlite_master")]
            assert "dgate_register_turns" not in names
        else:
            assert again.value("SELECT count(*) FROM dgate_register_turns") == 64
    finally:
        again.close()
