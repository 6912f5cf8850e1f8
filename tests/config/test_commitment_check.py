"""What is said about nodes that are to commit to storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.config.settings import Configuration, load
from tests.config.kit import ENOUGH, write

LIST = "Verification 1.2.840.10008.1.1 sop\n"
PUSH = "StorageCommitmentPushModel 1.2.840.10008.1.20.1 sop\n"


def said(configuration: Configuration) -> list[str]:
    """Return the problems with sections of nodes."""
    return [each.message for each in configuration.problems if each.message.startswith("[node")]


def with_node(folder: Path, keys: str, sop_list: str) -> Configuration:
    """Load a configuration with one section."""
    ini = f"[sscscp]\n{ENOUGH}[node PACS]\n{keys}"
    return load(write(folder, ini, map="PACS 10.0.0.3 104 as\n", lst=sop_list))


@pytest.mark.parametrize("sop_list", [PUSH, LIST + PUSH, ""])
def test_a_list_with_the_class_is_well(tmp_path: Path, sop_list: str) -> None:
    configuration = with_node(tmp_path, "Commit = yes\nCommitBeforeDelete = yes\n", sop_list)

    assert said(configuration) == []
    node = configuration.settings.peers.of("PACS")
    assert (node.commit, node.commit_before_delete) == (True, True)


def test_a_list_without_the_class_is_named(tmp_path: Path) -> None:
    [message] = said(with_node(tmp_path, "Commit = yes\n", LIST))

    assert "does not list storage commitment" in message


def test_guarding_without_asking_is_named(tmp_path: Path) -> None:
    [message] = said(with_node(tmp_path, "CommitBeforeDelete = yes\n", PUSH))

    assert "keeps every object" in message


def test_times_are_read(tmp_path: Path) -> None:
    keys = "Commit = 1\nCommitTimeOut = 60\nCommitWait = 0.5\n"

    node = with_node(tmp_path, keys, PUSH).settings.peers.of("PACS")

    assert (node.commit_timeout_s, node.commit_wait_s) == (60.0, 0.5)
