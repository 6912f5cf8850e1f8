"""What the elements of group 9999 in the identifier of a C-MOVE or C-GET ask for (spec
converters.md 11): a limit, a part of the objects, a transfer syntax, a calling AE title.

A peer may send the first three, which give it no more than it could have otherwise; the calling
title, behind which somebody else stands, counts only where RetrieveConverter0 wrote it. Not for
(9999,0802), which is `dgate.services.question`'s. Pure functions.
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

MOST = 0x99990500
CODE = 0x99990700
CALLING = 0x99990A00
PART = 0x99990B00

_NOT_DONE: Mapping[int, str] = {
    0x99990200: "smaller images",
    0x99990201: "a single frame",
    0x99990202: "elements to be scrubbed",
    0x99990900: "a script",
}
"""What is not carried out. From a peer it is ignored with a line in the log (a script must be: spec
dimse.md 12); where a rule wants it, the objects must not leave without it."""
_OF_RULES = {CALLING: "another calling AE title", **_NOT_DONE}
_CARRIED_OUT = (CodeKind.KEEP, CodeKind.REENCODE, CodeKind.LOSSY, CodeKind.SCRIPT)
_PART = re.compile(r"([0-9]{1,9})\s*/\s*([0-9]{1,9})")
_TITLE = re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?")
"""1 to 16 printable ASCII characters without backslash and outer blanks (PS3.5 6.2, AE)."""

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
            log.warning(
                "A retrieve request asked for %s by %s: that is ignored.", name, _named(tag)
            )
            table.delete(tag)


def read_controls(table: ElementTable) -> Controls:
    """Return what the control elements of an identifier ask for, after its converter ran.

    Raises:
        DataSetMismatch: one of them makes no sense.
        ConfigError: it asks for something that cannot be done here.
    """
    for tag, name in _NOT_DONE.items():
        if table.text(tag).strip():
            raise ConfigError(
                f"{name}, which RetrieveConverter0 asks for by {_named(tag)}, is not carried out",
                remedy="change the objects in RetrieveResultConverter0 instead",
            )
    most = table.text(MOST).strip()
    if most and not re.fullmatch(r"[0-9]{1,9}", most):
        raise DataSetMismatch(f"{_named(MOST)} has {most[:16]!r}, not a number of objects")
    return Controls(int(most or 0) or None, _code(table), _part(table), _calling(table))


def _code(table: ElementTable) -> str | None:
    code = table.text(CODE).strip()
    if not code:
        return None
    kind = kind_of(code)
    if kind is CodeKind.UNKNOWN:
        raise DataSetMismatch(f"{_named(CODE)} has {code[:16]!r}, not a compression code")
    if kind not in _CARRIED_OUT:
        raise ConfigError(
            f"the compression code {code[:16]!r} of {_named(CODE)} is not carried out",
            remedy="use as, a code that begins with u, or a JPEG code",
        )
    target = stored_syntax_for(code, EXPLICIT_LE)
    if not can_convert(EXPLICIT_LE, target):
        raise ConfigError(
            f"the compression code {code[:16]!r} of {_named(CODE)} needs an encoder for "
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
        raise DataSetMismatch(f"{_named(PART)} has {text[:16]!r}, not N/M with N less than M")
    return int(found[1]), int(found[2])


def _calling(table: ElementTable) -> str | None:
    title = table.text(CALLING).strip()
    if not title:
        return None
    if not _TITLE.fullmatch(title):
        raise ConfigError(f"{_named(CALLING)} has {title[:20]!r}, which cannot be an AE title")
    return title


def _named(tag: int) -> str:
    return f"({tag >> 16:04x},{tag & 0xFFFF:04x})"
