"""Who may be asked on behalf of whom."""

from __future__ import annotations

import pytest

from dgate.config.model import VirtualServer
from dgate.dicom.encode import encode_data_set
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from dgate.services.question import SERVER_MASK, Question, forbid_virtual_servers

SYNTAXES = pytest.mark.parametrize("syntax", [EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE])
LEFT = VirtualServer(0, "LEFT")
RIGHT = VirtualServer(3, "RIGHT")


def table(syntax: str = EXPLICIT_LE) -> ElementTable:
    return ElementTable(encode_data_set({0x00100020: "ID"}, syntax, ""), syntax)


def again(changed: ElementTable, syntax: str) -> ElementTable:
    return ElementTable(changed.tobytes(), syntax)


@SYNTAXES
def test_the_way_of_a_question_is_read_as_it_was_written(syntax: str) -> None:
    changed = table(syntax)
    Question("A", None, ("ONE", "TWO")).mark(changed, "US")

    read = Question.of(again(changed, syntax), "B ")

    assert read == Question("B", None, ("ONE", "TWO", "US"))


@SYNTAXES
def test_nobody_is_asked_when_that_is_forbidden(syntax: str) -> None:
    changed = table(syntax)
    forbid_virtual_servers(changed)

    read = Question.of(again(changed, syntax), "B")

    assert read.mask == 0x8000
    assert not read.may_reach(LEFT, "US")


def test_mask_chooses_servers() -> None:
    changed = table()
    changed.set_raw(SERVER_MASK, "US", (1 << 3).to_bytes(2, "little"))

    read = Question.of(again(changed, EXPLICIT_LE), "B")

    assert [read.may_reach(each, "US") for each in (LEFT, RIGHT)] == [False, True]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (Question("SOMEBODY"), True),
        (Question("LEFT"), False),
        (Question("SOMEBODY", None, ("LEFT", "X")), False),
        (Question("SOMEBODY", None, ("US",)), False),
        (Question("SOMEBODY", None, tuple(map(str, range(16)))), False),
    ],
    ids=["anybody", "on its own behalf", "was there", "was here", "too long a way"],
)
def test_a_question_never_goes_back(question: Question, expected: bool) -> None:
    assert question.may_reach(LEFT, "US") is expected


def test_an_element_of_somebody_else_is_not_our_path() -> None:
    changed = table()
    changed.set_raw(0x0DA70010, "LO", b"SOMEBODY ELSE")
    changed.set_raw(0x0DA71001, "LO", b"LEFT")

    assert Question.of(changed, "B").path == ()


def test_a_mask_that_is_cut_off_counts_as_none() -> None:
    changed = table()
    changed.set_raw(SERVER_MASK, "UN", b"")

    assert Question.of(changed, "B").mask is None
