"""The same SOP instance with other content: replaced, put aside, or rejected."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dgate.archive import aside as aside_module
from dgate.archive.aside import Aside
from dgate.archive.asidecommands import aside_commands
from dgate.archive.records import Outcome
from dgate.config.settings import DuplicateContent, Engine
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from dgate.errors import DgateError, OutOfSpace, Refused, StoreError
from dgate.ops.control import Answer
from dgate.rules.effects import ExportPlan, Forward, ImportForward
from tests.archive.intake_kit import (
    SOP,
    Hooks,
    Station,
    data_set,
    large_data_set,
    open_station,
)

OTHER = {"StudyDescription": "Other", "InstanceNumber": "4"}
DISCARDED = {"name": SOP, "apply": True}


def station_with(base: Path, policy: DuplicateContent, hooks: Hooks | None = None) -> Station:
    return open_station(base, hooks=hooks, duplicate_content=policy)


def aside_of(station: Station) -> Aside:
    return Aside.below(station.settings.base_folder)


def answers(station: Station, command: str, **arguments: Any) -> list[Answer]:
    commands = aside_commands(lambda: station.settings, lambda: station.ingest, station.clock)
    result = commands[f"aside.{command}"]({"who": "a test", **arguments})
    assert not isinstance(result, dict)
    return [answer["aside"] for answer in result]


@pytest.mark.parametrize("make", [data_set, large_data_set], ids=["small", "large"])
def test_other_content_is_put_aside_with_a_report(
    tmp_path: Path, make: Callable[..., bytes], caplog: pytest.LogCaptureFixture
) -> None:
    station = station_with(tmp_path, DuplicateContent.ASIDE)
    station.send(make())

    with caplog.at_level(logging.WARNING):
        receipt = station.send(make(**OTHER))

    assert receipt.outcome is Outcome.ASIDE
    assert station.content() == make()
    [report] = aside_of(station).reports()
    file = aside_of(station).path(report)
    assert file.read_bytes().endswith(make(**OTHER))
    assert report.calling == "MODALITY"
    assert report.stored.size == len(make())
    assert report.stored.where.startswith("MAG0 ")
    assert {each["name"]: (each["stored"], each["aside"]) for each in report.differences} == {
        "StudyDescription": ("Thorax", "Other"),
        "InstanceNumber": ("3", "4"),
    }
    assert report.name in caplog.text
    assert "SMITH" not in caplog.text
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    station.close()


def test_both_hashes_are_those_of_the_data_sets(tmp_path: Path) -> None:
    station = station_with(tmp_path, DuplicateContent.ASIDE)
    station.send(data_set())
    station.send(data_set(**OTHER))

    [report] = aside_of(station).reports()

    assert report.stored.sha256 == hashlib.sha256(data_set()).hexdigest()
    assert report.aside.sha256 == hashlib.sha256(data_set(**OTHER)).hexdigest()
    station.close()


def test_same_data_set_again_is_no_conflict(tmp_path: Path) -> None:
    station = station_with(tmp_path, DuplicateContent.ASIDE)
    station.send(data_set())

    receipt = station.send(data_set(), calling="ANOTHER")

    assert receipt.outcome is Outcome.REWRITTEN
    assert aside_of(station).count() == 0
    station.close()


def test_same_data_set_in_another_encoding_is_no_conflict(tmp_path: Path) -> None:
    station = station_with(tmp_path, DuplicateContent.ASIDE)
    station.send(data_set(EXPLICIT_LE), syntax=EXPLICIT_LE)

    receipt = station.send(data_set(IMPLICIT_LE), syntax=IMPLICIT_LE)

    assert receipt.outcome is Outcome.REWRITTEN
    station.close()


def test_content_that_comes_again_is_kept_once_and_counted(tmp_path: Path) -> None:
    station = station_with(tmp_path, DuplicateContent.ASIDE)
    station.send(data_set())
    station.send(data_set(**OTHER))
    first = station.clock.now()
    station.clock.seconds += 60

    station.send(data_set(**OTHER))
    station.send(data_set(StudyDescription="Third"))

    reports = {report.times: report for report in aside_of(station).reports()}
    assert set(reports) == {1, 2}
    assert (reports[2].first, reports[2].last) == (first, first + 60)
    assert len(list(aside_of(station).folder.iterdir())) == 4
    station.close()


def test_rejected_content_leaves_the_first(tmp_path: Path) -> None:
    station = station_with(tmp_path, DuplicateContent.REJECT)
    station.send(data_set())

    with pytest.raises(Refused, match="stored already with other content"):
        station.send(data_set(**OTHER))

    assert station.content() == data_set()
    assert station.send(data_set()).outcome is Outcome.REWRITTEN
    assert aside_of(station).count() == 0
    station.close()


def test_replaced_content_is_what_came_last(tmp_path: Path) -> None:
    station = station_with(tmp_path, DuplicateContent.REPLACE)
    station.send(data_set())

    assert station.send(data_set(**OTHER)).outcome is Outcome.REWRITTEN

    assert station.content() == data_set(**OTHER)
    station.close()


@pytest.mark.parametrize("policy", [DuplicateContent.ASIDE, DuplicateContent.REJECT])
def test_object_whose_file_is_lost_is_stored_anew(tmp_path: Path, policy: DuplicateContent) -> None:
    station = station_with(tmp_path, policy)
    station.send(data_set())
    station.path().unlink()

    assert station.send(data_set(**OTHER)).outcome is Outcome.REWRITTEN

    assert station.content() == data_set(**OTHER)
    station.close()


def test_ignored_rewrites_go_before(tmp_path: Path) -> None:
    station = open_station(tmp_path, ignore_rewrite=True, duplicate_content=DuplicateContent.ASIDE)
    station.send(data_set())

    assert station.send(data_set(**OTHER)).outcome is Outcome.IGNORED
    assert aside_of(station).count() == 0
    station.close()


def test_object_aside_is_not_exported_but_import_forwards_go_out(tmp_path: Path) -> None:
    def forward(table: Any, verdict: Any) -> None:
        verdict.forwards.append(
            ImportForward(Forward("PACS", "ImportConverter0"), table.snapshot())
        )

    hooks = Hooks(on_import=forward, plans=[ExportPlan(0, deferred=True)])
    station = station_with(tmp_path, DuplicateContent.ASIDE, hooks)
    station.send(data_set())
    before = [debt["kind"] for debt in station.debts()]

    station.send(data_set(**OTHER))

    assert before == ["deliver", "export"]
    assert [debt["kind"] for debt in station.debts()] == ["deliver", "export", "deliver"]
    station.close()


def test_disk_that_cannot_take_it_refuses_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = station_with(tmp_path, DuplicateContent.ASIDE)
    station.send(data_set())

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", fail)
        with pytest.raises(OutOfSpace):
            station.send(data_set(**OTHER))

    assert aside_of(station).count() == 0
    assert list(aside_of(station).folder.iterdir()) == []
    assert station.content() == data_set()
    station.close()


def test_discarding_waits_until_what_arrives_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = station_with(tmp_path, DuplicateContent.ASIDE)
    station.send(data_set())
    station.send(data_set(**OTHER))
    discard = threading.Thread(target=answers, args=(station, "discard"), kwargs=DISCARDED)
    seen = []
    real = aside_module.create_folders

    def create_folders(folder: Path) -> None:
        # The entry is known by now, and about to be only counted.
        real(folder)
        discard.start()
        discard.join(0.5)
        seen.append(aside_of(station).count())

    with monkeypatch.context() as patch:
        patch.setattr(aside_module, "create_folders", create_folders)
        assert station.send(data_set(**OTHER)).outcome is Outcome.ASIDE
    discard.join()

    assert seen == [1]
    assert list(aside_of(station).folder.iterdir()) == []
    station.close()


def test_accepted_object_takes_the_place_of_the_first_and_is_exported(tmp_path: Path) -> None:
    hooks = Hooks(plans=[ExportPlan(0, deferred=True)])
    station = station_with(tmp_path, DuplicateContent.ASIDE, hooks)
    station.send(data_set())
    station.send(data_set(**OTHER))
    imported = len(hooks.imported)
    [shown] = answers(station, "accept", name=SOP)
    assert station.content() == data_set()

    [done] = answers(station, "accept", name=shown["id"], apply=True)

    assert done["id"] == shown["id"]
    assert station.content() == data_set(**OTHER)
    assert len(station.debts()) == 2
    assert len(hooks.imported) == imported
    assert aside_of(station).count() == 0
    assert list(aside_of(station).folder.iterdir()) == []
    journal = station.settings.base_folder / "dgate" / "maintenance.log"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [(line["action"], line["state"]) for line in lines] == [
        ("accept", "begun"),
        ("accept", "done"),
    ]
    assert lines[1]["sop_instance"] == SOP
    assert lines[1]["who"] == "a test"
    station.close()


def journal_states(station: Station) -> list[str]:
    journal = station.settings.base_folder / "dgate" / "maintenance.log"
    return [json.loads(line)["state"] for line in journal.read_text().splitlines()]


@pytest.mark.parametrize("make", [data_set, large_data_set], ids=["small", "large"])
@pytest.mark.parametrize("policy", list(DuplicateContent))
def test_accepted_object_replaces_what_other_arrivals_leave_alone(
    tmp_path: Path, make: Callable[..., bytes], policy: DuplicateContent
) -> None:
    station = station_with(tmp_path, DuplicateContent.ASIDE)
    station.send(make())
    assert station.send(make(**OTHER)).outcome is Outcome.ASIDE
    station.close()
    station = open_station(tmp_path, ignore_rewrite=True, duplicate_content=policy)

    [done] = answers(station, "accept", name=SOP, apply=True)

    assert done["sop_instance"] == SOP
    assert station.content() == make(**OTHER)
    assert aside_of(station).count() == 0
    assert journal_states(station) == ["begun", "done"]
    # It is for this one object: what merely arrives is left out as before.
    assert station.send(make()).outcome is Outcome.IGNORED
    assert station.content() == make(**OTHER)
    station.close()


def move_to_a_volume(station: Station) -> None:
    sql = "UPDATE DICOMImages SET DeviceName = 'JUKEBOX1.2'"
    station.writer.transact(lambda tx: tx.execute(sql) and None)


@pytest.mark.parametrize("engine", [Engine.SQLITE, Engine.NONE], ids=["volume", "no database"])
def test_object_that_cannot_take_the_place_stays_aside(tmp_path: Path, engine: Engine) -> None:
    station = station_with(tmp_path, DuplicateContent.ASIDE)
    station.send(data_set())
    station.send(data_set(**OTHER))
    move_to_a_volume(station)
    station.close()
    hooks = Hooks(plans=[ExportPlan(0, deferred=True)])
    station = open_station(tmp_path, hooks=hooks, engine=engine)

    with pytest.raises(StoreError, match="stays aside") as refused:
        answers(station, "accept", name=SOP, apply=True)

    assert refused.value.remedy
    [report] = aside_of(station).reports()
    assert aside_of(station).path(report).read_bytes().endswith(data_set(**OTHER))
    assert journal_states(station) == ["begun", "failed"]
    station.close()
    station = open_station(tmp_path)
    assert station.debts() == []
    station.close()


def test_discarded_object_is_gone_and_the_first_stays(tmp_path: Path) -> None:
    station = station_with(tmp_path, DuplicateContent.ASIDE)
    station.send(data_set())
    station.send(data_set(**OTHER))
    station.send(data_set(StudyDescription="Third"))
    assert len(answers(station, "discard", name=SOP)) == 2
    assert aside_of(station).count() == 2

    answers(station, "discard", name=SOP, apply=True)

    assert aside_of(station).count() == 0
    assert station.content() == data_set()
    station.close()


def test_one_of_several_has_to_be_named(tmp_path: Path) -> None:
    station = station_with(tmp_path, DuplicateContent.ASIDE)
    station.send(data_set())
    station.send(data_set(**OTHER))
    station.send(data_set(StudyDescription="Third"))

    with pytest.raises(DgateError, match="2 contents"):
        answers(station, "accept", name=SOP, apply=True)

    assert [each["differences"] for each in answers(station, "list")] in ([1, 2], [2, 1])
    station.close()


@pytest.mark.parametrize("name", ["", "1.2.3.77", "../../etc/passwd", "x.0123456789abcdef"])
def test_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    station = station_with(tmp_path, DuplicateContent.ASIDE)

    for command in ("show", "accept", "discard"):
        with pytest.raises((StoreError, DgateError)):
            answers(station, command, name=name, apply=True)
    assert answers(station, "list") == []
    station.close()


def test_what_a_crash_left_is_tidied_and_entries_stay(tmp_path: Path) -> None:
    station = station_with(tmp_path, DuplicateContent.ASIDE)
    station.send(data_set())
    station.send(data_set(**OTHER))
    aside = aside_of(station)
    (aside.folder / "1.2.3.0123456789abcdef.dcm.77.part").write_bytes(b"half")
    (aside.folder / "1.2.3.0123456789abcdef.json").write_bytes(b"{}")

    aside.tidy()

    assert len(list(aside.folder.iterdir())) == 2
    assert aside.count() == 1
    Aside.below(tmp_path / "none").tidy()
    assert Aside.below(tmp_path / "none").count() == 0
    station.close()


def test_entry_without_a_readable_report_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    station = station_with(tmp_path, DuplicateContent.ASIDE)
    station.send(data_set())
    station.send(data_set(**OTHER))
    [report] = aside_of(station).reports()
    aside_of(station).path(report).with_suffix(".json").write_bytes(b"{")

    assert list(aside_of(station).reports()) == []

    assert "cannot be read" in caplog.text
    # The same content again makes it whole.
    station.send(data_set(**OTHER))
    assert len(list(aside_of(station).reports())) == 1
    station.close()


def test_stored_file_that_is_damaged_stays_and_both_are_kept(tmp_path: Path) -> None:
    station = station_with(tmp_path, DuplicateContent.ASIDE)
    station.send(data_set())
    whole = station.path().read_bytes()
    station.path().write_bytes(whole[:-20])

    assert station.send(data_set()).outcome is Outcome.ASIDE

    assert station.path().read_bytes() == whole[:-20]
    station.close()


@pytest.mark.parametrize(
    ("policy", "outcomes"),
    [
        (DuplicateContent.REPLACE, {Outcome.STORED: 1, Outcome.REWRITTEN: 15}),
        (DuplicateContent.ASIDE, {Outcome.STORED: 1, Outcome.ASIDE: 12, Outcome.REWRITTEN: 3}),
    ],
    ids=["replace", "aside"],
)
def test_same_instance_from_many_threads_at_once_is_one_object(
    tmp_path: Path, policy: DuplicateContent, outcomes: dict[Outcome, int]
) -> None:
    hooks = Hooks(plans=[ExportPlan(0, deferred=True)])
    station = station_with(tmp_path, policy, hooks)
    contents = [data_set(StudyDescription=f"Number {number}") for number in range(4)]
    barrier = threading.Barrier(16)
    found: list[Outcome] = []

    def bring(number: int) -> None:
        arrival = station.arrival(contents[number % 4])
        barrier.wait()
        found.append(station.ingest.store(arrival).outcome)

    threads = [threading.Thread(target=bring, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {each: found.count(each) for each in set(found)} == outcomes
    assert station.content() in contents
    stored = [name for name in station.files() if name.startswith("P1/")]
    assert len(stored) == 1
    assert station.files() == stored
    exported = found.count(Outcome.STORED) + found.count(Outcome.REWRITTEN)
    assert len(station.debts()) == exported
    if policy is DuplicateContent.ASIDE:
        kept = {report.aside.sha256: report.times for report in aside_of(station).reports()}
        assert sorted(kept.values()) == [4, 4, 4]
    station.close()
