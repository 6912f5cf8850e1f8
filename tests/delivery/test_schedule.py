"""When a failed delivery is tried again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.config.node_settings import NodeSettings, NodeTable
from dgate.config.settings import default_settings
from dgate.delivery.schedule import RetryPolicy

AVERAGE = 0.5
"""The chance that changes nothing."""


@pytest.mark.parametrize(
    ("failures", "pause_s"), [(1, 5), (2, 10), (3, 20), (7, 320), (8, 600), (9, 600), (10000, 600)]
)
def test_pause_doubles_up_to_the_longest(failures: int, pause_s: float) -> None:
    assert RetryPolicy().pause_s(failures, AVERAGE) == pause_s


def test_chance_moves_the_pause_by_a_fifth() -> None:
    policy = RetryPolicy()

    assert policy.pause_s(2, 0.0) == pytest.approx(8.0)
    assert policy.pause_s(2, 0.999999) == pytest.approx(12.0, abs=0.001)


@given(st.integers(0, 1000), st.floats(0, 1, exclude_max=True))
def test_pause_is_never_longer_than_the_longest(failures: int, chance: float) -> None:
    assert 0 < RetryPolicy(first_s=5.0, longest_s=60.0).pause_s(failures, chance) <= 60.0


@pytest.mark.parametrize("failures", [1, 5, 50])
def test_fixed_delay_stays_the_same(failures: int) -> None:
    assert RetryPolicy(fixed_s=100.0).pause_s(failures, 0.1) == 100.0


def test_hold_off_is_the_least_pause() -> None:
    policy = RetryPolicy(hold_off_s=60.0)

    assert policy.pause_s(1, AVERAGE) == 60.0
    assert policy.pause_s(6, AVERAGE) == 160.0
    assert RetryPolicy(fixed_s=10.0, hold_off_s=60.0).pause_s(1, AVERAGE) == 60.0


@pytest.mark.parametrize(
    ("policy", "most_s"),
    [
        (RetryPolicy(longest_s=60.0), 60.0),
        (RetryPolicy(longest_s=60.0, fixed_s=10.0), 10.0),
        (RetryPolicy(longest_s=60.0, hold_off_s=90.0), 90.0),
    ],
    ids=["growing", "fixed", "held off"],
)
def test_longest_pause_is_known(policy: RetryPolicy, most_s: float) -> None:
    assert policy.most_s == most_s


def test_debt_is_given_up_only_when_a_limit_is_set() -> None:
    assert not RetryPolicy().is_exhausted(1_000_000)
    assert not RetryPolicy(most_tries=3).is_exhausted(2)
    assert RetryPolicy(most_tries=3).is_exhausted(3)


def test_policy_is_taken_from_the_settings(tmp_path: Path) -> None:
    settings = default_settings(
        tmp_path,
        retry_first_s=0.1,
        retry_max_s=0.2,
        retry_delay_s=1.0,
        fail_hold_off_s=2.0,
        maximum_export_retries=3,
    )

    assert RetryPolicy.of(settings) == RetryPolicy(0.1, 0.2, 1.0, 2.0, 3)
    assert RetryPolicy.of(default_settings(tmp_path)) == RetryPolicy()


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({}, RetryPolicy(fixed_s=100.0)),
        ({"retry_first_s": 2.0}, RetryPolicy(first_s=2.0)),
        ({"retry_max_s": 30.0}, RetryPolicy(longest_s=30.0)),
        ({"retry_delay_s": 7.0}, RetryPolicy(fixed_s=7.0)),
        ({"fail_hold_off_s": 9.0}, RetryPolicy(fixed_s=100.0, hold_off_s=9.0)),
        ({"maximum_export_retries": 3}, RetryPolicy(fixed_s=100.0, most_tries=3)),
        ({"maximum_export_retries": 0}, RetryPolicy(fixed_s=100.0)),
    ],
)
def test_node_changes_what_it_names(node: dict[str, float], expected: RetryPolicy) -> None:
    general = RetryPolicy(fixed_s=100.0)

    assert general.for_node(NodeSettings(**node)) == expected  # type: ignore[arg-type]


def test_longest_pause_is_that_of_any_node(tmp_path: Path) -> None:
    peers = NodeTable({"sink": NodeSettings(retry_delay_s=5000.0)})

    assert RetryPolicy.longest_of(default_settings(tmp_path)) == 600.0
    assert RetryPolicy.longest_of(default_settings(tmp_path, peers=peers)) == 5000.0
