"""File names out of an index that another server wrote."""

from __future__ import annotations

import pytest

from dgate.archive.naming import is_confined
from dgate.archive.records import stored_name


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("0009703828\\1.2_0001.v2", "0009703828/1.2_0001.v2"),
        ("a/b\\c.dcm", "a/b/c.dcm"),
        ("plain.dcm", "plain.dcm"),
        ("", ""),
        (None, ""),
    ],
)
def test_folders_are_separated_by_slashes(column: str | None, name: str) -> None:
    assert stored_name(column) == name


@pytest.mark.parametrize("column", ["..\\..\\etc\\passwd", "a\\..\\..\\x", "\\etc\\passwd"])
def test_backslashes_lead_nobody_out_of_the_device(column: str) -> None:
    assert not is_confined(stored_name(column))
