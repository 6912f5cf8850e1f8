"""Specific character sets: bytes to text and back by (0008,0005) (PS3.3 C.12.1.1.2, PS3.5 6.1).

Reading is lenient, because objects with a wrong or missing declaration are common and no text may
be lost; writing is strict. Pure functions, safe between threads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

UTF_8 = b"ISO_IR 192"

_ESCAPE = 0x1B
_ASCII = "ascii"
_JIS_X_0201 = "shift_jis"
_JIS_X_0208 = "jis_x_0208"
_JIS_X_0212 = "jis_x_0212"

_SINGLE_BYTE = {
    6: _ASCII,
    13: _JIS_X_0201,
    100: "latin_1",
    101: "iso8859_2",
    109: "iso8859_3",
    110: "iso8859_4",
    126: "iso8859_7",
    127: "iso8859_6",
    138: "iso8859_8",
    144: "iso8859_5",
    148: "iso8859_9",
    166: "tis_620",
    203: "iso8859_15",
}
_MULTI_BYTE = {58: "gb2312", 87: _JIS_X_0208, 149: "euc_kr", 159: _JIS_X_0212}
_WHOLE = {"ISO_IR 192": "utf_8", "GB18030": "gb18030", "GBK": "gbk"}
_MISSPELT = {"UTF8": "ISO_IR 192", "UTF-8": "ISO_IR 192", "GB2312": "GBK"}
_TERM = re.compile(r"ISO[ _-]*(2022)?[ _-]*IR[ _-]*(\d+)")

_DESIGNATIONS = {
    b"\x1b(B": _ASCII,
    b"\x1b(J": _ASCII,
    b"\x1b)I": _JIS_X_0201,
    b"\x1b-A": "latin_1",
    b"\x1b-B": "iso8859_2",
    b"\x1b-C": "iso8859_3",
    b"\x1b-D": "iso8859_4",
    b"\x1b-F": "iso8859_7",
    b"\x1b-G": "iso8859_6",
    b"\x1b-H": "iso8859_8",
    b"\x1b-L": "iso8859_5",
    b"\x1b-M": "iso8859_9",
    b"\x1b-T": "tis_620",
    b"\x1b-b": "iso8859_15",
    b"\x1b$B": _JIS_X_0208,
    b"\x1b$@": _JIS_X_0208,
    b"\x1b$(B": _JIS_X_0208,
    b"\x1b$(D": _JIS_X_0212,
    b"\x1b$)C": "euc_kr",
    b"\x1b$)A": "gb2312",
}
"""What an escape sequence switches to: those of `_LOW_HALF` there, all others in the high half."""
_LOW_HALF = frozenset((_ASCII, _JIS_X_0208, _JIS_X_0212))
_ESCAPE_OF = {
    codec: escape
    for escape, codec in reversed(_DESIGNATIONS.items())
    if escape not in (b"\x1b(J", b"\x1b$@", b"\x1b$(B")
}

_ESCAPES = re.compile(rb"(\x1b[\x20-\x2f]+[\x30-\x7e])")
_ENDS = re.compile(rb"[\\\t\n\f\r]")
_NAME_ENDS = re.compile(rb"[\\^=\t\n\f\r]")
_TEXT_ENDS = re.compile(r"([\\\t\n\f\r])")
_TEXT_NAME_ENDS = re.compile(r"([\\^=\t\n\f\r])")


class DoesNotFit(UnicodeError):
    """The text has characters that the object's specific character set cannot hold."""


@dataclass(frozen=True, slots=True)
class Repertoire:
    """What a value of (0008,0005) allows."""

    codec: str
    """The codec of the first value, which is in force where no escape sequence says otherwise."""
    extensions: tuple[str, ...] = ()
    """All codecs between which escape sequences may switch; empty without code extensions."""


def decode(raw: bytes, charset: bytes | None, vr: str) -> str:
    """Return the text of a value; what the set cannot explain is read as UTF-8, else as Latin-1."""
    if raw.isascii() and _ESCAPE not in raw:
        return raw.decode(_ASCII)
    found = repertoire(charset)
    if _ESCAPE in raw and found.codec not in _WHOLE.values():
        return _decode_extended(raw, found.codec, _NAME_ENDS if vr == "PN" else _ENDS)
    return _decode_plain(raw, found.codec)


def encode(text: str, charset: bytes | None, vr: str) -> bytes:
    """Return the bytes of a text; raise DoesNotFit when the character set cannot hold it."""
    if text.isascii():
        return text.encode(_ASCII)
    found = repertoire(charset)
    if not found.extensions:
        return _encode_plain(text, found.codec)
    ends = _TEXT_NAME_ENDS if vr == "PN" else _TEXT_ENDS
    return b"".join(_encode_extended(part, found) for part in ends.split(text))


@lru_cache(maxsize=64)
def repertoire(charset: bytes | None) -> Repertoire:
    """Return what a value of (0008,0005) allows; unknown terms count as absent."""
    terms = [_codec(term.strip()) for term in (charset or b"").decode("latin_1").split("\\")]
    first, extended = terms[0]
    if first in _WHOLE.values() or (len(terms) == 1 and not extended):
        return Repertoire(first)
    extensions = tuple(dict.fromkeys(codec for codec, _ in terms))
    # A lone two-byte set in first place is not allowed but written; its G1 sets then need no escape
    # to be understood.
    return Repertoire(_ASCII if first in _LOW_HALF else first, extensions)


def _codec(term: str) -> tuple[str, bool]:
    """Return the codec of one defined term and whether it allows code extensions."""
    term = term.upper().rstrip("\0")
    term = _MISSPELT.get(term, term)
    if term in _WHOLE:
        return _WHOLE[term], False
    match = _TERM.fullmatch(term)
    if match is None:
        return _ASCII, False
    number = int(match[2])
    if number == 192:
        return _WHOLE[UTF_8.decode()], False
    if number in _MULTI_BYTE:
        return _MULTI_BYTE[number], True
    return _SINGLE_BYTE.get(number, _ASCII), match[1] is not None


def _decode_plain(raw: bytes, codec: str) -> str:
    for attempt in (codec, "utf_8"):
        try:
            return raw.decode(attempt)
        except UnicodeDecodeError:
            # Declared wrongly or not at all: the next guess, at last Latin-1, which takes every
            # byte.
            continue
    return raw.decode("latin_1")


def _decode_extended(raw: bytes, initial: str, ends: re.Pattern[bytes]) -> str:
    low, high = _ASCII, initial
    pieces: list[str] = []
    for part in _ESCAPES.split(raw):
        if part[:1] == b"\x1b" and (target := _DESIGNATIONS.get(part)):
            # Sets that take the upper half go with ASCII in the lower one; writers that switch
            # from JIS straight to them rely on it.
            low, high = (target, high) if target in _LOW_HALF else (_ASCII, target)
        elif low != _ASCII:
            pieces.append(_decode_pairs(part, low, high))
        elif part:
            end = ends.search(part)
            cut = end.start() if end else len(part)
            pieces.append(_decode_plain(part[:cut], high))
            if end:
                # A delimiter ends every switch (PS3.5 6.1.2.5.3), but where the first set has no
                # upper half, writers that forget to switch again are understood.
                high = high if initial == _ASCII else initial
                pieces.append(_decode_plain(part[cut:], high))
    return "".join(pieces)


def _decode_pairs(part: bytes, low: str, high: str) -> str:
    """Decode bytes while a two-byte JIS set is in the low half."""
    pieces: list[str] = []
    pos = 0
    while pos < len(part):
        pair = part[pos : pos + 2]
        if len(pair) == 2 and 0x20 < pair[0] < 0x7F and 0x20 < pair[1] < 0x7F:
            # EUC-JP holds the same sets in its upper half, 0212 behind a prefix.
            upper = bytes((pair[0] | 0x80, pair[1] | 0x80))
            prefix = b"\x8f" if low == _JIS_X_0212 else b""
            pieces.append((prefix + upper).decode("euc_jp", "replace"))
            pos += 2
        else:
            pieces.append(_decode_plain(part[pos : pos + 1], high))
            pos += 1
    return "".join(pieces)


def _encode_plain(text: str, codec: str) -> bytes:
    """Encode with one codec, the two JIS ones being what EUC-JP makes of them."""
    try:
        if codec in (_JIS_X_0208, _JIS_X_0212):
            return b"".join(_encode_pair(character, codec) for character in text)
        encoded = text.encode(codec)
    except UnicodeEncodeError as exc:
        raise DoesNotFit(f"{exc.object[exc.start]!r} does not fit the character set") from exc
    if codec == _JIS_X_0201 and len(encoded) != len(text):
        raise DoesNotFit("kanji do not fit ISO_IR 13")
    return encoded


def _encode_pair(character: str, codec: str) -> bytes:
    upper = character.encode("euc_jp")
    prefix, length = (b"\x8f", 3) if codec == _JIS_X_0212 else (b"", 2)
    if len(upper) != length or not upper.startswith(prefix) or upper[:1] == b"\x8e":
        raise DoesNotFit(f"{character!r} is not in {codec}")
    return bytes(byte & 0x7F for byte in upper[-2:])


def _encode_extended(text: str, found: Repertoire) -> bytes:
    """Encode one run between delimiters, beginning and ending in the initial state."""
    try:
        return _encode_plain(text, found.codec)
    except DoesNotFit:
        # The usual case for names in the second and third component group: switching is needed.
        out = bytearray()
    home = b"\x1b(J" if found.codec == _JIS_X_0201 else _ESCAPE_OF[_ASCII]
    low, high = _ASCII, found.codec
    for character in text:
        target, encoded = _encode_character(character, found)
        if target in _LOW_HALF:
            if target != low:
                out += home if target == _ASCII else _ESCAPE_OF[target]
                low = target
        elif target != high:
            out += _ESCAPE_OF[target]
            high = target
        out += encoded
    if low != _ASCII:
        out += home
    return bytes(out)


def _encode_character(character: str, found: Repertoire) -> tuple[str, bytes]:
    if character.isascii():
        return _ASCII, character.encode(_ASCII)
    for codec in (found.codec, *found.extensions):
        try:
            return codec, _encode_plain(character, codec)
        except DoesNotFit:
            continue
    raise DoesNotFit(f"{character!r} fits none of the object's character sets")
