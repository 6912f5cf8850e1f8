"""The gateway commits to what it has stored, for peers that ask (PS3.4 J)."""

from __future__ import annotations

import itertools
import sqlite3
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.acceptance.committer import PUSH_INSTANCE, PUSH_MODEL, Asker, request_for
from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import store
from tests.acceptance.processes import wait_until
from tests.acceptance.rawdicom import Offer, RawAssociation, identifier
from tests.generate import Generated

PUSH_ROOT = "1.2.826.0.1.3680043.8.498.78"
CT = "1.2.840.10008.5.1.4.1.1.2"
_numbers = itertools.count(1)


def uid() -> str:
    """Return a Transaction UID."""
    return f"{PUSH_ROOT}.{next(_numbers)}"


@pytest.fixture(scope="module")
def full(shared_farm: Farm, objects: list[Generated]) -> Gateway:
    """Return a gateway that has all objects and knows nobody."""
    gateway = shared_farm.gateway()
    store(gateway.port, objects[0].path.parent)
    return gateway


@pytest.fixture
def askers() -> Iterator[list[Asker]]:
    """Return a list whose members are closed at the end."""
    made: list[Asker] = []
    yield made
    for asker in made:
        asker.close()


def pairs(objects: list[Generated]) -> list[tuple[str, str]]:
    """Return how objects are named."""
    return [(item.sop_class, item.sop_instance) for item in objects]


def queue(gateway: Gateway, title: str) -> list[tuple[str, str]]:
    """Return state and last error of what is owed to a peer that asked."""
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as connection:
        return connection.execute(
            "SELECT state, coalesce(last_error, '') FROM dgate_debts WHERE kind = 'report' "
            "AND called = ? AND state NOT IN ('done', 'cancelled') ORDER BY id",
            (title,),
        ).fetchall()


def _is_stuck(gateway: Gateway, title: str) -> bool:
    return [state for state, _ in queue(gateway, title)] == ["stuck"]


def test_the_report_comes_on_the_association_of_a_requester_that_stays(
    full: Gateway, objects: list[Generated]
) -> None:
    asker = Asker("STAYER1", full.port)
    association = asker.open()
    first, second = uid(), uid()

    assert asker.ask(association, request_for(pairs(objects), first)) == 0
    assert asker.ask(association, request_for(pairs(objects[:2]), second)) == 0
    wait_until(lambda: len(asker.reports) == 2, "both reports")
    association.release()

    wanted = {item.sop_instance: None for item in objects}
    told = dict(asker.heard())
    assert told[first] == wanted
    assert told[second] == {item.sop_instance: None for item in objects[:2]}
    assert [event for event, _ in asker.reports] == [1, 1]
    assert {report.RetrieveAETitle for _, report in asker.reports} == {"DGATE"}
    assert asker.callers == ["STAYER1", "STAYER1"]
    wait_until(lambda: queue(full, "STAYER1") == [], "nothing owed")


def test_what_is_not_there_is_named_with_its_reason(
    full: Gateway, objects: list[Generated]
) -> None:
    asker = Asker("STAYER2", full.port)
    there, other = objects[0], objects[1]
    mr, ct = there.sop_class, "1.2.840.10008.5.1.4.1.1.2"
    asked = [
        (mr, there.sop_instance),
        (mr, f"{PUSH_ROOT}.9.1"),
        (ct, other.sop_instance),
        ("1.2.840.10008.5.1.4.1.1.999", f"{PUSH_ROOT}.9.2"),
    ]
    association = asker.open()

    assert asker.ask(association, request_for(asked, uid())) == 0
    wait_until(lambda: asker.reports, "the report")
    association.release()

    assert [event for event, _ in asker.reports] == [2]
    [(_, told)] = asker.heard()
    assert told == {
        there.sop_instance: None,
        f"{PUSH_ROOT}.9.1": 0x0112,
        other.sop_instance: 0x0119,
        f"{PUSH_ROOT}.9.2": 0x0122,
    }


def test_bad_requests_are_answered_by_the_table(full: Gateway, objects: list[Generated]) -> None:
    asker = Asker("STAYER3", full.port)
    association = asker.open()
    good = request_for(pairs(objects[:1]), uid())
    nameless = request_for([("", "1.2.3")], uid())

    assert asker.ask(association, request_for(pairs(objects[:1]), "")) == 0x0115
    assert asker.ask(association, request_for([], uid())) == 0x0115
    assert asker.ask(association, nameless) == 0x0115
    assert asker.ask(association, None) == 0x0115
    assert asker.ask(association, good, action=2) == 0x0123
    assert asker.ask(association, good, instance="1.2.3") == 0x0112
    assert association.send_c_echo().Status == 0
    association.release()

    assert queue(full, "STAYER3") == []
    assert asker.reports == []


def test_ten_thousand_references_are_one_request(full: Gateway, objects: list[Generated]) -> None:
    asker = Asker("STAYER4", full.port)
    association = asker.open()
    asker_objects = pairs(objects[:1])
    asker_objects += [(objects[0].sop_class, f"{PUSH_ROOT}.7.{n}") for n in range(9_999)]

    assert asker.ask(association, request_for(asker_objects, uid())) == 0
    wait_until(lambda: asker.reports, "the report")
    association.release()

    [(_, told)] = asker.heard()
    assert len(told) == 10_000
    assert told.pop(objects[0].sop_instance) is None
    assert set(told.values()) == {0x0112}


def _ask_raw(gateway: Gateway, title: str, count: int) -> tuple[int, list[str]]:
    """Ask for objects that are not there, and stay for the report; returns status and instances."""
    uids = [f"{PUSH_ROOT}.8.{number}" for number in range(count)]
    items = b"".join(
        struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item
        for item in (identifier({0x00081150: CT, 0x00081155: each}) for each in uids)
    )
    head = identifier({0x00081195: uid()})
    data = head + struct.pack("<HH2s2xI", 0x0008, 0x1199, b"SQ", len(items)) + items
    assert len(data) > 1 << 20
    with RawAssociation.open(
        gateway.port, [Offer(PUSH_MODEL)], calling=title, timeout_s=600.0
    ) as association:
        context = association.context_for(PUSH_MODEL)
        request = {0x0003: PUSH_MODEL, 0x0100: 0x0130, 0x0110: 1, 0x1001: PUSH_INSTANCE, 0x1008: 1}
        association.send(context, request, data)
        status = association.receive().status
        report = association.receive()
        event = {0x0002: PUSH_MODEL, 0x0100: 0x8100, 0x0120: report.number(0x0110), 0x0900: 0}
        association.send(report.context, event)
        said = dcmread(BytesIO(report.data), force=True)
        found = said.FailedSOPSequence
        assert "ReferencedSOPSequence" not in said
        assert {item.FailureReason for item in found} == {0x0112}
        return status, [str(item.ReferencedSOPInstanceUID) for item in found]


def test_a_list_that_is_too_long_for_memory_is_reported_whole(farm: Farm) -> None:
    gateway = farm.gateway(nodes=[Node("ARCHIVE", farm.ports.take())])
    # More than the megabyte that is kept in memory.
    count = 14_000

    status, instances = _ask_raw(gateway, "ARCHIVE", count)

    assert status == 0
    assert len(instances) == len(set(instances)) == count
    wait_until(lambda: queue(gateway, "ARCHIVE") == [], "nothing owed")
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as connection:
        [left] = connection.execute("SELECT count(*) FROM dgate_commitment_parts").fetchone()
    assert left == 0


def test_the_same_request_twice_is_one_and_another_of_the_same_uid_fails(
    full: Gateway, objects: list[Generated]
) -> None:
    asker = Asker("STAYER5", full.port)
    association = asker.open()
    name = uid()

    assert asker.ask(association, request_for(pairs(objects[:1]), name)) == 0
    assert asker.ask(association, request_for(pairs(objects[:1]), name)) == 0
    assert asker.ask(association, request_for(pairs(objects[1:3]), name)) == 0
    wait_until(lambda: len(asker.reports) == 2, "the reports")
    association.release()

    told = [objects for _, objects in asker.heard()]
    assert {objects[0].sop_instance: None} in told
    assert {item.sop_instance: 0x0131 for item in objects[1:3]} in told


def test_a_stranger_that_leaves_is_stuck_until_it_is_a_node(
    farm: Farm, objects: list[Generated], askers: list[Asker]
) -> None:
    gateway = farm.gateway()
    store(gateway.port, objects[0].path)
    asker = Asker("STRANGER", gateway.port)
    askers.append(asker)
    association = asker.open()
    assert asker.ask(association, request_for(pairs(objects[:1]), uid())) == 0
    association.release()
    wait_until(lambda: _is_stuck(gateway, "STRANGER"), "a stuck report")
    assert "add a line for STRANGER" in gateway.command("queue", "list").stdout

    gateway.name_nodes([asker.listen().node])
    gateway.command("config", "reload")
    gateway.command("queue", "retry", "--all")

    wait_until(lambda: asker.reports, "the report")
    assert asker.callers == ["DGATE"]
    wait_until(lambda: queue(gateway, "STRANGER") == [], "nothing owed")


def test_the_report_goes_to_the_node_on_a_new_association_also_after_a_kill(
    farm: Farm, objects: list[Generated], askers: list[Asker]
) -> None:
    port = farm.ports.take()
    asker = Asker("MODALITY", port, port=farm.ports.take())
    askers.append(asker)
    retry = {"RetryFirst": 0.1, "RetryMax": 0.2}
    gateway = farm.gateway(settings={"TCPPort": port, **retry}, nodes=[asker.node])
    store(port, *(item.path for item in objects))
    files = {path.name: path for path in gateway.stored_files()}
    gone, cut = objects[3], objects[4]
    _file_of(gone, files).unlink()
    whole = _file_of(cut, files).read_bytes()
    _file_of(cut, files).write_bytes(whole[:-100])
    association = asker.open()
    name = uid()

    # Nobody listens there yet.
    assert asker.ask(association, request_for(pairs(objects), name)) == 0
    association.release()
    wait_until(
        lambda: any("no connection" in error for _, error in queue(gateway, "MODALITY")), "a try"
    )
    gateway.kill()
    gateway.start()
    asker.answer = 0x0110
    asker.listen()
    wait_until(lambda: len(asker.reports) > 1, "a report that is made again")
    asker.answer = 0

    wait_until(lambda: queue(gateway, "MODALITY") == [], "nothing owed")
    [*_, (told_name, told)] = asker.heard()
    assert told_name == name
    assert told == {item.sop_instance: None for item in objects} | {
        gone.sop_instance: 0x0112,
        cut.sop_instance: 0x0110,
    }
    assert set(asker.callers) == {"DGATE"}


def _file_of(item: Generated, files: dict[str, Path]) -> Path:
    uid_bytes = item.sop_instance.encode()
    there = [path for path in files.values() if path.exists()]
    return next(path for path in there if uid_bytes in path.read_bytes()[:2000])


def test_a_list_without_the_class_refuses_it(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway(start=False)
    path = gateway.folder / "dgatesop.lst"
    lines = [line for line in path.read_text().splitlines() if f" {PUSH_MODEL} " not in line]
    assert len(lines) + 1 == len(path.read_text().splitlines())
    path.write_text("\n".join([*lines, ""]))
    gateway.start()

    association = Asker("STAYER8", gateway.port).open()

    assert [context.abstract_syntax for context in association.accepted_contexts] == [
        "1.2.840.10008.1.1"
    ]
    association.release()
