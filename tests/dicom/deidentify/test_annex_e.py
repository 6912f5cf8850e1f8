"""Table E.1-1 row by row, against a copy of the table that the code does not read."""

from __future__ import annotations

import re

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dgate.dicom.deidentify.decisions import Action, Decisions
from dgate.dicom.element import vr_of
from tests.dicom.deidentify.kit import (
    KEPT_SEQUENCE,
    data_set,
    deidentified,
    encoded,
    innermost,
    nested,
    profile,
    rows,
    run,
)

ROWS = list(rows())
OPTIONS = [name for name in ROWS[0] if name not in ("tag", "basic", "safe-private")]
SECRET_TEXT = "QUIXOTIC"
VALUES = {
    "AE": SECRET_TEXT, "AS": "077Y", "CS": SECRET_TEXT, "DA": "20260102", "DS": "7.25",
    "DT": "20260102101112.5+0100", "IS": "77", "LO": SECRET_TEXT, "LT": SECRET_TEXT,
    "OB": b"QUIXOTIC", "PN": SECRET_TEXT, "SH": SECRET_TEXT, "ST": SECRET_TEXT, "TM": "101112",
    "UC": SECRET_TEXT, "UI": "1.2.826.0.1.77", "UN": b"QUIXOTIC", "UR": f"http://{SECRET_TEXT}",
    "US": 77, "UT": SECRET_TEXT,
}  # fmt: skip
SHIFTED = {"DA", "DT"}
TEXTS = {"LO", "LT", "SH", "ST", "UC", "UT"}
SINGLE = [row for row in ROWS if re.fullmatch("[0-9A-F]{8}", row["tag"])]
IN_DATA_SETS = [row for row in SINGLE if not row["tag"].startswith(("0000", "0002", "0004"))]


def secret_item() -> Dataset:
    """Return an item of a sequence that says who the patient is."""
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    item.ReferencedSOPInstanceUID = "1.2.826.0.1.77"
    item.PatientName = SECRET_TEXT
    item.CodeValue = SECRET_TEXT
    item.CodeMeaning = SECRET_TEXT
    return item


def with_value(tag: int) -> Dataset:
    made = Dataset()
    vr = vr_of(tag)
    value = Sequence([secret_item()]) if vr == "SQ" else VALUES[vr]
    made.add_new(tag, vr, value)
    return made


def at_both_levels(tag: int, *words: str) -> tuple[Dataset, Dataset]:
    """Return the results for an element at the top, and inside items of items."""
    top = data_set()
    for element in with_value(tag):
        top[tag] = element
    return deidentified(top, *words), innermost(deidentified(nested(with_value(tag)), *words))


def test_the_copy_has_all_rows() -> None:
    codes = [row["basic"] for row in ROWS]

    assert len(ROWS) == 621
    expected = {"D": 92, "Z": 42, "Z/D": 6, "X/D": 22, "X/Z": 11, "X/Z/D": 8, "X/Z/U*": 2}
    assert {code: codes.count(code) for code in expected} == expected
    assert codes.count("U") == 54
    assert codes.count("X") == 384


@pytest.mark.parametrize("row", IN_DATA_SETS, ids=lambda row: row["tag"])
def test_basic_profile_does_what_the_table_says(row: dict[str, str]) -> None:
    tag = int(row["tag"], 16)

    for found in at_both_levels(tag):
        _check_basic(row["basic"], tag, found)


def _check_basic(code: str, tag: int, found: Dataset) -> None:
    if code == "X":
        assert tag not in found
        return
    assert tag in found
    if vr_of(tag) == "SQ":
        _check_sequence(code, found, tag)
    elif code == "U":
        assert str(found[tag].value).startswith("2.25.")
    elif code in ("Z", "X/Z"):
        # A name and an ID of the whole object are a pseudonym: Z allows a dummy.
        assert found[tag].is_empty or (tag == 0x00100010 and "PatientID" in found)
    else:
        assert not found[tag].is_empty
        assert found[tag].value != VALUES[vr_of(tag)]
        assert vr_of(tag) == found[tag].VR


def _check_sequence(code: str, found: Dataset, tag: int) -> None:
    data = encoded(found)
    assert b"1.2.826.0.1.77" not in data
    if code == "X/Z/U*":
        item = found[tag].value[0]
        assert item.ReferencedSOPInstanceUID.startswith("2.25.")
        assert item.PatientName != SECRET_TEXT
        return
    assert SECRET_TEXT.encode() not in data
    if code in ("Z", "X/Z"):
        assert len(found[tag].value) == 0
    else:
        assert len(found[tag].value) == 1
        assert len(found[tag].value[0]) > 0


@pytest.mark.parametrize("row", SINGLE, ids=lambda row: row["tag"])
def test_rows_outside_of_data_sets_are_decided_too(row: dict[str, str]) -> None:
    action, _ = Decisions(profile()).of(int(row["tag"], 16))

    assert (action is Action.REMOVE) == (row["basic"] == "X")
    assert (action is Action.UID) == (
        row["basic"] == "U" or row["tag"] == "006A0003"
    ) or action is Action.DUMMY


KEPT = [(option, row) for option in OPTIONS for row in IN_DATA_SETS if row[option] == "K"]
CLEANED = [
    (option, row)
    for option in OPTIONS
    for row in IN_DATA_SETS
    if row[option] == "C" and option != "modified-dates"
]
DATES = [row for row in IN_DATA_SETS if row["modified-dates"] == "C"]


@pytest.mark.parametrize(
    ("option", "row"), KEPT, ids=[f"{option}-{row['tag']}" for option, row in KEPT]
)
def test_retained_attribute_is_kept(option: str, row: dict[str, str]) -> None:
    tag = int(row["tag"], 16)

    for found in at_both_levels(tag, option):
        assert tag in found
        if vr_of(tag) == "SQ":
            # The profile goes on inside.
            assert found[tag].value[0].CodeValue == SECRET_TEXT
            assert found[tag].value[0].PatientName != SECRET_TEXT
        else:
            assert encoded(with_value(tag))[8:] in encoded(found)


@pytest.mark.parametrize(
    ("option", "row"), CLEANED, ids=[f"{option}-{row['tag']}" for option, row in CLEANED]
)
def test_cleaned_attribute_loses_what_identifies(option: str, row: dict[str, str]) -> None:
    tag = int(row["tag"], 16)
    vr = vr_of(tag)
    top = data_set(PatientName="Quixotic^Ann", PatientID="ID-QUIXOTIC")
    if vr == "SQ":
        item = Dataset()
        item.PatientName = SECRET_TEXT
        item.CodeMeaning = f"L {SECRET_TEXT} lung"
        top.add_new(tag, vr, Sequence([item]))
    else:
        top.add_new(tag, vr, f"L {SECRET_TEXT} lung" if vr in TEXTS else VALUES[vr])

    found = deidentified(top, option)

    assert SECRET_TEXT.encode() not in encoded(found)
    if vr == "SQ":
        assert found[tag].value[0].CodeMeaning == "L lung"
    elif vr in TEXTS:
        assert found[tag].value == "L lung"
    else:
        _check_basic(row["basic"], tag, found)


@pytest.mark.parametrize("row", DATES, ids=lambda row: row["tag"])
def test_dates_are_shifted_and_times_kept(row: dict[str, str]) -> None:
    tag = int(row["tag"], 16)
    vr = vr_of(tag)

    for found in at_both_levels(tag, "modified-dates"):
        if vr in SHIFTED:
            assert found[tag].value != VALUES[vr]
            assert str(found[tag].value)[8:] == str(VALUES[vr])[8:]
            assert "20160101" < str(found[tag].value)[:8] < "20260102"
        elif vr in ("TM", "SH"):
            assert found[tag].value == VALUES[vr]
        else:
            _check_basic(row["basic"], tag, found)


@pytest.mark.parametrize("words", [(), ("graphics",), ("descriptors", "graphics")])
def test_curves_overlays_and_private_groups_go(words: tuple[str, ...]) -> None:
    made = data_set()
    made.add_new(0x50000005, "US", 1)
    made.add_new(0x50023000, "OW", b"QUIXOTIC")
    made.add_new(0x60000010, "US", 2)
    made.add_new(0x60003000, "OW", b"QUIXOTIC")
    made.add_new(0x60024000, "LT", SECRET_TEXT)
    made.add_new(0x00090010, "LO", "QUIXOTIC WORKS")
    made.add_new(0x00091001, "LO", SECRET_TEXT)
    made.add_new(0xFFFCFFFC, "OB", b"QUIXOTIC")

    found = deidentified(made, *words)

    assert not [element for element in found if element.tag.group in range(0x5000, 0x6100)]
    assert not [element for element in found if element.tag.is_private]
    assert 0xFFFCFFFC not in found


@pytest.mark.parametrize(
    "tag",
    [0x00100011, 0x00080099, 0x0010FFFE, 0x00080001, 0x00280200, 0x40101051, 0x00100033],
    ids=lambda tag: f"{tag:08X}",
)
def test_what_is_not_known_to_be_safe_goes(tag: int) -> None:
    """Attributes of later editions, unknown ones, retired ones, and some that say too much."""
    made = data_set()
    made.add_new(tag, "LO", SECRET_TEXT)

    assert tag not in deidentified(made)


@pytest.mark.parametrize(
    ("tag", "option"),
    [
        (0x00181010, "device"),
        (0x003A0020, "descriptors"),
        (0x003A0203, "descriptors"),
        (0x003A020C, "descriptors"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value:08X}",
)
def test_what_later_editions_remove_goes_unless_their_option_keeps_it(
    tag: int, option: str
) -> None:
    for found in at_both_levels(tag):
        assert tag not in found
    for found in at_both_levels(tag, option):
        assert tag in found


def test_group_lengths_go() -> None:
    data = b"\x08\0\0\0UL\4\0\x22\0\0\0" + encoded(data_set())

    table, _ = run(data)

    assert 0x00080000 not in table
    assert KEPT_SEQUENCE not in table
