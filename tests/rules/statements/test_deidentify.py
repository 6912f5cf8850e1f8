"""The statement `deidentify`: its grammar, its files, and that whatever fails refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dgate.config.settings import default_settings
from dgate.dicom.deidentify import Clean, Retain
from dgate.errors import DatabaseAway, RuleError
from dgate.rules.effects import Outcome
from dgate.rules.hooks import Rules
from dgate.rules.statements.deidentify import Request, parse_request
from dgate.rules.syntax import ParseError, Text
from tests.rules import kit

BASIC = "deidentify profile basic"
PATIENT_ID = 0x00100020


def rules(line: str, folder: Path = Path("/nonexistent"), *, lenient: bool = False) -> Rules:
    settings = default_settings(folder, converters=(kit.converter(line),))
    return Rules.build(dataclasses.replace(settings, script_errors_reject=not lenient))


def run(
    line: str,
    env: kit.FakeEnvironment | None = None,
    folder: Path = Path("/nonexistent"),
    *,
    lenient: bool = False,
    **values: object,
) -> tuple[kit.ImportVerdict, kit.ElementTable]:
    table = kit.table(**values)
    verdict = rules(line, folder, lenient=lenient).run_import(
        table, kit.captured(), env or kit.FakeEnvironment()
    )
    return verdict, table


def test_the_object_is_deidentified_and_what_was_replaced_is_kept() -> None:
    env = kit.FakeEnvironment()

    verdict, table = run(f"{BASIC} stage trial1", env)

    assert verdict.outcome is Outcome.KEEP
    [kept] = env.deidentification.kept
    assert kept.stage == "trial1"
    assert kept.patient["PatientID"] == "0009703828"
    assert table.text(PATIENT_ID) == kept.pseudonym
    assert table.text(0x00120062) == "YES"


def test_what_follows_works_on_the_new_values() -> None:
    verdict, table = run(
        f'{BASIC}; set ClinicalTrialProtocolID to "T1"; set StudyID to "%V0010,0020"'
    )

    assert verdict.outcome is Outcome.KEEP
    assert table.text(0x00120020) == "T1"
    assert table.text(0x00200010) == table.text(PATIENT_ID)


def test_no_table_keeps_nothing() -> None:
    env = kit.FakeEnvironment()

    verdict, table = run(f"{BASIC} no-table", env)

    assert verdict.outcome is Outcome.KEEP
    assert env.deidentification.kept == []
    assert table.text(0x00120062) == "YES"


REQUESTS = {
    "": Request(),
    " stage t.1_x-2": Request(stage="t.1_x-2"),
    " retain uids device": Request(frozenset({Retain.UIDS, Retain.DEVICE})),
    " retain uids retain device": Request(frozenset({Retain.UIDS, Retain.DEVICE})),
    " clean descriptors graphics retain full-dates": Request(
        frozenset({Retain.FULL_DATES}), frozenset({Clean.DESCRIPTORS, Clean.GRAPHICS})
    ),
    " clean pixels mask m.txt": Request(clean=frozenset({Clean.PIXELS}), mask="m.txt"),
    ' clean pixels mask "my masks.txt"': Request(
        clean=frozenset({Clean.PIXELS}), mask="my masks.txt"
    ),
    " RETAIN Safe-Private safe-list s.txt": Request(
        frozenset({Retain.SAFE_PRIVATE}), safe_list="s.txt"
    ),
    " allow-burned-in no-table": Request(allow_burned_in=True, keeps=False),
}


@pytest.mark.parametrize("text", REQUESTS, ids=lambda text: text.strip() or "plain")
def test_what_is_asked_for(text: str) -> None:
    assert parse_request(Text.whole(f"profile basic{text}")) == REQUESTS[text]


MISTAKES = [
    ("deidentify", 11, "profile is missing"),
    ("deidentify profile", 19, "name of the profile"),
    ("deidentify profile best", 20, "expected basic"),
    ("deidentify basic", 12, "expected profile"),
    ("deidentifyprofile basic", 1, "did you mean deidentify"),
    (f"{BASIC} retain", 26, "at least one of uids"),
    (f"{BASIC} retain nothing", 33, "'nothing' is no option of retain"),
    (f"{BASIC} retain uids uids", 38, "twice"),
    (f"{BASIC} clean uids", 32, "'uids' is no option of clean"),
    (f"{BASIC} retain full-dates modified-dates", 44, "either kept"),
    (f"{BASIC} retain modified-dates device full-dates", 55, "either kept"),
    (f"{BASIC} clean pixels", 32, "needs the file"),
    (f"{BASIC} mask m.txt", 26, "clean pixels only"),
    (f"{BASIC} safe-list m.txt", 26, "safe-private only"),
    (f"{BASIC} mask", 30, "value of mask is missing"),
    (f"{BASIC} stage a stage b", 34, "twice"),
    (f"{BASIC} stage", 31, "value of stage is missing"),
    (f"{BASIC} stage a/b", 32, "a stage has"),
    (f"{BASIC} stage {'x' * 33}", 32, "a stage has"),
    (f"{BASIC} stage %i", 32, "no %-tokens"),
    (f"{BASIC} everything", 26, "'everything' is not understood"),
    (f"{BASIC} clean visual-features", 32, "does not find faces"),
    (f'{BASIC} clean pixels mask "m', 44, "not closed"),
]


@pytest.mark.parametrize(
    ("line", "column", "message"), MISTAKES, ids=[line for line, *_ in MISTAKES]
)
@pytest.mark.parametrize("lenient", [False, True], ids=["reject", "ignore"])
def test_mistakes_are_shown_in_the_line_and_refuse(
    line: str, column: int, message: str, lenient: bool
) -> None:
    [problem] = rules(line).problems
    assert message in problem.message
    assert problem.column == column

    verdict, _ = run(line, lenient=lenient)

    assert verdict.outcome is Outcome.REJECT


def test_it_works_in_import_lines_only() -> None:
    made = kit.rules(kit.converter(BASIC, "Export"))

    assert "import lines only" in made.problems[0].message


# Files.


def test_masks_are_read_from_the_folder_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "dicom.ini").touch()
    (tmp_path / "masks.txt").write_text("modality=US : none\n")

    made = rules(f"{BASIC} clean pixels mask masks.txt", tmp_path)

    assert made.problems == ()
    assert (tmp_path / "masks.txt").absolute() in made.script_places


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no mask file"), ("modality=US\n", "line 1: a colon is missing")],
    ids=["missing", "wrong"],
)
@pytest.mark.parametrize("lenient", [False, True], ids=["reject", "ignore"])
def test_files_that_cannot_be_used_are_reported_and_refuse(
    tmp_path: Path, content: str | None, message: str, lenient: bool
) -> None:
    if content is not None:
        (tmp_path / "masks.txt").write_text(content)
    line = f"{BASIC} clean pixels mask masks.txt"

    [problem] = rules(line, tmp_path).problems
    verdict, _ = run(line, folder=tmp_path, lenient=lenient)

    assert message in problem.message
    assert verdict.outcome is Outcome.REJECT


def test_a_safe_list_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "safe.txt").write_text("Creator | 0009,xx01 | PN\n")

    [problem] = rules(f"{BASIC} retain safe-private safe-list safe.txt", tmp_path).problems

    assert "VR PN cannot be safe" in problem.message


# What fails refuses.


@pytest.mark.parametrize("lenient", [False, True], ids=["reject", "ignore"])
@pytest.mark.parametrize(
    "fault", [RuleError("no key"), ZeroDivisionError()], ids=["no key", "a mistake of ours"]
)
def test_a_failure_refuses_whatever_scripterrors_says(fault: Exception, lenient: bool) -> None:
    env = kit.FakeEnvironment()
    env.deidentification.fault = fault

    verdict, _ = run(f"{BASIC}; nop", env, lenient=lenient)

    assert verdict.outcome is Outcome.REJECT
    assert "ImportConverter0.0" in verdict.reason


@pytest.mark.parametrize("lenient", [False, True], ids=["reject", "ignore"])
def test_risky_objects_are_held_back(lenient: bool) -> None:
    verdict, _ = run(BASIC, lenient=lenient, Modality="US", BitsAllocated=8, PixelData=b"\1\2")

    assert verdict.outcome is Outcome.REJECT
    assert "held back" in verdict.reason


def test_a_database_that_is_away_is_told_as_that() -> None:
    env = kit.FakeEnvironment()
    env.deidentification.fault = DatabaseAway("gone")

    with pytest.raises(DatabaseAway):
        run(BASIC, env, lenient=True)


def test_a_failure_inside_a_script_of_a_line_refuses_too(tmp_path: Path) -> None:
    (tmp_path / "clean.cq").write_text(f"{BASIC} retain nonsense\n")

    verdict, _ = run("clean.cq", folder=tmp_path, lenient=True)

    assert verdict.outcome is Outcome.REJECT


def test_errors_of_the_request_know_their_column() -> None:
    with pytest.raises(ParseError) as caught:
        parse_request(Text.whole("profile basic clean faces"))

    assert caught.value.column == 21


def test_it_works_on_a_copy_that_is_sent() -> None:
    made, on, env = rules("nop"), kit.table(), kit.FakeEnvironment()

    verdict = made.run_script(f"{BASIC} stage out", on, kit.captured(), env)

    assert verdict.outcome is Outcome.KEEP
    assert on.text(0x00120062) == "YES"
    with pytest.raises(RuleError):
        made.run_script(f"{BASIC} retain nonsense", kit.table(), kit.captured(), env)
