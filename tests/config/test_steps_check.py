"""What is said about nodes whose procedure steps are waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.config.node_settings import Expect
from tests.config.test_commitment_check import LIST, said, with_node

STEPS = "ModalityPerformedProcedureStep 1.2.840.10008.3.1.2.3.3 sop\n"


@pytest.mark.parametrize("sop_list", [STEPS, LIST + STEPS, ""])
def test_a_list_with_the_class_is_well(tmp_path: Path, sop_list: str) -> None:
    configuration = with_node(tmp_path, "ExpectCounts = MPPS\n", sop_list)

    assert said(configuration) == []
    assert configuration.settings.peers.of("PACS").expect_counts is Expect.STEPS


def test_a_list_without_the_class_is_named(tmp_path: Path) -> None:
    [message] = said(with_node(tmp_path, "ExpectCounts = mpps\n", LIST))

    assert "does not list performed procedure steps" in message
    assert said(with_node(tmp_path, "ExpectCounts = yes\n", LIST)) == []


@pytest.mark.parametrize(
    ("text", "expect"),
    [
        ("yes", Expect.QUERY),
        ("1", Expect.QUERY),
        ("on", Expect.QUERY),
        ("no", Expect.NOBODY),
        ("0", Expect.NOBODY),
        ("mpps", Expect.STEPS),
    ],
)
def test_words(tmp_path: Path, text: str, expect: Expect) -> None:
    configuration = with_node(tmp_path, f"ExpectCounts = {text}\n", "")

    assert configuration.settings.peers.of("PACS").expect_counts is expect


def test_another_word_is_an_error(tmp_path: Path) -> None:
    configuration = with_node(tmp_path, "ExpectCounts = maybe\n", "")

    assert said(configuration) == ["[node PACS] ExpectCounts: 'maybe' is neither yes, no nor mpps"]
    assert configuration.settings.peers.of("PACS").expect_counts is Expect.NOBODY
