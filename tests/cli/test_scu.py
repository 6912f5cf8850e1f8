"""`dgate echo`, `find` and `move` against scripted services; with real nodes: tests/acceptance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from dgate.cli.scu import FIND_MODELS, MOVE_MODELS, echo_command, find_command, move_command
from dgate.config.soplist import SopList
from dgate.dicom.encode import encode_data_set
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import VERIFICATION
from dgate.errors import NoContext, PeerError
from dgate.net import Association, CommandField, Handler, Message, Policy, Status
from tests.net.kit import CT, Server, answer_without_status, serving

pytestmark = pytest.mark.integration

PATIENT_NAME, PATIENT_ID, LEVEL, STUDY = 0x00100010, 0x00100020, 0x00080052, 0x0020000D
FIND, PATIENT_FIND, MOVE = FIND_MODELS["study"], FIND_MODELS["patient"], MOVE_MODELS["study"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where there is no `conf/`."""
    monkeypatch.chdir(tmp_path)


def run(command: click.Command, server: Server, *words: str) -> Result:
    target = f"NODE@127.0.0.1:{server.port}"
    return CliRunner().invoke(command, [target, *words])


class Archive:
    """Answers every query with the same patients, and remembers what it was asked."""

    def __init__(self, *names: str, final: int = Status.SUCCESS) -> None:
        self.names = names
        self.final = final
        self.asked: list[ElementTable] = []
        self.cancelled = False

    def find(self, association: Association, message: Message) -> None:
        """Answer a C-FIND."""
        assert message.payload is not None
        syntax = message.context.transfer_syntax
        self.asked.append(ElementTable(bytes(message.payload.view()), syntax))
        for name in self.names:
            if association.cancelled(message.command.message_id):
                self.cancelled = True
                association.respond(message, Status.CANCEL)
                return
            data = encode_data_set({PATIENT_NAME: name, PATIENT_ID: "P"}, syntax, "ISO_IR 192")
            association.respond(message, Status.PENDING, data=[data])
        association.respond(message, self.final, comment="so it ended")

    def move(self, association: Association, message: Message) -> None:
        """Answer a C-MOVE with counters."""
        assert message.payload is not None
        syntax = message.context.transfer_syntax
        self.asked.append(ElementTable(bytes(message.payload.view()), syntax))
        association.respond(message, Status.PENDING, remaining=1, completed=1, failed=0, warning=0)
        association.respond(message, self.final, completed=1, failed=1, warning=0)


@contextmanager
def node(archive: Archive) -> Iterator[Server]:
    handlers: dict[tuple[CommandField, str], Handler] = {
        (CommandField.C_FIND_RQ, FIND): archive.find,
        (CommandField.C_FIND_RQ, PATIENT_FIND): archive.find,
        (CommandField.C_MOVE_RQ, MOVE): archive.move,
    }
    with serving(handlers=handlers) as server:
        yield server


def test_echo_says_that_the_node_answers() -> None:
    with serving() as server:
        result = run(echo_command, server, "--calling", "ME")
        assert [each.calling for each in server.served] == ["ME"]

    assert result.exit_code == 0, result.output
    assert "answers." in result.output


def test_echo_that_is_answered_by_a_failure_is_one() -> None:
    def refuse(association: Association, message: Message) -> None:
        association.respond(message, Status.PROCESSING_FAILURE, comment="not today")

    with serving(handlers={(CommandField.C_ECHO_RQ, VERIFICATION): refuse}) as server:
        result = run(echo_command, server)

    assert isinstance(result.exception, PeerError)
    assert "0110" in str(result.exception)
    assert "not today" in str(result.exception)


def test_answers_are_lines_with_tabs_and_the_keys_as_heading() -> None:
    archive = Archive("A^B", "Ä^Ö")
    with node(archive) as server:
        result = run(find_command, server, "-k", "PatientName=*", "-k", "0010,0040")

    lines = result.output.splitlines()
    heading = lines[0].split("\t")
    assert heading[0] == "PatientSex"
    at = heading.index("PatientName")
    assert [line.split("\t")[at] for line in lines[1:]] == ["A^B", "Ä^Ö"]
    [asked] = archive.asked
    assert (asked.text(LEVEL), asked.text(PATIENT_NAME)) == ("STUDY", "*")
    assert STUDY in asked


def test_answers_as_json_are_one_object_a_line() -> None:
    with node(Archive("A^B", "C")) as server:
        result = run(find_command, server, "--json", "-L", "patient")

    found = [json.loads(line) for line in result.output.splitlines()]
    assert [each["PatientName"] for each in found] == ["A^B", "C"]


def test_text_beyond_ascii_is_asked_for_in_utf8() -> None:
    archive = Archive()
    with node(archive) as server:
        run(find_command, server, "-k", "PatientName=MÜLLER*")
        run(find_command, server, "-k", "PatientName=MILLER*")

    assert [each.text(0x00080005) for each in archive.asked] == ["ISO_IR 192", ""]
    assert archive.asked[0].text(PATIENT_NAME) == "MÜLLER*"


def test_query_ends_after_as_many_answers_as_are_wanted() -> None:
    with node(Archive(*(f"N{number}" for number in range(5000)))) as server:
        result = run(find_command, server, "--limit", "3")

    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) == 4


def test_answers_before_a_failure_do_not_make_it_a_success() -> None:
    with node(Archive("A", final=Status.OUT_OF_RESOURCES)) as server:
        result = run(find_command, server, "--json")

    assert isinstance(result.exception, PeerError)
    assert "so it ended" in str(result.exception)
    assert json.loads(result.output.splitlines()[0])["PatientName"] == "A"


def test_model_follows_the_level_unless_it_is_named() -> None:
    archive = Archive()
    with node(archive) as server:
        run(find_command, server, "-L", "PATIENT")
        run(find_command, server, "-L", "STUDY", "--model", "patient")
        run(find_command, server, "-L", "SERIES")
        abstract = [
            context.abstract_syntax for each in server.served for context in each.contexts.values()
        ]

    assert abstract == [PATIENT_FIND, PATIENT_FIND, FIND]


def test_node_without_the_service_is_told() -> None:
    with serving(Policy(SopList(abstract=frozenset({VERIFICATION, CT})))) as server:
        result = run(find_command, server)

    assert isinstance(result.exception, NoContext | PeerError)


def test_unknown_key_is_told_before_anybody_is_asked() -> None:
    archive = Archive()
    with node(archive) as server:
        result = run(find_command, server, "-k", "PatientNam=*")

    assert result.exit_code == 2
    assert "neither a DICOM keyword" in result.output
    assert archive.asked == []


def test_move_that_is_incomplete_is_a_failure_with_its_counters() -> None:
    archive = Archive(final=Status.SUBOPERATIONS_FAILED)
    with node(archive) as server:
        result = run(move_command, server, "--to", "THERE", "-k", "StudyInstanceUID=1.2")

    assert "1 completed, 1 failed" in result.output
    assert isinstance(result.exception, PeerError)
    assert "incompletely" in str(result.exception)
    [asked] = archive.asked
    # Return keys have no place in the identifier of a retrieval.
    assert asked.tags() == [LEVEL, STUDY]


@pytest.mark.parametrize(
    ("command", "request_field", "sop_class", "words"),
    [
        (echo_command, CommandField.C_ECHO_RQ, VERIFICATION, ()),
        (find_command, CommandField.C_FIND_RQ, FIND, ("-k", "PatientID=P")),
        (move_command, CommandField.C_MOVE_RQ, MOVE, ("--to", "X", "-k", "StudyInstanceUID=1")),
    ],
    ids=["echo", "find", "move"],
)
def test_answer_without_a_status_is_an_error(
    command: click.Command, request_field: CommandField, sop_class: str, words: tuple[str, ...]
) -> None:
    with serving(handlers={(request_field, sop_class): answer_without_status}) as server:
        result = run(command, server, *words)

    assert isinstance(result.exception, PeerError)
    assert "no status" in str(result.exception)
