"""How many objects a node has, by what it tells and by what it lists."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dgate.config.node_settings import Expect, NodeSettings, NodeTable
from dgate.delivery.expected_query import CountByQuery, objects_of
from dgate.delivery.inquiry import STUDY_ROOT, find_proposals
from dgate.delivery.reconcile.node import NodeSide
from dgate.errors import PeerError
from dgate.net import CommandField, connect
from dgate.rules.effects import ObjectScope
from tests.delivery.reconcile.test_comparison import Odd
from tests.net.kit import FAST, serving

pytestmark = pytest.mark.integration

STUDY, SERIES = "1.2.801.1", "1.2.801.1.1"


@contextmanager
def side_of(odd: Odd) -> Iterator[NodeSide]:
    handlers = {(CommandField.C_FIND_RQ, f"{STUDY_ROOT}.1"): odd.handle}
    with serving(handlers=handlers) as server:
        side = NodeSide(
            lambda: connect(
                "127.0.0.1", server.port, "US", "PEER", find_proposals()[:1], timeouts=FAST
            )
        )
        yield side
        side.close()


@pytest.mark.parametrize(("counts", "questions"), [(True, 1), (False, 3)])
def test_study(counts: bool, questions: int) -> None:
    odd = Odd(counts=counts)
    odd.add(STUDY, "20260105", 5)
    with side_of(odd) as side:
        assert objects_of(side, ObjectScope(patient_id="P1", study=STUDY)) == 5
    assert len(odd.asked) == questions


@pytest.mark.parametrize("counts", [True, False])
def test_series(counts: bool) -> None:
    odd = Odd(counts=counts)
    odd.add(STUDY, "20260105", 5)
    odd.studies[STUDY][1]["1.2.9"] = ["1.2.9.1"]
    with side_of(odd) as side:
        scope = ObjectScope(patient_id="P1", study=STUDY, series=SERIES)
        assert objects_of(side, scope) == 5
        assert objects_of(side, ObjectScope(study=STUDY, series="1.2.10")) is None


def test_what_the_node_does_not_know_or_not_wholly_tell_is_not_known() -> None:
    odd = Odd(counts=False, limit=3, final=0xA700)
    odd.add(STUDY, "20260105", 5)
    with side_of(odd) as side:
        assert objects_of(side, ObjectScope(study="1.2.3")) is None
        assert objects_of(side, ObjectScope(study=STUDY)) is None


def test_only_known_nodes_that_are_to_be_asked_are_asked() -> None:
    odd = Odd()
    odd.add(STUDY, "20260105", 5)
    peers = NodeTable({"ct1": NodeSettings(expect_counts=Expect.QUERY), "ct2": NodeSettings()})
    scope = ObjectScope(study=STUDY)
    with side_of(odd) as side:
        count = CountByQuery(peers, lambda title: title != "CT9", lambda title: side)
        assert count.concerns("CT1", scope)
        assert not count.concerns("CT2", scope)
        assert not CountByQuery(peers, lambda title: False, lambda title: side).concerns(
            "CT1", scope
        )
        assert count.expected("CT1", scope) == 5
        count.cut()
        with pytest.raises(PeerError):
            count.expected("CT1", scope)
        count.close()
