"""Query keys on the command line."""

from __future__ import annotations

import click
import pytest

from dgate.cli.keys import decode_answer, parse_keys
from dgate.dicom.encode import QUERY_RETRIEVE_LEVEL, encode_data_set

IMPLICIT_LE = "1.2.840.10008.1.2"


def test_keywords_and_numbers_name_keys() -> None:
    keys = parse_keys(("PatientName=SMITH*", "0008,0050=A1", "0018,0015"), "STUDY")
    values = keys.values("STUDY")
    assert values[QUERY_RETRIEVE_LEVEL] == "STUDY"
    assert values[0x00100010] == "SMITH*"
    assert values[0x00080050] == "A1"
    assert values[0x00180015] is None
    assert "BodyPartExamined" in keys.names()


def test_a_value_may_contain_equals_signs() -> None:
    assert parse_keys(("PatientName=A=B",), "STUDY").values("STUDY")[0x00100010] == "A=B"


def test_unknown_keyword_is_an_error_of_usage() -> None:
    with pytest.raises(click.BadParameter, match="PatientNane"):
        parse_keys(("PatientNane=X",), "STUDY")


def test_answer_is_read_by_its_own_character_set() -> None:
    keys = parse_keys((), "PATIENT")
    answer = encode_data_set({0x00100010: "Müller", 0x00100020: "7"}, IMPLICIT_LE, "ISO_IR 100")
    row = decode_answer(answer, IMPLICIT_LE, keys)
    assert (row["PatientName"], row["PatientID"], row["PatientSex"]) == ("Müller", "7", "")
