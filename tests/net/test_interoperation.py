"""Both roles against independent implementations: pynetdicom and DCMTK."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.dsutils import decode as decode_dataset
from pynetdicom.dsutils import encode as encode_dataset

from dgate.config.soplist import SopList
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE, VERIFICATION
from dgate.errors import Rejected
from dgate.net import (
    Association,
    CommandField,
    ContextProposal,
    Message,
    Policy,
    Status,
    connect,
    echo,
    find,
    get,
    move,
    store,
)
from tests.net.kit import (
    CT,
    FAST,
    PATIENCE_S,
    STUDY_FIND,
    STUDY_GET,
    STUDY_MOVE,
    Server,
    serving,
)
from tests.reactor import steadied

pytestmark = pytest.mark.integration

CT_FILE = Path(str(get_testdata_file("CT_small.dcm")))


def ct_dataset() -> tuple[Dataset, bytes]:
    """Return the object of the file, and its data set as it stands there."""
    dataset = dcmread(CT_FILE)
    encoded = encode_dataset(dataset, False, True)
    assert encoded is not None
    return dataset, encoded


def key(**values: str) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def encoded_key(**values: str) -> bytes:
    encoded = encode_dataset(key(**values), True, True)
    assert encoded is not None
    return encoded


# pynetdicom asks us


@contextmanager
def their_association(port: int, *contexts: Any, **details: Any) -> Iterator[Any]:
    ae = AE("THEM")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = PATIENCE_S
    association = steadied(ae.associate("127.0.0.1", port, contexts=list(contexts), **details))
    assert association.is_established
    yield association
    association.release()


@pytest.mark.parametrize("max_pdu", [0, 4096, 16382, 1 << 20])
def test_pynetdicom_stores(server: Server, max_pdu: int) -> None:
    dataset, encoded = ct_dataset()

    with their_association(
        server.port, build_context(CT, EXPLICIT_LE), build_context(VERIFICATION), max_pdu=max_pdu
    ) as theirs:
        assert theirs.send_c_echo().Status == 0
        for _ in range(3):
            assert theirs.send_c_store(dataset).Status == 0

    assert server.objects == [encoded] * 3
    assert server.served[0].peer_max_pdu == max_pdu


def test_pynetdicom_finds_and_cancels() -> None:
    def handle(association: Association, message: Message) -> None:
        assert message.payload is not None
        for index in range(1000):
            if association.cancelled(message.command.message_id):
                association.respond(message, Status.CANCEL)
                return
            data = encoded_key(PatientID=str(index))
            association.respond(message, Status.PENDING, data=[data])
        association.respond(message)

    handlers = {(CommandField.C_FIND_RQ, STUDY_FIND): handle}
    with (
        serving(handlers=handlers) as server,
        their_association(server.port, build_context(STUDY_FIND, IMPLICIT_LE)) as theirs,
    ):
        wanted = key(QueryRetrieveLevel="STUDY", PatientID="")
        answers = list(theirs.send_c_find(wanted, STUDY_FIND))
        assert [status.Status for status, _ in answers] == [0xFF00] * 1000 + [0]
        assert [found.PatientID for _, found in answers[:-1]] == [str(n) for n in range(1000)]

        statuses = []
        for status, _ in theirs.send_c_find(wanted, STUDY_FIND, msg_id=2):
            statuses.append(status.Status)
            if len(statuses) == 1:
                theirs.send_c_cancel(2, query_model=STUDY_FIND)
        assert statuses[-1] in (0xFE00, 0)


def test_pynetdicom_gets() -> None:
    dataset, encoded = ct_dataset()
    received = []

    def handle(association: Association, message: Message) -> None:
        (context,) = (item for item in association.contexts_for(CT) if item.scu_role)
        answer = store(association, context.id, CT, str(dataset.SOPInstanceUID), [encoded])
        assert answer.status == 0
        association.respond(message, completed=1, failed=0, warning=0)

    def on_store(event: Any) -> int:
        received.append(event.dataset.SOPInstanceUID)
        return 0

    handlers = {(CommandField.C_GET_RQ, STUDY_GET): handle}
    with (
        serving(handlers=handlers) as server,
        their_association(
            server.port,
            build_context(STUDY_GET),
            build_context(CT, EXPLICIT_LE),
            ext_neg=[build_role(CT, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, on_store)],
        ) as theirs,
    ):
        wanted = key(QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2")
        (answer,) = (status for status, _ in theirs.send_c_get(wanted, STUDY_GET))

    assert answer.Status == 0
    assert answer.NumberOfCompletedSuboperations == 1
    assert received == [dataset.SOPInstanceUID]


def test_pynetdicom_understands_a_rejection() -> None:
    with serving(Policy(SopList(remote_ae=frozenset({"CT1"})))) as server:
        ae = AE("THEM")
        association = ae.associate("127.0.0.1", server.port, contexts=[build_context(VERIFICATION)])

    assert association.is_rejected
    rejection = association.acceptor.primitive
    assert (rejection.result, rejection.result_source, rejection.diagnostic) == (1, 1, 3)


# We ask pynetdicom


@contextmanager
def their_server(handlers: list[Any], *contexts: Any, max_pdu: int = 16382) -> Iterator[int]:
    ae = AE("THEM")
    ae.maximum_pdu_size = max_pdu
    for context in contexts:
        ae.add_supported_context(
            context.abstract_syntax, context.transfer_syntax, context.scu_role, context.scp_role
        )
    running = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield running.server_address[1]
    finally:
        running.shutdown()


@pytest.mark.parametrize("max_pdu", [0, 4096, 16382])
def test_an_object_is_stored_at_pynetdicom(max_pdu: int) -> None:
    dataset, encoded = ct_dataset()
    received = []

    def on_store(event: Any) -> int:
        received.append((event.request.DataSet.getvalue(), event.request.MoveOriginatorMessageID))
        return 0xB000

    contexts = (build_context(CT, EXPLICIT_LE), build_context(VERIFICATION))
    with (
        their_server([(evt.EVT_C_STORE, on_store)], *contexts, max_pdu=max_pdu) as port,
        connect(
            *("127.0.0.1", port, "US", "THEM"),
            [ContextProposal(VERIFICATION, (IMPLICIT_LE,)), ContextProposal(CT, (EXPLICIT_LE,))],
            timeouts=FAST,
        ) as association,
    ):
        assert echo(association).status == 0
        chunks = [encoded[:1000], memoryview(encoded)[1000:]]
        uid = str(dataset.SOPInstanceUID)
        response = store(association, 3, CT, uid, chunks, originator=("MOVER", 7))
        assert association.peer_max_pdu == max_pdu

    assert response.status == 0xB000
    assert received == [(encoded, 7)]


def test_pynetdicom_is_asked_to_find_and_move() -> None:
    def on_find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        for index in range(3):
            yield 0xFF00, key(PatientID=str(index))

    def on_move(event: Any) -> Iterator[Any]:
        assert event.move_destination == "NOBODY"
        yield None, None

    contexts = (build_context(STUDY_FIND), build_context(STUDY_MOVE))
    with (
        their_server([(evt.EVT_C_FIND, on_find), (evt.EVT_C_MOVE, on_move)], *contexts) as port,
        connect(
            *("127.0.0.1", port, "US", "THEM"),
            [ContextProposal(uid, (IMPLICIT_LE,)) for uid in (STUDY_FIND, STUDY_MOVE)],
            timeouts=FAST,
        ) as association,
    ):
        answers = list(find(association, 1, encoded_key(QueryRetrieveLevel="STUDY", PatientID="")))
        moved = list(move(association, 3, "NOBODY", encoded_key(QueryRetrieveLevel="STUDY")))

    patients = [
        decode_dataset(BytesIO(answer.identifier), True, True).PatientID for answer in answers[:-1]
    ]
    assert patients == ["0", "1", "2"]
    assert answers[-1].status == 0
    assert moved[-1].status == Status.MOVE_DESTINATION_UNKNOWN


def test_objects_are_got_from_pynetdicom() -> None:
    dataset, encoded = ct_dataset()
    received = []

    def on_get(event: Any) -> Iterator[Any]:
        yield 2
        yield 0xFF00, dataset
        yield 0xFF00, dataset

    def on_store(message: Message) -> int:
        assert message.payload is not None
        received.append(bytes(message.payload.view()))
        return Status.SUCCESS

    storage = build_context(CT, EXPLICIT_LE)
    storage.scu_role = storage.scp_role = True
    with (
        their_server([(evt.EVT_C_GET, on_get)], build_context(STUDY_GET), storage) as port,
        connect(
            *("127.0.0.1", port, "US", "THEM"),
            [
                ContextProposal(STUDY_GET, (IMPLICIT_LE,)),
                ContextProposal(CT, (EXPLICIT_LE,), scp_role=True),
            ],
            timeouts=FAST,
        ) as association,
    ):
        assert association.contexts[3].scp_role
        responses = list(get(association, 1, encoded_key(QueryRetrieveLevel="STUDY"), on_store))

    assert received == [encoded, encoded]
    assert responses[-1].status == 0
    assert responses[-1].completed == 2


def test_a_rejection_of_pynetdicom_is_told() -> None:
    ae = AE("THEM")
    ae.require_called_aet = True
    ae.supported_contexts = [build_context(VERIFICATION)]
    running = ae.start_server(("127.0.0.1", 0), block=False)
    try:
        with pytest.raises(Rejected) as caught:
            connect(
                *("127.0.0.1", running.server_address[1], "US", "OTHER"),
                [ContextProposal(VERIFICATION, (IMPLICIT_LE,))],
            )
    finally:
        running.shutdown()

    assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 1, 7)


# DCMTK asks us


def dcmtk(
    tool: str, port: int, options: Sequence[str] = (), files: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a DCMTK tool against our port."""
    return subprocess.run(
        [tool, "-v", "-aec", "DGATE", *options, "127.0.0.1", str(port), *files],
        env={**os.environ, "TCP_NODELAY": "1"},
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE_S,
        check=False,
    )


def test_dcmtk_echoes(server: Server) -> None:
    run = dcmtk("echoscu", server.port)

    assert run.returncode == 0, run.stderr
    assert "OFFIS_DCMTK_" in server.served[0].peer_implementation


@pytest.mark.parametrize("max_pdu", ["4096", "16384", "131072"])
def test_dcmtk_stores(server: Server, max_pdu: str) -> None:
    run = dcmtk("storescu", server.port, ["-pdu", max_pdu, "-xe"], [str(CT_FILE)])

    assert run.returncode == 0, run.stderr
    assert len(server.objects) == 1
    assert server.objects[0].endswith(ct_dataset()[0].PixelData[-1000:])


def test_dcmtk_understands_that_nothing_is_accepted() -> None:
    with serving(Policy(SopList(abstract=frozenset({VERIFICATION})))) as server:
        run = dcmtk("storescu", server.port, files=[str(CT_FILE)])

    assert run.returncode != 0
    assert "No Acceptable Presentation Contexts" in run.stderr


def test_dcmtk_finds_and_cancels() -> None:
    def handle(association: Association, message: Message) -> None:
        for index in range(1_000_000):
            if association.cancelled(message.command.message_id):
                association.respond(message, Status.CANCEL)
                return
            data = encoded_key(QueryRetrieveLevel="STUDY", PatientID=str(index))
            association.respond(message, Status.PENDING, data=[data])

    policy = Policy(SopList(transfer=frozenset({IMPLICIT_LE})))
    handlers = {(CommandField.C_FIND_RQ, STUDY_FIND): handle}
    with serving(policy, handlers=handlers) as server:
        arguments = ("-S", "--cancel", "5", "-k", "0008,0052=STUDY", "-k", "PatientID")
        run = dcmtk("findscu", server.port, arguments)

    assert run.returncode == 0, run.stderr
    assert "Received Final Find Response (Cancel" in run.stderr
