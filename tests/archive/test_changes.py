"""The record of change: what it holds, how it comes back, and that it takes an object back."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.archive.changes import ChangeLog, ChangeRecord, record_of, revert
from dgate.archive.database import Database
from dgate.archive.schema import prepare
from dgate.archive.writer import Writer
from dgate.config.layout import default_layout
from dgate.config.settings import Durability, Engine, default_settings
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from dgate.errors import StoreError
from tests.rules import kit

PATIENT_NAME, PATIENT_ID, COMMENTS = 0x00100010, 0x00100020, 0x00104000
PIXELS = 0x7FE00010


def changed(table: ElementTable) -> ChangeRecord:
    """Change several things in an object and return the record of it."""
    original = table.snapshot()
    table.set_text(PATIENT_NAME, "Jos\u00e9 \u6f22")
    table.set_text(COMMENTS, "long " * 100)
    table.delete(0x00081010)
    table.set_path("/ReferencedStudySequence.*/ReferencedSOPInstanceUID", "9.9")
    record = record_of(original, table, ["ImportConverter0", "ImportConverter2"])
    assert record is not None
    return record


def test_nothing_changed_is_no_record() -> None:
    table = kit.table()
    original = table.snapshot()
    assert record_of(original, table, []) is None
    table.set_text(PATIENT_ID, table.text(PATIENT_ID))
    assert record_of(original, table, []) is None


def test_set_and_set_back_is_no_record() -> None:
    table = kit.table()
    original = table.snapshot()
    table.set_text(PATIENT_ID, "X")
    table.set_text(PATIENT_ID, original.text(PATIENT_ID))
    assert record_of(original, table, ["ImportConverter0"]) is None


def test_object_of_another_origin_is_compared_as_a_whole() -> None:
    original, table = kit.table(), kit.table()
    assert record_of(original, table, ["a script"], grown=False) is None
    changed(table)
    read_again = ElementTable(table.tobytes(), EXPLICIT_LE)
    assert record_of(original, read_again, ["a script"]) is None
    record = record_of(original, read_again, ["a script"], grown=False)
    assert record is not None
    revert(record, read_again)
    assert read_again.tobytes() == original.tobytes()


def test_object_becomes_what_it_was_byte_for_byte() -> None:
    table = kit.with_sequence()
    before = table.tobytes()
    record = changed(table)
    stored = ElementTable(table.tobytes(), EXPLICIT_LE)
    revert(record, stored)
    assert stored.tobytes() == before
    assert record.rules == "ImportConverter0, ImportConverter2"


def test_uids_that_were_replaced_are_found_by_the_new_ones() -> None:
    table = kit.table()
    original = table.snapshot()
    table.set_text(0x00080018, "7.7.7")
    record = record_of(original, table, [])
    assert record is not None
    assert (record.sop_instance, record.former) == ("7.7.7", "1.2.3.4.5")


def test_changed_transfer_syntax_keeps_the_whole_data_set() -> None:
    table = kit.table()
    before = table.tobytes()
    original = table.snapshot()
    from dgate.dicom.transcode import convert

    table.replace(convert(before, EXPLICIT_LE, IMPLICIT_LE), IMPLICIT_LE)
    record = record_of(original, table, ["ImportConverter0"])
    assert record is not None
    stored = ElementTable(table.tobytes(), IMPLICIT_LE)
    revert(record, stored)
    assert (stored.tobytes(), stored.syntax) == (before, EXPLICIT_LE)


@pytest.mark.parametrize("tag", [PATIENT_NAME, COMMENTS, 0x00081010])
def test_object_that_was_changed_later_is_left_alone(tag: int) -> None:
    table = kit.with_sequence()
    record = changed(table)
    table.set_text(tag, "other")
    before = table.tobytes()
    with pytest.raises(StoreError, match="has been changed since"):
        revert(record, table)
    assert table.tobytes() == before


@pytest.fixture
def log(tmp_path: Path) -> tuple[ChangeLog, Writer]:
    settings = default_settings(
        tmp_path,
        engine=Engine.SQLITE,
        sql_server=str(tmp_path / "index.db3"),
        durability=Durability.NONE,
    )
    database = Database(settings)
    database.open()
    prepare(database, default_layout(), settings)
    return ChangeLog(database), Writer(database, Durability.NONE)


def test_records_come_back_the_latest_first(log: tuple[ChangeLog, Writer]) -> None:
    changes, writer = log
    record = changed(kit.with_sequence())
    for now in (1.0, 3.0, 2.0):
        writer.transact(lambda transaction, now=now: changes.add(record, transaction, now))
    found = list(changes.of(record.sop_instance))
    assert [one.made for one in found] == [3.0, 2.0, 1.0]
    assert found[0].elements == record.elements
    assert (found[0].former, found[0].syntax) == (record.former, EXPLICIT_LE)
    assert list(changes.of("9")) == []


def test_old_records_are_pruned(log: tuple[ChangeLog, Writer]) -> None:
    changes, writer = log
    record = changed(kit.with_sequence())
    for now in (1.0, 5.0):
        writer.transact(lambda transaction, now=now: changes.add(record, transaction, now))
    assert changes.prune(writer, 5.0) == 1
    [left] = changes.of(record.sop_instance)
    writer.transact(lambda transaction: changes.forget(transaction, left))
    assert list(changes.of(record.sop_instance)) == []


def test_damaged_record_is_an_error_that_names_the_object(log: tuple[ChangeLog, Writer]) -> None:
    changes, writer = log
    record = changed(kit.with_sequence())
    writer.transact(lambda transaction: changes.add(record, transaction, 1.0))
    writer.transact(lambda transaction: transaction.execute("UPDATE dgate_changes SET content='x'"))
    with pytest.raises(StoreError, match=record.sop_instance):
        list(changes.of(record.sop_instance))
