"""Values of one section: whatever stands in a line, a typed value in range comes out of it."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.config.ini import Entry, Section
from dgate.config.key_table import REGISTRY
from dgate.config.keys import MAIN, Key, KeyType
from dgate.config.problem import Report, Severity
from dgate.config.values import Values

SINGLE = [
    key for key in REGISTRY if key.section == MAIN and not key.is_family and "<" not in key.name
]
INTEGERS = [key for key in SINGLE if key.type is KeyType.INT]


def read(*lines: tuple[str, str], base: Path = Path("/site")) -> tuple[Values, Report]:
    """Return the values of a section with these lines, which begin at line 2."""
    section, report = Section(MAIN, 1), Report("dicom.ini")
    for number, (key, text) in enumerate(lines, 2):
        section.add(Entry(MAIN, key, text, number, len(key) + 4))
    return Values(section, base, report), report


def told(report: Report) -> list[tuple[int | None, str, str]]:
    return [(each.line, each.severity.value, each.message) for each in report.problems]


@given(st.sampled_from(SINGLE), st.text(string.printable, max_size=30))
def test_any_text_gives_a_value_of_the_keys_type(key: Key, text: str) -> None:
    values, _ = read((key.name, text))
    found = values.typed(key)

    kinds: dict[KeyType, type | tuple[type, ...]] = {
        KeyType.INT: int,
        KeyType.BOOL: bool,
        KeyType.SECONDS: (float, type(None)),
        KeyType.PORT: int,
        KeyType.PATH: Path,
        KeyType.LIST: frozenset,
    }
    assert isinstance(found, kinds.get(key.type, str))
    if isinstance(found, int | float) and not isinstance(found, bool):
        assert key.least is None or found >= key.least
        assert key.most is None or found <= key.most
    if key.type is KeyType.PORT:
        assert 0 <= int(str(found)) <= 65535
    if key.type is KeyType.CHOICE:
        assert found in (*key.choices, key.default)
    if key.type is KeyType.AE:
        assert len(str(found)) <= 16
        assert str(found).isascii()


@given(st.sampled_from(INTEGERS), st.integers(-(10**12), 10**12))
def test_number_out_of_range_is_told_and_replaced(key: Key, number: int) -> None:
    values, report = read((key.name, str(number)))
    is_within = (key.least is None or number >= key.least) and (
        key.most is None or number <= key.most
    )

    found = values.integer(key.name)

    assert (found == number) is is_within or found == number
    assert any("out of range" in each.message for each in report.problems) is not is_within


def test_number_is_complained_of_once_however_often_it_is_asked_for() -> None:
    values, report = read(("PDUSize", "4096 bytes"))
    for _ in range(3):
        values.integer("PDUSize")
    values.flag("PDUSize")

    assert told(report) == [(2, "warning", "PDUSize = 4096 bytes is read as 4096")]


def test_proper_spelling_counts_wherever_it_stands() -> None:
    values, report = read(("TCP/IPTimeOut", "10"), ("TCPIPTimeOut", "20"), ("PACSName", "x"))

    assert values.integer("TCPIPTimeOut") == 20
    assert (2, "warning") in [(line, severity) for line, severity, _ in told(report)]
    assert any("line 3 counts" in message for _, _, message in told(report))


def test_same_value_in_two_spellings_is_no_contradiction() -> None:
    values, report = read(("TCP/IPTimeOut", "20"), ("TCPIPTimeOut", "20"))

    assert values.integer("TCPIPTimeOut") == 20
    assert {each.severity for each in report.problems} == {Severity.INFO}


def test_unknown_settings_are_advised_on_until_that_would_take_long() -> None:
    _, report = read(*((f"PDUSizes{number}x", "1") for number in range(30)))

    advised = [each for each in report.problems if "did you mean PDUSize" in each.advice]
    assert len(report.problems) == 30
    assert len(advised) == 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("./x", "/site/x"),
        ("x\\y", "/site/x/y"),
        ("/abs/x", "/abs/x"),
        ("\0", None),
        ("n" * 5000, None),
    ],
)
def test_path_is_relative_to_the_base_folder(text: str, expected: str | None) -> None:
    values, report = read(("MAGDevice0", text))

    found = values.path(text, values.get("MAGDevice0"))

    assert str(found) == (expected or f"/site/{text}")
    assert report.problems == []


def test_path_that_exists_only_in_the_current_folder_is_taken_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, here = tmp_path / "base", tmp_path / "here"
    (here / "data").mkdir(parents=True)
    base.mkdir()
    monkeypatch.chdir(here)
    values, report = read(("TempDir", "data"), base=base)

    assert values.path("data", values.get("TempDir")) == here / "data"
    assert str(here / "data") in report.problems[0].advice
    (base / "data").mkdir()
    assert values.path("data", values.get("TempDir")) == base / "data"


def test_windows_path_is_told() -> None:
    values, report = read(("TempDir", "D:\\data\\"))
    values.path("D:\\data\\", values.get("TempDir"))
    assert "is a Windows path" in report.problems[0].message


def test_every_setting_is_listed_in_the_order_of_the_reference() -> None:
    values, _ = read(("MAGDevice1", "b"), ("PACSName", "x"), ("MAGDevice0", "a"))
    listed = [value.name for value in values.all()]

    at = listed.index("MAGDevice1")
    assert listed[at : at + 2] == ["MAGDevice1", "MAGDevice0"]
    assert listed.index("PACSName") < at
    assert not values.get("PACSName").is_default
    assert values.get("TCPPort").is_default
