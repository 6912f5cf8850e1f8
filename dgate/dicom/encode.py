"""Small data sets from text values: identifiers of C-FIND, C-MOVE and C-GET, in both directions of
a conversation.

Not for objects (`dgate.dicom.table`). Pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from dgate.dicom.element import encode_delimiter, encode_element, encode_value, vr_of
from dgate.dicom.scan import ITEM, Encoding, encoding_of
from dgate.dicom.uids import transfer_syntax

SPECIFIC_CHARACTER_SET = 0x00080005
QUERY_RETRIEVE_LEVEL = 0x00080052

UTF_8 = "ISO_IR 192"
"""Defined term of Unicode in UTF-8 (PS3.3 C.12.1.1.2)."""


Content: TypeAlias = "str | Sequence[Mapping[int, Content]] | None"
"""What an element holds: text, nothing, or the items of a sequence."""


def encode_data_set(values: Mapping[int, Content], syntax_uid: str, charset: str) -> bytes:
    """Encode elements as data set, in tag order.

    `charset` (one defined term, or empty) is added as (0008,0005) when not empty. Values that are
    None or empty become zero-length elements. Raises UnicodeError when the character set cannot
    hold a value.
    """
    syntax = transfer_syntax(syntax_uid)
    encoding = encoding_of(syntax)
    elements = dict(values)
    if charset:
        elements[SPECIFIC_CHARACTER_SET] = charset
    return _encoded(elements, encoding, charset.encode("ascii") or None, syntax.little_endian)


def _encoded(
    elements: Mapping[int, Content], encoding: Encoding, charset: bytes | None, little_endian: bool
) -> bytes:
    pieces: list[bytes] = []
    for tag in sorted(elements):
        vr, content = vr_of(tag), elements[tag]
        if not content:
            value = b""
        elif isinstance(content, str):
            value = encode_value(vr, content, charset, little_endian)
        else:
            items = (_encoded(item, encoding, charset, little_endian) for item in content)
            value = b"".join(encode_delimiter(ITEM, len(item), encoding) + item for item in items)
            vr = "SQ"
        pieces.append(encode_element(tag, vr, value, encoding))
    return b"".join(pieces)
