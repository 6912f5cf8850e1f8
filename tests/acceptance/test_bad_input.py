"""Hostile and broken input against the real server: each is refused, and serving goes on."""

from __future__ import annotations

import errno
import io
import os
import random
import socket
import struct
import zlib
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import find
from tests.acceptance.processes import WAIT_DEADLINE_S, wait_until
from tests.acceptance.rawdicom import (
    ASSOCIATE_RQ,
    EXPLICIT_LE,
    P_DATA,
    RELEASE_RQ,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    VERIFICATION,
    Closed,
    Elements,
    Offer,
    RawAssociation,
    Reply,
    associate_rq,
    command_set,
    pdata,
    pdu,
)
from tests.generate import Generated, Kind, data_set_of

MR = Kind.SMALL.sop_class
GARBAGE = random.Random(4711).randbytes(4096)
NORMAL_RQ = associate_rq({1: Offer(VERIFICATION), 3: Offer(MR)})


@pytest.fixture(scope="module")
def gateway(shared_farm: Farm) -> Gateway:
    """Return a running server for tests after which nothing may be stored."""
    return shared_farm.gateway()


@pytest.fixture
def fresh_gateway(farm: Farm) -> Gateway:
    """Return a running server for one test alone."""
    return farm.gateway()


def encode(data_set: Dataset) -> bytes:
    """Return a data set in explicit little endian, without preamble and file meta group."""
    bare = Dataset(data_set)
    buffer = io.BytesIO()
    dcmwrite(buffer, bare, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


def changed(item: Generated, **values: object) -> bytes:
    """Return an object's data set with some elements set or, with None, taken away."""
    data_set = pydicom.dcmread(item.path)
    for keyword, value in values.items():
        if value is None:
            delattr(data_set, keyword)
        else:
            setattr(data_set, keyword, value)
    return encode(data_set)


def with_raw_value(content: bytes, tag: int, value: bytes) -> bytes:
    """Return a data set with one short text element's bytes replaced."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    start = content.index(head)
    (length,) = struct.unpack_from("<H", content, start + 6)
    value += b" " * (len(value) % 2)
    middle = content[start : start + 6] + struct.pack("<H", len(value)) + value
    return content[:start] + middle + content[start + 8 + length :]


def send(gateway: Gateway, data: bytes, *, instance: str, sop_class: str = MR) -> Reply:
    """Store one data set, then prove that the same association still works."""
    offers = [Offer(sop_class, (EXPLICIT_LE,)), Offer(VERIFICATION)]
    with RawAssociation.open(gateway.port, offers) as association:
        reply = association.store(sop_class, instance, data)
        assert association.echo().status == 0
    return reply


def everything_below(folder: Path) -> set[Path]:
    """Return every file below a folder."""
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(GARBAGE, id="garbage"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="a web request"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), id="TLS hello"),
        pytest.param(NORMAL_RQ[:40], id="truncated association request"),
        pytest.param(NORMAL_RQ[:3], id="half a header"),
        pytest.param(pdu(ASSOCIATE_RQ, b""), id="empty association request"),
        pytest.param(struct.pack(">BxI", ASSOCIATE_RQ, 0xFFFFFFF0), id="4 GB association request"),
        pytest.param(pdu(ASSOCIATE_RQ, NORMAL_RQ[6:74] + GARBAGE[:400]), id="garbage items"),
        pytest.param(pdu(P_DATA, b"\0\0\0\2\1\3"), id="data before the association"),
        pytest.param(pdu(RELEASE_RQ, bytes(4)), id="release before the association"),
        pytest.param(NORMAL_RQ + GARBAGE, id="garbage after the association"),
        pytest.param(NORMAL_RQ + pdu(99, b"x" * 10), id="unknown PDU type"),
        pytest.param(NORMAL_RQ + NORMAL_RQ, id="two association requests"),
        pytest.param(NORMAL_RQ + struct.pack(">BxI", P_DATA, 0xFFFFFFF0), id="4 GB data PDU"),
        pytest.param(NORMAL_RQ + pdu(P_DATA, b"\0\0\0\1\1"), id="too short data value"),
        pytest.param(NORMAL_RQ + pdu(P_DATA, b"\xff\xff\xff\xf0\1\3xx"), id="data value too long"),
        pytest.param(
            NORMAL_RQ + pdata(77, command_set({0x0100: 0x30}), command=True, last=True),
            id="unknown context",
        ),
        pytest.param(
            NORMAL_RQ + pdata(1, GARBAGE[:200], command=True, last=True), id="garbage command"
        ),
        pytest.param(
            NORMAL_RQ + pdata(1, GARBAGE[:200], command=False, last=True),
            id="data set without command",
        ),
    ],
)
def test_a_malformed_stream_is_answered_or_dropped_and_serving_goes_on(
    gateway: Gateway, content: bytes
) -> None:
    pour(gateway, content)

    assert gateway.answers()


def pour(gateway: Gateway, content: bytes) -> None:
    """Send bytes and wait until the server has closed the connection."""
    with socket.create_connection(("127.0.0.1", gateway.port), WAIT_DEADLINE_S) as connection:
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        except OSError as exc:
            # It closed with something of ours still unread: as good an end as any.
            if exc.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
                raise


def test_random_bytes_at_every_place_of_a_store_do_no_harm(
    fresh_gateway: Gateway, objects: list[Generated]
) -> None:
    item = objects[0]
    command: Elements = {
        0x0002: MR,
        0x0100: 1,
        0x0110: 1,
        0x0700: 0,
        0x0800: 1,
        0x1000: item.sop_instance,
    }
    stream = (
        NORMAL_RQ
        + pdata(3, command_set(command), command=True, last=True)
        + pdata(3, data_set_of(item.path.read_bytes()), command=False, last=True)
        + pdu(RELEASE_RQ, bytes(4))
    )
    source = random.Random(1)
    for _ in range(150):
        broken = bytearray(stream)
        for _ in range(source.choice((1, 1, 4, 40))):
            broken[source.randrange(len(broken))] = source.randrange(256)
        pour(fresh_gateway, bytes(broken))

    assert fresh_gateway.answers()
    assert leftovers(fresh_gateway) == []


def leftovers(gateway: Gateway) -> list[Path]:
    """Return files that half-done stores left in the device's own folder."""
    incoming = gateway.device() / "dgate" / "incoming"
    return [path for path in incoming.rglob("*") if path.is_file()]


def test_a_connection_lost_in_the_middle_of_an_object_leaves_nothing(
    fresh_gateway: Gateway, objects: list[Generated], tmp_path: Path
) -> None:
    item = objects[0]
    association = RawAssociation.open(fresh_gateway.port, [Offer(MR, (EXPLICIT_LE,))])
    command: Elements = {
        0x0002: MR,
        0x0100: 1,
        0x0110: 1,
        0x0700: 0,
        0x0800: 1,
        0x1000: item.sop_instance,
    }
    association.connection.sendall(
        pdata(1, command_set(command), command=True, last=True)
        + pdata(1, data_set_of(item.path.read_bytes())[:2000], command=False, last=False)
    )
    association.connection.close()

    fresh_gateway.stop()

    assert fresh_gateway.stored_files() == []
    assert leftovers(fresh_gateway) == []


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        pytest.param(b"", range(0xA900, 0xD000), id="empty data set"),
        pytest.param(GARBAGE, range(0xC000, 0xD000), id="garbage"),
        pytest.param(b"<html>not found</html>" * 40, range(0xC000, 0xD000), id="a web page"),
        pytest.param(bytes(5000), range(0xA900, 0xD000), id="zeros"),
    ],
)
def test_data_that_is_not_dicom_is_refused(gateway: Gateway, data: bytes, statuses: range) -> None:
    reply = send(gateway, data, instance="1.2.3")

    assert reply.status in statuses
    assert reply.comment
    assert gateway.stored_files() == []
    assert leftovers(gateway) == []


def test_a_truncated_data_set_is_refused(gateway: Gateway, objects: list[Generated]) -> None:
    content = data_set_of(objects[0].path.read_bytes())

    for length in (100, 333, 700, 880):
        reply = send(gateway, content[:length], instance=objects[0].sop_instance)
        assert reply.status in range(0xA900, 0xD000), length
        assert reply.comment

    assert gateway.stored_files() == []
    assert leftovers(gateway) == []


def test_an_object_whose_pixels_are_cut_off_is_kept_as_it_came(
    fresh_gateway: Gateway, objects: list[Generated]
) -> None:
    content = data_set_of(objects[0].path.read_bytes())[:-700]

    reply = send(fresh_gateway, content, instance=objects[0].sop_instance)

    assert reply.status == 0
    (stored,) = fresh_gateway.stored_files()
    assert data_set_of(stored.read_bytes()) == content


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"SOPInstanceUID": None}, id="no SOP instance UID"),
        pytest.param({"SOPInstanceUID": "1.2.3.4"}, id="another SOP instance"),
        pytest.param({"SOPClassUID": Kind.CT.sop_class}, id="another SOP class"),
        pytest.param({"SOPClassUID": None}, id="no SOP class"),
    ],
)
def test_a_data_set_that_does_not_match_its_command_is_refused(
    gateway: Gateway, objects: list[Generated], values: dict[str, object]
) -> None:
    reply = send(gateway, changed(objects[0], **values), instance=objects[0].sop_instance)

    # A900 where both sides name something and differ, C000 where the data set names nothing.
    expected = range(0xC000, 0xD000) if None in values.values() else range(0xA900, 0xAA00)
    assert reply.status in expected
    assert reply.comment
    assert gateway.stored_files() == []


@pytest.mark.parametrize("syntax", [4, 8, 9, 10, 12, "%id/%name/%studyuid/%sopuid.dcm"])
@pytest.mark.parametrize(
    "text",
    [
        "../../../../escaped",
        "/tmp/escaped",
        "..",
        ".",
        "..\\..\\escaped",
        "C:\\escaped",
        "~root",
        "$(touch escaped)",
        "a/../../../b",
    ],
)
def test_no_name_leads_out_of_the_device(
    shared_gateways: dict[object, Gateway],
    objects: list[Generated],
    syntax: object,
    text: str,
) -> None:
    gateway = shared_gateways[syntax]
    outside_before = everything_below(gateway.folder.parent) - everything_below(gateway.device())
    instance = f"1.2.3.{zlib.crc32(text.encode())}"
    content = changed(
        objects[0],
        SOPInstanceUID=instance,
        PatientID=text,
        PatientName=text,
        StudyID=text[:16],
        StudyInstanceUID=f"{instance}.1",
        SeriesInstanceUID=f"{instance}.2",
    )

    reply = send(gateway, content, instance=instance)

    assert (reply.status, reply.comment) == (0, "")
    outside = everything_below(gateway.folder.parent) - everything_below(gateway.device())
    grown = {path for path in outside - outside_before if not is_own_file(path)}
    assert grown == set()
    assert not Path("/tmp/escaped").exists()


def is_own_file(path: Path) -> bool:
    """Tell whether a file belongs to the database, the logs or the history of settings."""
    if "history" in path.parts:
        return True
    return any(part in path.name for part in (".db", ".log", "-wal", "-shm", "dgate."))


@pytest.fixture(scope="module")
def shared_gateways(shared_farm: Farm) -> dict[object, Gateway]:
    """Return one running server for each way of naming files that is tested."""
    kinds = (4, 8, 9, 10, 12, "%id/%name/%studyuid/%sopuid.dcm")
    return {
        kind: shared_farm.gateway(f"names{place}", settings={"FileNameSyntax": kind})
        for place, kind in enumerate(kinds)
    }


@pytest.mark.parametrize("element", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("uid", ["../../escaped", "1.2/../../3", "1.2.3\\..\\4", "1" * 70, "a.b.c"])
def test_no_uid_leads_out_of_the_device(
    shared_gateways: dict[object, Gateway], objects: list[Generated], element: str, uid: str
) -> None:
    tags = {
        "SOPInstanceUID": 0x00080018,
        "StudyInstanceUID": 0x0020000D,
        "SeriesInstanceUID": 0x0020000E,
    }
    gateway = shared_gateways[8]
    before = everything_below(gateway.folder.parent)
    instance = f"1.2.7.{zlib.crc32(f'{element}{uid}'.encode())}"
    content = data_set_of(objects[0].path.read_bytes())
    content = with_raw_value(content, tags["SOPInstanceUID"], instance.encode())
    content = with_raw_value(content, tags[element], uid.encode())
    if element == "SOPInstanceUID":
        instance = uid

    reply = send(gateway, content, instance=instance)

    if uid == "a.b.c" and element != "SOPInstanceUID":
        # No UID either, but a name that harms nobody; modalities in the field write such.
        assert (reply.status, reply.comment) == (0, "")
    else:
        assert reply.status == 0xC000
        assert reply.comment.startswith(f"the {words(element)} '")
    new = everything_below(gateway.folder.parent) - before
    assert all(gateway.device() in path.parents or is_own_file(path) for path in new)
    assert not any("escaped" in path.name and path.suffix != ".dcm" for path in new)


def words(keyword: str) -> str:
    """Return the name of a UID element as messages write it."""
    return {"SOPInstanceUID": "SOP Instance UID", "StudyInstanceUID": "Study Instance UID"}.get(
        keyword, "Series Instance UID"
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"Nul^in\0the^middle", id="NUL"),
        pytest.param(b"Line^feed\nin^name", id="newline"),
        pytest.param(b"Esc^\x1b[31mred", id="escape sequence"),
        pytest.param(b"x'); DROP TABLE DICOMPatients; --", id="SQL"),
        pytest.param(b'"; DELETE FROM DICOMImages; "', id="more SQL"),
        pytest.param(b"\xff\xfe\xfd", id="no text in any character set"),
        pytest.param(b"%s%n%d", id="format string"),
        pytest.param(b"A" * 2000, id="far too long"),
    ],
)
def test_an_odd_name_is_stored_and_the_index_stays_in_order(
    shared_gateways: dict[object, Gateway],
    objects: list[Generated],
    tmp_path: Path,
    name: bytes,
) -> None:
    gateway = shared_gateways[12]
    instance = f"1.2.9.{zlib.crc32(name)}"
    content = data_set_of(objects[0].path.read_bytes())
    for tag, value in (
        (0x00100010, name),
        (0x00080018, instance.encode()),
        (0x0020000D, f"{instance}.1".encode()),
        (0x0020000E, f"{instance}.2".encode()),
    ):
        content = with_raw_value(content, tag, value)

    reply = send(gateway, content, instance=instance)

    assert (reply.status, reply.comment) == (0, "")
    found = find(gateway.port, {"SOPInstanceUID": instance}, tmp_path, level="IMAGE")
    assert len(found) == 1
    assert gateway.answers()


def test_a_file_name_too_long_for_the_file_system_is_not_a_lost_object(
    farm: Farm, objects: list[Generated]
) -> None:
    template = "%V0008,103e%V0008,103e%V0008,103e%V0008,103e%V0008,103e/%sopuid.dcm"
    gateway = farm.gateway(settings={"FileNameSyntax": template})
    content = changed(objects[0], SeriesDescription="w" * 64)

    reply = send(gateway, content, instance=objects[0].sop_instance)

    assert (reply.status, reply.comment) == (0, "")
    stored = gateway.stored_files()
    assert [data_set_of(path.read_bytes()) for path in stored] == [content]
    assert leftovers(gateway) == []


@pytest.mark.parametrize(
    ("command_field", "status"),
    [(0x0140, 0x0118), (0x0130, 0x0118), (0x0666, 0x0211)],
    ids=["N-CREATE", "N-ACTION", "unknown"],
)
def test_an_unsupported_command_is_answered_and_the_association_lives_on(
    gateway: Gateway, command_field: int, status: int
) -> None:
    with RawAssociation.open(gateway.port) as association:
        command: Elements = {0x0002: VERIFICATION, 0x0100: command_field, 0x0110: 5}
        association.send(1, command)
        reply = association.receive()
        assert association.echo().status == 0

    assert reply.status == status
    assert reply.number(0x0120) == 5


def test_a_command_for_another_sop_class_than_the_context_is_refused(gateway: Gateway) -> None:
    with RawAssociation.open(gateway.port) as association:
        association.send(1, {0x0002: STUDY_ROOT_FIND, 0x0100: 0x0020, 0x0110: 1, 0x0700: 0}, b"")
        assert association.receive().status == 0x0122
        assert association.echo().status == 0


def test_the_association_after_the_last_allowed_is_refused_as_congestion(farm: Farm) -> None:
    gateway = farm.gateway(settings={"MaxAssociations": 3})
    held = [RawAssociation.open(gateway.port) for _ in range(3)]

    with pytest.raises(Closed, match=r"PDU type 3.*x02\\x03\\x01"):
        RawAssociation.open(gateway.port)

    for association in held:
        association.release()
        association.connection.close()
    # The server is told of the end before it has counted it.
    wait_until(gateway.answers, "a place for another")


def test_classes_and_syntaxes_that_are_not_listed_are_refused_with_the_right_result(
    gateway: Gateway,
) -> None:
    offers = [Offer("1.2.3.4.5"), Offer(MR, ("1.2.3.4.5.6",)), Offer(MR, ("1.2.3", EXPLICIT_LE))]
    with RawAssociation.open(gateway.port, offers) as association:
        assert association.results == {1: 3, 3: 4, 5: 0}
        assert association.accepted == {5: EXPLICIT_LE}


def test_a_get_of_everything_without_a_key_is_refused(
    gateway: Gateway, objects: list[Generated]
) -> None:
    offers = [Offer(STUDY_ROOT_GET), Offer(MR, scp_role=True)]
    with RawAssociation.open(gateway.port, offers) as association:
        received, final = association.get({0x00080052: "STUDY"})

    assert received == []
    assert final.status == 0xA900


def test_the_server_leaves_no_open_files_behind(
    fresh_gateway: Gateway, objects: list[Generated]
) -> None:
    fresh_gateway.answers()
    before = count_open_files(fresh_gateway)
    for _ in range(30):
        send(fresh_gateway, GARBAGE, instance="1.2.3")
        send(
            fresh_gateway,
            data_set_of(objects[0].path.read_bytes()),
            instance=objects[0].sop_instance,
        )

    # The server's threads close a connection after its peer has gone.
    wait_until(lambda: count_open_files(fresh_gateway) <= before + 8, "closed connections")


def count_open_files(gateway: Gateway) -> int:
    """Return how many files and connections the server has open."""
    return len(os.listdir(f"/proc/{gateway.process.pid}/fd"))  # noqa: PTH208 (names only)
