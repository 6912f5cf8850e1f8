"""What the elements of group 9999 in the identifier of a C-MOVE or C-GET ask for (spec
converters.md 11): a limit, a part of the objects, a transfer syntax, a calling AE title, and what
is to be made of each copy.

A peer may send the first three, which give it no more than it could have otherwise; the calling
title, behind which somebody else stands, a script (spec dimse.md 12) and the other changes of
copies count only where RetrieveConverter0 wrote them. Not for making the changes, which is for
`dgate.services.copies`, nor for (9999,0802), which is `dgate.services.question`'s. Pure functions.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dgate.config.codes import CodeKind, kind_of
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import can_convert, stored_syntax_for
from dgate.dicom.uids import EXPLICIT_LE, transfer_syntax
from dgate.errors import ConfigError, DataSetMismatch

log = logging.getLogger(__name__)

PIXELS = 0x99990200
FRAME = 0x99990201
SCRUB = 0x99990202
MOST = 0x99990500
CODE = 0x99990700
SCRIPT = 0x99990900
CALLING = 0x99990A00
PART = 0x99990B00

_OF_RULES: Mapping[int, str] = {
    CALLING: "another calling AE title",
    PIXELS: "smaller images",
    FRAME: "a single frame",
    SCRUB: "elements to be scrubbed",
    SCRIPT: "a script",
}
"""What only rules may say. From a peer it is ignored with a line in the log."""
_CARRIED_OUT = (CodeKind.KEEP, CodeKind.REENCODE, CodeKind.LOSSY, CodeKind.SCRIPT)
_PART = re.compile(r"([0-9]{1,9})\s*/\s*([0-9]{1,9})")
_TITLE = re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?")
"""1 to 16 printable ASCII characters without backslash and outer blanks (PS3.5 6.2, AE)."""
_SCRUB = re.compile(r"[+-][0-9A-Za-z]+(?:,[0-9A-Za-z]+)*")
"""A list and nothing that follows it: which items there are, the statement `scrub` knows."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Controls:
    """What is wanted besides what the keys say."""

    most: int | None = None
    """So many objects at most."""
    code: str | None = None
    """The compression code that takes the place of the destination's."""
    part: tuple[int, int] = (0, 1)
    """`(n, m)`: of every m objects the one that has n before it."""
    calling: str | None = None
    """The AE title to open the association to the destination with."""
    most_pixels: int | None = None
    """The longer side of an image, at most."""
    frame: int | None = None
    """The only frame that is wanted, counted from 0."""
    scrub: str = ""
    """`+LIST` or `-LIST` of the statement `scrub`."""
    script: str = ""
    """Import statements to run over each copy."""

    @property
    def changes_copies(self) -> bool:
        """Whether copies are to differ from what is stored in more than the transfer syntax."""
        pixels = (self.most_pixels, self.frame)
        return pixels != (None, None) or bool(self.scrub or self.script)

    def choose(self, items: Sequence[_T], before: int = 0, chosen: int = 0) -> list[_T]:
        """Return the objects that are wanted, of those that come after `before` others of which
        `chosen` were.
        """
        number, of = self.part
        kept = [item for place, item in enumerate(items, before) if place % of == number]
        return kept if self.most is None else kept[: max(0, self.most - chosen)]


def keep_to_rules(table: ElementTable) -> None:
    """Take out of a request, before its converter runs, what only a converter may say."""
    for tag, name in _OF_RULES.items():
        if tag in table:
            log.warning("A retrieve request asked for %s by %s: that is ignored.", name, named(tag))
            table.delete(tag)


def read_controls(table: ElementTable) -> Controls:
    """Return what the control elements of an identifier ask for, after its converter ran.

    Raises:
        DataSetMismatch: one of them makes no sense.
        ConfigError: it asks for something that cannot be done here.
    """
    most = _number(table, MOST, "objects")
    return Controls(
        most or None,
        _code(table),
        _part(table),
        _calling(table),
        _number(table, PIXELS, "pixels") or None,
        _number(table, FRAME, "the frame, the first one being 0"),
        _scrub(table),
        table.text(SCRIPT).strip(),
    )


def _number(table: ElementTable, tag: int, what: str) -> int | None:
    text = table.text(tag).strip()
    if text and not re.fullmatch(r"[0-9]{1,9}", text):
        raise DataSetMismatch(f"{named(tag)} has {text[:16]!r}, not a number of {what}")
    return int(text) if text else None


def _scrub(table: ElementTable) -> str:
    text = table.text(SCRUB).strip()
    if text and not _SCRUB.fullmatch(text):
        raise ConfigError(
            f"{named(SCRUB)} has {text[:40]!r}, which is not + or - and a list",
            remedy="write it as after `scrub`, for instance -00100010,Private",
        )
    return text


def _code(table: ElementTable) -> str | None:
    code = table.text(CODE).strip()
    if not code:
        return None
    kind = kind_of(code)
    if kind is CodeKind.UNKNOWN:
        raise DataSetMismatch(f"{named(CODE)} has {code[:16]!r}, not a compression code")
    if kind not in _CARRIED_OUT:
        raise ConfigError(
            f"the compression code {code[:16]!r} of {named(CODE)} is not carried out",
            remedy="use as, a code that begins with u, or a JPEG code",
        )
    target = stored_syntax_for(code, EXPLICIT_LE)
    if not can_convert(EXPLICIT_LE, target):
        raise ConfigError(
            f"the compression code {code[:16]!r} of {named(CODE)} needs an encoder for "
            f"{transfer_syntax(target).name}, and there is none",
            remedy="use as, or a code that begins with u",
        )
    return code


def _part(table: ElementTable) -> tuple[int, int]:
    text = table.text(PART).strip()
    if not text:
        return 0, 1
    found = _PART.fullmatch(text)
    if found is None or not int(found[1]) < int(found[2]):
        # All objects instead of a part would mean that several requests send each of them.
        raise DataSetMismatch(f"{named(PART)} has {text[:16]!r}, not N/M with N less than M")
    return int(found[1]), int(found[2])


def _calling(table: ElementTable) -> str | None:
    title = table.text(CALLING).strip()
    if not title:
        return None
    if not _TITLE.fullmatch(title):
        raise ConfigError(f"{named(CALLING)} has {title[:20]!r}, which cannot be an AE title")
    return title


def named(tag: int) -> str:
    """Return an element's number as messages have it."""
    return f"({tag >> 16:04x},{tag & 0xFFFF:04x})"
