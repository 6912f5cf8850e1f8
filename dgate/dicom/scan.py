"""The structural scan: where each element of an encoded data set begins and ends (PS3.5 7).

One loop per kind of encoding, because every object passes here. Values are not looked at; sequences
are only skipped. Pure functions, safe between threads.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dgate.dicom.uids import TransferSyntax
from dgate.errors import NotDicom

Buffer = bytes | bytearray | memoryview
Entry = tuple[int, int, int, bytes | None]
"""Offset of the element, of its value, of the next element; its VR, None where implicit."""
Header = tuple[int, bytes | None, int, int]
"""Tag, VR (None where implicit), offset of the value, length of the value as it is written."""

UNDEFINED = 0xFFFFFFFF
DEEPEST = 64
"""How deep sequences may be nested; far beyond any real one."""
MOST_ELEMENTS = 1 << 16
"""How many elements one level may have; far beyond any real one, and each costs memory."""
_SMALLEST_ELEMENT = 8
_STRIDE = MOST_ELEMENTS * _SMALLEST_ELEMENT
"""Elements are counted after so many bytes, which saves the small objects the counting."""
_REGULAR: Entry = (0, 0, 0, b"")
PIXEL_GROUP = 0x7FE0

LONG_VRS = frozenset(
    (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"OD", b"OL", b"OV", b"UC", b"UR", b"SV", b"UV")
)
SHORT_VRS = frozenset(
    [b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN"]
) | {b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}

ITEM = 0xE000
ITEM_END = 0xE00D
SEQUENCE_END = 0xE0DD
DELIMITERS = 0xFFFE
_NEVER_GROUPS = frozenset((0x0000, DELIMITERS, 0xFFFF))
"""Commands, delimiters and what PS3.5 7.1 forbids: no elements of a data set."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How element headers are read and written: VR explicit or not, and the byte order."""

    explicit: bool
    little_endian: bool
    short: Callable[[Buffer, int], tuple[int, int, bytes, int]]
    """Reads group, element, VR and 16-bit length of an explicit element."""
    implicit: Callable[[Buffer, int], tuple[int, int, int]]
    """Reads group, element and 32-bit length: an implicit element, an item or a delimiter."""
    length: Callable[[Buffer, int], tuple[int]]
    unsigned: Callable[[Buffer, int], tuple[int]]
    """Reads a 16-bit number."""
    order: str
    """The byte order's mark for `struct`: `<` or `>`."""


def _encoding(explicit: bool, little_endian: bool) -> Encoding:
    order = "<" if little_endian else ">"
    return Encoding(
        explicit,
        little_endian,
        struct.Struct(order + "HH2sH").unpack_from,
        struct.Struct(order + "HHL").unpack_from,
        struct.Struct(order + "L").unpack_from,
        struct.Struct(order + "H").unpack_from,
        order,
    )


IMPLICIT_LITTLE = _encoding(False, True)
EXPLICIT_LITTLE = _encoding(True, True)
EXPLICIT_BIG = _encoding(True, False)
_IMPLICIT_BIG = _encoding(False, False)
"""No transfer syntax has it; sequences of faulty writers do."""


def encoding_of(syntax: TransferSyntax) -> Encoding:
    """Return how a transfer syntax encodes element headers."""
    if not syntax.explicit:
        return IMPLICIT_LITTLE
    return EXPLICIT_LITTLE if syntax.little_endian else EXPLICIT_BIG


@dataclass(slots=True)
class Layout:
    """Where the elements of a data set are."""

    entries: dict[int, Entry]
    """By tag, in the order of the data set."""
    stop: int
    """Offset of the first element of group 7FE0 or above, else the end."""
    undefined: set[int] = field(default_factory=set)
    """Tags of undefined length: an 8-byte delimiter stands between value and next element."""
    shadowed: list[tuple[int, Entry]] = field(default_factory=list)
    """Earlier elements whose tag came again."""
    ordered: bool = True
    truncated: bool = False
    """The last element is shorter than its length says."""


def scan(buffer: Buffer, encoding: Encoding, start: int = 0, end: int | None = None) -> Layout:
    """Find the top-level elements before group 7FE0; raise NotDicom for what cannot be parsed."""
    end = len(buffer) if end is None else end
    loop = _scan_explicit if encoding.explicit else _scan_implicit
    try:
        layout = loop(buffer, encoding, start, end)
        _check_count(layout)
        if layout.stop < end:
            _check_stop(buffer, encoding, layout.stop, end)
    except struct.error as exc:
        raise NotDicom("the data set ends inside an element's tag and length") from exc
    if layout.stop > end:
        tag = next(reversed(layout.entries))
        raise NotDicom(f"element {show(tag)} is longer than the data set")
    return layout


def really_implicit(layout: Layout) -> bool:
    """Tell whether a data set of an explicit VR syntax begins without VR, which happens."""
    return next(iter(layout.entries.values()), _REGULAR)[3] is None


def _check_count(layout: Layout) -> None:
    if len(layout.entries) + len(layout.shadowed) > MOST_ELEMENTS:
        raise NotDicom(f"there are more than {MOST_ELEMENTS:,} elements on one level")


def _check_stop(buffer: Buffer, encoding: Encoding, pos: int, end: int) -> None:
    """Raise NotDicom when what ended the scan is no element.

    Only pixel data may be longer than what is there: a picture that lost its last lines is still
    worth keeping.
    """
    tag, vr, value, length = header(buffer, encoding, pos, end)
    group = tag >> 16
    if group == PIXEL_GROUP:
        return
    following = value + length
    if length == UNDEFINED:
        following = skip_undefined(buffer, encoding, value, end, vr)
    if group in _NEVER_GROUPS or following > end:
        raise NotDicom(f"element {show(tag)} at offset {pos} is not DICOM")


def _scan_explicit(buffer: Buffer, encoding: Encoding, pos: int, end: int) -> Layout:
    entries: dict[int, Entry] = {}
    layout = Layout(entries, pos)
    read, read_length = encoding.short, encoding.length
    short_vrs, long_vrs = SHORT_VRS, LONG_VRS
    # Below every legal tag, so that the command group and zero bytes go the way of tags out of
    # order.
    last = 0xFFFF
    vr: bytes | None
    while pos < end:
        pause = min(end, pos + _STRIDE)
        while pos < pause:
            group, number, vr, length = read(buffer, pos)
            if group >= PIXEL_GROUP:
                break
            tag = group << 16 | number
            if vr in short_vrs:
                value = pos + 8
                following = value + length
            elif vr in long_vrs:
                value = pos + 12
                length = read_length(buffer, pos + 8)[0]
                following = value + length
                if length == UNDEFINED:
                    following = skip_undefined(buffer, encoding, value, end, vr)
                    layout.undefined.add(tag)
            else:
                vr, value, length = irregular(buffer, encoding, pos, end)
                following = value + length
                if length == UNDEFINED:
                    following = skip_undefined(buffer, encoding, value, end, vr)
                    layout.undefined.add(tag)
            if tag > last:
                last = tag
            else:
                _out_of_order(layout, tag)
            entries[tag] = (pos, value, following, vr)
            pos = following
        else:
            _check_count(layout)
            continue
        break
    layout.stop = pos
    return layout


def _scan_implicit(buffer: Buffer, encoding: Encoding, pos: int, end: int) -> Layout:
    entries: dict[int, Entry] = {}
    layout = Layout(entries, pos)
    read = encoding.implicit
    last = 0xFFFF
    while pos < end:
        pause = min(end, pos + _STRIDE)
        while pos < pause:
            group, number, length = read(buffer, pos)
            if group >= PIXEL_GROUP:
                break
            tag = group << 16 | number
            value = pos + 8
            following = value + length
            if length == UNDEFINED:
                following = skip_undefined(buffer, encoding, value, end, None)
                layout.undefined.add(tag)
            if tag > last:
                last = tag
            else:
                _out_of_order(layout, tag)
            entries[tag] = (pos, value, following, None)
            pos = following
        else:
            _check_count(layout)
            continue
        break
    layout.stop = pos
    return layout


def scan_tail(buffer: Buffer, encoding: Encoding, pos: int) -> Layout:
    """Find the elements from `Layout.stop` on: pixel data and what follows it.

    Objects with cut-off pixel data or rubbish behind it are kept and sent as they are: a cut-off
    last element is an entry up to the end; what cannot be read as an element belongs to nobody.
    Raises NotDicom only for more than MOST_ELEMENTS.
    """
    end = len(buffer)
    return walk_tail(
        lambda pos: header(buffer, encoding, pos, end),
        lambda pos, vr: skip_undefined(buffer, encoding, pos, end, vr),
        pos,
        end,
    )


def walk_tail(
    header_at: Callable[[int], Header],
    skip_at: Callable[[int, bytes | None], int],
    pos: int,
    end: int,
) -> Layout:
    """Do what `scan_tail` says by two functions, for a data set that may lie in a file.

    Args:
        header_at: does what `header` does.
        skip_at: does what `skip_undefined` does, for an offset and a VR.
    """
    layout = Layout({}, pos)
    while pos < end:
        try:
            tag, vr, value, length = header_at(pos)
        except (NotDicom, struct.error):
            layout.truncated = True
            break
        if tag >> 16 in _NEVER_GROUPS:
            break
        following = value + length
        if length == UNDEFINED:
            try:
                following = skip_at(value, vr)
                layout.undefined.add(tag)
            except NotDicom:
                following = end + 1
        if following > end:
            layout.truncated = True
            following = end
        if tag in layout.entries:
            layout.shadowed.append((tag, layout.entries.pop(tag)))
        layout.entries[tag] = (pos, value, following, vr)
        _check_count(layout)
        pos = following
    layout.stop = pos
    return layout


def _out_of_order(layout: Layout, tag: int) -> None:
    if tag >> 16 in _NEVER_GROUPS:
        raise NotDicom(f"tag {show(tag)} cannot stand in a data set")
    layout.ordered = False
    earlier = layout.entries.pop(tag, None)
    if earlier is not None:
        layout.shadowed.append((tag, earlier))


def header(buffer: Buffer, encoding: Encoding, pos: int, end: int) -> Header:
    """Read one element header: tag, VR (None where implicit), offset of the value, length."""
    if not encoding.explicit:
        group, number, length = encoding.implicit(buffer, pos)
        return group << 16 | number, None, pos + 8, length
    group, number, vr, short = encoding.short(buffer, pos)
    tag = group << 16 | number
    if vr in SHORT_VRS:
        return tag, vr, pos + 8, short
    if vr in LONG_VRS:
        return tag, vr, pos + 12, encoding.length(buffer, pos + 8)[0]
    if group == DELIMITERS:
        return tag, None, pos + 8, encoding.length(buffer, pos + 4)[0]
    return (tag, *irregular(buffer, encoding, pos, end))


def irregular(
    buffer: Buffer, encoding: Encoding, pos: int, end: int
) -> tuple[bytes | None, int, int]:
    """Read the header of an element with an unknown VR: VR (None = implicit), value offset, length.

    Two capitals are a VR of the future, which has a 32-bit length (PS3.5 7.1.2), or one that a
    faulty writer made up, mostly with a 16-bit length. Anything else is an element that was written
    without a VR, as some writers do.
    """
    _, _, vr, short = encoding.short(buffer, pos)
    if not (vr.isalpha() and vr.isupper()):
        length = encoding.length(buffer, pos + 4)[0]
        if length != UNDEFINED and pos + 8 + length > end:
            raise NotDicom(f"element at offset {pos} has neither a VR nor a possible length")
        return None, pos + 8, length
    if short == 0 and pos + 12 <= end:
        length = encoding.length(buffer, pos + 8)[0]
        if length == UNDEFINED or pos + 12 + length <= end:
            return vr, pos + 12, length
    return vr, pos + 8, short


def skip_undefined(buffer: Buffer, encoding: Encoding, pos: int, end: int, vr: bytes | None) -> int:
    """Return the offset behind the delimiter of the undefined-length value that starts at `pos`.

    Handles sequences, encapsulated pixel data and UN. Nesting costs a list entry, not a stack
    frame. Raises NotDicom for what cannot be parsed or is nested deeper than DEEPEST.
    """
    declared = current = content_encoding(encoding, vr)
    enclosing: list[tuple[Encoding, Encoding]] = []
    in_item = False
    try:
        while pos < end:
            group, number, length = current.implicit(buffer, pos)
            if group == DELIMITERS:
                pos += 8
                if number == ITEM and not in_item:
                    if length != UNDEFINED:
                        pos += length
                        continue
                    in_item = True
                    current = item_encoding(buffer, encoding, declared, pos)
                elif number == ITEM_END and in_item:
                    in_item = False
                    current = declared
                elif number == SEQUENCE_END and not in_item:
                    if not enclosing:
                        return pos
                    declared, current = enclosing.pop()
                    in_item = True
                else:
                    raise NotDicom(f"misplaced delimiter (FFFE,{number:04X}) at offset {pos - 8}")
                continue
            if not in_item:
                raise NotDicom(f"an element stands between items at offset {pos}")
            _, vr, value, length = header(buffer, current, pos, end)
            if length == UNDEFINED:
                # The outermost sequence is not in the list.
                if len(enclosing) + 1 >= DEEPEST:
                    raise NotDicom(f"sequences are nested deeper than {DEEPEST} levels")
                enclosing.append((declared, current))
                declared = current = content_encoding(current, vr)
                in_item = False
                pos = value
            else:
                pos = value + length
    except struct.error as exc:
        raise NotDicom("the data set ends inside a sequence") from exc
    raise NotDicom("a sequence of undefined length has no end")


def items(
    buffer: Buffer, encoding: Encoding, pos: int, end: int, vr: bytes | None
) -> Iterator[tuple[int, int, Encoding]]:
    """Yield start, end and encoding of each item's content in a sequence; raise NotDicom."""
    declared = content_encoding(encoding, vr)
    try:
        while pos < end:
            group, number, length = declared.implicit(buffer, pos)
            if group == DELIMITERS and number == SEQUENCE_END:
                return
            if group != DELIMITERS or number != ITEM:
                raise NotDicom(f"an item was expected at offset {pos}")
            pos += 8
            current = item_encoding(buffer, encoding, declared, pos)
            closing = 0 if length != UNDEFINED else 8
            stop = pos + length if not closing else _item_end(buffer, current, pos, end)
            if stop > end:
                raise NotDicom("an item is longer than its sequence")
            yield pos, stop, current
            pos = stop + closing
    except struct.error as exc:
        raise NotDicom("the data set ends inside a sequence") from exc


def _item_end(buffer: Buffer, encoding: Encoding, pos: int, end: int) -> int:
    while pos < end:
        group, number, _ = encoding.implicit(buffer, pos)
        if group == DELIMITERS and number == ITEM_END:
            return pos
        _, vr, value, length = header(buffer, encoding, pos, end)
        pos = value + length
        if length == UNDEFINED:
            pos = skip_undefined(buffer, encoding, value, end, vr)
    raise NotDicom("an item of undefined length has no end")


def content_encoding(encoding: Encoding, vr: bytes | None) -> Encoding:
    """Return how the items of a value are declared: those of UN are implicit VR (PS3.5 6.2.2)."""
    if not encoding.explicit:
        return encoding
    if vr == b"UN":
        return IMPLICIT_LITTLE
    if vr is None:
        return without_vr(encoding)
    return encoding


def without_vr(encoding: Encoding) -> Encoding:
    """Return the implicit VR encoding with the same byte order."""
    return IMPLICIT_LITTLE if encoding.little_endian else _IMPLICIT_BIG


def item_encoding(buffer: Buffer, outer: Encoding, declared: Encoding, pos: int) -> Encoding:
    """Return how an item is really encoded.

    In data sets with explicit VR there are writers that put explicit elements into UN, and implicit
    ones into SQ; where the first element contradicts what was declared, its bytes decide.
    """
    if not outer.explicit:
        return declared
    vr = bytes(buffer[pos + 4 : pos + 6])
    if vr in SHORT_VRS or vr in LONG_VRS or (declared.explicit and vr.isalpha() and vr.isupper()):
        return EXPLICIT_LITTLE if declared.little_endian else EXPLICIT_BIG
    return without_vr(declared)


def show(tag: int) -> str:
    """Return a tag as `(gggg,eeee)`."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
