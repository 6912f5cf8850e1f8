"""Documents that cannot go stale: commands, options, settings and links in them must exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from pydicom.datadict import tag_for_keyword

from dgate.cli.main import cli
from dgate.config import Severity, load
from dgate.config.key_table import REGISTRY

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

# Words in code spans that look like settings and are something else.
OTHER_NAMES = {
    "OnStoredInstance",
    "SendToModality",
    "SyncStorageArea",
    "RemoteAE",
    "LocalAE",
    # Of systemd.
    "LimitNOFILE",
    # Columns of the index.
    "ImageNumber",
    "PatientNam",
    "StudyInsta",
}


def blocks(text: str, language: str) -> Iterator[str]:
    """Yield the contents of fenced blocks of one language, those inside lists too."""
    for found in re.finditer(rf"^( *)```{language}\n(.*?)^\1```$", text, re.M | re.S):
        yield re.sub(rf"^{found[1]}", "", found[2], flags=re.M)


def spans(text: str) -> Iterator[str]:
    """Yield inline code outside fenced blocks."""
    outside = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)
    yield from re.findall(r"`([^`\n]+)`", outside)


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the words of every dgate command in a page."""
    shell = (line for block in blocks(text, "sh") for line in block.splitlines())
    for source in (*shell, *spans(text)):
        found = re.match(r"\s*(?:\S*/)?dgate\s+(\S.*)", source)
        if found:
            yield shlex.split(found[1], comments=True)


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """Follow the words into the command tree; returns the command and what is left."""
    command: click.Command = cli
    rest = list(words)
    with click.Context(cli) as context:
        while rest and isinstance(command, click.Group) and not rest[0].startswith("-"):
            inner = command.get_command(context, rest[0])
            assert inner is not None, f"no command: dgate {' '.join(words)}"
            command = inner
            rest.pop(0)
    return command, rest


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_exists(page: Path) -> None:
    for words in command_lines(page.read_text()):
        command, rest = resolve(words)
        known = {option for one in command.params for option in one.opts} | {"--help", "-h"}
        used = {word.partition("=")[0] for word in rest if re.match(r"--?[a-zA-Z]", word)}
        assert used <= known, f"{page.name}: dgate {' '.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_exists(page: Path) -> None:
    text = page.read_text()
    named = set()
    for block in blocks(text, "ini"):
        lines = (line for line in block.splitlines() if "=" in line and line[0] not in "#;[")
        named |= {line.partition("=")[0].strip() for line in lines}
    for span in spans(text):
        if found := re.match(r"([A-Z][A-Za-z]+[a-z][A-Za-z0-9]*) = ", span):
            named.add(found[1])
        elif re.fullmatch(r"[A-Z][a-z]+(?:[A-Z]+[a-z0-9]*)+", span):
            named.add(span)

    assert {name for name in named if not is_known(name)} == set()


def is_known(name: str) -> bool:
    """Tell whether a name is a setting, a family of settings, or no setting at all."""
    return bool(
        REGISTRY.find(name)
        or REGISTRY.search(name)
        or name in OTHER_NAMES
        or tag_for_keyword(name) is not None
    )


def test_what_does_not_exist_would_be_noticed() -> None:
    assert not is_known("NoSuchSetting")
    assert list(command_lines("Type `dgate frobnicate -x`.")) == [["frobnicate", "-x"]]
    with pytest.raises(AssertionError, match="no command"):
        resolve(["frobnicate"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())

    missing = [one for one in links if "://" not in one and not (page.parent / one).exists()]

    assert missing == []


def test_every_page_is_reachable_from_the_readme() -> None:
    reached, todo = set[Path](), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        reached.add(page)
        for link in re.findall(r"\]\(([^)#]+\.md)", page.read_text()):
            target = (page.parent / link).resolve()
            if target not in reached:
                todo.append(target)

    assert set(PAGES) - reached <= {ROOT / "CHANGELOG.md"}


def examples() -> Iterator[tuple[str, str]]:
    """Yield the ini blocks of the pages about rules and installation, with a name each."""
    for page in PAGES:
        for number, block in enumerate(blocks(page.read_text(), "ini")):
            yield f"{page.stem}-{number}", block


@pytest.mark.parametrize("block", [pytest.param(text, id=name) for name, text in examples()])
def test_every_example_of_dicom_ini_loads_without_errors(block: str, tmp_path: Path) -> None:
    default = ROOT / "conf"
    for path in default.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    kept = [
        line
        for line in (default / "dicom.ini").read_text().splitlines()
        if line.partition("=")[0].strip() + " =" not in block or "=" not in line
    ]
    header, _, rest = "\n".join(kept).partition("[sscscp]")
    example = block.replace("[sscscp]", "")
    settings, section, of_nodes = example.partition("[node ")
    (tmp_path / "dicom.ini").write_text(
        f"{header}[sscscp]\n{settings}\n{rest}\n{section}{of_nodes}\n"
    )
    with (tmp_path / "acrnema.map").open("a") as nodes:
        for name in re.findall(r"(?:^\[node |^Fallback = )([A-Z0-9]+)", block, re.MULTILINE):
            nodes.write(f"{name} 127.0.0.1 104 as\n")

    problems = load(tmp_path).problems

    assert [str(one) for one in problems if one.severity is Severity.ERROR] == []
