"""The table of service classes, compared with another implementation's."""

from __future__ import annotations

import pynetdicom.sop_class as theirs
import pytest
from pydicom.uid import UID_dictionary

from dgate.net.sop_classes import NON_STORAGE, is_storage

STORAGE_TABLES = ("_STORAGE_CLASSES", "_NON_PATIENT_OBJECT_CLASSES")


def test_every_storage_class_that_others_know_is_storage() -> None:
    known = {uid for name in STORAGE_TABLES for uid in getattr(theirs, name).values()}

    assert len(known) > 150
    assert known & NON_STORAGE == set()


def test_every_service_class_that_others_know_is_not_storage() -> None:
    tables = [name for name in dir(theirs) if name.endswith("_CLASSES") and name.startswith("_")]
    known = {
        uid
        for name in tables
        if name not in (*STORAGE_TABLES, "_SERVICE_CLASSES")
        for uid in getattr(theirs, name).values()
    }

    assert len(known) > 60
    assert known <= NON_STORAGE


def test_the_table_names_only_registered_classes() -> None:
    private = {uid for uid in NON_STORAGE if not uid.startswith("1.2.840.10008.")}

    assert len(private) == 3
    kinds = {UID_dictionary[uid][1] for uid in NON_STORAGE - private}
    assert kinds <= {"SOP Class", "Meta SOP Class"}


@pytest.mark.parametrize(
    ("uid", "expected"),
    [
        ("1.2.840.10008.5.1.4.1.1.2", True),
        ("1.2.840.10008.5.1.4.1.1.99999", True),
        ("1.3.12.2.1107.5.9.1", True),
        ("1.2.840.10008.1.1", False),
        ("1.2.840.10008.5.1.4.31", False),
        ("", False),
    ],
)
def test_what_is_not_known_as_a_service_is_storage(uid: str, expected: bool) -> None:
    assert is_storage(uid) is expected
