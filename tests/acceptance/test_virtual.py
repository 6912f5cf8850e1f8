"""Virtual servers: a gateway that offers what other archives have, each of them the real thing."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE, evt

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node, run_dgate
from tests.acceptance.peers import QrScp, StoreScp, find, run_dcmtk, store
from tests.acceptance.processes import wait_until
from tests.acceptance.rawdicom import (
    EXPLICIT_LE,
    IMPLICIT_LE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
    Offer,
    RawAssociation,
    identifier,
)
from tests.generate import Generated, Plan, data_set_of, write_files
from tests.reactor import steadied

PEERS = ("dgate", "orthanc", "dcmqrscp")


@dataclass(slots=True)
class Site:
    """A front gateway, the archive behind it, and a receiver that the front knows."""

    front: Gateway
    back_port: int
    sink: StoreScp


def behind(farm: Farm, kind: str, front: Node) -> Node:
    """Start an archive of a kind that knows the front; return its line for acrnema.map."""
    if kind == "dgate":
        back = farm.gateway("back", settings={"MyACRNema": "BACK"}, nodes=[front])
        return Node("BACK", back.port)
    if kind == "orthanc":
        return farm.orthanc(nodes=[front]).node
    peer = QrScp.create(farm.folder / "qrscp", farm.ports, nodes=[front])
    farm.add(peer.process)
    return peer.start().node


def site(farm: Farm, kind: str, **settings: object) -> Site:
    """Start a front gateway with one virtual server."""
    port = farm.ports.take()
    back = behind(farm, kind, Node("FRONT", port))
    sink = farm.sink()
    front = farm.gateway(
        "front",
        settings={
            "TCPPort": port,
            "MyACRNema": "FRONT",
            "VirtualServerFor0": back.title,
            "EnableComputedFields": 1,
            **settings,
        },
        nodes=[back, sink.node],
    )
    return Site(front, back.port, sink)


@pytest.fixture(params=PEERS)
def peer_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def title_of(kind: str) -> str:
    return {"dgate": "BACK", "orthanc": "ORTHANC", "dcmqrscp": "QRSCP"}[kind]


def give(port: int, items: list[Generated], called: str) -> None:
    """Store objects at an archive."""
    answers = store(port, *[item.path for item in items], called=called)
    assert all(answer.is_success for answer in answers)


def instances(gateway: Gateway, study: str, series: str, folder: Path) -> set[str]:
    """Ask a gateway which images a series has."""
    keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": ""}
    return {
        str(answer.SOPInstanceUID)
        for answer in find(gateway.port, keys, folder, level="IMAGE", called="FRONT")
    }


def move(front: Gateway, study: str, destination: str = "SINK") -> str:
    """Have the front send a study to the receiver; return what movescu printed."""
    return run_dcmtk(
        "movescu", "-v", "-S", "-aec", "FRONT", "-aem", destination,
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}",
        "127.0.0.1", str(front.port), check=False,
    ).stdout  # fmt: skip


def stored_here(gateway: Gateway) -> int:
    """Count the objects in the gateway's own index."""
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as connection:
        return int(connection.execute("SELECT count(*) FROM DICOMImages").fetchone()[0])


def bytes_at(sink: StoreScp) -> dict[str, bytes]:
    return {uid: data_set_of(path.read_bytes()) for uid, path in sink.files().items()}


def bytes_of(items: list[Generated]) -> dict[str, bytes]:
    return {item.sop_instance: data_set_of(item.path.read_bytes()) for item in items}


def test_a_query_finds_what_the_virtual_server_has(
    farm: Farm, peer_kind: str, objects: list[Generated], tmp_path: Path
) -> None:
    place = site(farm, peer_kind)
    give(place.back_port, objects, title_of(peer_kind))

    studies = find(
        place.front.port,
        {"PatientID": "", "StudyInstanceUID": "", "StudyDate": ""},
        tmp_path,
        called="FRONT",
    )
    patients = find(
        place.front.port, {"PatientID": objects[0].patient_id, "PatientName": ""}, tmp_path,
        level="PATIENT", model="-P", called="FRONT",
    )  # fmt: skip

    assert {str(each.StudyInstanceUID) for each in studies} == {
        objects[0].study,
        objects[10].study,
    }
    assert {str(each.RetrieveAETitle) for each in studies} == {"FRONT"}
    assert [str(each.PatientID) for each in patients] == [objects[0].patient_id]
    assert instances(place.front, objects[0].study, objects[0].series, tmp_path) == {
        item.sop_instance for item in objects[:10]
    }


def test_a_move_brings_what_only_the_virtual_server_has_and_keeps_it(
    farm: Farm, peer_kind: str, objects: list[Generated]
) -> None:
    place = site(farm, peer_kind)
    give(place.back_port, objects[:10], title_of(peer_kind))

    output = move(place.front, objects[0].study)

    assert "Received Final Move Response (Success)" in output, place.front.log
    assert set(place.sink.files()) == {item.sop_instance for item in objects[:10]}
    assert stored_here(place.front) == 10


@pytest.mark.parametrize("overlap", [0, 3])
def test_what_is_not_kept_is_passed_on_all_the_same(
    farm: Farm, peer_kind: str, objects: list[Generated], overlap: int
) -> None:
    place = site(farm, peer_kind, CacheVirtualData=0, OverlapVirtualGet=overlap)
    give(place.back_port, objects[:10], title_of(peer_kind))

    output = move(place.front, objects[0].study)

    assert "Received Final Move Response (Success)" in output, place.front.log
    assert set(place.sink.files()) == {item.sop_instance for item in objects[:10]}
    assert stored_here(place.front) == 0
    assert place.front.stored_files() == []


def test_a_get_brings_what_is_here_and_what_is_elsewhere_once(
    farm: Farm, peer_kind: str, objects: list[Generated], tmp_path: Path
) -> None:
    place = site(farm, peer_kind)
    give(place.back_port, objects[:8], title_of(peer_kind))
    give(place.front.port, objects[5:10], "FRONT")
    received = tmp_path / "received"
    received.mkdir()

    result = run_dcmtk(
        "getscu", "-v", "-S", "+B", "-aec", "FRONT", "-od", received,
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={objects[0].study}",
        "127.0.0.1", str(place.front.port),
    )  # fmt: skip

    assert "Number of Completed Suboperations : 10" in result.stdout, place.front.log
    assert len(list(received.iterdir())) == 10
    assert stored_here(place.front) == 10


def test_what_passes_unkept_and_unconverted_has_the_same_bytes(
    farm: Farm, objects: list[Generated]
) -> None:
    place = site(farm, "dgate", CacheVirtualData=0)
    give(place.back_port, objects[:10], "BACK")

    move(place.front, objects[0].study)

    assert bytes_at(place.sink) == bytes_of(objects[:10])


def test_a_server_that_knows_no_way_to_us_is_asked_by_get(
    farm: Farm, objects: list[Generated]
) -> None:
    peer = QrScp.create(farm.folder / "qrscp", farm.ports)
    farm.add(peer.process)
    peer.start()
    sink = farm.sink()
    front = farm.gateway(
        settings={"MyACRNema": "FRONT", "VirtualServerFor0": "QRSCP"}, nodes=[peer.node, sink.node]
    )
    give(peer.port, objects[:10], "QRSCP")

    output = move(front, objects[0].study)

    assert "Received Final Move Response (Success)" in output, front.log
    assert bytes_at(sink) == bytes_of(objects[:10])
    assert stored_here(front) == 10
    assert "asked with C-GET" in front.log


def test_fetched_objects_pass_no_converters(farm: Farm, objects: list[Generated]) -> None:
    place = site(
        farm,
        "dgate",
        ImportConverter0='set PatientName to "CHANGED"',
        ExportConverters=1,
        ExportConverter0="forward to SINK",
    )
    give(place.back_port, objects[:3], "BACK")

    move(place.front, objects[0].study)
    give(place.front.port, objects[10:11], "FRONT")
    place.sink.wait_for(4)

    received = bytes_at(place.sink)
    assert {uid: data for uid, data in received.items() if uid != objects[10].sop_instance} == (
        bytes_of(objects[:3])
    )
    assert b"CHANGED" in received[objects[10].sop_instance]
    assert "3 " not in run_dgate("queue", "list", "-c", str(place.front.folder)).stdout


def test_answers_are_merged_and_counts_are_the_largest(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    place = site(farm, "dgate")
    give(place.back_port, objects[:10], "BACK")
    give(place.front.port, objects[8:12], "FRONT")

    counted = find(
        place.front.port,
        {"StudyInstanceUID": "", "NumberOfStudyRelatedInstances": "", "ModalitiesInStudy": ""},
        tmp_path,
        called="FRONT",
    )
    plain = find(place.front.port, {"StudyInstanceUID": ""}, tmp_path, called="FRONT")

    assert {
        (str(each.StudyInstanceUID), int(each.NumberOfStudyRelatedInstances)) for each in counted
    } == {(objects[0].study, 10), (objects[10].study, 2)}
    assert {str(each.ModalitiesInStudy) for each in counted} == {"MR"}
    assert sorted(str(each.StudyInstanceUID) for each in plain) == sorted(
        [objects[0].study, objects[10].study]
    )


def test_a_server_that_is_down_costs_only_its_answers(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    nobody = Node("NOBODY", farm.ports.take())
    back = farm.gateway("back", settings={"MyACRNema": "BACK"})
    sink = farm.sink()
    front = farm.gateway(
        "front",
        settings={
            "MyACRNema": "FRONT",
            "VirtualServerFor0": "NOBODY",
            "VirtualServerFor3": "BACK",
        },
        nodes=[nobody, Node("BACK", back.port), sink.node],
    )
    give(back.port, objects[10:12], "BACK")
    give(front.port, objects[:10], "FRONT")

    found = find(front.port, {"StudyInstanceUID": ""}, tmp_path, called="FRONT")
    output = move(front, objects[0].study)

    assert [str(each.StudyInstanceUID) for each in found] == [objects[0].study, objects[10].study]
    assert "Received Final Move Response (Success)" in output
    assert len(sink.files()) == 10
    assert "virtual server NOBODY did not answer FINDSCU" in front.log


def test_a_server_that_says_nothing_is_given_up(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        front = farm.gateway(
            settings={"VirtualServerFor0": "SILENT", "TCPIPTimeOut": 3},
            nodes=[Node("SILENT", silent.getsockname()[1])],
        )
        give(front.port, objects[:1], "DGATE")

        found = find(front.port, {"StudyInstanceUID": "", "ModalitiesInStudy": ""}, tmp_path)

    assert [str(each.StudyInstanceUID) for each in found] == [objects[0].study]
    assert "virtual server SILENT did not answer" in front.log


def test_an_object_that_nobody_gives_is_counted_failed(
    farm: Farm, objects: list[Generated]
) -> None:
    place = site(farm, "dgate", VirtualServerFor0="BACK")
    give(place.back_port, objects[:10], "BACK")
    back = farm.folder / "back" / "data"
    lost = next(
        path
        for path in back.rglob("*.dcm")
        if objects[4].sop_instance.encode() in path.read_bytes()
    )
    lost.unlink()

    output = move(place.front, objects[0].study)

    assert (
        "Received Final Move Response (Warning: SubOperationsCompleteOneOrMoreFailures)" in output
    )
    assert set(place.sink.files()) == {
        item.sop_instance for item in objects[:10] if item is not objects[4]
    }
    assert f"Object {objects[4].sop_instance} could not be fetched" in place.front.log


def test_another_server_is_asked_for_what_the_first_does_not_give(
    farm: Farm, objects: list[Generated]
) -> None:
    port = farm.ports.take()
    front_node = Node("FRONT", port)
    first = farm.gateway("first", settings={"MyACRNema": "FIRST"}, nodes=[front_node])
    second = farm.gateway("second", settings={"MyACRNema": "SECOND"}, nodes=[front_node])
    sink = farm.sink()
    front = farm.gateway(
        "front",
        settings={
            "TCPPort": port,
            "MyACRNema": "FRONT",
            "VirtualServerFor0": "FIRST",
            "VirtualServerFor1": "SECOND",
        },
        nodes=[Node("FIRST", first.port), Node("SECOND", second.port), sink.node],
    )
    give(first.port, objects[:6], "FIRST")
    give(second.port, objects[3:10], "SECOND")
    for path in first.stored_files():
        path.unlink()
    give(front.port, objects[:3], "FRONT")

    output = move(front, objects[0].study)

    assert "Received Final Move Response (Success)" in output, front.log
    assert bytes_at(sink) == bytes_of(objects[:10])


def test_two_gateways_that_name_each_other_come_to_an_end(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    gateways = ring(farm, "LEFT", "RIGHT")
    sink = farm.sink()
    left, right = gateways
    left.name_nodes([Node("RIGHT", right.port), sink.node])
    left.restart()
    give(right.port, objects[:10], "RIGHT")

    answers = find(left.port, {"StudyInstanceUID": ""}, tmp_path, called="LEFT")
    output = move(left, objects[0].study)

    assert [str(each.StudyInstanceUID) for each in answers] == [objects[0].study]
    assert "Received Final Move Response (Success)" in output, left.log + right.log
    assert bytes_at(sink) == bytes_of(objects[:10])


def ring(farm: Farm, *titles: str) -> list[Gateway]:
    """Start gateways each of which has the next one as its virtual server."""
    nodes = [Node(title, farm.ports.take()) for title in titles]
    return [
        farm.gateway(
            node.title.lower(),
            settings={
                "TCPPort": node.port,
                "MyACRNema": node.title,
                "VirtualServerFor0": nodes[(place + 1) % len(nodes)].title,
            },
            nodes=nodes,
        )
        for place, node in enumerate(nodes)
    ]


def test_three_gateways_in_a_ring_find_and_fetch_across_it(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    one, two, three = ring(farm, "ONE", "TWO", "THREE")
    give(three.port, objects[:10], "THREE")
    received = tmp_path / "received"
    received.mkdir()

    answers = find(one.port, {"StudyInstanceUID": ""}, tmp_path, called="ONE")
    result = run_dcmtk(
        "getscu", "-v", "-S", "+B", "-aec", "ONE", "-od", received,
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={objects[0].study}",
        "127.0.0.1", str(one.port),
    )  # fmt: skip

    assert [str(each.StudyInstanceUID) for each in answers] == [objects[0].study]
    assert "Number of Completed Suboperations : 10" in result.stdout, one.log + two.log
    assert [stored_here(each) for each in (one, two, three)] == [10, 10, 10]


def test_nonvirtual_keeps_a_server_from_asking_its_own(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    one, _, three = ring(farm, "ONE", "TWO", "THREE")
    one.configure(VirtualServerFor0="TWO,NONVIRTUAL")
    one.restart()
    give(three.port, objects[:10], "THREE")

    assert find(one.port, {"StudyInstanceUID": ""}, tmp_path, called="ONE") == []


def test_a_whole_series_is_fetched_in_one_request(farm: Farm, objects: list[Generated]) -> None:
    place = site(farm, "dcmqrscp", VirtualServerPerSeries0=4)
    give(place.back_port, objects[:10], "QRSCP")
    give(place.front.port, objects[:3], "FRONT")

    output = move(place.front, objects[0].study)

    assert "Received Final Move Response (Success)" in output, place.front.log
    assert len(place.sink.files()) == 10
    assert stored_here(place.front) == 10
    log = (farm.folder / "qrscp.log").read_text()
    assert log.count("Received Move SCP") + log.count("Received Move Request") == 1, log


@pytest.mark.parametrize("flag", ["CACHESERIES", "CACHESTUDIES"])
def test_a_list_of_images_is_remembered(farm: Farm, objects: list[Generated], flag: str) -> None:
    place = site(farm, "dgate", VirtualServerFor0=f"BACK,{flag}", CacheVirtualData=0)
    give(place.back_port, objects[:3], "BACK")
    move(place.front, objects[0].study)
    give(place.back_port, objects[3:10], "BACK")

    move(place.front, objects[0].study)

    assert len(place.sink.files()) == 3


def test_fixkodak_adds_and_removes_the_leading_zero(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    place = site(farm, "dgate", VirtualServerFor0="BACK,FIXKODAK")
    dataset = pydicom.dcmread(objects[0].path)
    dataset.PatientID = "01234567"
    dataset.save_as(tmp_path / "kodak.dcm")
    assert store(place.back_port, tmp_path / "kodak.dcm")[0].is_success

    found = find(
        place.front.port,
        {"PatientID": "1234567", "StudyInstanceUID": ""},
        tmp_path / "answers",
        called="FRONT",
    )

    assert [str(each.PatientID) for each in found] == ["1234567"]


def test_converters_choose_servers_and_change_questions_and_answers(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    nodes = [Node(f"BACK{number}", farm.ports.take()) for number in (0, 1)]
    for place, node in enumerate(nodes):
        back = farm.gateway(
            node.title.lower(), settings={"TCPPort": node.port, "MyACRNema": node.title}
        )
        give(back.port, objects[10 * place : 10 * place + 10], node.title)
    front = farm.gateway(
        "front",
        settings={
            "MyACRNema": "FRONT",
            "VirtualServerFor0": "BACK0",
            "VirtualServerFor1": "BACK1",
            "QueryConverter0": 'ifequal "%u", "FINDSCU"; virtualserver 1',
            "VirtualServerQueryConverter0": f'set PatientID to "{objects[10].patient_id}"',
            "VirtualServerQueryResultConverter0": 'set PatientName to "FROM %c"',
        },
        nodes=nodes,
    )

    keys = {"PatientID": "NOBODY", "PatientName": "", "StudyInstanceUID": ""}
    found = find(front.port, keys, tmp_path, called="FRONT")

    assert [str(each.StudyInstanceUID) for each in found] == [objects[10].study], front.log
    assert str(found[0].PatientName) == "FROM BACK1"


def test_objects_are_passed_on_while_others_arrive(farm: Farm, tmp_path: Path) -> None:
    many = write_files(tmp_path / "many", Plan(200, per_series=200))
    place = site(farm, "dgate", CacheVirtualData=0, OverlapVirtualGet=2)
    give(place.back_port, [many[0]], "BACK")
    assert all(each.is_success for each in store(place.back_port, many[0].path.parent))
    keys = identifier({0x00080052: "STUDY", 0x0020000D: many[0].study})

    with RawAssociation.open(place.front.port, [Offer(STUDY_ROOT_MOVE)], called="FRONT") as asking:
        context = asking.context_for(STUDY_ROOT_MOVE, EXPLICIT_LE)
        command = {0x0002: STUDY_ROOT_MOVE, 0x0100: 0x0021, 0x0110: 7, 0x0600: "SINK", 0x0700: 0}
        asking.send(context, command, keys)
        first = asking.receive()
        asking.send(context, {0x0100: 0x0FFF, 0x0120: 7})
        final = first
        while final.status == 0xFF00:
            final = asking.receive()

    assert first.number(0x1020) == 199
    assert final.status == 0xFE00
    assert final.number(0x1021) < 200
    leftovers = list((place.front.device() / "dgate").rglob("*.part"))
    wait_until(lambda: not any(path.exists() for path in leftovers), "held objects to be let go")


def test_a_server_that_the_map_does_not_name_is_a_check_error(farm: Farm) -> None:
    gateway = farm.gateway(
        settings={"VirtualServerFor0": "BCAK"}, nodes=[Node("BACK", 104)], start=False
    )

    result = run_dgate("check", "-c", str(gateway.folder))

    assert result.returncode == 1
    assert "VirtualServerFor0 names BCAK, which acrnema.map does not have" in result.stdout
    assert "did you mean BACK?" in result.stdout


def test_a_cancelled_move_stops_the_fetch(farm: Farm, tmp_path: Path) -> None:
    # So many that the cancellation arrives before the last of them, however busy the machine is.
    many = write_files(tmp_path / "many", Plan(300, per_series=300))
    place = site(farm, "dgate", CacheVirtualData=0, OverlapVirtualGet=1)
    assert all(each.is_success for each in store(place.back_port, many[0].path.parent))

    output = run_dcmtk(
        "movescu", "-v", "-S", "-aec", "FRONT", "-aem", "SINK", "--cancel", "2",
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={many[0].study}",
        "127.0.0.1", str(place.front.port), check=False,
    ).stdout  # fmt: skip

    assert "Received Final Move Response (Cancel" in output, output
    assert len(place.sink.files()) < 300
    wait_until(lambda: place.front.answers(), "the front to serve on")


class GenerousArchive:
    """An archive of pynetdicom's that sends what it was asked for, and more under the same move."""

    def __init__(self, title: str, front_port: int, items: list[Generated], more: Path) -> None:
        self._front = ("127.0.0.1", front_port)
        self._images = [pydicom.dcmread(item.path) for item in items]
        self._more = pydicom.dcmread(more)
        self.asked: list[str] = []
        """The levels of the C-MOVE requests."""
        self.statuses: list[int] = []
        """What the front answered to each C-STORE."""
        self._entity = entity = AE(ae_title=title)
        for context in (STUDY_ROOT_FIND, STUDY_ROOT_MOVE):
            entity.add_supported_context(context, [EXPLICIT_LE, IMPLICIT_LE])
        entity.add_requested_context(self._more.SOPClassUID, [EXPLICIT_LE, IMPLICIT_LE])
        handlers = [(evt.EVT_C_FIND, self._find), (evt.EVT_C_MOVE, self._move)]
        self._server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.node = Node(title, self._server.server_address[1])

    def close(self) -> None:
        """Stop to serve."""
        self._server.shutdown()

    def _find(self, event: evt.Event) -> Iterator[tuple[int, pydicom.Dataset | None]]:
        asked = event.identifier
        level = str(asked.QueryRetrieveLevel)
        unique = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID"}
        told: set[str] = set()
        for image in self._meant(asked):
            value = str(image[unique.get(level, "SOPInstanceUID")].value)
            if value in told:
                continue
            told.add(value)
            answer = pydicom.Dataset()
            answer.QueryRetrieveLevel = level
            for element in asked:
                if element.tag in image:
                    answer.add(image[element.tag])
            yield 0xFF00, answer

    def _move(self, event: evt.Event) -> Iterator[object]:
        asked = event.identifier
        self.asked.append(str(asked.QueryRetrieveLevel))
        # By hand: pynetdicom names itself as the origin, where the standard wants who asked.
        association = steadied(self._entity.associate(*self._front, ae_title="FRONT"))
        for image in [self._more, *self._meant(asked)]:
            origin = event.assoc.requestor.ae_title
            answer = association.send_c_store(
                image, originator_aet=origin, originator_id=event.request.MessageID
            )
            self.statuses.append(int(answer.Status))
        association.release()
        yield self._front
        yield 0

    def _meant(self, asked: pydicom.Dataset) -> list[pydicom.Dataset]:
        keys = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        found = self._images
        for key in keys:
            wanted = asked.get(key)
            if wanted:
                uids = [wanted] if isinstance(wanted, str) else list(wanted)
                found = [image for image in found if image[key].value in uids]
        return found


def test_an_object_of_another_series_that_comes_along_is_stored_as_any_other(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    """Its server names our C-MOVE as the origin; nobody else is going to send it again."""
    wanted, other = objects[:10], objects[10]
    assert wanted[0].series != other.series
    port = farm.ports.take()
    archive = GenerousArchive("BACK", port, wanted, other.path)
    try:
        sink = farm.sink()
        front = farm.gateway(
            "front",
            settings={
                "TCPPort": port,
                "MyACRNema": "FRONT",
                "VirtualServerFor0": "BACK",
                "VirtualServerPerSeries0": 4,
                "CacheVirtualData": 0,
                "ImportConverter0": 'set 0008,1030 to "BY A RULE"',
            },
            nodes=[archive.node, sink.node],
        )

        output = move(front, wanted[0].study)

        assert "Received Final Move Response (Success)" in output, front.log
        assert archive.asked == ["SERIES"]
        assert archive.statuses == [0] * 11
    finally:
        archive.close()
    # What was asked for is only passed on; what came along is kept, and passed the import rules.
    passed_on = sink.files()
    assert set(passed_on) == {item.sop_instance for item in wanted}
    descriptions = {pydicom.dcmread(path).StudyDescription for path in passed_on.values()}
    assert "BY A RULE" not in descriptions
    assert instances(front, other.study, other.series, tmp_path) == {other.sop_instance}
    assert stored_here(front) == 1
    [stored] = front.stored_files()
    assert pydicom.dcmread(stored).StudyDescription == "BY A RULE"
