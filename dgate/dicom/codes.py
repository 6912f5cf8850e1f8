"""Compression codes of acrnema.map: the transfer syntaxes behind them (acrnema-map.md section 4).

Not the check whether a code is known (`dgate.config.codes`). Pure functions.
"""

from __future__ import annotations

import re

from dgate.dicom.uids import (
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    JPEG_PROGRESSIVE,
    JPEG_SPECTRAL,
    RLE_LOSSLESS,
    transfer_syntax,
)

_AS_STORED = frozenset(("", "as", "is"))
_KEEPING_JPEG = frozenset(("uj", "nj"))
_RLE = "rl"
"""RLE Lossless: a code of dgate's own, as the original has none."""
_MOST_PIXELS = {"1": 1024, "2": 512, "4": 256, "8": 128, "a": 64, "b": 32, "c": 16}
_RESIZE = re.compile("k([1248abc])")
_SCRIPT = re.compile("s[0-9]")
"""A script decides what becomes of the object; its transfer syntax stays."""

_UNCOMPRESSED_OFFERS = {
    "ul": [EXPLICIT_LE, IMPLICIT_LE],
    "ub": [EXPLICIT_BE, IMPLICIT_LE],
    "ue": [EXPLICIT_LE, EXPLICIT_BE, IMPLICIT_LE],
}
_LOSSLESS_OFFER = [JPEG_LOSSLESS, JPEG_LOSSLESS_SV1]
_JPEG_OFFERS = {
    "3": [JPEG_EXTENDED, JPEG_BASELINE],
    "4": [JPEG_EXTENDED, JPEG_BASELINE],
    "5": [JPEG_SPECTRAL, JPEG_EXTENDED, JPEG_BASELINE],
    "6": [JPEG_PROGRESSIVE, JPEG_EXTENDED, JPEG_BASELINE],
    "s": [JPEG_LS_LOSSLESS],
    "7": [JPEG_LS_NEAR_LOSSLESS, JPEG_LS_LOSSLESS],
    "k": [JPEG_2000_LOSSLESS],
    "l": [JPEG_2000, JPEG_2000_LOSSLESS],
}
"""By the letter after `j`, most wanted first (table 4.3)."""

_UNCOMPRESSED_TARGETS = {"ui": IMPLICIT_LE, "ub": EXPLICIT_BE}
_JPEG_TARGETS = {
    "1": JPEG_LOSSLESS_SV1,
    "2": JPEG_LOSSLESS,
    "3": JPEG_BASELINE,
    "4": JPEG_EXTENDED,
    "5": JPEG_SPECTRAL,
    "6": JPEG_PROGRESSIVE,
    "7": JPEG_LS_NEAR_LOSSLESS,
    "s": JPEG_LS_LOSSLESS,
    "k": JPEG_2000_LOSSLESS,
    "l": JPEG_2000,
}

_IMAGE_CODECS = f"{IMPLICIT_LE}.4."
"""All JPEG families and the video codecs stand below this UID; RLE and private ones do not."""


def proposed_syntaxes(code: str, stored_syntax: str) -> list[list[str]]:
    """Return the transfer syntaxes to propose, one inner list per presentation context.

    For codes that leave the object as it is, its own syntax stands alone in the first context, so
    that a peer that takes it cannot choose another.
    """
    text = code.strip().lower()
    if (
        text in _AS_STORED
        or _SCRIPT.fullmatch(text)
        or (text in _KEEPING_JPEG and _is_kept(stored_syntax))
    ):
        others = [syntax for syntax in (EXPLICIT_LE, IMPLICIT_LE) if syntax != stored_syntax]
        return [[stored_syntax], others]
    if text in _KEEPING_JPEG:
        return [[EXPLICIT_LE, IMPLICIT_LE]]
    if text.replace("!", "") == _RLE:
        # Apart, so that a peer that takes RLE also takes what RLE cannot hold.
        return [[RLE_LOSSLESS]] if "!" in text else [[RLE_LOSSLESS], [EXPLICIT_LE, IMPLICIT_LE]]
    if text.startswith("j"):
        offer = _JPEG_OFFERS.get(text.replace("!", "")[1:2], _LOSSLESS_OFFER)
        return [offer if "!" in text else [*offer, IMPLICIT_LE]]
    return [list(_UNCOMPRESSED_OFFERS.get(text, [IMPLICIT_LE]))]


def stored_syntax_for(code: str, stored_syntax: str) -> str:
    """Return the transfer syntax in which a code wants objects stored (IncomingCompression).

    The stored one where the code leaves the object alone: also `k`, `s` and `v` codes and unknown
    ones.
    """
    text = code.strip().lower().replace("!", "")
    kept = _is_kept(stored_syntax)
    if text[:1] in ("u", "n") and text not in _KEEPING_JPEG:
        return _UNCOMPRESSED_TARGETS.get(text, EXPLICIT_LE)
    if text in _KEEPING_JPEG:
        return stored_syntax if kept else EXPLICIT_LE
    if text == _RLE:
        return RLE_LOSSLESS
    if text[:1] != "j":
        return stored_syntax
    if text == "j0":
        return EXPLICIT_LE if transfer_syntax(stored_syntax).encapsulated else stored_syntax
    if text == "ja":
        return stored_syntax if _is_coded(stored_syntax) else JPEG_LOSSLESS_SV1
    return _JPEG_TARGETS.get(text[1:2], JPEG_LOSSLESS_SV1)


def most_pixels(code: str) -> int | None:
    """Return how many pixels the longer side may have under `k1` to `kc`, None for other codes."""
    found = _RESIZE.fullmatch(code.strip().lower())
    return None if found is None else _MOST_PIXELS[found[1]]


def _is_coded(syntax: str) -> bool:
    return syntax.startswith(_IMAGE_CODECS) and transfer_syntax(syntax).encapsulated


def _is_kept(syntax: str) -> bool:
    """Tell whether `uj` leaves the pixel data alone: it is coded by JPEG or not at all."""
    return _is_coded(syntax) or not transfer_syntax(syntax).encapsulated
