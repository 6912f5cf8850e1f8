"""What a site can ask of de-identification: options of PS3.15 E.3 by the statement's words.

Not for what they do to each attribute (`dgate.dicom.deidentify.decisions`). Pure values.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dgate.dicom.deidentify.masks import Masks
from dgate.dicom.deidentify.safelist import SafeList


class Retain(Enum):
    """What is kept although the Basic Profile takes it away."""

    UIDS = "uids"
    DEVICE = "device"
    PATIENT = "patient-characteristics"
    INSTITUTION = "institution"
    FULL_DATES = "full-dates"
    MODIFIED_DATES = "modified-dates"
    SAFE_PRIVATE = "safe-private"


class Clean(Enum):
    """What is cleaned and kept, where the Basic Profile takes it away or does not look at it."""

    DESCRIPTORS = "descriptors"
    STRUCTURED = "structured-content"
    GRAPHICS = "graphics"
    PIXELS = "pixels"


BASIC_PROFILE = ("113100", "Basic Application Confidentiality Profile")
"""Code and meaning in CID 7050, scheme DCM (PS3.16)."""
CODES: dict[Retain | Clean, tuple[str, str]] = {
    Clean.PIXELS: ("113101", "Clean Pixel Data Option"),
    Clean.GRAPHICS: ("113103", "Clean Graphics Option"),
    Clean.STRUCTURED: ("113104", "Clean Structured Content Option"),
    Clean.DESCRIPTORS: ("113105", "Clean Descriptors Option"),
    Retain.FULL_DATES: ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
    Retain.MODIFIED_DATES: (
        "113107",
        "Retain Longitudinal Temporal Information Modified Dates Option",
    ),
    Retain.PATIENT: ("113108", "Retain Patient Characteristics Option"),
    Retain.DEVICE: ("113109", "Retain Device Identity Option"),
    Retain.UIDS: ("113110", "Retain UIDs Option"),
    Retain.SAFE_PRIVATE: ("113111", "Retain Safe Private Option"),
    Retain.INSTITUTION: ("113112", "Retain Institution Identity Option"),
}
"""Codes and meanings of the options in CID 7050, in the order of the codes."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The Basic Profile with options."""

    retain: frozenset[Retain] = frozenset()
    clean: frozenset[Clean] = frozenset()
    masks: Masks | None = None
    """With `clean pixels`: what to black out, by device."""
    safe_list: SafeList | None = None
    """With `retain safe-private`: which private elements are kept."""
    allow_burned_in: bool = False
    """Let pass what may have text in its pixels, as somebody has looked at it."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            ValueError: two ways to treat dates, or an option without what it needs.
        """
        if {Retain.FULL_DATES, Retain.MODIFIED_DATES} <= self.retain:
            raise ValueError("dates are either kept (full-dates) or shifted (modified-dates)")
        if (Clean.PIXELS in self.clean) != (self.masks is not None):
            raise ValueError("clean pixels and a file of masks belong together")
        if (Retain.SAFE_PRIVATE in self.retain) != (self.safe_list is not None):
            raise ValueError("retain safe-private and a list of safe elements belong together")
