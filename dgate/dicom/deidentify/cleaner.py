"""Cleaning of free text: words that are part of what identifies the patient are taken out.

What is taken out: the parts of names of patients and staff, identifiers, addresses and institutions
as they stand elsewhere in the same object, in whatever letter case and with or without accents;
dates; numbers of five digits or more; addresses of mail. What is not: names that stand nowhere else
in the object. Pure functions; a `Cleaner` belongs to one object.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from dgate.dicom import element
from dgate.dicom.table import ElementTable

_SHORTEST = 2
"""Initials are too common in text that says something."""
_NAMING = (
    0x00080050, 0x00080080, 0x00080081, 0x00080090, 0x0008009C, 0x00081010, 0x00081040, 0x00081048,
    0x00081050, 0x00081060, 0x00081070, 0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00101000,
    0x00101001, 0x00101005, 0x00101040, 0x00101060, 0x00101090, 0x00102154, 0x00102297, 0x00200010,
    0x00321032, 0x00321033, 0x00380010, 0x00402016, 0x00402017, 0x00400006, 0x00401010, 0x0040A075,
    0x0040A123, 0x0040A027,
)  # fmt: skip
"""Attributes whose words are taken out of text, wherever in the object they stand."""
_WORD = re.compile(r"[^\W_]+")
_TELLING = re.compile(
    r"\S+@\S+"
    r"|(?<!\d)\d{1,4}[-./]\d{1,2}[-./]\d{1,4}(?!\d)"
    r"|(?<!\d)\d{1,2}[. ]?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[. ]?\d{2,4}"
    r"|\d{5,}",
    re.IGNORECASE,
)
_BLANKS = re.compile(r"[ \t]{2,}")
_DEEPEST = 8


class Cleaner:
    """Takes out of text what identifies the patient of one object."""

    __slots__ = ("_whole", "_words")

    def __init__(self, table: ElementTable) -> None:
        """Gather the words of an object as it came."""
        texts = list(_naming_texts(table, 0))
        self._words = {
            word
            for text in texts
            for word in _WORD.findall(_folded(text))
            if len(word) >= _SHORTEST
        }
        # An identifier such as `A-1/7` falls apart into words too short to be taken out one by one.
        whole = {_folded(part).strip() for text in texts for part in re.split(r"[\\^=]", text)}
        self._whole = sorted((each for each in whole if len(each) > _SHORTEST), key=len)[::-1]

    def clean(self, text: str) -> str:
        """Return the text without what identifies, and without blanks in its place."""
        folded = _folded(text)
        if len(folded) != len(text):
            # Places would not fit: rather lose accents than leave a name.
            text = folded
        out = list(text)
        for start, stop in self._places(folded):
            out[start:stop] = "\0" * (stop - start)
        kept = "".join(out).replace("\0", "")
        return _BLANKS.sub(" ", kept).strip(" \t^,;:-")

    def _places(self, folded: str) -> Iterator[tuple[int, int]]:
        for whole in self._whole:
            start = folded.find(whole)
            while start >= 0:
                yield start, start + len(whole)
                start = folded.find(whole, start + len(whole))
        for match in _WORD.finditer(folded):
            if match[0] in self._words:
                yield match.span()
        for match in _TELLING.finditer(folded):
            yield match.span()


def _naming_texts(table: ElementTable, depth: int) -> Iterator[str]:
    """Yield the texts of naming attributes at every level, and all names of persons."""
    if depth > _DEEPEST:
        return
    for tag, vr, _ in table.found():
        if tag in _NAMES_SET or vr == b"PN" or (vr is None and element.vr_of(tag) == "PN"):
            text = table.text(tag)
            if text:
                yield text
        elif (vr is None or vr in (b"SQ", b"UN")) and table.is_sequence(tag):
            for item in table.items(tag):
                yield from _naming_texts(item, depth + 1)


_NAMES_SET = frozenset(_NAMING)


def _folded(text: str) -> str:
    """Return the text in lower case without accents, character for character where possible."""
    return "".join(map(_folded_character, text))


def _folded_character(character: str) -> str:
    if character.isascii():
        return character.lower()
    base = unicodedata.normalize("NFD", character)[0]
    return base.lower()[:1] or base
