"""Single elements: the dictionary, and values as text, as numbers and as bytes (PS3.5 6.2, PS3.6).

Not for finding elements in a data set (`dgate.dicom.scan`, `dgate.dicom.table`). Pure functions,
safe between threads.
"""

from __future__ import annotations

import re
import struct

from dgate.dicom import charset as charsets
from dgate.dicom import dictionary
from dgate.dicom.scan import DELIMITERS, LONG_VRS, UNDEFINED, Encoding, show
from dgate.errors import NotDicom

SPECIFIC_CHARACTER_SET = 0x00080005
SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
PIXEL_REPRESENTATION = 0x00280103

_FLOATS = {"FL": ("f", 4), "FD": ("d", 8), "OF": ("f", 4), "OD": ("d", 8)}
_FORMATS = _FLOATS | {
    "US": ("H", 2),
    "SS": ("h", 2),
    "UL": ("L", 4),
    "SL": ("l", 4),
    "UV": ("Q", 8),
    "SV": ("q", 8),
    "OW": ("H", 2),
    "OL": ("L", 4),
    "OV": ("Q", 8),
}
"""Of the binary VRs, how `struct` reads a value and its size."""

NUMERIC_VRS = frozenset((*_FORMATS, "AT"))
"""VRs whose values are binary numbers and so need decoding to be read as text."""
TEXT_VRS = frozenset(("SH", "LO", "ST", "LT", "UC", "UT", "PN"))
"""VRs whose characters depend on (0008,0005)."""
_COMMON_CODES = {
    vr: vr.encode("ascii")
    for vr in (*TEXT_VRS, "AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR", "US")
}
_NUL_PADDED = frozenset(("UI", "OB", "UN", "SQ", *NUMERIC_VRS))
_LONGEST_SHORT = 0xFFFE

_AMBIGUOUS = {"US or SS": "US", "OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"}
"""What the dictionary leaves open, as implicit VR data sets have it (PS3.5 A.1)."""

_CONTROL = {
    0x99990100: ("US", "ConquestMaxVRSize"),
    0x99990200: ("US", "ConquestMaxRowsColumns"),
    0x99990201: ("US", "ConquestFrame"),
    0x99990202: ("LO", ""),
    0x99990300: ("LO", "ConquestConsoleText"),
    0x99990400: ("LO", "ConsoleCommand"),
    0x99990500: ("US", "ConquestMaxSlices"),
    0x99990600: ("US", "ConquestMaxNKICompression"),
    0x99990700: ("LO", "ConquestReCompression"),
    0x99990802: ("US", "ConquestVirtualServerMask"),
    0x99990900: ("LO", "ConquestScript"),
    0x99990A00: ("LO", "ConquestMoveOriginator"),
    0x99990B00: ("LO", "ConquestSplit"),
    0x99990C00: ("LO", "ConquestImageQueryOrder"),
    0x99990C01: ("LO", ""),
    0x99990C02: ("LO", ""),
}
"""Control elements of group 9999 (converters.md section 11)."""
_CONTROL_TAGS = {keyword: tag for tag, (_, keyword) in _CONTROL.items() if keyword}

_TAG = re.compile(r"\(?([0-9A-Fa-f]{4})\s*,\s*([0-9A-Fa-f]{4})\)?|([0-9A-Fa-f]{8})")
_LEADING_INTEGER = re.compile(r"\s*([+-]?\d+)")
_LEADING_FLOAT = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")


def vr_of(tag: int) -> str:
    """Return the VR that the dictionary gives a tag; `UN` for what it does not know."""
    entry = dictionary.ROWS.get(tag)
    vr = str(entry[0]) if entry else _vr_beyond_dictionary(tag)
    return vr if len(vr) == 2 else _AMBIGUOUS.get(vr, "UN")


def dictionary_code(tag: int) -> bytes | None:
    """Return the VR as it is encoded, where the dictionary gives one of characters or US."""
    entry = dictionary.ROWS.get(tag)
    return None if entry is None else _COMMON_CODES.get(entry[0])


def is_signed_dependent(tag: int) -> bool:
    """Tell whether the tag is US or SS depending on Pixel Representation."""
    entry = dictionary.ROWS.get(tag)
    return entry is not None and entry[0].startswith("US or SS")


def _vr_beyond_dictionary(tag: int) -> str:
    if tag & 0xFFFF == 0:
        return "UL"
    if tag in _CONTROL:
        return _CONTROL[tag][0]
    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    # Groups that repeat: overlays, curves.
    row = dictionary.repeated(tag)
    return "UN" if row is None else row[0]


def tag_of(keyword: str) -> int | None:
    """Return the tag of a dictionary keyword, None when there is none."""
    # The dictionary has retired elements without a keyword.
    tag = dictionary.KEYWORDS.get(keyword) if keyword else None
    return _CONTROL_TAGS.get(keyword) if tag is None else tag


def keyword_of(tag: int) -> str:
    """Return the keyword of a tag, empty when the dictionary does not know it."""
    if tag in _CONTROL:
        return _CONTROL[tag][1]
    row = dictionary.ROWS.get(tag)
    if row is None and not tag >> 16 & 1:
        row = dictionary.repeated(tag)
    return "" if row is None else row[4]


def parse_tag(text: str) -> int | None:
    """Return the tag written as `gggg,eeee`, `(gggg,eeee)`, `ggggeeee` or keyword, else None."""
    match = _TAG.fullmatch(text)
    if match is None:
        return tag_of(text)
    return int(match[3] or match[1] + match[2], 16)


def text_of(vr: str, raw: bytes, charset: bytes | None, *, little_endian: bool = True) -> str:
    r"""Return a value as text: numbers joined by `\`, text up to a NUL, without trailing blanks."""
    if vr in NUMERIC_VRS:
        return "\\".join(number_texts(vr, raw, little_endian=little_endian))
    if vr == "SQ":
        return ""
    text = charsets.decode(raw, charset, vr)
    if "\0" in text:
        text = text[: text.index("\0")]
    return text.rstrip(" ")


def number_texts(vr: str, raw: bytes, *, little_endian: bool = True) -> list[str]:
    """Return the values of a binary VR as decimal texts, floats with six decimals."""
    if vr == "AT":
        halves = numbers_of("US", raw[: len(raw) // 4 * 4], little_endian=little_endian)
        pairs = zip(halves[::2], halves[1::2], strict=True)
        return [f"{group:04X},{number:04X}" for group, number in pairs]
    numbers = numbers_of(vr, raw, little_endian=little_endian)
    return [f"{number:f}" for number in numbers] if vr in _FLOATS else list(map(str, numbers))


def numbers_of(vr: str, raw: bytes, *, little_endian: bool = True) -> tuple[int | float, ...]:
    """Return the values of a binary VR other than AT; a cut-off last value is left out."""
    form, size = _FORMATS[vr]
    order = "<" if little_endian else ">"
    return struct.unpack_from(f"{order}{len(raw) // size}{form}", raw)


def encode_value(vr: str, text: str, charset: bytes | None, little_endian: bool = True) -> bytes:
    r"""Return the bytes that hold a text in a VR, padded to even length.

    Binary VRs take decimal numbers, several joined by `\`: the leading number of each, 0 where
    there is none (converters.md 8.3 and S13). Raises `charset.DoesNotFit` for characters and
    ValueError for numbers that do not fit.
    """
    if vr == "SQ":
        if text:
            raise ValueError("a sequence cannot be set to a text")
        return b""
    if vr == "AT":
        return _encode_tags(text, "<" if little_endian else ">")
    if vr in _FORMATS:
        return _encode_numbers(vr, text, "<" if little_endian else ">")
    return pad(vr, charsets.encode(text, charset, vr))


def _encode_numbers(vr: str, text: str, order: str) -> bytes:
    if not text:
        return b""
    pattern, convert = (_LEADING_FLOAT, float) if vr in _FLOATS else (_LEADING_INTEGER, int)
    matches = (pattern.match(part) for part in text.split("\\"))
    numbers = [convert(match[1]) if match else convert(0) for match in matches]
    try:
        return struct.pack(f"{order}{len(numbers)}{_FORMATS[vr][0]}", *numbers)
    except (struct.error, OverflowError) as exc:
        raise ValueError(f"{text[:40]!r} does not fit into VR {vr}") from exc


def _encode_tags(text: str, order: str) -> bytes:
    halves: list[int] = []
    for part in text.split("\\") if text else ():
        tag = parse_tag(part.strip())
        if tag is None:
            raise ValueError(f"{part[:40]!r} is not a tag")
        halves += (tag >> 16, tag & 0xFFFF)
    return struct.pack(f"{order}{len(halves)}H", *halves)


def pad(vr: str, value: bytes) -> bytes:
    """Return the value with even length: text gets a blank, UIDs and binary a NUL (PS3.5 6.2)."""
    if len(value) % 2 == 0:
        return value
    return value + (b"\0" if vr in _NUL_PADDED else b" ")


def encode_header(tag: int, vr: str, length: int, encoding: Encoding) -> bytes:
    """Return tag, VR and length of an element; `length` may be UNDEFINED.

    A value too long for the VR's 16-bit length is written as UN, as PS3.5 6.2.2 provides.
    """
    group, number = tag >> 16, tag & 0xFFFF
    if not encoding.explicit:
        return struct.pack(encoding.order + "HHL", group, number, length)
    code = vr.encode("ascii")
    if code not in LONG_VRS and length <= _LONGEST_SHORT:
        return struct.pack(encoding.order + "HH2sH", group, number, code, length)
    if code not in LONG_VRS:
        code = b"UN"
    if length > UNDEFINED:
        raise NotDicom(f"element {show(tag)} is longer than an element can be")
    return struct.pack(encoding.order + "HH2s2xL", group, number, code, length)


def encode_delimiter(number: int, length: int, encoding: Encoding) -> bytes:
    """Return the start of an item, or the end of an item or sequence (FFFE,`number`)."""
    return struct.pack(encoding.order + "HHL", DELIMITERS, number, length)


def encode_element(tag: int, vr: str, value: bytes, encoding: Encoding) -> bytes:
    """Return a whole element."""
    return encode_header(tag, vr, len(value), encoding) + value
