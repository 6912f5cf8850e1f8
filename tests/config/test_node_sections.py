"""Sections about nodes: what they set, what is wrong with them, how they go through the tools."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from dgate.cli.main import cli
from dgate.config.difference import differences, held_back
from dgate.config.key_table import REGISTRY
from dgate.config.keys import NODE
from dgate.config.node_settings import DEFAULT, NodeSettings, Priority, Span
from dgate.config.settings import Configuration, Severity, load
from dgate.inspection import inspect
from tests.config.kit import ENOUGH, about, write

MAP = "CT1 10.0.0.1 104 as\nCT2 10.0.0.2 104 as\nPACS 10.0.0.3 104 as\nSPARE 10.0.0.4 104 as\n"


def with_nodes(folder: Path, text: str) -> Configuration:
    """Load a working configuration with sections behind its own."""
    return load(write(folder, f"[sscscp]\n{ENOUGH}{text}", map=MAP))


def test_section_sets_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    text = """
[node PACS]
Associations = 4
ObjectsPerAssociation = 500
ConnectTimeOut = 2.5
ResponseTimeOut = 30
Deadline = 120
TransferSyntaxes = as, explicit
Window = 06:00-22:00
BulkWindow = 20:00-22:00
Bandwidth = 2000
RetryFirst = 1
RetryMax = 60
FailHoldOff = 3
MaximumExportRetries = 7
Statuses = A700 wait, timeout retry
Fallback = SPARE
FallbackAfter = 30
Group = READERS
"""
    configuration = with_nodes(tmp_path, text)

    peers = configuration.settings.peers
    found = peers.of("PACS")
    assert found.associations == 4
    assert found.objects_per_association == 500
    assert found.connect_timeout_s == 2.5
    assert found.response_timeout_s == 30.0
    assert found.deadline_s == 120.0
    assert found.transfer_syntaxes == ("as", "1.2.840.10008.1.2.1")
    assert found.window == (Span(360, 1320),)
    assert found.bulk_window == (Span(1200, 1320),)
    assert [rate.kbit_s for rate in found.bandwidth] == [2000.0]
    assert (found.retry_first_s, found.retry_max_s, found.retry_delay_s) == (1.0, 60.0, None)
    assert (found.fail_hold_off_s, found.maximum_export_retries) == (3.0, 7)
    assert found.statuses == ((0xA700, 0xA700, "wait"),)
    assert found.errors == (("timeout", "retry"),)
    assert (found.fallback, found.fallback_after_min, found.group) == ("SPARE", 30.0, "READERS")
    assert peers.of("CT1") is DEFAULT
    assert peers.members("readers") == ("PACS",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("yes", True), ("1", True), ("On", True), ("no", False), ("0", False), ("false", False)],
)
def test_yes_and_no(tmp_path: Path, text: str, expected: bool) -> None:
    configuration = with_nodes(tmp_path, f"[node PACS]\nCommit = {text}\nPriority = Stat\n")

    assert configuration.settings.peers.of("pacs").commit is expected
    assert configuration.settings.peers.of("pacs").priority is Priority.STAT


@pytest.mark.parametrize("text", ["study", "Series", "OBJECT"])
def test_level_of_a_comparison(tmp_path: Path, text: str) -> None:
    configuration = with_nodes(tmp_path, f"[node PACS]\nReconcileLevel = {text}\n")

    assert configuration.settings.peers.of("PACS").reconcile_level == text.lower()
    assert configuration.settings.peers.of("CT1").reconcile_level == "study"


def test_pattern_is_for_titles_without_a_section_of_their_own(tmp_path: Path) -> None:
    configuration = with_nodes(
        tmp_path, "[node CT*]\nAssociations = 2\n[Node ct1]\nassociations = 3\n"
    )

    peers = configuration.settings.peers
    assert [peers.of(title).associations for title in ("CT1", "ct2", "PACS")] == [3, 2, None]
    assert not [p for p in configuration.problems if "names a node" in p.message]


@pytest.mark.parametrize(
    ("line", "text", "column"),
    [
        ("Associations = four", "'four' is not a whole number", 16),
        ("Associations = 0", "0 is out of range", 16),
        ("Associations = 65", "65 is out of range", 16),
        ("Associations = -1", "'-1' is not a whole number", 16),
        ("Deadline = 1s", "'1s' is not a number", 12),
        ("RetryMax = 1e3", "'1e3' is not a number", 12),
        ("Window = 06:00-22:00, 25:00-26:00", "no time of day", 23),
        ("Bandwidth = 2000, fast", "no day of the week", 19),
        ("Statuses = A700 wait, 0122 fial", "not what a status can mean", 28),
        ("Statuses = A700 wait, timeuot retry", "neither a status nor an error", 23),
        ("Statuses = refused delivered", "does not tell that the node has the object", 20),
        ("TransferSyntaxes = as, bogus", "'bogus' is no transfer syntax", 24),
        ("Commit = perhaps", "neither yes nor no", 10),
        ("Priority = urgent", "'urgent' is no priority", 12),
        ("ReconcileLevel = pixel", "'pixel' is no level of a comparison", 18),
        ("Fallback = A\\B", "cannot be an AE title", 12),
        ("Group = a-name-that-is-much-too-long", "cannot be an AE title", 9),
        ("Fallback = NOWHERE", "Fallback names NOWHERE", 12),
        ("Fallback = PACS", "goes round in a loop: PACS to PACS", 12),
        ("Group = SPARE", "is the name of a node", 9),
    ],
)
def test_value_that_cannot_be_understood_is_an_error_with_its_place(
    tmp_path: Path, line: str, text: str, column: int
) -> None:
    configuration = with_nodes(tmp_path, f"[node PACS]\n{line}\n")

    problem = about(configuration, text)
    assert problem.severity is Severity.ERROR
    assert problem.line == 7
    assert problem.column == column
    assert problem.source == line
    assert problem.advice
    key = line.split(" = ")[0]
    if key not in ("Fallback", "Group"):
        assert configuration.settings.peers.of("PACS") == NodeSettings()


def test_unknown_key_gets_a_suggestion_and_its_value_is_not_shown(tmp_path: Path) -> None:
    configuration = with_nodes(tmp_path, "[node PACS]\nAsociations = 3\njust words\n")

    problem = about(configuration, "Asociations is not a known setting of a node")
    assert problem.severity is Severity.WARNING
    assert problem.advice == "did you mean Associations?"
    assert "3" not in problem.source
    assert about(configuration, "neither a comment").line == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RetryFirst = 10\nRetryMax = 5\n", "RetryFirst is longer than RetryMax"),
        ("RetryFirst = 10\nRetryDelay = 5\n", "RetryFirst has no effect, as RetryDelay is set"),
        ("FallbackAfter = 5\n", "FallbackAfter has no effect without Fallback or Group"),
        ("Associations =\n", "Associations has no value; the general setting counts"),
    ],
)
def test_keys_that_do_not_go_together_are_reported(tmp_path: Path, text: str, message: str) -> None:
    problem = about(with_nodes(tmp_path, f"[node PACS]\n{text}"), message)

    assert problem.severity is Severity.WARNING


def test_loop_of_fallbacks_is_found_over_several_nodes(tmp_path: Path) -> None:
    text = "[node PACS]\nFallback = CT1\n[node CT1]\nFallback = CT2\n[node CT2]\nFallback = PACS\n"

    problems = [p for p in with_nodes(tmp_path, text).problems if "loop" in p.message]

    assert [problem.line for problem in problems] == [7, 9, 11]
    assert "PACS to CT1 to CT2 to PACS" in problems[0].message


def test_chain_that_ends_is_no_loop(tmp_path: Path) -> None:
    text = "[node PACS]\nFallback = CT1\n[node CT1]\nFallback = CT2\n"

    assert not [p for p in with_nodes(tmp_path, text).problems if "loop" in p.message]


def test_group_of_one_and_group_of_a_pattern_are_reported(tmp_path: Path) -> None:
    configuration = with_nodes(
        tmp_path, "[node PACS]\nGroup = ALONE\n[node CT*]\nGroup = MANY\n[node CT1]\nGroup = MANY\n"
    )

    assert about(configuration, "only member of group ALONE").severity is Severity.INFO
    assert about(configuration, "cannot be in a group").severity is Severity.ERROR


def test_rule_may_forward_to_a_group(tmp_path: Path) -> None:
    text = (
        "ExportConverters = 1\nExportConverter0 = forward to Readers\n"
        "[node CT1]\nGroup = READERS\n[node CT2]\nGroup = READERS\n"
    )

    found = inspect(with_nodes(tmp_path, text))

    assert not [problem for problem in found if "does not name" in problem.message]


def test_syntaxes_that_reencode_are_named(tmp_path: Path) -> None:
    text = "[node PACS]\nTransferSyntaxes = rle, explicit\n[node CT1]\nTransferSyntaxes = as, un\n"

    problem = about(with_nodes(tmp_path, text), "objects are re-encoded where needed")

    assert problem.severity is Severity.INFO
    assert "[node PACS]" in problem.message


def test_change_of_a_node_is_told_and_needs_no_restart(tmp_path: Path) -> None:
    old = with_nodes(tmp_path, "[node PACS]\nAssociations = 2\nWindow = 1:00-2:00\nSecret = x\n")
    new = with_nodes(tmp_path, "[node PACS]\nAssociations = 3\nDeadline = 60\nSecret = y\n")

    assert differences(old, new) == [
        "[node PACS] Associations: 2 -> 3 (dicom.ini:7)",
        "[node PACS] Deadline: 60 added (dicom.ini:8)",
        "[node PACS] Secret: changed (dicom.ini:9)",
        "[node PACS] Window: removed",
    ]
    merged, waiting = held_back(old, new)
    assert not waiting
    assert merged.settings.peers.of("pacs").associations == 3


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_settings_of_nodes_are_shown_explained_and_changed(tmp_path: Path) -> None:
    path = str(with_nodes(tmp_path, "[node PACS]\nAssociations = 2\n").settings.ini_path)

    assert "[node PACS] Associations = 2\t(dicom.ini:7)" in run("config", "show", "-c", path)
    explained = run("config", "explain", "associations", "-c", path)
    assert "[node NAME] Associations" in explained
    assert "[node PACS] Associations = 2 (dicom.ini:7)" in explained
    run("config", "set", "-c", path, "--section", "node PACS", "Associations", "5")
    run("config", "set", "-c", path, "--section", "node CT1", "deadline", "60")
    peers = load(Path(path)).settings.peers
    assert peers.of("PACS").associations == 5
    assert peers.of("CT1").deadline_s == 60.0
    for name, value in (("Asociations", "5"), ("Window", "25:00-26:00")):
        arguments = ["config", "set", "-c", path, "--section", "node PACS", name, value]
        assert CliRunner().invoke(cli, arguments).exit_code != 0
    assert load(Path(path)).settings.peers.of("PACS").window == ()


def test_explaining_a_key_of_both_sections_tells_of_both(tmp_path: Path) -> None:
    text = run("config", "explain", "RetryFirst", "-c", str(tmp_path))

    assert text.startswith("RetryFirst\n")
    assert "\n[node NAME] RetryFirst\n" in text


def test_misspelt_key_of_a_node_is_explained_by_the_nearest(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["config", "explain", "BulkWindw", "-c", str(tmp_path)])

    assert "did you mean BulkWindow?" in result.output


def test_sections_go_through_toml_and_back(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    text = "[node PACS]\nStatuses = A700 wait, 0122 fail\nCommit = yes\n[node CT1]\nGroup = G\n"
    first = with_nodes(tmp_path / "a", text)
    second = with_nodes(tmp_path / "b", "")
    document = tmp_path / "all.toml"

    run("config", "export", "-c", str(first.settings.ini_path), "--toml", "-o", str(document))
    run("config", "import", "-c", str(second.settings.ini_path), "--force", "--toml", str(document))

    again = load(second.settings.ini_path)
    assert again.settings.peers == first.settings.peers


@pytest.mark.parametrize(
    "key",
    [pytest.param(key, id=key.name) for key in REGISTRY if key.section == NODE],
)
def test_example_of_each_key_is_understood(tmp_path: Path, key: object) -> None:
    sample = key.sample.replace("ARCHIVE2", "SPARE")  # type: ignore[attr-defined]
    configuration = with_nodes(tmp_path, f"[node PACS]\n{sample}\n")

    found = [p for p in configuration.problems if p.line == 7]
    assert not [p for p in found if p.severity is Severity.ERROR], found
