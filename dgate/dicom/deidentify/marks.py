"""What a de-identified object says about itself (PS3.15 E.1.1; spec anonymization.md 7.4).

Pure functions.
"""

from __future__ import annotations

from dgate import __version__
from dgate.dicom.deidentify.annex_e import EDITION
from dgate.dicom.deidentify.dummies import code_item
from dgate.dicom.deidentify.options import BASIC_PROFILE, CODES, Clean, Profile, Retain
from dgate.dicom.table import ElementTable

IDENTITY_REMOVED = 0x00120062
METHOD = 0x00120063
METHOD_CODES = 0x00120064
LONGITUDINAL = 0x00280303
BURNED_IN = 0x00280301
METHOD_TEXT = f"dgate {__version__}: PS3.15 {EDITION} Basic Profile"
_SCHEME = "DCM"
_CODE = 0x00080100
_CODE_SCHEME = 0x00080102


def write(table: ElementTable, profile: Profile, *, pixels_clean: bool) -> None:
    """Write the marks; what earlier de-identification wrote stays before ours."""
    table.set_raw(IDENTITY_REMOVED, "CS", b"YES")
    methods = [text for text in table.text(METHOD).split("\\") if text]
    if METHOD_TEXT not in methods:
        table.set_text(METHOD, "\\".join((*methods, METHOD_TEXT)))
    _write_codes(table, profile, pixels_clean=pixels_clean)
    table.set_raw(LONGITUDINAL, "CS", _temporal(profile))
    if pixels_clean:
        table.set_raw(BURNED_IN, "CS", b"NO")


def is_ours(table: ElementTable) -> bool:
    """Tell whether an object says that this program has de-identified it."""
    return METHOD_TEXT in table.text(METHOD).split("\\")


def _write_codes(table: ElementTable, profile: Profile, *, pixels_clean: bool) -> None:
    items = table.items(METHOD_CODES)
    known = {(item.text(_CODE), item.text(_CODE_SCHEME)) for item in items}
    for code, meaning in (BASIC_PROFILE, *_options(profile, pixels_clean=pixels_clean)):
        if (code, _SCHEME) not in known:
            items.append(code_item(table, code, _SCHEME, meaning))
    table.set_items(METHOD_CODES, items)


def _options(profile: Profile, *, pixels_clean: bool) -> list[tuple[str, str]]:
    """Return the codes of the options that were applied to this object."""
    applied = (profile.retain | profile.clean) - {Clean.PIXELS}
    if pixels_clean:
        applied |= {Clean.PIXELS}
    return [CODES[option] for option in CODES if option in applied]


def _temporal(profile: Profile) -> bytes:
    if Retain.FULL_DATES in profile.retain:
        return b"UNMODIFIED"
    return b"MODIFIED" if Retain.MODIFIED_DATES in profile.retain else b"REMOVED"
