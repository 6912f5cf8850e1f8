"""Which member of a group gets a study."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.config.node_settings import NodeSettings, NodeTable
from dgate.config.nodes import NodeMap
from dgate.config.settings import load
from dgate.delivery.groups import chosen, members_of
from tests.config.kit import ENOUGH, write

MEMBERS = ("ONE", "TWO", "THREE", "FOUR")
STUDIES = [f"1.2.3.{number}" for number in range(1000)]


def up(_member: str) -> bool:
    return True


def test_studies_are_spread_evenly() -> None:
    counts = Counter(chosen(study, MEMBERS, up) for study in STUDIES)

    assert set(counts) == set(MEMBERS)
    assert min(counts.values()) > 180


def test_only_the_studies_of_a_member_that_is_down_move() -> None:
    before = {study: chosen(study, MEMBERS, up) for study in STUDIES}

    after = {study: chosen(study, MEMBERS, lambda member: member != "TWO") for study in STUDIES}

    assert all(before[s] in ("TWO", after[s]) for s in STUDIES)
    assert "TWO" not in after.values()


@given(st.permutations(MEMBERS), st.text(max_size=20))
def test_order_of_the_members_does_not_matter(members: list[str], study: str) -> None:
    assert chosen(study, members, up) == chosen(study, MEMBERS, up)


def test_without_any_that_is_up_it_is_the_one_that_it_would_be() -> None:
    assert chosen("1.2.3", MEMBERS, lambda member: False) == chosen("1.2.3", MEMBERS, up)


def test_members_are_spelled_as_in_the_node_table() -> None:
    nodes, _ = NodeMap.parse(b"Reader1 10.0.0.1 104 as\nREADER2 10.0.0.2 104 as\n", "acrnema.map")
    peers = NodeTable(
        {
            "reader1": NodeSettings(group="READERS"),
            "reader2": NodeSettings(group="readers"),
            "gone": NodeSettings(group="READERS"),
        }
    )

    assert members_of("Readers", peers, nodes) == ("Reader1", "READER2")
    assert members_of("reader1", peers, nodes) == ()


@pytest.mark.parametrize(
    ("section", "members"),
    [("PACS", ("PACS",)), ("pacs", ("pacs",)), ("Pacs", ("PACS",))],
)
def test_of_nodes_that_differ_in_letter_case_the_one_that_is_written_is_the_member(
    tmp_path: Path, section: str, members: tuple[str, ...]
) -> None:
    nodes, _ = NodeMap.parse(b"PACS 10.0.0.1 104\npacs 10.0.0.2 104\n", "acrnema.map")
    text = f"[sscscp]\n{ENOUGH}[node {section}]\nGroup = Readers\n"
    peers = load(write(tmp_path, text)).settings.peers

    assert members_of("readers", peers, nodes) == members
