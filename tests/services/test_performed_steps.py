"""Procedure steps told by an independent SCU: what is kept, and how what cannot be is answered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from dgate.archive import steps as steps_module
from dgate.archive.steps import PerformedSeries, Step, Steps, StepState
from dgate.config.steps_check import PERFORMED_STEP
from dgate.dicom.deflate import deflate
from dgate.dicom.uids import DEFLATED, VERIFICATION
from dgate.errors import DatabaseAway, OutOfSpace, StoreError
from dgate.net import Command, CommandField
from dgate.net.dimse import LONGEST_LIST, encode_command
from dgate.services import performed_steps, step_data
from dgate.services.performed_steps import PerformedStepService
from tests.acceptance.modality import Modality, associated, begun, ended, performed, reference
from tests.archive.database_kit import open_archive, setup
from tests.archive.intake_kit import FixedClock
from tests.net.kit import Proposal, Raw, p_data, proposals, request, serving

pytestmark = pytest.mark.integration

STUDY, SERIES, STEP = "1.2.3.1", "1.2.3.1.1", "1.2.77.1"
NAMED = {SERIES: [f"{SERIES}.1", f"{SERIES}.2"]}


@dataclass
class Room:
    """A service over a real table."""

    steps: Steps
    port: int = 0
    rings: list[int] = field(default_factory=list)
    nodes: set[str] = field(default_factory=lambda: {"CT1"})
    full: bool = False

    def admit(self) -> None:
        """Say whether the disk takes more."""
        if self.full:
            raise OutOfSpace("the disk of the database is full")

    def step(self, uid: str = STEP) -> Step:
        """Return a step that is known."""
        found = self.steps.find(uid)
        assert found is not None
        return found


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    archive = open_archive(setup(tmp_path))
    made = Room(Steps(archive.database, archive.schema, archive.writer, FixedClock()))
    numbers = itertools.count(1)
    service = PerformedStepService(
        made.steps,
        lambda title: title in made.nodes,
        lambda: f"1.2.88.{next(numbers)}",
        lambda: made.rings.append(1),
        made.admit,
    )
    with serving(handlers=service.handlers()) as server:
        made.port = server.port
        yield made
    archive.close()


@pytest.fixture
def modality(room: Room) -> Iterator[Modality]:
    with associated(room.port) as association:
        yield association


def test_step_begins_and_ends(room: Room, modality: Modality) -> None:
    answer = modality.create(begun(STUDY), STEP)
    assert (answer.Status, answer.AffectedSOPInstanceUID) == (0, STEP)
    assert answer.AffectedSOPClassUID == PERFORMED_STEP
    assert room.step().state is StepState.IN_PROGRESS
    assert room.rings == []

    answer = modality.change(ended(NAMED, reports=["1.2.3.5"]), STEP)

    assert (answer.Status, answer.AffectedSOPInstanceUID) == (0, STEP)
    known = room.step()
    assert known.state is StepState.COMPLETED
    assert known.series == (PerformedSeries(SERIES, (f"{SERIES}.1", f"{SERIES}.2", "1.2.3.5")),)
    assert (known.peer, known.station, known.patient) == ("CT1", "CT1", "P1")
    assert (known.studies, known.accession, known.modality) == ((STUDY,), "A4711", "CT")
    assert (known.begun, known.ended) == ("20260314101500", "20260314103000")
    assert room.rings == [1]


def test_step_without_uid_gets_one(room: Room, modality: Modality) -> None:
    answer = modality.create(begun(STUDY, "1.2.3.2"), None)

    assert (answer.Status, answer.AffectedSOPInstanceUID) == (0, "1.2.88.1")
    assert room.step("1.2.88.1").studies == (STUDY, "1.2.3.2")


def test_changes_on_the_way_and_a_discontinued_step(room: Room, modality: Modality) -> None:
    modality.create(begun(STUDY), STEP)
    between = Dataset()
    between.PerformedProcedureStepEndDate = "20260314"
    between.PerformedSeriesSequence = [performed(SERIES, [f"{SERIES}.1"])]
    assert modality.change(between, STEP).Status == 0
    assert room.step().ended == "20260314"
    assert room.rings == []

    assert modality.change(ended(None, "DISCONTINUED"), STEP).Status == 0

    known = room.step()
    assert known.state is StepState.DISCONTINUED
    assert known.objects() == [f"{SERIES}.1"]
    assert room.rings == [1]


@pytest.mark.parametrize("state", ["COMPLETED", "DISCONTINUED"])
def test_step_that_has_ended_stays_as_it_is(room: Room, modality: Modality, state: str) -> None:
    modality.create(begun(STUDY), STEP)
    modality.change(ended(NAMED, state), STEP)
    before = room.step()

    answer = modality.change(ended({}, "COMPLETED"), STEP)

    assert (answer.Status, answer.ErrorID) == (0x0110, 0xA710)
    assert answer.ErrorComment == "Performed Procedure Step Object may no longer be updated"
    assert room.step() == before


def test_uid_that_is_known_and_one_that_is_not(room: Room, modality: Modality) -> None:
    modality.create(begun(STUDY), STEP)
    before = room.step()

    assert modality.create(begun("1.2.9"), STEP).Status == 0x0111
    assert modality.change(ended(NAMED), "1.2.99").Status == 0x0112
    assert room.step() == before


def _without(*keywords: str) -> Callable[[Dataset], None]:
    def spoil(data: Dataset) -> None:
        for keyword in keywords:
            delattr(data, keyword)

    return spoil


def _with(**values: object) -> Callable[[Dataset], None]:
    def spoil(data: Dataset) -> None:
        for keyword, value in values.items():
            setattr(data, keyword, value)

    return spoil


def _item(keyword: str, **values: object) -> Callable[[Dataset], None]:
    def spoil(data: Dataset) -> None:
        for name, value in values.items():
            if value is None:
                delattr(data[keyword][0], name)
            else:
                setattr(data[keyword][0], name, value)

    return spoil


def _naming(uid: str) -> Callable[[Dataset], None]:
    def spoil(data: Dataset) -> None:
        data.PerformedSeriesSequence[0].ReferencedImageSequence = [reference(uid)]

    return spoil


_SCHEDULED = "ScheduledStepAttributesSequence"


@pytest.mark.parametrize(
    ("spoil", "status", "missing"),
    [
        (_without("PerformedProcedureStepStatus"), 0x0120, 0x00400252),
        (_with(PerformedProcedureStepStatus=""), 0x0121, None),
        (_with(PerformedProcedureStepStatus="COMPLETED"), 0x0106, None),
        (_with(PerformedProcedureStepStatus="SCHEDULED"), 0x0106, None),
        (_without(_SCHEDULED), 0x0120, 0x00400270),
        (_with(**{_SCHEDULED: []}), 0x0121, None),
        (_item(_SCHEDULED, StudyInstanceUID=None), 0x0120, 0x0020000D),
        (_item(_SCHEDULED, StudyInstanceUID=""), 0x0121, None),
        (_item(_SCHEDULED, StudyInstanceUID="1.2.*"), 0x0106, None),
        (_item(_SCHEDULED, StudyInstanceUID="1." + "2" * 63), 0x0106, None),
    ],
)
def test_begin_that_cannot_be_taken(
    room: Room,
    modality: Modality,
    spoil: Callable[[Dataset], None],
    status: int,
    missing: int | None,
) -> None:
    with disable_value_validation():
        data = begun(STUDY)
        spoil(data)
        answer = modality.create(data, STEP)

    assert answer.Status == status
    assert answer.get("AttributeIdentifierList") == missing
    assert answer.ErrorComment
    assert room.steps.find(STEP) is None
    assert modality.create(begun(STUDY), STEP).Status == 0


@pytest.mark.parametrize(
    ("spoil", "status"),
    [
        (_with(PerformedProcedureStepStatus="DONE"), 0x0106),
        (_with(PerformedProcedureStepStatus=""), 0x0121),
        (_item("PerformedSeriesSequence", SeriesInstanceUID="../../etc"), 0x0106),
        (_naming("x"), 0x0106),
        (_naming(""), 0x0121),
        (_item("PerformedSeriesSequence", ReferencedImageSequence=[Dataset()]), 0x0120),
    ],
)
def test_end_that_cannot_be_taken_leaves_the_step_as_it_is(
    room: Room, modality: Modality, spoil: Callable[[Dataset], None], status: int
) -> None:
    modality.create(begun(STUDY), STEP)
    before = room.step()
    with disable_value_validation():
        data = ended(NAMED)
        spoil(data)
        answer = modality.change(data, STEP)

    assert answer.Status == status
    assert room.step() == before
    assert room.rings == []
    assert modality.change(ended(NAMED), STEP).Status == 0


def test_what_an_end_must_not_change_is_left(room: Room, modality: Modality) -> None:
    modality.create(begun(STUDY), STEP)
    data = ended(NAMED)
    data.PatientID = data.Modality = data.PerformedStationAETitle = "OTHER"
    data.ScheduledStepAttributesSequence = begun("1.2.9").ScheduledStepAttributesSequence

    assert modality.change(data, STEP).Status == 0
    assert (room.step().patient, room.step().studies) == ("P1", (STUDY,))
    assert (room.step().modality, room.step().station) == ("CT", "CT1")


def test_uid_that_is_none_is_refused(room: Room, modality: Modality) -> None:
    with disable_value_validation():
        answer = modality.create(begun(STUDY), "1.2.x")

    assert answer.Status == 0x0117


def test_steps_of_a_title_are_limited(
    room: Room, modality: Modality, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(performed_steps, "MOST_OF_NODE", 2)
    monkeypatch.setattr(performed_steps, "MOST_OF_STRANGER", 1)
    assert modality.create(begun(STUDY), None).Status == 0
    room.nodes.clear()
    assert modality.create(begun(STUDY), None).Status == 0x0213
    room.nodes.add("CT1")
    assert modality.create(begun(STUDY), None).Status == 0
    assert modality.create(begun(STUDY), None).Status == 0x0213


def test_disk_reserve_is_kept(room: Room, modality: Modality) -> None:
    modality.create(begun(STUDY), STEP)
    before = room.step()
    room.full = True

    assert modality.create(begun(STUDY), "1.2.77.2").Status == 0x0213
    answer = modality.change(ended(NAMED), STEP)
    assert (answer.Status, answer.ErrorComment) == (0x0213, "the disk of the database is full")
    assert (room.step(), room.steps.find("1.2.77.2"), room.rings) == (before, None, [])

    room.full = False
    assert modality.change(ended(NAMED), STEP).Status == 0


def test_steps_of_a_study_are_limited(
    room: Room, modality: Modality, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps_module, "MOST_OF_STUDY", 2)
    monkeypatch.setattr(steps_module, "MOST_NAMED_OF_STUDY", 3)
    assert modality.create(begun(STUDY), STEP).Status == 0
    assert modality.create(begun(STUDY), "1.2.77.2").Status == 0
    assert modality.create(begun("1.2.3.9", STUDY), "1.2.77.3").Status == 0x0213
    assert modality.create(begun("1.2.3.9"), "1.2.77.3").Status == 0

    assert modality.change(ended(NAMED), STEP).Status == 0
    assert modality.change(ended(NAMED), "1.2.77.2").Status == 0x0213
    assert room.step("1.2.77.2").state is StepState.IN_PROGRESS
    assert modality.change(ended({SERIES: [f"{SERIES}.3"]}), "1.2.77.2").Status == 0


def test_lists_are_limited(room: Room, modality: Modality, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_data, "MOST_OBJECTS", 3)
    monkeypatch.setattr(step_data, "MOST_SERIES", 2)
    monkeypatch.setattr(step_data, "MOST_SCHEDULED", 2)
    modality.create(begun(STUDY), STEP)
    two = [f"{SERIES}.1", f"{SERIES}.2"]
    too_many_objects = ended({SERIES: two, f"{SERIES}.9": ["1.2.8.1", "1.2.8.2"]})
    the_same_again = ended({SERIES: two, f"{SERIES}.9": two})
    too_many_series = ended({f"{SERIES}.{number}": [] for number in range(3)})
    too_many_studies = begun(*(f"1.2.3.{number}" for number in range(3)))

    assert modality.change(too_many_objects, STEP).Status == 0x0213
    assert modality.change(the_same_again, STEP).Status == 0x0213
    assert modality.change(too_many_series, STEP).Status == 0x0213
    assert modality.create(too_many_studies, None).Status == 0x0213
    assert room.step().series == ()


def test_thousands_of_objects_are_kept_and_too_long_a_data_set_is_not(
    room: Room, modality: Modality
) -> None:
    modality.create(begun(STUDY), STEP)
    objects = [f"1.2.826.0.1.3680043.8.498.{'7' * 20}.{number}" for number in range(12_000)]
    too_long = ended(NAMED)
    too_long.add_new(0x00091001, "OB", bytes(LONGEST_LIST))

    assert modality.change(too_long, STEP).Status == 0x0213
    assert modality.change(ended({SERIES: objects}), STEP).Status == 0
    assert room.step().objects() == objects


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DatabaseAway("the server is down"), 0x0213),
        (StoreError("the database refused a row"), 0x0110),
    ],
)
def test_step_that_cannot_be_written_down_is_refused(
    room: Room,
    modality: Modality,
    monkeypatch: pytest.MonkeyPatch,
    error: StoreError,
    status: int,
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    modality.create(begun(STUDY), STEP)
    monkeypatch.setattr(room.steps, "create", fail)
    monkeypatch.setattr(room.steps, "change", fail)

    assert modality.create(begun(STUDY), None).Status == status
    assert modality.change(ended(NAMED), STEP).Status == status
    assert room.rings == []


def _message(field: CommandField, data: bytes | None, **names: str) -> bytes:
    command = Command(command_field=field, message_id=5, has_data_set=data is not None, **names)
    stream = p_data(3, 3, encode_command(command))
    return stream if data is None else stream + p_data(3, 2, data)


def test_deflated_data_set_counts_by_what_is_in_it(room: Room, modality: Modality) -> None:
    modality.create(begun(STUDY), STEP)
    wanted = request(Proposal(3, PERFORMED_STEP, (DEFLATED,)))
    plain = encode(ended(NAMED), is_implicit_vr=False, is_little_endian=True)
    assert plain is not None
    blank = b"\x09\0\x01\x10OB\0\0" + LONGEST_LIST.to_bytes(4, "little")
    bomb = deflate([blank, bytes(LONGEST_LIST), plain])
    assert len(bomb) < 10_000
    names = {"requested_sop_class": PERFORMED_STEP, "requested_sop_instance": STEP}
    with Raw.to(room.port) as raw:
        raw.associate(wanted)
        for data, status in (
            (bomb, 0x0213),
            (b"\xff" * 64, 0x0110),
            (deflate([plain]), 0),
        ):
            raw.send(_message(CommandField.N_SET_RQ, data, **names))
            assert raw.read_command().status == status
            assert room.step().state.is_final is not bool(status)
        raw.release()
    assert room.step().objects() == NAMED[SERIES]


_SEQUENCE = b"\x40\0\x70\x02SQ\0\0"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (None, 0x0120),
        (b"", 0x0120),
        (b"\xff" * 64, 0x0110),
        (_SEQUENCE + b"\xff\xff\xff\xff" + b"A" * 9, 0x0110),
        (b"\x40\0\x52\x02CS\x0c\0IN PROGRESS " + _SEQUENCE + b"\x08\0\0\0" + b"B" * 8, 0x0110),
    ],
    ids=["none", "empty", "noise", "open end", "broken item"],
)
def test_data_set_that_is_none(room: Room, data: bytes | None, status: int) -> None:
    wanted = request(*proposals(VERIFICATION, PERFORMED_STEP))
    with Raw.to(room.port) as raw:
        raw.associate(wanted)
        raw.send(_message(CommandField.N_CREATE_RQ, data, sop_class=PERFORMED_STEP))
        assert raw.read_command().status == status
        assert raw.echo().status == 0
        raw.release()


@pytest.mark.parametrize(
    ("names", "status"),
    [
        ({"requested_sop_class": "1.2.3", "requested_sop_instance": STEP}, 0x0118),
        ({"requested_sop_class": PERFORMED_STEP}, 0x0117),
        ({"requested_sop_class": PERFORMED_STEP, "requested_sop_instance": "9" * 80}, 0x0117),
        ({"requested_sop_instance": STEP}, 0x0120),
    ],
)
def test_end_of_something_that_is_no_step(room: Room, names: dict[str, str], status: int) -> None:
    wanted = request(*proposals(VERIFICATION, PERFORMED_STEP))
    with Raw.to(room.port) as raw:
        raw.associate(wanted)
        raw.send(_message(CommandField.N_SET_RQ, None, **names))
        answer = raw.read_command()
        assert (answer.status, answer.command_field) == (status, 0x8120)
        raw.release()
