"""The element table: what is in a data set and what rules changed, without parsing the rest.

A scan finds the top-level elements; changes are patches beside it; whatever is untouched leaves as
the bytes that came. Not thread-safe while being patched; a snapshot may be handed to another
thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dgate.dicom import charset as charsets
from dgate.dicom import deflate, element, paths
from dgate.dicom.body import COPY_BYTES, Body
from dgate.dicom.element import NUMERIC_VRS, SPECIFIC_CHARACTER_SET
from dgate.dicom.filedata import FileData
from dgate.dicom.patches import Cut, Patch, plan
from dgate.dicom.recode import to_unicode
from dgate.dicom.rewrite import rewrite
from dgate.dicom.scan import (
    DEEPEST,
    ITEM,
    SHORT_VRS,
    Buffer,
    Encoding,
    Entry,
    Layout,
    content_encoding,
    encoding_of,
    items,
)
from dgate.dicom.uids import transfer_syntax
from dgate.errors import NotDicom

PIXEL_DATA = 0x7FE00010
EXTENDED_OFFSETS = 0x7FE00001
OFFSET_TABLES = (0x7FE00000, EXTENDED_OFFSETS, 0x7FE00002)
"""Group length and extended offset table: they fit one encoding of the pixels only."""
_TAIL = 0x7FE00000
_LONGEST_TEXT = 64 << 10
_BRIEF_VRS = frozenset(
    (b"AE", b"AS", b"CS", b"DA", b"DT", b"IS", b"LO", b"PN", b"SH", b"TM", b"UI")
)
"""What the index has columns of; an honest value has a few bytes, many values a few thousand."""
_PLAIN_TEXT = SHORT_VRS - {b"AT", b"FD", b"FL", b"SL", b"SS", b"UL", b"US"} | {b"UC", b"UR", b"UT"}

_THERE: Patch = ("", b"", False)


class Slice(NamedTuple):
    """A range of the data set as it came."""

    offset: int
    length: int


class ElementTable:
    """The elements of one data set, readable and changeable by tag (an int 0xGGGGEEEE).

    Elements below group 7FE0 are found at once, pixel data and what follows only when asked for.
    Raises NotDicom when the data set cannot be parsed.
    """

    __slots__ = (
        "_body",
        "_cuts",
        "_data",
        "_depth",
        "_encoding",
        "_entries",
        "_inherited",
        "_latin",
        "_layout",
        "_patches",
        "_replaced",
        "revision",
        "syntax",
    )

    def __init__(self, buffer: Buffer | FileData, syntax: str) -> None:
        """Scan a data set without group 2, in the transfer syntax with that UID.

        Raises StoreError for one in a file that cannot be read, here and wherever more of it is
        looked at.
        """
        known = transfer_syntax(syntax)
        self._depth = 0
        self._begin(Body(buffer, encoding_of(known), deflated=known.deflated), syntax, None)

    def _begin(self, body: Body, syntax: str, inherited: bytes | None) -> None:
        layout = body.layout
        self._body = body
        self._data = body.data
        self._encoding = body.encoding
        self._layout = layout
        self._entries = layout.entries
        self._inherited = inherited
        # One character for each byte, so that the offsets hold.
        self._latin = bytes(body.data[: min(layout.stop, COPY_BYTES)]).decode("latin_1")
        self._patches: dict[int, Patch] = {}
        self._cuts: tuple[int, list[Cut], bytes] | None = None
        self._replaced = False
        self.syntax = syntax
        self.revision = 0

    # What is there.

    def raw(self, tag: int) -> bytes | None:
        """Return an element's value as it is encoded, None when the element is absent."""
        if tag in self._patches:
            patch = self._patches[tag]
            return None if patch is None else patch[1]
        entry = self._entries.get(tag)
        if entry is None:
            return None if tag < _TAIL else self._body.tail_value(tag)
        stop = entry[2] - 8 if tag in self._layout.undefined else entry[2]
        return bytes(self._data[entry[1] : stop])

    def raws(self, tags: Sequence[int]) -> tuple[bytes | None, ...]:
        """Return what `raw` returns for each tag, none of them in group 7FE0 or above.

        For those who ask for fifty at once: a third of the time.
        """
        if self._patches or not self._layout.undefined.isdisjoint(tags):
            return tuple(map(self.raw, tags))
        find, data = self._entries.get, self._data
        return tuple(
            [
                None if (entry := find(tag)) is None else bytes(data[entry[1] : entry[2]])
                for tag in tags
            ]
        )

    def view(self, tag: int) -> memoryview | None:
        """Return what `raw` returns without copying it: for pixel data."""
        entry = None if tag in self._patches else self._find(tag)
        if entry is None:
            raw = self.raw(tag)
            return None if raw is None else memoryview(raw)
        if self._entries.get(tag) is not entry:
            return self._body.tail_view(tag)
        stop = entry[2] - 8 if tag in self._layout.undefined else entry[2]
        return memoryview(self._data)[entry[1] : stop]

    def text(self, tag: int) -> str:
        r"""Return an element's value as text, empty when it is absent or a sequence.

        Decoded by the character set; ends at the first NUL, without trailing blanks. Binary numbers
        are decimal, several joined by `\`. Names, codes, dates and the like are cut at 64 KiB.
        """
        if tag not in self._patches:
            # The same as below, for the cases that nearly all look-ups are.
            entry = self._entries.get(tag)
            if entry is None:
                if tag < _TAIL:
                    return ""
            elif entry[2] <= len(self._latin):
                vr = entry[3] or element.dictionary_code(tag)
                if vr in _PLAIN_TEXT:
                    text = self._latin[entry[1] : entry[2]].rstrip(" \0")
                    if text.isascii() and text.isprintable():
                        return text
                elif vr == b"US" and entry[2] - entry[1] == 2:
                    return str(self._encoding.unsigned(self._data, entry[1])[0])
        raw = self._raw_for_text(tag)
        if not raw:
            return ""
        name = self.reading_vr(tag)
        charset = None if raw.isascii() and b"\x1b" not in raw else self.charset
        return element.text_of(name, raw, charset, little_endian=self._encoding.little_endian)

    def _raw_for_text(self, tag: int) -> bytes | None:
        """Return the value, its beginning only where it is senselessly long: no such copy."""
        entry = None if tag in self._patches else self._entries.get(tag)
        if entry is None or entry[2] - entry[1] <= _LONGEST_TEXT:
            return self.raw(tag)
        if element.dictionary_code(tag) not in _BRIEF_VRS:
            return self.raw(tag)
        return bytes(self._data[entry[1] : entry[1] + _LONGEST_TEXT])

    def vr(self, tag: int) -> str:
        """Return the VR that an element has, else (implicit, absent) that it would have."""
        patch = self._patches.get(tag)
        if patch is not None:
            return patch[0]
        entry = self._find(tag)
        if entry is not None and entry[3] is not None:
            return entry[3].decode("latin_1")
        return self._dictionary_vr(tag)

    def reading_vr(self, tag: int) -> str:
        """Return the VR by which to understand the value: the dictionary's in place of UN."""
        vr = self.vr(tag)
        return self._dictionary_vr(tag) if vr == "UN" else vr

    def __contains__(self, tag: int) -> bool:
        if tag in self._patches:
            return self._patches[tag] is not None
        return tag in self._entries or (tag >= _TAIL and tag in self._body.tail.entries)

    def tags(self) -> list[int]:
        """Return all tags, pixel data and what follows included; ascending as a rule."""
        tags = [*self._entries, *self._body.tail.entries]
        if not self._patches:
            return tags
        there = set(tags).union(self._patches)
        return sorted(tag for tag in there if self._patches.get(tag, _THERE) is not None)

    def found(self) -> list[tuple[int, bytes | None, bool]]:
        """Return tag, VR (None where implicit) and whether the length is undefined, of what came.

        For those who go through a whole object; changes are not in it.
        """
        undefined, tail = self._layout.undefined, self._body.tail
        there = [(tag, entry[3], tag in undefined) for tag, entry in self._entries.items()]
        for tag, entry in tail.entries.items():
            there.append((tag, entry[3], tag in tail.undefined))
        return there

    @property
    def repeated(self) -> frozenset[int]:
        """The tags that came more than once."""
        tail = self._body.tail
        twice = {tag for tag, _ in (*self._layout.shadowed, *tail.shadowed)}
        return frozenset(twice.union(self._entries.keys() & tail.entries.keys()))

    @property
    def rest(self) -> Buffer:
        """The bytes behind the last element, which belong to none."""
        return self._body.rest

    @property
    def touched(self) -> frozenset[int] | None:
        """The tags that were set or removed so far; None when all of the data set was replaced."""
        return None if self._replaced else frozenset(self._patches)

    @property
    def charset(self) -> bytes | None:
        """The value of (0008,0005), that of the enclosing data set for an item without its own."""
        own = self.raw(SPECIFIC_CHARACTER_SET)
        return self._inherited if own is None else own

    @property
    def little_endian(self) -> bool:
        """Whether binary values are little endian."""
        return self._encoding.little_endian

    @property
    def pixel_offset(self) -> int | None:
        """Where the elements from group 7FE0 on start in the (inflated) data set, if any."""
        return self._body.pixel_offset

    @property
    def truncated(self) -> bool:
        """Whether pixel data, or what follows it, is cut off or unreadable."""
        return self._body.tail.truncated

    def items(self, tag: int) -> list[ElementTable]:
        """Return the items of a sequence as tables; to change the object takes `set_items`."""
        return list(self.each_item(tag))

    def each_item(self, tag: int) -> Iterator[ElementTable]:
        """Yield what `items` returns, each made when its turn comes: for what may be very long."""
        value = self.view(tag) or memoryview(b"")
        code = b"UN" if self.vr(tag) == "UN" else self._encoded_vr(tag)
        for start, stop, inner in items(value, self._encoding, 0, len(value), code):
            yield self._item(bytes(value[start:stop]), inner)

    def is_sequence(self, tag: int) -> bool:
        """Tell whether an element is a sequence, also where it is encoded as UN or without VR."""
        vr = self.reading_vr(tag)
        if vr != "UN":
            return vr == "SQ"
        # A private element whose VR is lost: only sequences have undefined length.
        patch = self._patches.get(tag)
        return tag in self._layout.undefined if patch is None else patch[2]

    # Changes.

    def set_raw(self, tag: int, vr: str, value: bytes) -> None:
        """Set an element to an encoded value, which gets padded; the same value is no change."""
        entry = self._find(tag)
        value = element.pad(vr, value)
        unchanged = tag not in self._patches and entry is not None and self.raw(tag) == value
        if unchanged and entry is not None and entry[3] in (None, vr.encode()):
            return
        self._patch(tag, (vr, value, False))

    def set_text(self, tag: int, text: str) -> None:
        r"""Set an element to a text, by the rules of `element.encode_value`.

        Text that the character set cannot hold makes the whole object ISO_IR 192 (rulings.md 12).
        Raises ValueError for numbers that do not fit and for sequences.
        """
        vr = self.reading_vr(tag)
        self.make_fit(text, vr)
        charset = self.charset
        value = element.encode_value(vr, text, charset, little_endian=self.little_endian)
        self.set_raw(tag, vr, value)

    def set_items(self, tag: int, tables: Sequence[ElementTable]) -> None:
        """Set a sequence to items."""
        vr = "UN" if tag in self and self.vr(tag) == "UN" else "SQ"
        header = content_encoding(self._encoding, vr.encode())
        out = bytearray()
        for table in tables:
            content = table.tobytes()
            out += element.encode_delimiter(ITEM, len(content), header) + content
        # Only an undefined length tells readers without a dictionary entry that this is a sequence.
        self._patch(tag, (vr, bytes(out), self._dictionary_vr(tag) != "SQ"))

    def new_item(self) -> ElementTable:
        """Return an empty item for `set_items`."""
        return self._item(b"", self._encoding)

    def adopt(self, other: ElementTable) -> ElementTable:
        """Return a copy of another data set as an item for `set_items`, encoded as this one is.

        Text that another character set encodes keeps it, by a (0008,0005) of the item's own.
        """
        data = other.inflated()
        if other._encoding != self._encoding:
            data = b"".join(rewrite(memoryview(data), other._encoding, self._encoding))
        item = self._item(data, self._encoding)
        charset = other.charset
        if charset != self.charset and SPECIFIC_CHARACTER_SET not in item and not data.isascii():
            item.set_raw(SPECIFIC_CHARACTER_SET, "CS", charset or b"")
        return item

    def inflated(self) -> bytes:
        """Return the data set with its changes, not deflated; for small ones."""
        whole = self.tobytes()
        return deflate.inflate_all(whole) if self._body.deflated else whole

    def delete(self, tag: int) -> None:
        """Remove an element, every one of them where a tag was there more than once."""
        if tag in self or self._find(tag) is not None:
            self._patch(tag, None)

    def set_pixels(self, vr: str, value: bytes, syntax: str) -> None:
        """Set Pixel Data, native or as items without delimiter, and with it the transfer syntax.

        The syntax must encode all other elements as the present one does; else take `replace`.
        """
        self._patch(PIXEL_DATA, (vr, value, transfer_syntax(syntax).encapsulated))
        for tag in OFFSET_TABLES:
            self.delete(tag)
        self.syntax = syntax

    def replace(self, buffer: Buffer | FileData, syntax: str) -> None:
        """Put a whole other data set in the place of this one, with its transfer syntax.

        Snapshots keep what they have. The buffer must not change any more. Raises NotDicom when it
        cannot be parsed; then nothing has changed.
        """
        fresh = ElementTable(buffer, syntax)
        fresh._replaced = True
        fresh.revision = self.revision + 1
        for name in ElementTable.__slots__:
            setattr(self, name, getattr(fresh, name))

    def make_fit(self, text: str, vr: str) -> None:
        """Make sure that the character set can hold a text, else turn the object to ISO_IR 192."""
        if text.isascii() or vr in NUMERIC_VRS or vr == "SQ":
            return
        try:
            charsets.encode(text, self.charset, vr)
        except charsets.DoesNotFit:
            to_unicode(self, self.charset)
            self.set_raw(SPECIFIC_CHARACTER_SET, "CS", charsets.UTF_8)

    def snapshot(self) -> ElementTable:
        """Return an independent copy; the data set itself is shared."""
        copy = object.__new__(ElementTable)
        for name in ElementTable.__slots__:
            setattr(copy, name, getattr(self, name))
        copy._patches = dict(self._patches)
        return copy

    # Nested access (converters.md 7.2).

    def element_path(self, text: str) -> str:
        """Return the text of an element named by a descriptor such as `*elem` or `/seq.1/elem`."""
        return paths.read(self, text)

    def set_path(self, path: str, text: str) -> None:
        """Set an element inside a sequence: `seq.N/elem`, or `seq.*/elem` for a further item."""
        paths.write(self, path, text)

    # The result.

    @property
    def size(self) -> int:
        """The length of the data set with its changes."""
        if not self._patches:
            return len(self._body.buffer)
        cuts, deflated = self._planned()
        if self._body.deflated:
            return len(deflated)
        return len(self._body) + sum(len(new) - (end - start) for start, end, new in cuts)

    def segments(self) -> Iterator[bytes | memoryview | Slice]:
        """Yield the data set with its changes: new bytes, and ranges of the original one."""
        if not self._patches:
            yield self._kept(0, len(self._body.buffer))
            return
        cuts, deflated = self._planned()
        if self._body.deflated:
            yield deflated
            return
        pos = 0
        for start, end, new in cuts:
            if start > pos:
                yield self._kept(pos, start - pos)
            if new:
                yield new
            pos = max(pos, end)
        if pos < (length := len(self._body)):
            yield self._kept(pos, length - pos)

    def _kept(self, offset: int, length: int) -> memoryview | Slice:
        """Return a range that stays: of the original data set, which the caller has, or of another
        one, which only this table has."""
        if self._replaced:
            return memoryview(self._body.encoded)[offset : offset + length]
        return Slice(offset, length)

    @property
    def buffer(self) -> Buffer | FileData:
        """The data set without its changes, as it was given."""
        return self._body.buffer

    @property
    def encoded(self) -> Buffer:
        """The data set without its changes, as one buffer; that of a long file is a copy of it."""
        return self._body.encoded

    def parts(self) -> Iterator[bytes | memoryview]:
        """Yield the data set with its changes: new bytes, and views of the original one."""
        for part in self.segments():
            if isinstance(part, Slice):
                yield from self._body.pieces(part.offset, part.length)
            else:
                yield part

    def tobytes(self) -> bytes:
        """Return the whole data set with its changes; for small ones such as items."""
        return b"".join(self.parts())

    def _planned(self) -> tuple[list[Cut], bytes]:
        if self._cuts is None or self._cuts[0] != self.revision:
            cuts = plan(
                self._patches, self._data, self._encoding, self._layout, self._tail_for_patches()
            )
            deflated = self._body.deflated_with(cuts) if self._body.deflated else b""
            self._cuts = (self.revision, cuts, deflated)
        return self._cuts[1:]

    # Inner workings.

    def _patch(self, tag: int, patch: Patch) -> None:
        self._patches[tag] = patch
        self.revision += 1

    def _find(self, tag: int) -> Entry | None:
        entry = self._entries.get(tag)
        if entry is None and (tag >= _TAIL or self._body.is_whole):
            entry = self._body.tail.entries.get(tag)
        return entry

    def _encoded_vr(self, tag: int) -> bytes | None:
        if tag in self._patches:
            return b"SQ"
        entry = self._find(tag)
        return None if entry is None else entry[3]

    def _dictionary_vr(self, tag: int) -> str:
        vr = element.vr_of(tag)
        if vr == "US" and element.is_signed_dependent(tag):
            signed = self.raw(element.PIXEL_REPRESENTATION)
            return "SS" if signed is not None and b"\1" in signed[:2] else "US"
        return vr

    def _tail_for_patches(self) -> Layout:
        """Return the tail, but do not inflate for it where nothing in it is patched."""
        if self._body.is_whole or any(tag >= _TAIL for tag in self._patches):
            return self._body.tail
        return Layout({}, self._layout.stop)

    def _item(self, buffer: bytes, encoding: Encoding) -> ElementTable:
        item = object.__new__(ElementTable)
        item._depth = self._depth + 1
        if item._depth > DEEPEST:
            raise NotDicom(f"sequences are nested deeper than {DEEPEST} levels")
        item._begin(Body(buffer, encoding, deflated=False), self.syntax, self.charset)
        return item
