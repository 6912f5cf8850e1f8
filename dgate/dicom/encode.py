"""Flat data sets from text values: identifiers of C-FIND, C-MOVE and C-GET, in both directions of a
conversation.

Not for objects (`dgate.dicom.table`). Pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping

from dgate.dicom.element import encode_element, encode_value, vr_of
from dgate.dicom.scan import encoding_of
from dgate.dicom.uids import transfer_syntax

SPECIFIC_CHARACTER_SET = 0x00080005
QUERY_RETRIEVE_LEVEL = 0x00080052

UTF_8 = "ISO_IR 192"
"""Defined term of Unicode in UTF-8 (PS3.3 C.12.1.1.2)."""


def encode_data_set(values: Mapping[int, str | None], syntax_uid: str, charset: str) -> bytes:
    """Encode top-level elements as data set, in tag order.

    `charset` (one defined term, or empty) is added as (0008,0005) when not empty. Values that are
    None or empty become zero-length elements. Raises UnicodeError when the character set cannot
    hold a value.
    """
    syntax = transfer_syntax(syntax_uid)
    encoding = encoding_of(syntax)
    charset_raw = charset.encode("ascii") or None
    elements = dict(values)
    if charset:
        elements[SPECIFIC_CHARACTER_SET] = charset
    pieces: list[bytes] = []
    for tag in sorted(elements):
        vr = vr_of(tag)
        text = elements[tag]
        value = encode_value(vr, text, charset_raw, syntax.little_endian) if text else b""
        pieces.append(encode_element(tag, vr, value, encoding))
    return b"".join(pieces)
