"""Other nodes as scripts talk to them, with a real server at the other end."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.config.nodes import NodeMap
from dgate.config.settings import default_settings
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import convert
from dgate.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from dgate.errors import RuleError
from dgate.net import Association, Command, CommandField, Message, Timeouts
from dgate.services.commandtable import command_table
from dgate.services.peers import Peers
from tests.acceptance.processes import Ports
from tests.archive.intake_kit import CT, LARGE_PIXELS
from tests.net.kit import STUDY_FIND, STUDY_GET, STUDY_MOVE, answer_without_status, serving
from tests.sites import AE, Site, instance, query, running_site

pytestmark = pytest.mark.integration

STUDY = "1.2.3.1"
SOP = 0x00080018


@pytest.fixture(scope="module")
def ports() -> Iterator[Ports]:
    ports = Ports()
    yield ports
    ports.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, ports: Ports) -> Iterator[Site]:
    """A gateway with three images of one study; node DEAD listens to nobody."""
    folder = tmp_path_factory.mktemp("peers") / "site"
    with running_site(folder, ports, f"DEAD 127.0.0.1 {ports.take()} as") as site:
        site.add(1)
        site.add(2)
        site.add(3, Rows=768, Columns=768, PixelData=LARGE_PIXELS)
        yield site


def found(tables: list[ElementTable] | None, tag: int) -> list[str]:
    assert tables is not None
    return sorted(table.text(tag) for table in tables)


# C-FIND


def test_query_finds_and_is_not_changed(site: Site) -> None:
    asked = query(PatientID="P1", StudyInstanceUID="")

    answers = site.peers.find(AE, "STUDY", asked)

    assert found(answers, 0x0020000D) == [STUDY]
    assert asked.tags() == [0x00100020, 0x0020000D]


@pytest.mark.parametrize(
    ("level", "tag", "expected"),
    [
        ("PATIENT", 0x00100020, ["P1"]),
        ("STUDY", 0x0020000D, [STUDY]),
        ("SERIES", 0x0020000E, ["1.2.3.1.1"]),
        ("image", SOP, ["1.2.3.1.1.1", "1.2.3.1.1.2", "1.2.3.1.1.3"]),
        ("PATIENTP", 0x00100020, ["P1"]),
        ("STUDYP", 0x0020000D, [STUDY]),
    ],
)
def test_every_level_is_asked_in_its_model(
    site: Site, level: str, tag: int, expected: list[str]
) -> None:
    asked = query(PatientID="P1", StudyInstanceUID=STUDY, SeriesInstanceUID="", SOPInstanceUID="")
    if level.startswith("PATIENT"):
        asked = query(PatientID="P1")

    assert found(site.peers.find(AE, level, asked), tag) == expected


def test_worklist_is_asked_without_a_level(site: Site) -> None:
    assert site.peers.find(AE, "WORKLIST", query(PatientID="NOBODY")) == []


def test_nothing_found_is_an_empty_list(site: Site) -> None:
    assert site.peers.find(AE, "STUDY", query(PatientID="NOBODY")) == []


@pytest.mark.parametrize("node", ["DEAD", "NOBODY"])
def test_node_that_cannot_be_asked_gives_none_and_a_warning(
    site: Site, node: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert site.peers.find(node, "STUDY", query(PatientID="P1")) is None
        assert site.peers.get(node, "STUDY", query(StudyInstanceUID=STUDY)) is None
        assert site.peers.echo(node) is None

    assert caplog.text.count(node) >= 3


def test_address_is_a_node(site: Site) -> None:
    node = f"127.0.0.1:{site.gateway.port}"

    assert found(site.peers.find(node, "STUDY", query(StudyInstanceUID="")), 0x0020000D) == [STUDY]


def test_unknown_level_is_a_mistake_of_the_script(site: Site) -> None:
    with pytest.raises(RuleError, match="SERIE"):
        site.peers.find(AE, "SERIE", query(PatientID="P1"))


@pytest.mark.parametrize("syntax", [IMPLICIT_LE, EXPLICIT_BE])
def test_query_in_another_encoding_is_converted(site: Site, syntax: str) -> None:
    asked = ElementTable(b"", syntax)
    asked.set_text(0x00100020, "P1")
    asked.set_text(0x0020000D, "")

    assert found(site.peers.find(AE, "STUDY", asked), 0x0020000D) == [STUDY]


def test_more_answers_than_the_memory_takes_are_refused(site: Site) -> None:
    generation = site.gateway.generation
    peers = Peers(generation.configuration.nodes, generation.settings, memory_limit_bytes=100)

    with pytest.raises(RuleError, match="memory"):
        peers.find(AE, "IMAGE", query(StudyInstanceUID=STUDY, SOPInstanceUID=""))
    with pytest.raises(RuleError, match="memory"):
        peers.get(AE, "STUDY", query(StudyInstanceUID=STUDY))


# C-GET


def test_get_brings_whole_objects(site: Site) -> None:
    tables = site.peers.get(AE, "STUDY", query(StudyInstanceUID=STUDY))

    assert found(tables, SOP) == ["1.2.3.1.1.1", "1.2.3.1.1.2", "1.2.3.1.1.3"]
    assert tables is not None
    large = next(table for table in tables if table.text(SOP).endswith(".3"))
    assert large.raw(0x7FE00010) == LARGE_PIXELS


def test_get_of_nothing_gives_none_or_nothing(site: Site) -> None:
    assert not site.peers.get(AE, "STUDY", query(StudyInstanceUID="9.9.9"))


def test_get_leaves_no_file(site: Site) -> None:
    site.peers.get(AE, "STUDY", query(StudyInstanceUID=STUDY))

    folder = site.gateway.settings.temp_dir
    assert not folder.exists() or list(folder.glob("dgate-*")) == []


# C-MOVE


def test_move_sends_and_tells_how_far_it_is(site: Site) -> None:
    progress: list[tuple[int, int]] = []
    asked = query(QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)

    problem = site.peers.move(
        AE, AE, asked, progress=lambda done, total: progress.append((done, total))
    )

    assert problem == ""
    assert progress
    assert progress[-1][1] == 3


def test_move_at_patient_level_takes_the_patient_root(site: Site) -> None:
    asked = query(QueryRetrieveLevel="PATIENT", PatientID="P1")

    assert site.peers.move(AE, AE, asked, patient_root=True) == ""


def test_move_takes_elements_into_the_command(site: Site) -> None:
    asked = query(QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)

    assert site.peers.move(AE, AE, asked, extra=query(x99990500="1")) == ""


def test_move_that_fails_says_why(site: Site) -> None:
    asked = query(QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)

    assert site.peers.move("NOBODY", AE, asked) == "***dicommove: AE not found: NOBODY"
    assert "cannot connect" in site.peers.move("DEAD", AE, asked)
    assert "A801" in site.peers.move(AE, "NOWHERE", asked)
    assert "QueryRetrieveLevel" in site.peers.move(AE, AE, query(StudyInstanceUID=STUDY))


def test_only_control_elements_join_a_command(site: Site) -> None:
    asked = query(QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)

    with pytest.raises(RuleError, match="0010,0020"):
        site.peers.move(AE, AE, asked, extra=query(PatientID="X"))


# C-STORE


def test_store_sends_each_object_and_tells_its_status(site: Site) -> None:
    objects = [
        instance(11, StudyInstanceUID="1.9", SeriesInstanceUID="1.9.1"),
        instance(12, StudyInstanceUID="1.9", SeriesInstanceUID="1.9.1", SOPClassUID=None),
        instance(13, StudyInstanceUID="1.9", SeriesInstanceUID="1.9.1", SOPClassUID="1.2.3"),
    ]

    answers = site.peers.store(AE, objects)

    assert not isinstance(answers, str)
    assert [(each.sop_instance, each.status) for each in answers] == [
        ("1.2.3.1.1.11", 0),
        ("1.2.3.1.1.12", None),
        ("1.2.3.1.1.13", None),
    ]
    assert "1.2.3.1.1.11" in site.instances()


def test_store_without_anything_to_send_reaches_nobody(site: Site) -> None:
    answers = site.peers.store(AE, [query(PatientID="X")])

    assert not isinstance(answers, str)
    assert [each.status for each in answers] == [None]


def test_store_to_nobody_is_a_text(site: Site) -> None:
    assert site.peers.store("DEAD", [instance(1)]) == "Failed to connect to host"


def test_object_is_converted_to_what_the_peer_takes() -> None:
    taken: list[tuple[str, bytes]] = []

    def keep(association: Association, message: Message) -> None:
        assert message.payload is not None
        taken.append((message.context.transfer_syntax, bytes(message.payload.view())))
        association.respond(message)

    with serving(handlers={(CommandField.C_STORE_RQ, CT): keep}) as server:
        line = f"SINK 127.0.0.1 {server.port} ui\n".encode()
        nodes = NodeMap.parse(line, "acrnema.map")[0]
        peers = Peers(nodes, default_settings(Path("/nonexistent")))
        answers = peers.store("SINK", [instance(1)])

    assert not isinstance(answers, str)
    assert answers[0].status == 0
    [(syntax, data)] = taken
    assert syntax == IMPLICIT_LE
    assert ElementTable(data, IMPLICIT_LE).text(SOP) == "1.2.3.1.1.1"


# A peer that leaves out the status


@pytest.fixture
def silent() -> Iterator[Peers]:
    """Peers with a node SILENT, whose answers lack Status (0000,0900)."""
    services = (
        (CommandField.C_FIND_RQ, STUDY_FIND),
        (CommandField.C_MOVE_RQ, STUDY_MOVE),
        (CommandField.C_GET_RQ, STUDY_GET),
        (CommandField.C_STORE_RQ, CT),
    )
    with serving(handlers=dict.fromkeys(services, answer_without_status)) as server:
        nodes = NodeMap.parse(f"SILENT 127.0.0.1 {server.port} un\n".encode(), "acrnema.map")[0]
        yield Peers(nodes, default_settings(Path("/nonexistent")))


def test_query_without_a_status_has_failed(silent: Peers, caplog: pytest.LogCaptureFixture) -> None:
    assert silent.find("SILENT", "STUDY", query(StudyInstanceUID=STUDY)) is None
    assert "0110" in caplog.text


def test_move_without_a_status_has_failed(silent: Peers) -> None:
    asked = query(QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)
    progress: list[tuple[int, int]] = []

    problem = silent.move(
        "SILENT", AE, asked, progress=lambda done, total: progress.append((done, total))
    )

    assert problem.startswith("***dicommove: SILENT answered 0110")
    assert progress == []


def test_get_without_a_status_has_failed(silent: Peers, caplog: pytest.LogCaptureFixture) -> None:
    assert silent.get("SILENT", "STUDY", query(StudyInstanceUID=STUDY)) is None
    assert "was answered 0110" in caplog.text


def test_object_answered_without_a_status_was_not_taken(
    silent: Peers, caplog: pytest.LogCaptureFixture
) -> None:
    answers = silent.store("SILENT", [instance(1)])

    assert not isinstance(answers, str)
    assert [each.status for each in answers] == [0x0110]
    assert "with 0110" in caplog.text


# C-ECHO


def test_echo_returns_the_response(site: Site) -> None:
    response = site.peers.echo(AE)

    assert response is not None
    assert response.text(0x00000900) == "0"
    assert response.text(0x00000002) == "1.2.840.10008.1.1"


def test_command_in_an_echo_is_only_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dgate.services.verification"):
        response = site.peers.echo(AE, query(x99990400="display_status:"))

    assert response is not None
    assert response.text(0x00000900) == "0"
    assert 0x99990401 not in response


def test_extra_elements_of_a_response_are_there() -> None:
    extra = query(x99990401="text")
    data = ElementTable(extra.tobytes(), EXPLICIT_LE)
    command = Command(
        command_field=0x8030, status=0, extra=convert(data.tobytes(), EXPLICIT_LE, IMPLICIT_LE)
    )

    table = command_table(command)

    assert table.text(0x99990401) == "text"
    assert table.text(0x00000900) == "0"


def test_peer_that_says_nothing_is_left(
    tmp_path: Path, ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The set-up of an association has a time of its own, half a minute.
    hasty = Timeouts(artim_s=0.5)
    monkeypatch.setattr(Timeouts, "of", lambda tcpip_timeout_s: hasty)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with running_site(
            tmp_path / "site", ports, f"SILENT 127.0.0.1 {port} as", TCPIPTimeOut="1"
        ) as site:
            assert site.peers.find("SILENT", "STUDY", query(PatientID="P1")) is None
