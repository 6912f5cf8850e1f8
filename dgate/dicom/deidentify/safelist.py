"""Private elements that are known to hold nothing about a patient (PS3.15 E.3.10).

A list is a text file; the one that comes with dgate has rows of table E.3.10-1 that are numbers or
codes, and no other. Pure values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from dgate.dicom.deidentify.textfile import BadLine, parse_lines
from dgate.dicom.scan import LONG_VRS, SHORT_VRS

SHIPPED = """\
# creator                    | element   | VR
ELSCINT1                     | 00E1,xx21 | DS
ELSCINT1                     | 00E1,xx50 | DS
ELSCINT1                     | 01E1,xx26 | CS
ELSCINT1                     | 01F1,xx01 | CS
ELSCINT1                     | 01F1,xx07 | DS
ELSCINT1                     | 01F1,xx26 | DS
ELSCINT1                     | 01F1,xx27 | DS
GEMS_ACQU_01                 | 0019,xx23 | DS
GEMS_ACQU_01                 | 0019,xx24 | DS
GEMS_ACQU_01                 | 0019,xx27 | DS
GEMS_HELIOS_01               | 0045,xx01 | SS
GEMS_HELIOS_01               | 0045,xx02 | FL
GEMS_PARM_01                 | 0043,xx27 | SH
GEMS_PARM_01                 | 0043,xx39 | IS
GEMS_PARM_01                 | 0043,xx6F | DS
GEMS_SERS_01                 | 0025,xx07 | SL
Philips Imaging DD 001       | 2001,xx03 | FL
Philips Imaging DD 001       | 2001,xx04 | CS
Philips MR Imaging DD 001    | 2005,xx0D | FL
Philips MR Imaging DD 001    | 2005,xx0E | FL
Philips PET Private Group    | 7053,xx00 | DS
Philips PET Private Group    | 7053,xx09 | DS
SIEMENS MR HEADER            | 0019,xx0C | IS
SIEMENS MR HEADER            | 0019,xx0D | CS
SIEMENS MR HEADER            | 0019,xx0E | FD
SIEMENS MR HEADER            | 0019,xx27 | FD
"""
_ELEMENT = re.compile(r"([0-9A-Fa-f]{4}),[xX]{2}([0-9A-Fa-f]{2})")
_LONGEST_CREATOR = 64
_NOT_SAFE = frozenset(("PN", "SQ", "UN", "UI", "DA", "DT", "TM", "AE", "AS"))
"""Names, identifiers, dates, and what may hide them: no such element is safe."""


@dataclass(frozen=True, slots=True)
class SafeList:
    """The private elements that are kept: VR by creator, group and last two digits of the tag."""

    elements: Mapping[tuple[str, int, int], str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, name: str) -> SafeList:
        """Read a list of lines `creator | gggg,xxee | VR`.

        Raises:
            ConfigError: lines that are wrong, with their numbers in file `name`.
        """
        return cls(dict(parse_lines(text, name, _row)))

    @classmethod
    def shipped(cls) -> SafeList:
        """Return the list that comes with dgate."""
        return cls.parse(SHIPPED, "the list of safe private elements")

    def vr(self, creator: str, tag: int) -> str | None:
        """Return the VR of a safe element, None when it is not one."""
        return self.elements.get((creator, tag >> 16, tag & 0xFF))


def _row(line: str) -> tuple[tuple[str, int, int], str]:
    parts = [part.strip() for part in line.split("|")]
    if len(parts) != 3:
        raise BadLine("expected: creator | gggg,xxee | VR")
    creator, place, vr = parts
    if not creator or len(creator) > _LONGEST_CREATOR:
        raise BadLine(f"a private creator has 1 to {_LONGEST_CREATOR} characters")
    match = _ELEMENT.fullmatch(place)
    if match is None:
        raise BadLine(f"{place[:40]!r} is not an element of a private block: write gggg,xxee")
    group = int(match[1], 16)
    if group % 2 == 0:
        raise BadLine(f"group {match[1]} is even: only odd groups are private")
    code = vr.upper().encode("ascii", "replace")
    if code not in SHORT_VRS and code not in LONG_VRS:
        raise BadLine(f"{vr[:10]!r} is not a VR")
    if vr.upper() in _NOT_SAFE:
        raise BadLine(f"VR {vr.upper()} cannot be safe: it may tell who the patient is")
    return (creator, group, int(match[2], 16)), vr.upper()
