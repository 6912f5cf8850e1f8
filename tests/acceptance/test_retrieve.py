"""C-MOVE and C-GET against the real server with movescu, getscu and exact bytes."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from dgate.net import ContextProposal, Message, connect, get
from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import StoreScp, run_dcmtk, store
from tests.acceptance.rawdicom import (
    EXPLICIT_LE,
    IMPLICIT_LE,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    Offer,
    RawAssociation,
    Reply,
    identifier,
)
from tests.generate import Generated, Kind, Plan, data_set_of, write_files


@pytest.fixture(scope="module")
def sink(shared_farm: Farm) -> StoreScp:
    """Return a running receiver that the server knows as SINK."""
    return shared_farm.sink()


@pytest.fixture(scope="module")
def archive(shared_farm: Farm, sink: StoreScp, objects: list[Generated]) -> Gateway:
    """Return a server that holds the twenty objects and knows three destinations."""
    nodes = [sink.node, Node("DEAD", shared_farm.ports.take()), Node("IMPLICIT", sink.port, "un")]
    gateway = shared_farm.gateway(nodes=nodes)
    assert all(answer.is_success for answer in store(gateway.port, objects[0].path.parent))
    return gateway


@pytest.fixture
def empty_sink(sink: StoreScp) -> StoreScp:
    """Return the receiver with nothing in it."""
    for path in sink.folder.iterdir():
        path.unlink()
    return sink


def move(archive: Gateway, destination: str, **keys: str) -> str:
    """Run movescu and return what it printed."""
    words = [word for key, value in keys.items() for word in ("-k", f"{key}={value}")]
    result = run_dcmtk(
        "movescu", "-v", "-S", "-aem", destination, *words, "127.0.0.1", str(archive.port),
        check=False,
    )  # fmt: skip
    return result.stdout


def contents(items: list[Generated]) -> dict[str, bytes]:
    """Return the data sets of objects by SOP instance UID."""
    return {item.sop_instance: data_set_of(item.path.read_bytes()) for item in items}


@pytest.mark.parametrize(
    ("level", "key", "count"),
    [
        ("STUDY", "StudyInstanceUID", 10),
        ("SERIES", "SeriesInstanceUID", 10),
        ("IMAGE", "SOPInstanceUID", 1),
    ],
)
def test_move_sends_what_is_named_with_the_same_bytes(
    archive: Gateway,
    empty_sink: StoreScp,
    objects: list[Generated],
    level: str,
    key: str,
    count: int,
) -> None:
    wanted = objects[:count]
    values = {
        "StudyInstanceUID": wanted[0].study,
        "SeriesInstanceUID": wanted[0].series,
        "SOPInstanceUID": wanted[0].sop_instance,
    }

    output = move(archive, "SINK", QueryRetrieveLevel=level, **{key: values[key]})

    assert "Received Final Move Response (Success)" in output
    received = {uid: data_set_of(path.read_bytes()) for uid, path in empty_sink.files().items()}
    assert received == contents(wanted)


def test_move_of_a_whole_patient(
    archive: Gateway, empty_sink: StoreScp, objects: list[Generated]
) -> None:
    result = run_dcmtk(
        "movescu", "-v", "-P", "-aem", "SINK", "-k", "QueryRetrieveLevel=PATIENT",
        "-k", f"PatientID={objects[0].patient_id}", "127.0.0.1", str(archive.port),
    )  # fmt: skip

    assert "Received Final Move Response (Success)" in result.stdout
    assert set(empty_sink.files()) == {item.sop_instance for item in objects[:10]}


def test_move_back_to_the_caller_itself(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    port = farm.ports.take()
    gateway = farm.gateway(nodes=[Node("MOVESCU", port)])
    store(gateway.port, objects[0].path.parent)
    received = tmp_path / "received"
    received.mkdir()

    run_dcmtk(
        "movescu", "-S", "+P", str(port), "-od", received, "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={objects[0].study}", "127.0.0.1", str(gateway.port),
    )  # fmt: skip

    assert len(list(received.iterdir())) == 10


def test_move_counts_completed_objects(archive: Gateway, objects: list[Generated]) -> None:
    keys = identifier({0x00080052: "STUDY", 0x0020000D: objects[0].study})
    with RawAssociation.open(archive.port, [Offer(STUDY_ROOT_MOVE)]) as association:
        association.send(
            association.context_for(STUDY_ROOT_MOVE, EXPLICIT_LE),
            {0x0002: STUDY_ROOT_MOVE, 0x0100: 0x0021, 0x0110: 1, 0x0600: "SINK", 0x0700: 0},
            keys,
        )
        final = association.receive()
        while final.status == 0xFF00:
            assert final.number(0x1020) + final.number(0x1021) == 10
            final = association.receive()

    assert final.status == 0
    assert (final.number(0x1021), final.number(0x1022), final.number(0x1023)) == (10, 0, 0)


def test_move_to_an_unknown_destination_says_so(archive: Gateway, objects: list[Generated]) -> None:
    output = move(archive, "NOBODY", QueryRetrieveLevel="STUDY", StudyInstanceUID=objects[0].study)

    assert "MoveDestinationUnknown" in output


def test_move_to_a_dead_destination_fails_without_harm(
    archive: Gateway, objects: list[Generated]
) -> None:
    output = move(archive, "DEAD", QueryRetrieveLevel="STUDY", StudyInstanceUID=objects[0].study)

    assert "Received Final Move Response (Refused: OutOfResourcesSubOperations)" in output
    assert archive.answers()


def test_move_of_nothing_is_a_success_without_objects(
    archive: Gateway, empty_sink: StoreScp
) -> None:
    output = move(archive, "SINK", QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3.4")

    assert "Received Final Move Response (Success)" in output
    assert empty_sink.files() == {}


def test_move_without_the_unique_key_of_its_level_is_refused(
    archive: Gateway, empty_sink: StoreScp
) -> None:
    output = move(archive, "SINK", QueryRetrieveLevel="STUDY", PatientName="*")

    assert "DataSetDoesNotMatchSOPClass" in output
    assert empty_sink.files() == {}


def test_a_node_with_code_un_gets_implicit_little_endian(
    archive: Gateway, empty_sink: StoreScp, objects: list[Generated]
) -> None:
    output = move(
        archive, "IMPLICIT", QueryRetrieveLevel="IMAGE", SOPInstanceUID=objects[0].sop_instance
    )

    assert "Received Final Move Response (Success)" in output
    (path,) = empty_sink.files().values()
    assert IMPLICIT_LE.encode() + b"\0" in path.read_bytes()[:400]


def test_getscu_fetches_a_study_with_the_same_bytes(
    archive: Gateway, objects: list[Generated], tmp_path: Path
) -> None:
    result = run_dcmtk(
        "getscu", "-v", "-S", "+B", "-od", tmp_path, "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={objects[10].study}", "127.0.0.1", str(archive.port),
    )  # fmt: skip

    assert "Number of Completed Suboperations : 10" in result.stdout
    received = {data_set_of(path.read_bytes()) for path in tmp_path.iterdir()}
    assert received == set(contents(objects[10:]).values())


def test_get_counts_objects_whose_class_the_caller_did_not_offer_as_failed(
    archive: Gateway, objects: list[Generated]
) -> None:
    offers = [Offer(STUDY_ROOT_GET), Offer(Kind.CT.sop_class, scp_role=True)]
    with RawAssociation.open(archive.port, offers) as association:
        received, final = association.get({0x00080052: "STUDY", 0x0020000D: objects[0].study})

    assert received == []
    assert final.status == 0xA702
    assert (final.number(0x1021), final.number(0x1022)) == (0, 10)


def test_get_converts_for_a_caller_that_takes_implicit_only(
    archive: Gateway, objects: list[Generated]
) -> None:
    offers = [
        Offer(STUDY_ROOT_GET),
        Offer(Kind.SMALL.sop_class, (IMPLICIT_LE,), scp_role=True),
    ]
    with RawAssociation.open(archive.port, offers) as association:
        received, final = association.get({0x00080052: "STUDY", 0x0020000D: objects[0].study})

    assert final.status == 0
    assert {one.syntax for one in received} == {IMPLICIT_LE}
    # The pixels are the same, the header has another encoding.
    originals = contents(objects[:10])
    assert all(one.data[-2688:] == originals[one.sop_instance][-2688:] for one in received)
    assert all(one.data[:4] == b"\x08\x00\x05\x00" for one in received)


def test_an_object_whose_file_is_gone_is_counted_failed(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    gateway = farm.gateway()
    store(gateway.port, objects[0].path.parent)
    next(
        path
        for path in gateway.stored_files()
        if objects[0].sop_instance.encode() in path.read_bytes()
    ).unlink()
    offers = [Offer(STUDY_ROOT_GET), Offer(Kind.SMALL.sop_class, scp_role=True)]

    with RawAssociation.open(gateway.port, offers) as association:
        received, final = association.get({0x00080052: "STUDY", 0x0020000D: objects[0].study})

    assert len(received) == 9
    assert final.status == 0xB000
    assert (final.number(0x1021), final.number(0x1022)) == (9, 1)


def test_a_class_the_destination_refuses_costs_only_its_objects(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    pictures = write_files(tmp_path / "ct", Plan(4, Kind.CT, seed=5))
    mixed = [*objects[:4], *pictures]
    for item in mixed:
        dataset = pydicom.dcmread(item.path)
        dataset.StudyInstanceUID, dataset.PatientID = objects[0].study, objects[0].patient_id
        dataset.save_as(tmp_path / f"{item.sop_instance}.dcm")
    refusing = tmp_path / "only-mr.cfg"
    refusing.write_text(ONLY_MR)
    sink = farm.sink(options=("+B", "-xf", str(refusing), "OnlyMR"))
    gateway = farm.gateway(nodes=[sink.node])
    store(gateway.port, *tmp_path.glob("*.dcm"))
    keys = identifier({0x00080052: "STUDY", 0x0020000D: objects[0].study})

    with RawAssociation.open(gateway.port, [Offer(STUDY_ROOT_MOVE)]) as association:
        final = move_raw(association, keys)

    assert final.status == 0xB000
    assert (final.number(0x1021), final.number(0x1022)) == (4, 4)
    assert set(sink.files()) == {item.sop_instance for item in objects[:4]}
    assert all(item.sop_instance.encode() in final.data for item in pictures)


ONLY_MR = """\
[[TransferSyntaxes]]
[Uncompressed]
TransferSyntax1 = LocalEndianExplicit
TransferSyntax2 = LittleEndianImplicit
[[PresentationContexts]]
[MR]
PresentationContext1 = MRImageStorage\\Uncompressed
[[Profiles]]
[OnlyMR]
PresentationContexts = MR
"""


def move_raw(association: RawAssociation, keys: bytes, *, cancel_after: int | None = None) -> Reply:
    """Run a C-MOVE to SINK and return its final response."""
    context = association.context_for(STUDY_ROOT_MOVE, EXPLICIT_LE)
    command = {0x0002: STUDY_ROOT_MOVE, 0x0100: 0x0021, 0x0110: 7, 0x0600: "SINK", 0x0700: 0}
    association.send(context, command, keys)
    reply = association.receive()
    seen = 0
    while reply.status == 0xFF00:
        seen += 1
        if seen == cancel_after:
            association.send(context, {0x0100: 0x0FFF, 0x0120: 7})
        reply = association.receive()
    return reply


def test_a_cancelled_move_ends_early_and_says_what_is_left(farm: Farm, tmp_path: Path) -> None:
    many = write_files(tmp_path / "many", Plan(400, Kind.SMALL, per_series=400))
    sink = farm.sink()
    gateway = farm.gateway(nodes=[sink.node], settings={"Durability": "none"})
    store(gateway.port, many[0].path.parent)
    keys = identifier({0x00080052: "STUDY", 0x0020000D: many[0].study})

    with RawAssociation.open(gateway.port, [Offer(STUDY_ROOT_MOVE)]) as association:
        final = move_raw(association, keys, cancel_after=3)

    assert final.status == 0xFE00
    assert 3 <= final.number(0x1021) < 400
    assert final.number(0x1020) + final.number(0x1021) == 400
    assert final.number(0x1022) == 0
    assert len(sink.files()) == final.number(0x1021)


def test_movescu_can_cancel(farm: Farm, tmp_path: Path) -> None:
    many = write_files(tmp_path / "many", Plan(400, Kind.SMALL, per_series=400))
    sink = farm.sink()
    gateway = farm.gateway(nodes=[sink.node], settings={"Durability": "none"})
    store(gateway.port, many[0].path.parent)

    output = run_dcmtk(
        "movescu", "-v", "-S", "-aem", "SINK", "--cancel", "2",
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={many[0].study}",
        "127.0.0.1", str(gateway.port), check=False,
    ).stdout  # fmt: skip

    assert "Received Final Move Response (Cancel" in output
    assert 2 <= len(sink.files()) < 400


def test_a_cancelled_get_ends_early(farm: Farm, tmp_path: Path) -> None:
    many = write_files(tmp_path / "many", Plan(400, Kind.SMALL, per_series=400))
    gateway = farm.gateway(settings={"Durability": "none"})
    store(gateway.port, many[0].path.parent)
    proposals = [
        ContextProposal(STUDY_ROOT_GET, (EXPLICIT_LE,)),
        ContextProposal(Kind.SMALL.sop_class, (EXPLICIT_LE,), scp_role=True),
    ]
    received: list[str] = []

    def keep(message: Message) -> int:
        received.append(message.command.sop_instance)
        return 0

    with connect("127.0.0.1", gateway.port, "RAW", "DGATE", proposals) as association:
        keys = identifier({0x00080052: "STUDY", 0x0020000D: many[0].study})
        responses = get(association, 1, keys, keep)
        for response in responses:
            if (response.completed or 0) == 3:
                break
        responses.close()  # type: ignore[attr-defined]
        assert association.is_open

    assert len(received) < 400
    assert gateway.answers()
