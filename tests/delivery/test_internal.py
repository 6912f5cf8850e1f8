"""Which settings of nodes count for a lane of the ledger."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dgate.config.node_settings import DEFAULT, NodeSettings, NodeTable
from dgate.config.nodes import NodeMap
from dgate.delivery.internal import node_of_lane
from tests.delivery.kit import Books
from tests.delivery.twins import Workshop

OWN = ["delayed forward", "delayed get SINK", "ExportConverter3", "MIRROR0"]


def nodes(*titles: str) -> NodeMap:
    lines = "".join(f"{title} 127.0.0.1 104 as\n" for title in titles)
    return NodeMap.parse(lines.encode(), "acrnema.map")[0]


@pytest.mark.parametrize(
    ("lane", "title"),
    [
        *((lane, "") for lane in OWN),
        ("commitment by SINK", "SINK"),
        ("commitment for AE 1", "AE 1"),
        ("SINK", "SINK"),
        ("MIRRORED", "MIRRORED"),
        ("EXPORTER", "EXPORTER"),
        ("10.0.0.1:104", "10.0.0.1:104"),
    ],
)
def test_lane_leads_to_a_node_or_to_none(lane: str, title: str) -> None:
    assert node_of_lane(lane, nodes("SINK")) == title


def test_node_that_is_named_as_a_mirror_is_a_node() -> None:
    assert node_of_lane("MIRROR0", nodes("MIRROR0")) == "MIRROR0"


def test_patterns_of_nodes_govern_no_work_inside_the_server(books: Books, tmp_path: Path) -> None:
    shop = Workshop(books, tmp_path)
    everyone = NodeSettings(retry_first_s=77.0, associations=3)
    sink = NodeSettings(retry_first_s=9.0)
    peers = NodeTable({"sink": sink, "delayed*": everyone, "m*": everyone, "*": everyone})
    tools = dataclasses.replace(
        shop.tools, settings=dataclasses.replace(shop.settings, peers=peers)
    )

    for lane in OWN:
        assert tools.node(lane) is DEFAULT
        assert tools.policy_for(lane) == shop.tools.policy
        assert tools.slots_of(lane) == shop.settings.delayed_forwarder_threads
    assert tools.node("commitment by SINK") is sink
    assert tools.policy_for("commitment for SINK").first_s == 9.0
    assert tools.node("commitment by OTHER") is everyone
    assert tools.node("SINK") is sink
