"""Under which name and title something is owed to the target of a forward."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.config.nodes import NodeMap
from dgate.config.targets import lane_name, owed_as

NODES, _ = NodeMap.parse(
    b"PACS 10.0.0.1 104\nViewer 10.0.0.2 104\nviewer 10.0.0.3 104\nWs_* * 104\n", "acrnema.map"
)


@pytest.mark.parametrize(
    ("target", "name", "called"),
    [
        ("PACS", "PACS", ""),
        ("pacs", "PACS", "pacs"),
        ("pacs ", "PACS", "pacs"),
        ("Viewer", "Viewer", ""),
        ("viewer", "viewer", ""),
        ("VIEWER", "Viewer", "VIEWER"),
        ("Ws_A", "Ws_A", ""),
        ("ws_a", "Ws_A", "ws_a"),
        ("WS_10.0.0.9", "Ws_10.0.0.9", "WS_10.0.0.9"),
        ("10.0.0.1:104", "10.0.0.1:104", ""),
        ("Archive.Site.org:11112", "archive.site.org:11112", "Archive.Site.org"),
        ("[FE80::1]:104", "[fe80::1]:104", "[FE80::1]:104"),
        ("FE80::1%Eth0", "FE80::1%Eth0", ""),
        ("ws_fe80::1%eth0", "ws_fe80::1%eth0", ""),
        # Only ASCII has letter case: other letters change their length with it.
        ("Archiv-Straße.Site:104", "archiv-straße.site:104", "Archiv-Straße.Si"),
        ("ws_straße", "Ws_STRAßE", "ws_straße"),
        ("\u0130.site", "\u0130.site", ""),
        ("Nobody", "Nobody", ""),
        ("", "", ""),
    ],
)
def test_target_has_one_name_and_is_called_as_written(target: str, name: str, called: str) -> None:
    assert lane_name(target, NODES) == name
    assert owed_as(target, "", NODES) == (name, called)


def test_title_that_the_rule_gives_is_called() -> None:
    assert owed_as("pacs", "VIEWER", NODES) == ("PACS", "VIEWER")


def test_name_stays_what_it_is() -> None:
    for target in ("pacs", "VIEWER", "ws_ab", "Host.Site:1"):
        name = lane_name(target, NODES)
        assert lane_name(name, NODES) == name


def test_name_below_a_wildcard_is_never_that_of_another_line() -> None:
    nodes, _ = NodeMap.parse(b"WSA first 104\nWS* second 104\n", "acrnema.map")

    assert nodes.spelling("wsa") == "wsa"
    assert nodes.spelling("WSA") == "WSA"
    assert nodes.spelling("wsb") == "WSB"


@given(st.text(max_size=80))
def test_name_is_never_longer_than_what_is_written_and_is_its_own_name(target: str) -> None:
    for written in (target, f"ws_{target}", f"{target}.site"):
        name = lane_name(written, NODES)
        assert len(name) <= len(written)
        assert lane_name(name, NODES) == name


def test_called_title_fits_into_the_ledger() -> None:
    _, called = owed_as("ws_" + "x" * 300, "", NODES)

    assert called == "ws_" + "x" * 61
