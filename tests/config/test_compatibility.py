from __future__ import annotations

from pathlib import Path

import pytest

from dgate.config import key_notes
from dgate.config.compatibility import Status, compatibility_page, status_of
from dgate.config.key_table import REGISTRY
from dgate.config.keys import MAIN, Key, Mark
from dgate.config.problem import Severity
from dgate.config.reference import written
from tests.config.kit import configured

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "tests" / "data" / "reference-keys.txt").read_text().split()


def test_page_in_the_manual_is_the_one_that_the_registry_makes() -> None:
    advice = "run: dgate config explain --compatibility > docs/compatibility.md"
    assert compatibility_page() == PAGE, advice


@pytest.mark.parametrize("name", REFERENCE)
def test_key_of_the_reference_is_on_the_page_once(name: str) -> None:
    section, _, text = name.rpartition("/") if name.startswith("[") else (MAIN, "", name)
    match = REGISTRY.find(text, section.strip("[]"))

    assert match is not None
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    shown = f"`{written(match.key)}`".replace("<", "&lt;")
    assert (
        len([row for row in rows if shown in row.split("|")[1].split("` `") or shown in row]) == 1
    )


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("SQLiteStartup", Status.DIFFERS),
        ("IgnoreRewrite", Status.WORKS),
        ("QueueSize", Status.IDLE),
        ("PackDBF", Status.IDLE),
    ],
)
def test_status_of_a_key(name: str, status: Status) -> None:
    assert status_of(REGISTRY[name]) is status


def test_key_without_effect_tells_why() -> None:
    idle = [key for key in REGISTRY if status_of(key) is Status.IDLE]

    assert len(idle) > 80
    assert all(len(key.reason.split()) > 2 for key in idle)


@pytest.mark.parametrize("table", [key_notes.UNITS, key_notes.EXAMPLES, key_notes.DIFFERS])
def test_note_is_about_a_key(table: dict[str, str]) -> None:
    assert set(table) <= {key.name for key in REGISTRY if key.section == MAIN}
    assert all(text and text == text.strip() for text in table.values())


def test_row_that_has_a_note_keeps_it() -> None:
    key = REGISTRY["PDUSize"]
    own = Key(key.name, key.type, key.default, key.meaning, Mark.CORE, unit="kilobytes")

    (noted,) = key_notes.with_notes(own)
    assert noted.unit == "kilobytes"
    assert noted.differs == key.differs


# Those stand in every configuration of these tests, or make sense with others only.
ELSEWHERE = ("MAGDeviceN", "ExportConverters")
SHOWN = [
    pytest.param(key, id=key.name)
    for key in REGISTRY
    if key.effective and key.section == MAIN and key.name not in ELSEWHERE and key.has_sample
]


@pytest.mark.parametrize("key", SHOWN)
def test_example_of_a_setting_is_read_without_complaint(key: Key, tmp_path: Path) -> None:
    configuration = configured(tmp_path, key.sample)

    name = key.sample.partition(" ")[0]
    problems = [p for p in configuration.problems if p.severity is Severity.ERROR]
    assert not [str(problem) for problem in problems if name in problem.message]
