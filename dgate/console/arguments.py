"""Arguments of server commands: texts between commas, colons or bars. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dgate.dicom.element import tag_of
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE, is_uid
from dgate.errors import RuleError
from dgate.rules.actions import APART

_Number = TypeVar("_Number", int, float)


def split(text: str, separator: str, most: int) -> list[str]:
    """Return up to `most` arguments; missing ones are empty, the last takes all that follows.

    Arguments that come apart already are taken as they are; raises RuleError for too many.
    """
    if text.startswith(APART):
        found = [part.strip() for part in text[1:].split(APART)]
        if len(found) > most:
            raise RuleError(f"the server command takes {most} arguments, not {len(found)}")
    else:
        found = [part.strip() for part in text.split(separator, most - 1)]
    return found + [""] * (most - len(found))


def uid(text: str, what: str) -> str:
    """Return an argument that is a UID or empty; raises RuleError.

    A value with a comma in it, put into the text of a command, moves all that follow.
    """
    if text and not is_uid(text):
        raise RuleError(
            f"{text[:40]!r} is not the UID of {what}",
            remedy="where a value has a comma or colon, give the command as a table: "
            "servercommand({'modifier', id, study, '', '', 1, script})",
        )
    return text


def demand(value: str, what: str) -> str:
    """Return an argument that must not be empty; raises RuleError."""
    if not value:
        raise RuleError(f"the server command lacks {what}")
    return value


def number(text: str, what: str) -> int:
    """Return an argument that is a whole number; raises RuleError."""
    return _read(int, text, what)


def real(text: str, what: str) -> float:
    """Return an argument that is a number; raises RuleError."""
    return _read(float, text, what)


def _read(kind: Callable[[str], _Number], text: str, what: str) -> _Number:
    try:
        return kind(text)
    except ValueError:
        raise RuleError(f"{text[:40]!r} is not {what}") from None


def objects_of(patient: str, study: str, series: str, sop: str) -> ElementTable:
    """Return a query for the objects that have these IDs; empty ones ask for all.

    Raises:
        RuleError: one that should be a UID is none.
    """
    return identifier(
        PatientID=patient,
        StudyInstanceUID=uid(study, "a study"),
        SeriesInstanceUID=uid(series, "a series"),
        SOPInstanceUID=uid(sop, "an image"),
    )


def identifier(**values: str) -> ElementTable:
    """Return an object with these texts, by keyword; empty ones are left out."""
    table = ElementTable(b"", EXPLICIT_LE)
    for keyword, value in values.items():
        tag = tag_of(keyword)
        assert tag is not None, "a keyword of the dictionary"
        if value:
            table.set_text(tag, value)
    return table
