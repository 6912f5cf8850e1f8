"""Ending what waits for a peer that need not say anything."""

from __future__ import annotations

import threading

from dgate.delivery.errands import Leash
from dgate.dicom.uids import VERIFICATION
from dgate.net import Association, ContextProposal, connect, scu
from tests.net.kit import FAST, PATIENCE_S, Server, serving

IMPLICIT = "1.2.840.10008.1.2"


def open_to(server: Server) -> Association:
    """Open an association."""
    proposal = ContextProposal(VERIFICATION, (IMPLICIT,))
    return connect("127.0.0.1", server.port, "USER", "GATE", [proposal], timeouts=FAST)


def test_waiting_for_what_need_not_come_ends_with_the_server() -> None:
    leash, begun = Leash(), threading.Event()
    with serving() as server:
        association = open_to(server)

        def stop() -> None:
            assert begun.wait(PATIENCE_S)
            leash.stop()

        stopper = threading.Thread(target=stop)
        stopper.start()
        with leash.on(association), leash.waiting() as is_worth_it:
            assert is_worth_it
            begun.set()
            # Without the leash it would take as long as the test may.
            ended_early = not association.is_quiet(PATIENCE_S)
        stopper.join()
        association.close()

    assert ended_early


def test_a_stop_lets_what_is_under_way_finish() -> None:
    leash = Leash()
    with serving() as server, open_to(server) as association, leash.on(association):
        leash.stop()
        assert scu.echo(association).status == 0
        with leash.waiting() as is_worth_it:
            assert not is_worth_it


def test_a_cut_ends_it_all() -> None:
    leash = Leash()
    with serving() as server:
        association = open_to(server)
        with leash.on(association):
            leash.cut()
            assert not association.is_quiet(PATIENCE_S)
        association.close()
        # Nobody is on it any more.
        leash.cut()
