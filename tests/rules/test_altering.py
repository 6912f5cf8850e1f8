"""Which rules give a node something else than what is stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.config.settings import load
from dgate.rules.altering import altering_rules, leading_rules
from dgate.rules.hooks import Rules
from tests.config.kit import ENOUGH, write

MAP = (
    "HERE 127.0.0.1 5678 un\nPACS 10.0.0.1 104 un\nALIAS 10.0.0.1 104 un\n"
    "OTHER 10.0.0.2 104 un\nSECOND 10.0.0.3 104 un\n"
)
PEERS = "[node OTHER]\nFallback = SECOND\n[node PACS]\nGroup = POOL\n"


def altering(
    folder: Path, rule: str, node: str = "PACS", kind: str = "Export", *, any_way: bool = False
) -> list[str]:
    """Return the texts of the rules that count; of those that forward to the node in any way."""
    (folder / "anon.txt").write_text('set PatientName to "X"\n')
    (folder / "out.txt").write_text("forward to PACS\n")
    (folder / "out.lua").write_text("script('forward to PACS')\n")
    ini = f"[sscscp]\n{ENOUGH}{kind}Converters = 1\n{kind}Converter0 = {rule}\n{PEERS}"
    configuration = load(write(folder, ini, map=MAP))
    settings = configuration.settings
    library = Rules.build(settings).library
    find = leading_rules if any_way else altering_rules
    return [text.text for text in find(settings, configuration.nodes, library, node)]


@pytest.mark.parametrize("kind", ["Import", "Export"])
@pytest.mark.parametrize(
    "rule",
    [
        'forward to PACS script "set PatientName to X"',
        'forward to pacs script set PatientName to "X"',
        "forward compressed as j2 to PACS",
        'set PatientName to "X"; forward to PACS',
        "newuids; forward to PACS",
        'ifequal "%m", "CT"; {newuids; forward to PACS; }',
        "newuids; forward to %V0008,0080",
        "forward study to PACS script newuids",
        "forward study compressed as j2 to PACS",
        "call anon.txt; forward to PACS",
        "call anon.txt; call out.txt",
        "newuids; call out.txt",
        "newuids; forward to ALIAS",
        "newuids; forward to 10.0.0.1:104",
        "newuids; forward to POOL",
        "lua \"script('forward to PACS')\"",
        "save to x.dcm; forward to PACS",
    ],
)
def test_rule_that_changes_what_it_forwards_counts(tmp_path: Path, rule: str, kind: str) -> None:
    assert altering(tmp_path, rule, kind=kind) == [rule]


@pytest.mark.parametrize("kind", ["Import", "Export"])
@pytest.mark.parametrize(
    "rule",
    [
        "forward to PACS",
        "forward to PACS org ME channel *",
        "forward study to PACS after 10",
        "forward to %V0008,0080",
        'ifequal "%m", "CT"; {forward to PACS; stop; }; nop "not a CT"; stop',
        "call out.txt",
        "newuids; forward to OTHER",
        'set PatientName to "X"',
        'lua "print(1)"',
    ],
)
def test_rule_that_forwards_what_it_got_or_elsewhere_does_not(
    tmp_path: Path, rule: str, kind: str
) -> None:
    assert altering(tmp_path, rule, kind=kind) == []


def test_rule_for_a_node_counts_for_its_fallback(tmp_path: Path) -> None:
    assert altering(tmp_path, "newuids; forward to OTHER", "SECOND")


def test_lua_file_counts_by_what_stands_in_it(tmp_path: Path) -> None:
    assert altering(tmp_path, "out.lua", kind="Import") == ["out.lua"]


@pytest.mark.parametrize(
    ("rule", "leads"),
    [
        ("forward to PACS", True),
        ("newuids; forward to PACS", True),
        ("forward study to POOL after 10", True),
        ("call out.txt", True),
        ("forward to %V0008,0080", True),
        ("lua \"script('forward to PACS')\"", True),
        ("forward to OTHER", False),
        ("newuids", False),
        ('lua "print(1)"', False),
    ],
)
def test_rules_that_lead_to_a_node(tmp_path: Path, rule: str, leads: bool) -> None:
    assert altering(tmp_path, rule, any_way=True) == [rule] * leads
