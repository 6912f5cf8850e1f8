"""Query keys as a user types them, and answers as a user reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import click

from dgate.dicom.element import keyword_of, parse_tag
from dgate.dicom.encode import QUERY_RETRIEVE_LEVEL
from dgate.dicom.table import ElementTable

_RETURNED = {
    "PATIENT": ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    "STUDY": (
        "PatientID",
        "PatientName",
        "StudyDate",
        "AccessionNumber",
        "ModalitiesInStudy",
        "StudyDescription",
        "StudyInstanceUID",
    ),
    "SERIES": ("Modality", "SeriesNumber", "SeriesDescription", "SeriesInstanceUID"),
    "IMAGE": ("InstanceNumber", "SOPClassUID", "SOPInstanceUID"),
}


@dataclass(frozen=True, slots=True)
class KeyList:
    """Keys in the order typed, with the level's usual return keys behind them."""

    matching: Mapping[int, str]
    returned: tuple[int, ...]

    def values(self, level: str, *, with_return_keys: bool = True) -> dict[int, str | None]:
        """Return the elements of the identifier."""
        values: dict[int, str | None] = {QUERY_RETRIEVE_LEVEL: level}
        if with_return_keys:
            values.update(dict.fromkeys(self.returned))
        values.update(self.matching)
        return values

    def names(self) -> list[str]:
        """Return the column headings of answers."""
        return [name_of(tag) for tag in dict.fromkeys((*self.returned, *self.matching))]

    @property
    def needs_utf8(self) -> bool:
        """Whether a value has characters beyond ASCII."""
        return not all(value.isascii() for value in self.matching.values())


def name_of(tag: int) -> str:
    """Return the keyword, or `gggg,eeee` for a tag without one."""
    return keyword_of(tag) or f"{tag >> 16:04x},{tag & 0xFFFF:04x}"


def parse_keys(texts: tuple[str, ...], level: str) -> KeyList:
    """Read `KEY=VALUE` and `KEY` arguments; a KEY is a keyword or `gggg,eeee`.

    Raises:
        click.BadParameter: a key is in no dictionary.
    """
    matching: dict[int, str] = {}
    returned: list[int] = []
    for text in texts:
        name, equals, value = text.partition("=")
        tag = parse_tag(name.strip())
        if tag is None:
            raise click.BadParameter(f"{name!r} is neither a DICOM keyword nor gggg,eeee")
        if equals and value:
            matching[tag] = value
        else:
            returned.append(tag)
    for name in _RETURNED[level]:
        tag = parse_tag(name)
        assert tag is not None
        returned.append(tag)
    return KeyList(matching, tuple(dict.fromkeys(returned)))


def decode_answer(identifier: bytes, syntax: str, wanted: KeyList) -> dict[str, str]:
    """Return the values of one C-FIND answer by name, those asked for and those given."""
    table = ElementTable(identifier, syntax)
    tags = dict.fromkeys((*wanted.returned, *wanted.matching))
    return {name_of(tag): table.text(tag) for tag in tags}
