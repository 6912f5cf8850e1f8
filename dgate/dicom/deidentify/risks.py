"""Objects whose pixels may show who the patient is: held back unless somebody took care of it.

Text is burned into captured screens, ultrasound, angiography, endoscopy, digitised film and labels
of slides (spec anonymization.md 7.4, row (0028,0301)). Pure functions.
"""

from __future__ import annotations

from dgate.dicom.deidentify.pixels import PIXEL_DATA, has_pixels
from dgate.dicom.table import ElementTable

BURNED_IN = 0x00280301
_SOP_CLASS = 0x00080016
_MODALITY = 0x00080060
_CONVERSION = 0x00080064
_IMAGE_TYPE = 0x00080008
_LABEL_IN_IMAGE = 0x00480010
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_RISKY_CLASSES = (
    "3", "3.1", "5", "6", "6.1", "6.2", "6.3", "7", "7.1", "7.2", "7.3", "7.4",
    "12.1", "12.1.1", "12.2", "12.2.1", "12.3", "77.1.1", "77.1.1.1", "77.1.2.1", "77.1.4",
    "77.1.4.1",
)  # fmt: skip
"""Ultrasound, secondary capture, X-ray angiography and fluoroscopy, endoscopy, photographs."""
_RISKY = frozenset(f"{_STORAGE}{number}" for number in _RISKY_CLASSES)
_RISKY_MODALITIES = frozenset(
    ("US", "IVUS", "XA", "RF", "ES", "OT", "SC", "XC", "HC", "DF", "CF", "FA", "FS", "DMS")
)
_OVERLAY_PLACE = 0x0102
_OVERLAY_DATA = 0x3000
_SCREEN = "SCREEN"


def reason_to_hold(table: ElementTable) -> str:
    """Return why the pixels of an object may show who the patient is; empty when nothing says so.

    `NO` in (0028,0301) is taken for what it says.
    """
    if not has_pixels(table):
        return ""
    overlay = _overlay_in_pixels(table)
    if overlay:
        return f"the pixels hold overlay {overlay:04X}, which may be text"
    if table.text(_LABEL_IN_IMAGE).strip().upper() == "YES":
        return "the image shows the label of the slide: (0048,0010) is YES"
    said = table.text(BURNED_IN).strip().upper()
    if said == "NO":
        return ""
    if said:
        return f"Burned In Annotation (0028,0301) is {said[:16]}"
    kind = _risky_kind(table)
    if not kind:
        return ""
    return f"{kind} often have text in their pixels, and (0028,0301) does not say NO"


def _risky_kind(table: ElementTable) -> str:
    if table.text(_SOP_CLASS) in _RISKY:
        return "objects of this SOP class"
    modality = table.text(_MODALITY).strip().upper()
    if modality in _RISKY_MODALITIES:
        return f"images of modality {modality}"
    if table.text(_CONVERSION).strip():
        return "images that were captured or digitised"
    if _SCREEN in table.text(_IMAGE_TYPE).upper():
        return "captured screens"
    return ""


def _overlay_in_pixels(table: ElementTable) -> int:
    """Return the group of an overlay in unused bits of the pixels (retired), 0 for none."""
    if PIXEL_DATA not in table:
        return 0
    for group in range(0x6000, 0x6020, 2):
        base = group << 16
        if base | _OVERLAY_PLACE in table and base | _OVERLAY_DATA not in table:
            place = table.text(base | _OVERLAY_PLACE).strip()
            if place not in ("", "0"):
                return group
    return 0
