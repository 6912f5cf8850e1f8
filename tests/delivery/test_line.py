"""How long waits may be for a node, and what an object may take."""

from __future__ import annotations

from pathlib import Path

from dgate.config.node_settings import NodeSettings, Rate, Span
from dgate.config.settings import default_settings
from dgate.delivery.line import SLOWEST_BYTES_S, slowest_byte_s, timeouts_for


def test_node_bounds_the_waits_for_it(tmp_path: Path) -> None:
    settings = default_settings(tmp_path, tcpip_timeout_s=300)

    general = timeouts_for(settings, NodeSettings())
    own = timeouts_for(settings, NodeSettings(connect_timeout_s=2.0, response_timeout_s=7.0))

    assert (general.connect_s, general.response_s, general.artim_s) == (10.0, 300.0, 30.0)
    assert (own.connect_s, own.response_s, own.read_s, own.write_s) == (2.0, 7.0, 7.0, 7.0)
    assert own.artim_s == 7.0
    assert timeouts_for(settings, NodeSettings(response_timeout_s=90.0)).artim_s == 30.0


def test_deadline_leaves_room_for_the_least_bandwidth() -> None:
    assert slowest_byte_s(NodeSettings(), 1) == 1 / SLOWEST_BYTES_S
    slow = NodeSettings(bandwidth=(Rate(8.0, Span(0, 60)), Rate(10**6)), associations=2)
    # 1,000 bytes in a second, shared by two, and as much again to be on the safe side.
    assert slowest_byte_s(slow, 20) == 0.004


def test_deadline_leaves_room_for_all_that_share_the_bandwidth() -> None:
    slow = NodeSettings(bandwidth=(Rate(8.0),))

    assert slowest_byte_s(slow, 1) == 0.002
    assert slowest_byte_s(slow, 5) == 0.010
