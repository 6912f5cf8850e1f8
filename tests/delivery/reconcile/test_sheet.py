"""What both sides have of one study, by pages."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from dgate.archive.records import InstanceRef
from dgate.delivery.reconcile import sheet as module
from dgate.delivery.reconcile.node import ObjectThere
from dgate.delivery.reconcile.sheet import SeriesRow, Sheet
from dgate.errors import StoreError


@pytest.fixture
def sheet() -> Iterator[Sheet]:
    made = Sheet()
    yield made
    made.close()
    made.close()


def ref(number: int) -> InstanceRef:
    return InstanceRef("1.2", f"1.3.{number}", "P", "1.4", "1.5", "MAG0", f"{number}.dcm")


def theirs(number: int) -> ObjectThere:
    return ObjectThere(f"1.3.{number}", "1.2")


def test_objects_that_either_side_lacks(sheet: Sheet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 7)
    sheet.add_own(ref(number) for number in range(100))
    sheet.add_theirs(theirs(number) for number in range(50, 200))
    there = list(sheet.missing_there())
    here = list(sheet.missing_here())
    assert max(map(len, there)) == max(map(len, here)) == 7
    assert {each for page in there for each in page} == {ref(number) for number in range(50)}
    assert {each for page in here for each in page} == {theirs(n) for n in range(100, 200)}
    assert sheet.listed() == 150
    assert len(sheet.some_listed()) == 2


def test_objects_that_are_listed_twice_count_once(sheet: Sheet) -> None:
    sheet.add_theirs([theirs(1), theirs(1)])
    sheet.add_own([ref(1)])
    assert sheet.listed() == 1
    assert list(sheet.missing_here()) == []


def test_series_of_either_side(sheet: Sheet) -> None:
    sheet.add_own_series([("1.1", 3), ("1.2\0", 4)])
    sheet.add_their_series([("1.2", 5)])
    # Of a series that is not listed nothing can be told.
    assert sheet.told() == 5
    sheet.add_their_series([("1.3", None)])
    assert list(sheet.series()) == [
        SeriesRow("1.1", "1.1", 3, None, False),
        SeriesRow("1.2", "1.2\0", 4, 5, True),
        SeriesRow("1.3", "", 0, None, True),
    ]
    assert sheet.told() is None


def test_next_series_and_study_begin_empty(sheet: Sheet) -> None:
    sheet.add_own_series([("1.1", 3)])
    sheet.add_own([ref(1)])
    sheet.clear_objects()
    assert list(sheet.missing_there()) == []
    assert len(list(sheet.series())) == 1
    sheet.clear()
    assert list(sheet.series()) == []


def test_temporary_folder_that_is_full_is_an_error_with_advice(sheet: Sheet) -> None:
    sheet.add_own([ref(1)])
    assert sheet._database is not None
    sheet._database.set_authorizer(
        lambda action, *rest: sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_INSERT else 0
    )
    with pytest.raises(StoreError, match="TMPDIR"):
        sheet.add_own([ref(2)])
    # It begins anew, as the file may be damaged.
    sheet.add_own([ref(3)])
    assert [page for page in sheet.missing_there()] == [[ref(3)]]


def test_errors_of_what_is_read_stay_what_they_are(sheet: Sheet) -> None:
    def failing() -> Iterator[InstanceRef]:
        yield ref(1)
        raise StoreError("the index is away")

    with pytest.raises(StoreError, match="the index is away"):
        sheet.add_own(failing())
