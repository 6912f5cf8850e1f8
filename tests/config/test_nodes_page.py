"""The page about the control of nodes: its examples load and its commands run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from dgate.cli.main import cli
from dgate.config.problem import Severity
from dgate.config.settings import load
from tests.config.kit import ENOUGH, write

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE = (DOCS / "nodes.md").read_text(encoding="utf-8")
MAP = "".join(
    f"{title} 10.0.0.{number} 104 as\n"
    for number, title in enumerate(
        ("ARCHIVE", "SPARE", "OLDPACS", "READER1", "READER2", "VIEWER"), start=1
    )
)


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", blocks("ini"))
def test_example_is_understood(tmp_path: Path, text: str) -> None:
    configuration = load(write(tmp_path, f"[sscscp]\n{ENOUGH}{text}", map=MAP))

    problems = [p for p in configuration.problems if p.severity is not Severity.INFO]
    assert not problems


def test_commands_run(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    [first, *_] = blocks("ini")
    write(folder, f"[sscscp]\n{ENOUGH}{first}", map=MAP)
    [commands] = blocks("sh")
    # What lists deliveries needs a database; the first start makes it.
    (folder / "data").mkdir()
    for command in commands.splitlines():
        arguments = shlex.split(command.replace("FOLDER", str(folder)))
        result = CliRunner().invoke(cli, arguments[1:])
        if arguments[1:3] == ["queue", "list"]:
            assert "there is no database yet" in f"{result.output}{result.exception}"
            continue
        assert result.exit_code == 0, (command, result.output)
