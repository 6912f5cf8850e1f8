"""dgate beside Orthanc: as its receiver, its archive and its source."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import Orthanc, store
from tests.acceptance.processes import wait_until
from tests.generate import Generated, data_set_of


@pytest.fixture
def pair(farm: Farm) -> tuple[Gateway, Orthanc]:
    """Return a dgate and an Orthanc that know each other."""
    port = farm.ports.take()
    orthanc = farm.orthanc(nodes=[Node("DGATE", port)])
    rule = {"ExportConverters": 1, "ExportConverter0": "forward to ORTHANC", "RetryFirst": 0.1}
    gateway = farm.gateway(settings={"TCPPort": port, **rule}, nodes=[orthanc.node])
    return gateway, orthanc


@pytest.fixture
def receiver(farm: Farm) -> tuple[Gateway, Orthanc]:
    """Return a dgate without rules and an Orthanc that know each other."""
    port = farm.ports.take()
    orthanc = farm.orthanc(nodes=[Node("DGATE", port)])
    gateway = farm.gateway(settings={"TCPPort": port}, nodes=[orthanc.node])
    return gateway, orthanc


def test_orthanc_echoes_and_sends_what_it_holds(
    receiver: tuple[Gateway, Orthanc], objects: list[Generated]
) -> None:
    gateway, orthanc = receiver
    identifiers = [orthanc.upload(item.path) for item in objects]

    orthanc.rest("modalities/DGATE/echo", {})
    orthanc.rest("modalities/DGATE/store", identifiers)

    stored = {data_set_of(path.read_bytes()) for path in gateway.stored_files()}
    assert stored == {data_set_of(item.path.read_bytes()) for item in objects}


def test_objects_are_forwarded_to_orthanc_by_a_rule(
    pair: tuple[Gateway, Orthanc], objects: list[Generated]
) -> None:
    gateway, orthanc = pair

    store(gateway.port, objects[0].path.parent)

    wait_until(lambda: orthanc.instance_count() == len(objects), "all objects at Orthanc")
    item = objects[0]
    found = orthanc.rest("tools/lookup", item.sop_instance.encode())
    content = orthanc.rest(f"instances/{found[0]['ID']}/file")
    assert data_set_of(content) == data_set_of(item.path.read_bytes())


def test_orthanc_queries_dgate_and_retrieves_by_move(
    receiver: tuple[Gateway, Orthanc], objects: list[Generated]
) -> None:
    gateway, orthanc = receiver
    store(gateway.port, objects[0].path.parent)
    query = {"Level": "Study", "Query": {"PatientID": objects[0].patient_id}}

    answer = orthanc.rest("modalities/DGATE/query", query)["ID"]
    found = orthanc.rest(f"queries/{answer}/answers")
    orthanc.rest(f"queries/{answer}/retrieve", b"ORTHANC")

    assert len(found) == 1
    wait_until(lambda: orthanc.instance_count() == 10, "the study at Orthanc")
