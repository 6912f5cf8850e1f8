"""Deliveries that count only when the node has committed to storage (PS3.4 J)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import pytest

from tests.acceptance.committer import Committer, report_of
from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import store
from tests.acceptance.processes import wait_until
from tests.generate import Generated

PEER = "ARCHIVE"
SENT_AS = "1.2.826.0.1.3680043.8.498.88.1"
FORWARD = {
    "ExportConverters": 1,
    "ExportConverter0": f"forward to {PEER}",
    "RetryFirst": 0.1,
    "RetryMax": 0.2,
}


def with_node(gateway: Gateway, title: str = PEER, **keys: object) -> Gateway:
    """Add the section of a node to dicom.ini."""
    lines = [f"[node {title}]", *(f"{key} = {value}" for key, value in keys.items())]
    gateway.ini.write_text("\n".join([gateway.ini.read_text(), *lines, ""]))
    return gateway


def rows(gateway: Gateway, sql: str) -> list[tuple[Any, ...]]:
    """Ask the index database beside the server."""
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as connection:
        return connection.execute(sql).fetchall()


def states(gateway: Gateway, kind: str = "deliver") -> dict[str, int]:
    """Return how many debts of a kind are in each state."""
    sql = f"SELECT state, count(*) FROM dgate_debts WHERE kind = '{kind}' GROUP BY state"
    return dict(rows(gateway, sql))


@pytest.fixture
def site(farm: Farm) -> Iterator[Callable[..., tuple[Gateway, Committer]]]:
    """Return what makes a running gateway and the peer that it forwards to."""
    peers: list[Committer] = []

    def make(
        *, node: Mapping[str, object] | None = None, **manner: Any
    ) -> tuple[Gateway, Committer]:
        port = farm.ports.take()
        peer = Committer(PEER, port, **manner)
        peers.append(peer.start())
        settings = {"TCPPort": port, **FORWARD}
        gateway = farm.gateway(settings=settings, nodes=[peer.node], start=False)
        with_node(gateway, **({"Commit": "yes", "CommitWait": 0} | dict(node or {})))
        return gateway.start(), peer

    yield make
    for peer in peers:
        peer.close()


Site = Callable[..., tuple[Gateway, Committer]]


@pytest.mark.parametrize("way", ["same", "apart"])
def test_a_delivery_is_done_when_the_peer_has_committed(
    site: Site, objects: list[Generated], way: str
) -> None:
    gateway, peer = site(way=way)

    store(gateway.port, *(item.path for item in objects))

    wait_until(lambda: states(gateway) == {"done": len(objects)}, "all committed")
    wanted = {item.sop_instance for item in objects}
    assert {uid for uids in peer.instances for uid in uids} == wanted
    assert sorted(peer.stored) == sorted(wanted)
    found = rows(
        gateway,
        "SELECT accepted <= committed, committed = finished, commitment FROM dgate_debts "
        "WHERE kind = 'deliver'",
    )
    assert {row[:2] for row in found} == {(1, 1)}
    assert {row[2] for row in found} == {str(asked.TransactionUID) for asked in peer.asked}
    wait_until(lambda: set(states(gateway, "commit")) == {"done"}, "nothing left to ask")
    wait_until(lambda: len(peer.answers) == len(peer.asked), "all answers at the peer")
    assert set(peer.answers) == {0}


def test_objects_that_come_together_are_asked_for_together(
    site: Site, objects: list[Generated]
) -> None:
    gateway, peer = site(node={"CommitWait": 3600})
    store(gateway.port, *(item.path for item in objects))
    wait_until(lambda: states(gateway) == {"committing": len(objects)}, "all accepted")
    assert peer.asked == []

    # What an operator may do: nobody has to wait for the hour.
    gateway.command("queue", "retry", "--destination", f"commitment by {PEER}")

    wait_until(lambda: states(gateway) == {"done": len(objects)}, "all committed")
    assert sorted(map(len, peer.instances)) == [len(objects)]
    assert peer.callers == ["DGATE"]


def test_a_late_report_ends_the_wait_and_one_that_comes_twice_changes_nothing(
    site: Site, objects: list[Generated]
) -> None:
    gateway, peer = site(way="never")
    store(gateway.port, objects[0].path)
    wait_until(lambda: peer.asked, "the request")
    # The association of the request is over by then, the gateway does something else.
    wait_until(lambda: "is awaited" in _text(gateway), "the end of the request's association")

    assert peer.report(peer.asked[0]) == 0
    assert states(gateway) == {"done": 1}
    assert states(gateway, "commit") == {"done": 1}
    assert peer.report(peer.asked[0]) == 0
    assert states(gateway) == {"done": 1}


def _text(gateway: Gateway) -> str:
    return str(rows(gateway, "SELECT last_error FROM dgate_debts WHERE kind = 'commit'"))


def test_a_peer_that_is_no_provider_by_role_selection_is_understood(
    site: Site, objects: list[Generated]
) -> None:
    gateway, _ = site(roles=False)

    store(gateway.port, objects[0].path)

    wait_until(lambda: states(gateway) == {"done": 1}, "the commitment")


def test_reports_that_cannot_be_right_are_answered_so_and_change_nothing(
    site: Site, objects: list[Generated]
) -> None:
    gateway, peer = site(way="never")
    store(gateway.port, objects[0].path)
    wait_until(lambda: peer.asked, "the request")
    event, good = report_of(peer.asked[0], lambda instance: None)
    unknown = deepcopy(good)
    unknown.TransactionUID = "2.25.4711"
    nameless = deepcopy(good)
    del nameless.TransactionUID

    assert peer.send(event, unknown) == 0x0115
    assert peer.send(event, nameless) == 0x0115
    assert peer.send(3, good) == 0x0113
    assert peer.send(event, good, instance="1.2.3") == 0x0112

    assert states(gateway) == {"committing": 1}
    assert "is not known" in gateway.log
    assert peer.send(event, good) == 0
    assert states(gateway) == {"done": 1}


def test_a_peer_that_never_reports_is_asked_again_and_at_last_it_is_stuck(
    site: Site, objects: list[Generated]
) -> None:
    gateway, peer = site(way="never", node={"CommitTimeOut": 1})
    # It has reported on an association of its own before, so no association is kept for it.
    store(gateway.port, objects[1].path)
    wait_until(lambda: peer.asked, "the request")
    assert peer.report(peer.asked[0]) == 0
    first = len(peer.asked)

    store(gateway.port, objects[0].path)

    wait_until(lambda: states(gateway) == {"done": 1, "stuck": 1}, "the end of patience")
    rounds = peer.asked[first:]
    assert len(rounds) == 5
    assert len({asked.TransactionUID for asked in rounds}) == 5
    [(text,)] = rows(gateway, "SELECT last_error FROM dgate_debts WHERE state = 'stuck'")
    assert "has taken 5 requests" in text
    assert "CommitTimeOut" in text
    assert states(gateway, "commit") == {"done": 2}


def test_a_report_to_an_earlier_request_counts(site: Site, objects: list[Generated]) -> None:
    gateway, peer = site(way="never", node={"CommitTimeOut": 1})
    store(gateway.port, objects[1].path)
    wait_until(lambda: peer.asked, "the request")
    assert peer.report(peer.asked[0]) == 0
    first = len(peer.asked)
    store(gateway.port, objects[0].path)
    wait_until(lambda: len(peer.asked) > first + 1, "the second request")

    assert peer.report(peer.asked[first]) == 0

    assert states(gateway) == {"done": 2}


def test_what_is_not_committed_is_sent_again(site: Site, objects: list[Generated]) -> None:
    missing = objects[0].sop_instance
    refused: list[str] = []

    def reason(instance: str) -> int | None:
        if instance == missing and not refused:
            refused.append(instance)
            return 0x0112
        return None

    gateway, peer = site(reasons=reason)

    store(gateway.port, *(item.path for item in objects[:3]))

    wait_until(lambda: states(gateway) == {"done": 3}, "all committed")
    assert refused == [missing]
    assert sorted(peer.stored) == sorted([*(o.sop_instance for o in objects[:3]), missing])
    tries = rows(
        gateway,
        "SELECT t.outcome, t.status, t.error FROM dgate_tries t JOIN dgate_debts d "
        f"ON d.id = t.debt WHERE d.sop_instance = '{missing}' ORDER BY t.id",
    )
    assert [row[0] for row in tries] == ["committing", "uncommitted", "committing"]
    assert tries[1][1] == 0x0112
    assert "does not have the object" in tries[1][2]


def test_the_third_failure_is_stuck_with_the_reason_in_words(
    site: Site, objects: list[Generated]
) -> None:
    gateway, peer = site(reasons=lambda instance: 0x0112)

    store(gateway.port, objects[0].path)

    wait_until(lambda: states(gateway) == {"stuck": 1}, "a stuck delivery")
    assert len(peer.stored) == 3
    [(status, text)] = rows(
        gateway, "SELECT last_status, last_error FROM dgate_debts WHERE state = 'stuck'"
    )
    assert status == 0x0112
    assert "0112 (it does not have the object)" in text
    # Three more after somebody has acted.
    peer.reasons = lambda instance: None
    gateway.command("queue", "retry", "--all")
    wait_until(lambda: states(gateway) == {"done": 1}, "the commitment")


def test_a_peer_without_storage_commitment_leaves_it_stuck_with_the_advice(
    site: Site, objects: list[Generated]
) -> None:
    gateway, peer = site(offers=False)

    store(gateway.port, objects[0].path)

    wait_until(lambda: states(gateway) == {"stuck": 1}, "a stuck delivery")
    [(text,)] = rows(gateway, "SELECT last_error FROM dgate_debts WHERE state = 'stuck'")
    assert "does not offer storage commitment" in text
    assert "remove Commit" in text
    assert peer.stored == [objects[0].sop_instance]


def test_a_request_that_fails_for_now_is_made_again(site: Site, objects: list[Generated]) -> None:
    gateway, peer = site(action_status=0x0213)
    store(gateway.port, objects[0].path)
    wait_until(lambda: len(peer.asked) > 1, "a second request")

    peer.action_status = 0

    wait_until(lambda: states(gateway) == {"done": 1}, "the commitment")
    assert peer.stored == [objects[0].sop_instance]


@pytest.mark.parametrize("status", [0x0122, 0x0124])
def test_a_request_that_is_refused_for_good_leaves_it_stuck(
    site: Site, objects: list[Generated], status: int
) -> None:
    gateway, peer = site(action_status=status)

    store(gateway.port, objects[0].path)

    wait_until(lambda: states(gateway) == {"stuck": 1}, "a stuck delivery")
    [(text,)] = rows(gateway, "SELECT last_error FROM dgate_debts WHERE state = 'stuck'")
    assert f"{status:04X}" in text
    assert len(peer.asked) == 1


def test_a_duplicate_in_answer_to_a_request_is_none_to_have_asked(
    site: Site, objects: list[Generated]
) -> None:
    gateway, peer = site(action_status=0x0111)

    store(gateway.port, objects[0].path)

    wait_until(lambda: states(gateway) == {"stuck": 1}, "a stuck delivery")
    [(text,)] = rows(gateway, "SELECT last_error FROM dgate_debts WHERE state = 'stuck'")
    assert "0111" in text
    assert len(peer.asked) == 5


def test_an_unreachable_peer_is_asked_when_it_is_back(site: Site, objects: list[Generated]) -> None:
    gateway, peer = site(node={"CommitWait": 2})
    store(gateway.port, objects[0].path)
    wait_until(lambda: states(gateway) == {"committing": 1}, "the acceptance")
    peer.close()
    wait_until(lambda: "no connection" in _text(gateway), "a try in vain")

    peer.start()

    wait_until(lambda: states(gateway) == {"done": 1}, "the commitment")
    assert peer.stored == [objects[0].sop_instance]


def test_without_commit_what_waits_counts_as_delivered(
    site: Site, objects: list[Generated]
) -> None:
    gateway, _ = site(way="never")
    store(gateway.port, objects[0].path)
    wait_until(lambda: "is awaited" in _text(gateway), "the request")

    gateway.ini.write_text(gateway.ini.read_text().replace("Commit = yes", "Commit = no"))
    gateway.command("config", "reload")

    wait_until(lambda: states(gateway) == {"done": 1}, "the end of the wait")
    [(text, committed)] = rows(
        gateway, "SELECT last_error, committed FROM dgate_debts WHERE kind = 'deliver'"
    )
    assert "Commit is not set any more" in text
    assert committed is None


@pytest.mark.parametrize("moment", ["accepted", "asked"])
def test_a_killed_server_asks_again(
    farm: Farm, site: Site, objects: list[Generated], moment: str
) -> None:
    gateway, peer = site(way="never", node={"CommitWait": 3600 if moment == "accepted" else 0})
    store(gateway.port, *(item.path for item in objects[:5]))
    if moment == "accepted":
        wait_until(lambda: states(gateway) == {"committing": 5}, "all accepted")
    else:
        wait_until(lambda: sum(map(len, peer.instances)) == 5, "the requests")
    gateway.kill()
    before = list(peer.asked)

    gateway.start()
    if moment == "accepted":
        peer.way = "apart"
        gateway.command("queue", "retry", "--all")
    else:
        # The report to what the killed server asked, and to what it may not have known it asked.
        for asked in before:
            assert peer.report(asked) == 0

    wait_until(lambda: states(gateway) == {"done": 5}, "all committed")
    assert set(peer.stored) == {item.sop_instance for item in objects[:5]}


def test_an_object_is_asked_for_under_the_uids_that_it_was_sent_under(
    farm: Farm, objects: list[Generated]
) -> None:
    port = farm.ports.take()
    peer = Committer(PEER, port).start()
    rule = f'forward to {PEER} script set 0008,0018 to "{SENT_AS}"'
    settings = {"TCPPort": port, **FORWARD, "ExportConverter0": rule}
    gateway = farm.gateway(settings=settings, nodes=[peer.node], start=False)
    with_node(gateway, Commit="yes", CommitWait=0).start()
    try:
        store(gateway.port, objects[0].path)

        wait_until(lambda: states(gateway) == {"done": 1}, "the commitment")
        assert peer.stored == [SENT_AS]
        assert peer.instances == [[SENT_AS]]
    finally:
        peer.close()


def test_cancelled_requests_are_made_again_at_the_next_start(
    site: Site, objects: list[Generated]
) -> None:
    gateway, peer = site(way="never", node={"CommitWait": 3600})
    store(gateway.port, objects[0].path)
    wait_until(lambda: states(gateway) == {"committing": 1}, "the acceptance")
    lane = f"commitment by {PEER}"
    gateway.command("queue", "cancel", "--yes", "--why", "test", "--destination", lane)
    assert states(gateway, "commit") == {"cancelled": 1}
    peer.way = "apart"

    gateway.restart()

    wait_until(lambda: states(gateway) == {"done": 1}, "the commitment")
