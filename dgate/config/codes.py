"""What a compression code asks for, as far as the configuration needs to know it.

Codes: spec acrnema-map.md section 4. Not the transfer syntaxes behind them
(`dgate.dicom.transcode`). Pure functions.
"""

from __future__ import annotations

import re
from enum import Enum


class CodeKind(Enum):
    """What happens to objects under a code."""

    KEEP = "keep"
    """Left as they are."""
    REENCODE = "re-encode"
    """Written in another transfer syntax, without loss."""
    LOSSY = "lossy"
    """Written in another transfer syntax, with loss."""
    RESIZE = "resize"
    """Made smaller."""
    SCRIPT = "script"
    """Handed to CompressionConverterN."""
    INDEX_ONLY = "index only"
    """A database record without a file."""
    RETIRED = "retired"
    """Private coding of the original program, for which there is no encoder."""
    UNKNOWN = "unknown"


# In order: the first pattern that matches the whole code decides.
_KINDS = (
    (re.compile(r"(as|is|)"), CodeKind.KEEP),
    (re.compile(r"uj"), CodeKind.KEEP),
    (re.compile(r"u[nilbe]|n0|j0"), CodeKind.REENCODE),
    (re.compile(r"rl!?"), CodeKind.REENCODE),
    (re.compile(r"j[12sk]\d*|ja"), CodeKind.REENCODE),
    (re.compile(r"j[34567l]\d*"), CodeKind.LOSSY),
    (re.compile(r"k[1248abc]"), CodeKind.RESIZE),
    (re.compile(r"s\d"), CodeKind.SCRIPT),
    (re.compile(r"v.*"), CodeKind.INDEX_ONLY),
    (re.compile(r"n[12345j]|[jn]#.*"), CodeKind.RETIRED),
)


def kind_of(code: str) -> CodeKind:
    """Return what `code` asks for; letter case is ignored."""
    text = code.strip().lower()
    if text.startswith("j"):
        text = text.replace("!", "")
    for pattern, kind in _KINDS:
        if pattern.fullmatch(text):
            return kind
    return CodeKind.UNKNOWN


def complaint(code: str) -> tuple[str, str] | None:
    """Return message and advice when `code` cannot be carried out; None when it can."""
    kind = kind_of(code)
    if kind is CodeKind.UNKNOWN:
        message = f"the compression code {code!r} is not known"
        return message, "use as or un; dgate config explain IncomingCompression lists the codes"
    if kind is CodeKind.RETIRED:
        message = f"the private compression {code!r} has no encoder; objects are left uncompressed"
        return message, "use as, un or a JPEG code such as jk"
    return None
