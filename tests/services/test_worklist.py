"""Worklist C-FIND over a real association: sequences, character sets, converters, failures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dgate.archive.worklist import Worklist
from dgate.config.layout import default_layout
from dgate.config.settings import default_settings
from dgate.dicom.encode import Content, encode_data_set
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from dgate.errors import RuleError
from dgate.net import CommandField, Status, find
from dgate.rules.effects import Captured, Decision, Outcome
from dgate.rules.events import Event, EventHook
from dgate.services.worklist import MODALITY_WORKLIST, WorklistService
from tests.archive.database_kit import open_archive, setup
from tests.archive.intake_kit import FixedClock
from tests.services.kit import CHARSET, asking

pytestmark = pytest.mark.integration

STEP, CODES, VALUE = 0x00400100, 0x00321064, 0x00080100
ACCESSION, NAME, PATIENT_ID, MODALITY = 0x00080050, 0x00100010, 0x00100020, 0x00080060
PROTOCOL, STATION = 0x00400008, 0x00400001
STUDIES, PATIENTS = 0x00081110, 0x00081120
ENTRY = {
    "AccessionN": "A1",
    "PatientID": "P1",
    "PatientNam": "Müller^Jörg",
    "Modality": "CT",
    "ScheduledA": "CT1",
}
SYNTAXES = pytest.mark.parametrize(
    "syntax", [EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE], ids=["explicit", "implicit", "big"]
)


class Hooks:
    """Event converters in memory."""

    def __init__(self, hooks: Mapping[Event, EventHook]) -> None:
        self.hooks = hooks

    def hook(self, event: Event, index: int = 0) -> EventHook | None:
        return self.hooks.get(event)


@pytest.fixture
def worklist(tmp_path: Path) -> Iterator[Worklist]:
    archive = open_archive(setup(tmp_path))
    made = Worklist(
        archive.database,
        archive.schema,
        default_layout().worklist,
        archive.writer,
        archive.settings,
        FixedClock(),
        str,
    )
    made.change([ENTRY])
    yield made
    archive.close()


def ask(
    worklist: Worklist,
    wanted: Mapping[int, Content],
    syntax: str = EXPLICIT_LE,
    hooks: Mapping[Event, EventHook] | None = None,
    **changes: object,
) -> list[tuple[int, ElementTable]]:
    settings = default_settings(Path("/nonexistent"), **changes)
    service = WorklistService(settings, worklist, Hooks(hooks or {}))
    data = encode_data_set(wanted, syntax, "")
    with asking(CommandField.C_FIND_RQ, MODALITY_WORKLIST, service.find, syntax) as association:
        answers = find(association, 1, data)
        return [(each.status, ElementTable(each.identifier, syntax)) for each in answers]


@SYNTAXES
def test_sequences_come_back_as_they_were_asked_for(worklist: Worklist, syntax: str) -> None:
    wanted: dict[int, Content] = {
        ACCESSION: "A1",
        NAME: None,
        STEP: [{MODALITY: "CT", STATION: None, PROTOCOL: [{VALUE: None}]}],
        CODES: [{VALUE: None}],
    }

    (status, table), (final, _) = ask(worklist, wanted, syntax)

    assert (status, final) == (Status.PENDING, Status.SUCCESS)
    assert table.tags() == [CHARSET, ACCESSION, STUDIES, PATIENTS, NAME, CODES, STEP]
    assert table.text(NAME) == "Müller^Jörg"
    [step] = table.items(STEP)
    assert step.tags() == [MODALITY, STATION, PROTOCOL]
    assert (step.text(MODALITY), step.text(STATION)) == ("CT", "CT1")
    assert table.items(CODES) == step.items(PROTOCOL) == []
    assert all(table.vr(tag) == "SQ" for tag in (STUDIES, PATIENTS, CODES, STEP))


@SYNTAXES
def test_empty_sequence_is_answered_with_all_of_it(worklist: Worklist, syntax: str) -> None:
    (_, table), _ = ask(worklist, {ACCESSION: None, STEP: ()}, syntax)

    [step] = table.items(STEP)
    assert len(step.tags()) == 12
    assert step.text(STATION) == "CT1"


def test_sequence_of_two_items_is_dropped(worklist: Worklist) -> None:
    wanted: dict[int, Content] = {ACCESSION: None, STEP: [{MODALITY: "MR"}, {MODALITY: "US"}]}

    (_, table), _ = ask(worklist, wanted)

    assert STEP not in table


def test_what_is_nested_further_is_matched_too(worklist: Worklist) -> None:
    inside: dict[int, Content] = {STEP: [{PROTOCOL: [{STATION: "MR1"}]}]}

    assert [status for status, _ in ask(worklist, inside)] == [Status.SUCCESS]


@pytest.mark.parametrize(
    ("number", "charset"), [(100, "ISO_IR 100"), (192, "ISO_IR 192"), (144, "ISO_IR 192")]
)
def test_character_set_is_one_that_holds_the_text(
    worklist: Worklist, number: int, charset: str
) -> None:
    (_, table), _ = ask(worklist, {NAME: None}, worklist_iso_ir=number)

    assert table.text(CHARSET) == charset
    assert table.text(NAME) == "Müller^Jörg"


def destroying(table: ElementTable, captured: Captured, session: object) -> Decision:
    return Decision(Outcome.DESTROY, "destroyed")


def failing(table: ElementTable, captured: Captured, session: object) -> Decision:
    raise RuleError("it failed")


def test_request_and_answers_pass_their_converters(worklist: Worklist) -> None:
    seen: list[Captured] = []

    def request(table: ElementTable, captured: Captured, session: object) -> Decision:
        seen.append(captured)
        table.set_text(PATIENT_ID, "P1")
        return Decision()

    def result(table: ElementTable, captured: Captured, session: object) -> Decision:
        table.set_text(NAME, "山田^太郎")
        return Decision()

    hooks: dict[Event, EventHook] = {
        Event.WORKLIST_QUERY: request,
        Event.WORKLIST_RESULT: result,
    }
    (_, table), _ = ask(worklist, {PATIENT_ID: "nobody", NAME: None}, hooks=hooks)

    assert (seen[0].calling, seen[0].called) == ("VIEWER", "GATE")
    assert table.text(NAME) == "山田^太郎"
    assert table.text(CHARSET) == "ISO_IR 192"


@pytest.mark.parametrize(
    ("event", "hook", "status"),
    [
        (Event.WORKLIST_QUERY, destroying, Status.BLOCKED_QUERY),
        (Event.WORKLIST_QUERY, failing, Status.BLOCKED_QUERY),
        (Event.WORKLIST_RESULT, destroying, Status.SUCCESS),
        (Event.WORKLIST_RESULT, failing, Status.UNABLE_TO_PROCESS),
    ],
)
def test_destroyed_and_failed_ones_are_not_answered(
    worklist: Worklist, event: Event, hook: EventHook, status: Status
) -> None:
    assert [each for each, _ in ask(worklist, {NAME: None}, hooks={event: hook})] == [status]


@pytest.mark.parametrize(
    ("changes", "status"),
    [({}, Status.OUT_OF_RESOURCES), ({"classic_status_codes": True}, Status.UNABLE_TO_PROCESS)],
)
def test_lost_database_is_told(
    worklist: Worklist, tmp_path: Path, changes: dict[str, object], status: Status
) -> None:
    (tmp_path / "index.db3").unlink()

    assert [each for each, _ in ask(worklist, {NAME: None}, **changes)] == [status]


def test_identifier_that_is_no_data_set_is_refused(worklist: Worklist) -> None:
    settings = default_settings(Path("/nonexistent"))
    service = WorklistService(settings, worklist)
    with asking(CommandField.C_FIND_RQ, MODALITY_WORKLIST, service.find) as association:
        [answer] = find(association, 1, b"\x08\x00\x05\x00CS\xff\x7fno")

    assert answer.status == Status.UNABLE_TO_PROCESS
