"""Identifiers: from data set to keys, unique keys, and the character set of answers."""

from __future__ import annotations

import pytest

from dgate.archive.levels import Level
from dgate.archive.query import QueryKey
from dgate.dicom.encode import encode_data_set
from dgate.dicom.payload import SPILL_BYTES, Payload
from dgate.errors import DataSetMismatch, NotDicom
from dgate.net import Command, Message, PresentationContext
from dgate.services.identifier import (
    PATIENT_ROOT,
    PATIENT_STUDY_ONLY,
    STUDY_ROOT,
    Identifier,
    answer_charset,
    check_unique_keys,
    identifier_table,
    read_keys,
)

IMPLICIT_LE = "1.2.840.10008.1.2"
LEVEL = 0x00080052
PATIENT_NAME = 0x00100010
STUDY = 0x0020000D
CONTEXT = PresentationContext(1, "1.2.840.10008.5.1.4.1.2.2.1", IMPLICIT_LE, False, True)


def message(values: dict[int, str | None], charset: str = "") -> Message:
    payload = Payload()
    payload.append(encode_data_set(values, IMPLICIT_LE, charset))
    return Message(CONTEXT, Command(), payload)


def read_identifier(request: Message, levels: frozenset[Level]) -> Identifier:
    """Decode a request as the services do, with no converter between."""
    return read_keys(identifier_table(request), levels)


def test_keys_are_decoded_by_the_requests_character_set() -> None:
    found = read_identifier(
        message({LEVEL: "STUDY", PATIENT_NAME: "Müller*", STUDY: None}, "ISO_IR 192"), STUDY_ROOT
    )
    assert found.level is Level.STUDY
    assert found.keys == (QueryKey(PATIENT_NAME, "Müller*"), QueryKey(STUDY, None))
    assert found.charset == "ISO_IR 192"


def test_level_may_be_written_in_lower_case() -> None:
    assert read_identifier(message({LEVEL: "series "}), STUDY_ROOT).level is Level.SERIES


def test_sequence_keys_are_kept_apart() -> None:
    found = read_identifier(message({LEVEL: "STUDY", 0x00081110: None}), STUDY_ROOT)
    assert found.sequences == (0x00081110,)
    assert found.keys == ()


@pytest.mark.parametrize(
    ("level", "model"),
    [
        ("PATIENT", STUDY_ROOT),
        ("SERIES", PATIENT_STUDY_ONLY),
        ("FRAME", PATIENT_ROOT),
        ("", PATIENT_ROOT),
    ],
    ids=["patient-in-study-root", "series-in-patient-study-only", "unknown", "empty"],
)
def test_level_outside_the_model_is_refused(level: str, model: frozenset[Level]) -> None:
    with pytest.raises(DataSetMismatch, match="level"):
        read_identifier(message({LEVEL: level or None}), model)


def test_missing_and_oversized_identifiers_are_refused() -> None:
    with pytest.raises(NotDicom):
        read_identifier(Message(CONTEXT, Command(), None), STUDY_ROOT)
    huge = Payload()
    huge.append(bytes(SPILL_BYTES + 1))
    with pytest.raises(NotDicom, match="1 MiB"):
        read_identifier(Message(CONTEXT, Command(), huge), STUDY_ROOT)


def test_identifier_of_a_thousand_elements_and_no_more_is_read() -> None:
    values: dict[int, str | None] = {0x00091000 + number: None for number in range(999)}
    values[LEVEL] = "STUDY"
    assert read_identifier(message(values), STUDY_ROOT).level is Level.STUDY
    values[STUDY] = "1.2"
    with pytest.raises(NotDicom, match="1000 elements"):
        read_identifier(message(values), STUDY_ROOT)


@pytest.mark.parametrize("value", [None, "*", "1.2.*", "1.2.?"], ids=str)
def test_retrieval_without_unique_key_is_refused(value: str | None) -> None:
    found = read_identifier(message({LEVEL: "STUDY", STUDY: value}), STUDY_ROOT)
    with pytest.raises(DataSetMismatch, match="unique key"):
        check_unique_keys(found)


def test_retrieval_takes_a_list_of_unique_keys() -> None:
    found = read_identifier(message({LEVEL: "STUDY", STUDY: "1.2\\1.3"}), STUDY_ROOT)
    check_unique_keys(found)


@pytest.mark.parametrize(
    ("text", "requested", "configured", "expected"),
    [
        ("SMITH", "", 0, ""),
        ("SMITH", "", 100, "ISO_IR 100"),
        ("SMITH", "ISO_IR 192", 0, "ISO_IR 192"),
        ("Müller", "", 0, "ISO_IR 100"),
        ("Müller", "ISO_IR 192", 0, "ISO_IR 192"),
        ("Жуков", "", 0, "ISO_IR 192"),
        ("Жуков", "ISO_IR 144", 0, "ISO_IR 144"),
        ("Жуков", "ISO_IR 100", 0, "ISO_IR 192"),
        ("Жуков", "", 144, "ISO_IR 144"),
        ("Müller", "NONSENSE 7", 0, "ISO_IR 100"),
    ],
)
def test_answer_is_in_a_character_set_that_holds_it(
    text: str, requested: str, configured: int, expected: str
) -> None:
    assert answer_charset({PATIENT_NAME: text}, requested, configured) == expected
