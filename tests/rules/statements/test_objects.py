"""Statements that change whole objects: UIDs, patient IDs, scrubbing, programs."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset

from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from dgate.rules.effects import Outcome
from dgate.rules.files import ConfinedFiles
from tests.rules import kit

SOP, STUDY, SERIES = 0x00080018, 0x0020000D, 0x0020000E
PATIENT_ID = 0x00100020


def changed(
    line: str, on: ElementTable | None = None, env: kit.FakeEnvironment | None = None
) -> ElementTable:
    """Return the object after an import line that keeps it."""
    verdict, table = kit.run_import(kit.importing(line), on, env)
    assert verdict.outcome is Outcome.KEEP, verdict.reason
    return table


# newuids, olduids


def stages(env: kit.FakeEnvironment) -> set[str]:
    return {stage for _, stage in env.uids.rows}


@pytest.mark.parametrize(
    ("line", "stage"),
    [
        ("newuids", ""),
        ("newuids stage TRIAL 1", "TRIAL 1"),
        ("newuids stage %m-%VStationName", "CT-ROOM1"),
        ("NewUIDs Stage #h", "#h"),
        ("newuids except 0020,0052 stage T", "T"),
        ("newuids stage T except 0020,0052", "T"),
    ],
)
def test_uids_are_replaced_in_a_stage(line: str, stage: str) -> None:
    env = kit.FakeEnvironment()
    table = changed(line, env=env)
    assert stages(env) == {stage}
    assert table.text(SOP) == env.uids.rows["1.2.3.4.5", stage][0]
    assert table.text(STUDY) == env.uids.rows["1.2.3.4", stage][0]


@pytest.mark.parametrize(
    "listed",
    [
        "0020,000d|1.2.3.4.6",
        "0020,000D|1.2.3.4.6",
        "StudyInstanceUID|%V0020,000e",
        "%VPatientComments|1.2.3.4.6",
    ],
)
def test_exceptions_are_elements_in_any_case_and_uids(listed: str) -> None:
    table = kit.table(PatientComments="0020,000d")
    changed(f"newuids except {listed}", table)
    assert table.text(STUDY) == "1.2.3.4"
    assert table.text(SERIES) == "1.2.3.4.6"
    assert table.text(SOP) == "1.2.3.7.1"


def test_an_exception_may_give_a_value() -> None:
    table = changed("newuids except 0020,000d=9.%VRows|1.2.3.4.6")
    assert (table.text(STUDY), table.text(SERIES)) == ("9.512", "1.2.3.4.6")


@pytest.mark.parametrize("value", ["x|0008,0018", "0008,0018=1.2", "..", "1.2.", "%i", "1" * 65])
def test_a_value_cannot_bring_exceptions_of_its_own(value: str) -> None:
    table = kit.table(PatientComments=value)
    verdict, table = kit.run_import(kit.importing("newuids except %V0010,4000"), table)
    assert verdict.outcome is Outcome.REJECT
    assert "neither gggg,eeee nor a UID" in verdict.reason
    assert table.text(SOP) == "1.2.3.4.5"


def test_an_empty_exception_is_none() -> None:
    assert changed("newuids except %VPatientComments").text(SOP) == "1.2.3.7.1"


def test_what_is_given_has_to_be_a_uid() -> None:
    verdict, table = kit.run_import(kit.importing("newuids except 0020,000d=%VPatientName"))
    assert "is not a UID" in verdict.reason
    assert table.text(SOP) == "1.2.3.4.5"


@pytest.mark.parametrize("line", ["olduids", "olduids stage T", "olduids except 0020,000e stage T"])
def test_uids_come_back(line: str) -> None:
    env = kit.FakeEnvironment()
    stage = "T" if "stage" in line else ""
    env.uids.forward("8.1", stage, "", "1.2.3.4.5")
    env.uids.forward("8.2", stage, "", "1.2.3.4")
    env.uids.forward("8.3", stage, "", "1.2.3.4.6")
    table = changed(line, env=env)
    assert (table.text(SOP), table.text(STUDY)) == ("8.1", "8.2")
    assert table.text(SERIES) == ("1.2.3.4.6" if "except" in line else "8.3")


def test_uids_that_nobody_knows_stay_and_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    table = changed("nop; olduids stage T")
    assert table.text(SOP) == "1.2.3.4.5"
    names = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(names) == 3
    assert all(name.startswith("Importconverter0.1: nothing is known") for name in names)


@pytest.mark.parametrize("stage", ["#h", "%V0010,4000"])
def test_hashed_stages_cannot_be_reversed(stage: str) -> None:
    made = kit.importing(f"olduids stage {stage}")
    verdict, _ = kit.run_import(made, kit.table(PatientComments="#h"))
    assert bool(made.problems) == (stage == "#h")
    assert verdict.outcome is Outcome.REJECT
    assert "no way back" in verdict.reason


@pytest.mark.parametrize("line", ["newuids", "olduids stage T"])
def test_a_failing_register_refuses_the_object_and_changes_nothing(line: str) -> None:
    env = kit.FakeEnvironment()
    env.uids.fault = kit.RuleError("the register is away")
    verdict, table = kit.run_import(kit.importing(f"{line}; nop"), env=env)
    assert verdict.outcome is Outcome.REJECT
    assert "ImportConverter0.0: the register is away" in verdict.reason
    assert table.revision == 0


def test_skipped_statements_replace_nothing() -> None:
    env = kit.FakeEnvironment()
    changed('ifequal "%m", "MR"; newuids', env=env)
    assert env.uids.rows == {}


def test_scripts_of_export_lines_replace_on_the_copy() -> None:
    env = kit.FakeEnvironment()
    made = kit.rules()
    table = kit.table()
    made.run_script("newuids stage T", table, kit.captured(), env)
    assert table.text(SOP) == "1.2.3.7.1"


# fixkodak, unfixkodak


@pytest.mark.parametrize(
    ("line", "before", "after"),
    [
        ("fixkodak", "01234567", "1234567"),
        ("fixkodak", "00234567", "00234567"),
        ("fixkodak", "11234567", "11234567"),
        ("fixkodak", "0123456", "0123456"),
        ("fixkodak", "012345678", "012345678"),
        ("fixkodak", "0123456A", "0123456A"),
        ("fixkodak", "", ""),
        ("unfixkodak", "1234567", "01234567"),
        ("unfixkodak", "1000000", "1000000"),
        ("unfixkodak", "0234567", "0234567"),
        ("unfixkodak", "12345678", "12345678"),
        ("unfixkodak", "12345 7", "12345 7"),
        ("unfixkodak", "¹²³⁴⁵⁶⁷", "¹²³⁴⁵⁶⁷"),
    ],
)
def test_the_zero_of_eight_digit_ids(line: str, before: str, after: str) -> None:
    table = kit.table(SpecificCharacterSet="ISO_IR 192", PatientID=before)
    assert changed(line, table).text(PATIENT_ID) == after


# scrub


def full() -> ElementTable:
    made = kit.data_set(
        OperatorsName="X", ReferencedStudySequence=[Dataset()], PixelData=b"12", BitsAllocated=16
    )
    block = made.private_block(0x0029, "SITE", create=True)
    block.add_new(1, "LO", "private")
    return kit.table_of(made)


def tags_after(line: str) -> set[int]:
    return set(changed(line, full()).tags())


ALL = set(full().tags())
PRIVATE = {0x00290010, 0x00291001}
PERSONS = {0x00100010, 0x00081070}


@pytest.mark.parametrize(
    ("listed", "gone"),
    [
        ("Private", PRIVATE),
        ("priv", PRIVATE),
        ("PRIV", PRIVATE),
        ("7FE0", {0x7FE00010}),
        ("00100010", {0x00100010}),
        ("PN", PERSONS),
        ("SQ,Private,7FE0", {0x00081110, 0x7FE00010, *PRIVATE}),
        ("0010", {0x00100010, 0x00100020}),
        ("0029", PRIVATE),
        ("AABB,99999999", set()),
    ],
)
def test_listed_elements_are_deleted_or_kept(listed: str, gone: set[int]) -> None:
    assert tags_after(f"scrub -{listed}") == ALL - gone
    assert tags_after(f"scrub +{listed}") == gone | {0x00080005}


def test_scrubbed_text_keeps_its_meaning() -> None:
    table = kit.table(PatientName="Müller")
    changed("scrub +00100010", table)
    assert table.text(0x00100010) == "Müller"


# process with


class Editor:
    """Stands for a program that changes the file that it is given."""

    def __init__(self, edit: object = None, status: int = 0) -> None:
        self.edit = edit
        self.status = status
        self.ran: list[list[str]] = []

    def run(self, arguments: Sequence[str]) -> int:
        self.ran.append(list(arguments))
        path = Path(arguments[-1])
        assert path.suffix == ".dcm"
        if isinstance(self.edit, bytes):
            path.write_bytes(self.edit)
        elif callable(self.edit):
            made = dcmread(path)
            self.edit(made)
            made.save_as(path)
        return self.status


def processed(
    tmp_path: Path,
    editor: Editor,
    on: ElementTable | None = None,
    line: str = "process with edit %i",
) -> tuple[str, ElementTable]:
    """Run a line with programs allowed; return the reason of a refusal and the object."""
    env = kit.FakeEnvironment()
    env.files = ConfinedFiles(tmp_path, [], tmp_path / "temp")  # type: ignore[assignment]
    env.programs = editor  # type: ignore[assignment]
    made = kit.importing(line, allow_system_commands=True)
    assert made.problems == ()
    verdict, table = kit.run_import(made, on, env)
    assert list((tmp_path / "temp").iterdir()) == []
    return verdict.reason, table


def test_a_program_changes_the_object(tmp_path: Path) -> None:
    def edit(made: Dataset) -> None:
        made.PatientName = "CHANGED"
        del made.StudyDescription

    editor = Editor(edit)
    reason, table = processed(tmp_path, editor)

    assert reason == ""
    assert editor.ran[0][:2] == ["edit", "0009703828"]
    assert table.text(0x00100010) == "CHANGED"
    assert 0x00081030 not in table
    assert table.revision > 0


def test_an_object_that_a_program_leaves_alone_is_unchanged(tmp_path: Path) -> None:
    reason, table = processed(tmp_path, Editor())
    assert (reason, table.revision) == ("", 0)


def test_a_program_may_change_the_transfer_syntax_and_the_instance(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    made = kit.data_set(SOPInstanceUID="7.7", PixelData=b"12" * 800_000, BitsAllocated=16)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = IMPLICIT_LE
    dcmwrite(buffer, made, enforce_file_format=True)

    reason, table = processed(tmp_path, Editor(buffer.getvalue()))

    assert reason == ""
    assert (table.syntax, table.text(SOP)) == (IMPLICIT_LE, "7.7")
    assert table.raw(0x7FE00010) == b"12" * 800_000


def without_sop(made: Dataset) -> None:
    del made.SOPInstanceUID


@pytest.mark.parametrize(
    ("editor", "what"),
    [
        (Editor(status=1), "edit ended with status 1"),
        (Editor(b""), "is no object"),
        (
            Editor(b"not DICOM at all, but long enough to look like some content" * 5),
            "is no object",
        ),
        (Editor(b"\0" * 128 + b"DICM" + b"\x08\0\x18\0UI\xff\xff"), "is no object"),
        (Editor(without_sop), "it has no SOPInstanceUID"),
    ],
    ids=["status", "empty", "text", "cut", "no UID"],
)
def test_what_a_program_spoils_refuses_the_object(
    tmp_path: Path, editor: Editor, what: str
) -> None:
    reason, table = processed(tmp_path, editor)
    assert what in reason
    assert (table.revision, table.text(SOP)) == (0, "1.2.3.4.5")


def test_a_program_that_is_not_allowed_is_an_error() -> None:
    made = kit.importing("process with edit")
    [problem] = made.problems
    assert "AllowSystemCommands" in problem.message
    assert kit.run_import(made)[0].outcome is Outcome.REJECT


def test_the_copy_is_written_in_the_syntax_of_the_object(tmp_path: Path) -> None:
    seen = []

    def edit(made: Dataset) -> None:
        seen.append((made.file_meta.TransferSyntaxUID, made.file_meta.MediaStorageSOPInstanceUID))

    processed(tmp_path, Editor(edit))
    assert seen == [(EXPLICIT_LE, "1.2.3.4.5")]
