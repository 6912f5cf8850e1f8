"""The page about configuration: its examples load and its commands run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from dgate.cli.main import cli
from dgate.config.check import check
from dgate.config.layout import parse_layout
from dgate.config.nodes import NodeMap
from dgate.config.settings import load
from dgate.config.soplist import SopList
from tests.config.kit import write

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE = (DOCS / "configuration.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_commands_run(tmp_path: Path) -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines()]

    assert len(commands) == 10
    for command in commands:
        arguments = shlex.split(command.replace("FOLDER", str(tmp_path / "site")))
        result = CliRunner().invoke(cli, arguments[1:])
        assert result.exit_code == 0, (command, result.output)


@pytest.mark.parametrize("text", blocks("ini"))
def test_settings_of_an_example_are_known(tmp_path: Path, text: str) -> None:
    (table,) = blocks("map")
    configuration = load(write(tmp_path, text, map=table))

    assert not [
        problem
        for problem in check(configuration)
        if "MAGDevice0 is not set" not in problem.message and problem.path.endswith(".ini")
    ]


def test_nodes_of_the_example_are_found_as_told() -> None:
    (text,) = blocks("map")
    nodes, problems = NodeMap.parse(text.encode(), "acrnema.map")

    node = nodes.find("V10.0.0.1")
    assert not problems
    assert len(nodes) == 4
    assert node is not None
    assert node.host == "10.0.0.1"


def test_rows_of_the_example_are_a_study_section() -> None:
    (text,) = blocks("sql")
    layout, problems = parse_layout(text.encode(), "dicom.sql")

    assert [column.name for column in layout.study.columns] == [
        "StudyInsta",
        "StudyDate",
        "PatientID",
    ]
    assert all("is missing" in problem.message for problem in problems)


def test_lines_of_the_example_are_a_list() -> None:
    (text,) = blocks("lst")
    sop_list, problems = SopList.parse(text.encode(), "dgatesop.lst")

    assert not problems
    assert sop_list.remote_ae == {"CT01"}
