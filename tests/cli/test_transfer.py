"""`dgate send` and `dgate get` against scripted services; with real nodes: tests/acceptance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pydicom
import pytest
from click.testing import CliRunner, Result

from dgate.cli.scu import get_command, send_command
from dgate.cli.transfer import GET_MODELS
from dgate.dicom.part10 import file_meta, read_meta
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import DgateError, PeerError
from dgate.net import STORAGE, Association, CommandField, Message, Status, store
from tests.archive.intake_kit import data_set, large_data_set
from tests.net.kit import CT, Server, answer_without_status, dead_port, serving

pytestmark = pytest.mark.integration

GET = GET_MODELS[False]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where there is no `conf/`."""
    monkeypatch.chdir(tmp_path)


def run(command: click.Command, port: int, *words: str) -> Result:
    return CliRunner().invoke(command, [f"NODE@127.0.0.1:{port}", *words])


def write(folder: Path, number: int, data: bytes | None = None) -> Path:
    """Write object `number` as a Part 10 file."""
    uid = f"1.2.3.{number}"
    folder.mkdir(exist_ok=True)
    path = folder / f"{number}.dcm"
    content = data_set(SOPInstanceUID=uid) if data is None else data
    path.write_bytes(file_meta(CT, uid, EXPLICIT_LE, "TEST") + content)
    return path


# send


def test_files_below_folders_are_sent_and_others_named(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    for number in range(3):
        write(folder, number)
    (folder / "note.txt").write_text("no object")
    (folder / "empty").touch()
    with serving() as server:
        result = run(send_command, server.port, str(folder))
        objects = sorted(server.objects)

    assert objects == sorted(data_set(SOPInstanceUID=f"1.2.3.{number}") for number in range(3))
    assert "3 of 3 object(s) accepted" in result.output
    assert result.output.count("is skipped") == 2
    assert "note.txt" in result.output
    assert result.exit_code == 1


def test_header_longer_than_a_first_look_is_read_to_its_end(tmp_path: Path) -> None:
    path = write(tmp_path, 1, data_set(SOPInstanceUID="1.2.3.1"))
    content = path.read_bytes()
    start = read_meta(content).data_offset
    # Private information in the file header (PS3.10 7.1) may be of any length.
    private = b"\2\0\2\1OB\0\0" + (300_000).to_bytes(4, "little") + bytes(300_000)
    length = int.from_bytes(content[140:144], "little") + len(private)
    path.write_bytes(
        content[:140]
        + length.to_bytes(4, "little")
        + content[144:start]
        + private
        + content[start:]
    )
    with serving() as server:
        result = run(send_command, server.port, str(path))
        assert server.objects == [content[start:]]

    assert result.exit_code == 0, result.output


def test_refused_object_is_named_with_its_status_and_the_others_go_on(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "files", number)

    def refuse_second(association: Association, message: Message) -> None:
        is_second = message.command.sop_instance == "1.2.3.1"
        status = Status.OUT_OF_RESOURCES if is_second else Status.COERCED
        association.respond(message, status, comment="full" if is_second else "")

    with serving(handlers={(CommandField.C_STORE_RQ, STORAGE): refuse_second}) as server:
        result = run(send_command, server.port, str(tmp_path / "files"))

    assert "2 of 3 object(s) accepted" in result.output
    assert "1.dcm: status A700" in result.output
    assert "full" in result.output
    assert result.exit_code == 1


def test_answer_without_a_status_is_not_taken_for_success(tmp_path: Path) -> None:
    path = write(tmp_path / "files", 1)
    handlers = {(CommandField.C_STORE_RQ, STORAGE): answer_without_status}
    with serving(handlers=handlers) as server:
        result = run(send_command, server.port, str(path))

    assert "1.dcm: status 0110" in result.output
    assert result.exit_code == 1


def test_association_that_is_lost_costs_one_object(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "files", number)
    seen: list[str] = []

    def crash_once(association: Association, message: Message) -> None:
        seen.append(message.command.sop_instance)
        if len(seen) == 1:
            association.abort("crash")
            raise ConnectionAbortedError
        association.respond(message)

    with serving(handlers={(CommandField.C_STORE_RQ, STORAGE): crash_once}) as server:
        result = run(send_command, server.port, str(tmp_path / "files"))

    assert "2 of 3 object(s) accepted" in result.output
    assert len(seen) == 3


def test_nothing_to_send_and_nobody_there_are_errors(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no object")
    with dead_port() as port:
        nothing = run(send_command, port, str(tmp_path / "note.txt"))
        nobody = run(send_command, port, str(write(tmp_path, 1)))

    assert isinstance(nothing.exception, DgateError)
    assert "no DICOM file" in str(nothing.exception)
    assert isinstance(nobody.exception, PeerError)


# get


class Giver:
    """Answers every C-GET with objects, under the first context that takes them."""

    def __init__(self, *objects: tuple[str, bytes]) -> None:
        self.objects = objects
        self.statuses: list[int | None] = []

    def get(self, association: Association, message: Message) -> None:
        """Answer a C-GET."""
        contexts = [
            each
            for each in association.contexts_for(CT)
            if each.scu_role and each.transfer_syntax == EXPLICIT_LE
        ]
        failed = 0
        for uid, content in self.objects:
            if not contexts:
                # The class is one of those that are offered over another association.
                failed += 1
                continue
            response = store(association, contexts[0].id, CT, uid, [content])
            self.statuses.append(response.status)
            failed += response.status != Status.SUCCESS
        association.respond(
            message,
            Status.SUBOPERATIONS_FAILED if failed else Status.SUCCESS,
            completed=len(self.objects) - failed,
            failed=failed,
            warning=0,
        )


@contextmanager
def giving(giver: Giver) -> Iterator[Server]:
    with serving(handlers={(CommandField.C_GET_RQ, GET): giver.get}) as server:
        yield server


@pytest.mark.parametrize("content", [data_set, large_data_set], ids=["small", "large"])
def test_fetched_objects_are_files_under_their_uid(tmp_path: Path, content: object) -> None:
    data = content(SOPInstanceUID="1.2.3.1")  # type: ignore[operator]
    with giving(Giver(("1.2.3.1", data))) as server:
        result = run(get_command, server.port, "-k", "StudyInstanceUID=1", "-o", "out/deep")

    assert result.exit_code == 0, result.output
    assert "1 completed, 0 failed" in result.output
    [path] = (tmp_path / "out" / "deep").iterdir()
    assert path.name == "1.2.3.1.dcm"
    stored = path.read_bytes()
    meta = read_meta(stored)
    assert stored[meta.data_offset :] == data
    assert (meta.syntax, meta.sop_instance) == (EXPLICIT_LE, "1.2.3.1")
    assert pydicom.dcmread(path).SOPInstanceUID == "1.2.3.1"


@pytest.mark.parametrize("uid", ["../../evil", "1.2/3", "..", "1..2", "x"])
def test_uid_that_is_none_becomes_no_file_name(tmp_path: Path, uid: str) -> None:
    giver = Giver((uid, data_set()))
    with giving(giver) as server:
        result = run(get_command, server.port, "-k", "StudyInstanceUID=1", "-o", "out/deep")

    assert giver.statuses == [Status.CANNOT_UNDERSTAND]
    assert isinstance(result.exception, PeerError)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_failure_of_a_further_association_is_not_taken_for_success(tmp_path: Path) -> None:
    """Not everything came over the first one, and the node fails when it is asked again."""
    asked: list[int] = []

    def fail_later(association: Association, message: Message) -> None:
        asked.append(1)
        if len(asked) == 1:
            association.respond(
                message, Status.SUBOPERATIONS_FAILED, completed=0, failed=1, warning=0
            )
        else:
            association.respond(message, Status.OUT_OF_RESOURCES, comment="no memory")

    with serving(handlers={(CommandField.C_GET_RQ, GET): fail_later}) as server:
        result = run(get_command, server.port, "-k", "StudyInstanceUID=1", "-o", "out")

    assert len(asked) == 2
    assert isinstance(result.exception, PeerError)
    assert "A700" in str(result.exception)


def test_end_without_a_status_is_not_taken_for_success(tmp_path: Path) -> None:
    with serving(handlers={(CommandField.C_GET_RQ, GET): answer_without_status}) as server:
        result = run(get_command, server.port, "-k", "StudyInstanceUID=1", "-o", "out")

    assert isinstance(result.exception, PeerError)
    assert "no status" in str(result.exception)


def test_object_that_comes_twice_is_kept_once(tmp_path: Path) -> None:
    first, second = data_set(PatientID="FIRST"), data_set(PatientID="SECOND")
    giver = Giver(("1.2.3.1.1.1", first), ("1.2.3.1.1.1", second))
    with giving(giver) as server:
        run(get_command, server.port, "-k", "StudyInstanceUID=1", "-o", "out")

    [path] = (tmp_path / "out").iterdir()
    assert path.read_bytes().endswith(first)
    assert giver.statuses == [Status.SUCCESS] * 2


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "1.2.3.1.1.1.dcm"
    target.mkdir()
    with giving(Giver(("1.2.3.1.1.1", data_set()))) as server:
        result = run(get_command, server.port, "-k", "StudyInstanceUID=1", "-o", "out")

    assert result.exit_code == 1
    assert result.exception is not None
