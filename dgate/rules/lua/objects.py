"""DicomObject and DicomArray on the Python side: element tables with live views of their items.

An item that a script writes to goes into its sequence when somebody next looks at the object that
holds it: writing to a thousand items encodes the sequence once. How scripts see all this is in
`prelude.lua`, what they can do with it in `dgate.rules.lua.elements`. Handles belong to the thread
that runs the Lua state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import ClassVar, Final

from dgate.dicom import element
from dgate.dicom.element import NUMERIC_VRS, SPECIFIC_CHARACTER_SET, parse_tag, tag_of, vr_of
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import RuleError
from dgate.rules.lua.text import utf8

_BULK: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
"""VRs that scripts read as bytes."""
_PIXELS: Final = 0x7FE0
_COMMANDS: Final = 0x0000
_NEVER: Final = frozenset((0x0002, 0xFFFE, 0xFFFF))
_SHOWN: Final = 80
_ELEMENT = r"(?:[0-9A-Fa-f]{4},[0-9A-Fa-f]{4}|[A-Za-z][A-Za-z0-9]*)"
_STEP = re.compile(rf"({_ELEMENT})(?:\.([0-9]{{1,9}}|\*))?")
_OTHER_OBJECT = re.compile(r"\([^()]+\)[^()]+")


def new_table() -> ElementTable:
    """Return an empty object."""
    return ElementTable(b"", EXPLICIT_LE)


_LONGEST_KEY = 128
"""No keyword is longer; what scripts make up is not remembered."""


class Holdings:
    """How many bytes of objects the scripts of a state hold; they count like Lua's own memory."""

    def __init__(self, limit_bytes: int, tidy: Callable[[], None]) -> None:
        """`tidy` frees what nobody refers to any more; a limit of 0 is none."""
        self._limit_bytes = limit_bytes
        self._tidy = tidy
        self._bytes = 0

    def take(self, size_bytes: int) -> None:
        """Count an object; raises RuleError when there is no room for it."""
        if self._limit_bytes and self._bytes + size_bytes > self._limit_bytes:
            self._tidy()
            if self._bytes + size_bytes > self._limit_bytes:
                raise RuleError(
                    "not enough memory: the objects that the script holds exceed LuaMemoryMB",
                    remedy="call free() on objects that are no longer needed",
                )
        self._bytes += size_bytes

    def give(self, size_bytes: int) -> None:
        """Count an object that is gone."""
        self._bytes -= size_bytes


class ObjectHandle:
    """A DicomObject: a whole object, or a live view of an item."""

    __slots__ = (
        "__weakref__",
        "_arrays",
        "_has_changes",
        "_holdings",
        "_owned",
        "_table",
        "array",
        "is_data",
        "pending",
    )

    kind: ClassVar[int] = 2
    """What `prelude.lua` makes of it."""

    def __init__(
        self,
        table: ElementTable,
        array: ArrayHandle | None = None,
        holdings: Holdings | None = None,
        *,
        is_data: bool = False,
    ) -> None:
        """`array` holds the item; `holdings` counts an object that the script alone holds."""
        self._table: ElementTable | None = table
        self._arrays: dict[int, ArrayHandle] = {}
        self._has_changes = False
        """An item, at whatever depth, was written to and is not encoded yet."""
        self._holdings = holdings
        self._owned = 0
        self.array = array
        self.pending: Callable[[], None] | None = None
        """Called once before anybody looks at the table: brings it what is cached elsewhere."""
        self.is_data = is_data
        """The object of a hook, or one that is stored: it cannot hold elements of commands."""
        if holdings is not None:
            holdings.take(table.size)
            self._owned = table.size

    def __del__(self) -> None:
        if self._owned and self._holdings is not None:
            self._holdings.give(self._owned)

    @property
    def table(self) -> ElementTable:
        """The elements, as they are by now; raises RuleError when the object was freed."""
        self._fresh()
        return self.own_table()

    def own_table(self) -> ElementTable:
        """Return the same without asking what became of the sequence that the item is in."""
        if self.pending is not None:
            pending, self.pending = self.pending, None
            pending()
        table = self._table
        assert table is not None, "nobody asks for what was freed"
        if self._has_changes:
            self._has_changes = False
            for tag, array in self._arrays.items():
                array.encode_into(table, tag)
        return table

    def _fresh(self) -> ElementTable:
        if self.array is not None:
            self.array.fresh()
        if self._table is None:
            raise RuleError("the object was freed, or the script that it belongs to has ended")
        return self._table

    @property
    def is_freed(self) -> bool:
        """Whether there is nothing left to read."""
        return self._table is None

    def release(self) -> None:
        """Let go of the object; what is read later is nil."""
        if self._owned and self._holdings is not None:
            self._holdings.give(self._owned)
        self._owned = 0
        self._table = None
        self._arrays.clear()
        self.pending = None

    def take_table(self, table: ElementTable) -> None:
        """Go on with another table: the item as it was encoded anew."""
        self._table = table
        for array in self._arrays.values():
            array.doubt()

    def touch(self) -> None:
        """Note that the table was changed, so that what holds it takes it up."""
        node: ObjectHandle | None = self
        while node is not None and node.array is not None:
            node = node.array.changed(node)
            if node is not None:
                node._has_changes = True

    # Elements.

    def value(self, tag: int) -> str | bytes | ArrayHandle | None:
        """Return an element as scripts read it: text as UTF-8, bulk data as bytes, a sequence as
        a view, and None for nothing."""
        table = self._fresh() if tag >> 16 != _PIXELS else self.table
        known = vr_of(tag)
        if known not in _BULK and known != "SQ":
            text = table.text(tag)
            if text:
                return text if text.isascii() else utf8(text)
        array = self._arrays.get(tag)
        if array is not None and array.dirty:
            return array
        if tag not in table:
            return None
        if table.is_sequence(tag):
            return self.sequence(tag)
        vr = table.reading_vr(tag)
        if vr == "UN":
            # Nobody knows what it is; the original takes it for text (spec lua-api.md 4.4).
            raw = table.raw(tag) or b""
            return raw.rstrip(b" \0") or raw[:1].strip(b"\0")
        if vr in _BULK:
            return table.raw(tag)
        text = table.text(tag)
        if text or vr in NUMERIC_VRS:
            return utf8(text) if text else None
        return " " if table.raw(tag) == b" " else ""

    def set_text(self, tag: int, text: str) -> None:
        """Set an element as the statement `set` does; raises RuleError."""
        self._check(tag)
        table = self.table
        if not text.isascii() and self.array is not None:
            self._make_fit(text, table.reading_vr(tag))
            table = self.table
        try:
            if text or vr_of(tag) != "SQ":
                table.set_text(tag, text)
            elif tag not in table:
                table.set_raw(tag, "SQ", b"")
        except (ValueError, UnicodeError) as exc:
            raise RuleError(f"{show(tag)} cannot be set: {exc}") from exc
        self.touch()

    def _make_fit(self, text: str, vr: str) -> None:
        """Have the object whose character set counts here hold a text."""
        node = self
        while node.array is not None and node.array.owner is not None:
            if node.table.raw(SPECIFIC_CHARACTER_SET) is not None:
                break
            node = node.array.owner
        if node is not self:
            table = node.table
            before = table.revision
            table.make_fit(text, vr)
            if table.revision != before:
                node.touch()

    def set_raw(self, tag: int, vr: str, value: bytes) -> None:
        """Set an element to encoded bytes."""
        self._check(tag)
        self.table.set_raw(tag, vr, value)
        self.touch()

    def set_items(self, tag: int, tables: Sequence[ElementTable]) -> None:
        """Set a sequence to copies of data sets; raises RuleError."""
        self._check(tag)
        if vr_of(tag) not in ("SQ", "UN"):
            raise RuleError(f"{show(tag)} is not a sequence")
        own = self.table
        own.set_items(tag, [own.adopt(table) for table in tables])
        self.touch()

    def begin_sequence(self, tag: int) -> None:
        """Make an empty sequence; one that is there stays as it is."""
        self._check(tag)
        if vr_of(tag) != "SQ":
            raise RuleError(f"{show(tag)} is not a sequence")
        if tag not in self.table:
            self.set_raw(tag, "SQ", b"")

    def delete(self, tag: int) -> None:
        """Remove an element."""
        self.table.delete(tag)
        self.touch()

    def _check(self, tag: int) -> None:
        group = tag >> 16
        if group in _NEVER or (group == _COMMANDS and self.is_data):
            raise RuleError(f"group {group:04X} is not part of an object's data set")

    def sequence(self, tag: int) -> ArrayHandle:
        """Return the live view of a sequence, whether it is there or not."""
        array = self._arrays.get(tag)
        if array is None:
            array = self._arrays[tag] = ArrayHandle(self, tag)
        return array


class ArrayHandle:
    """A DicomArray: a live view of a sequence, or a list of objects of its own."""

    __slots__ = ("__weakref__", "_items", "_next", "_revision", "_seen", "dirty", "owner", "tag")

    kind: ClassVar[int] = 3

    def __init__(
        self,
        owner: ObjectHandle | None = None,
        tag: int = 0,
        items: Sequence[ObjectHandle] = (),
    ) -> None:
        """`owner` has the sequence; without one the items are given."""
        self.owner = owner
        self.tag = tag
        self.dirty = False
        """Items are newer than what is encoded in the owner."""
        self._items = list(items)
        self._next: ObjectHandle | None = None
        """The item that is there once it is written to (spec lua-api.md L2)."""
        self._revision = -1
        self._seen: bytes | None = None
        for item in self._items:
            item.array = self

    def fresh(self) -> None:
        """Take up what became of the sequence in the owner meanwhile."""
        if self.owner is None:
            return
        table = self.owner._fresh()
        if self.dirty or table.revision == self._revision:
            return
        raw = table.raw(self.tag)
        if raw != self._seen or self._revision < 0:
            tables = table.items(self.tag) if raw else []
            for item, found in zip(self._items, tables, strict=False):
                item.take_table(found)
            del self._items[len(tables) :]
            self._items += [ObjectHandle(found, self) for found in tables[len(self._items) :]]
            self._seen = raw
        self._revision = table.revision

    def doubt(self) -> None:
        """Look at the sequence again: the owner has another table."""
        self._revision = -1
        self._seen = None
        self.dirty = False

    def encode_into(self, table: ElementTable, tag: int) -> None:
        """Bring the owner's table up to date."""
        if not self.dirty:
            return
        self.dirty = False
        # Not `item.table`, which would ask the owner in turn.
        table.set_items(tag, [item.own_table() for item in self._items])
        self._seen = table.raw(tag)
        self._revision = table.revision

    def changed(self, item: ObjectHandle) -> ObjectHandle | None:
        """Note that an item was changed, or begins to exist by it; return the owner."""
        if item is self._next:
            self._items.append(item)
            self._next = None
        self.dirty = True
        return self.owner

    @property
    def items(self) -> list[ObjectHandle]:
        """The items."""
        self.fresh()
        return self._items

    def at(self, number: int) -> ObjectHandle | None:
        """Return an item by its number from 0; that behind the last begins to exist when it is
        written to. None beyond it."""
        items = self.items
        if 0 <= number < len(items):
            return items[number]
        if number != len(items):
            return None
        if self._next is None:
            table = new_table() if self.owner is None else self.owner.table.new_item()
            self._next = ObjectHandle(table, self)
        return self._next

    def add(self, table: ElementTable, holdings: Holdings | None = None) -> None:
        """Append a copy of a data set."""
        if self.owner is None:
            copy = ElementTable(table.tobytes(), table.syntax)
            self._items.append(ObjectHandle(copy, self, holdings))
            return
        adopted = self.owner.table.adopt(table)
        self.items.append(ObjectHandle(adopted, self))
        self._note()

    def add_empty(self) -> None:
        """Append an empty item."""
        table = new_table() if self.owner is None else self.owner.table.new_item()
        self.items.append(ObjectHandle(table, self))
        self._note()

    def remove(self, number: int) -> None:
        """Remove an item; nothing happens when there is none of that number."""
        items = self.items
        if 0 <= number < len(items):
            del items[number]
            self._note()

    def _note(self) -> None:
        self.dirty = True
        if self.owner is not None:
            self.owner._has_changes = True
            self.owner.touch()


def show(tag: int) -> str:
    """Return a tag as messages name it."""
    keyword = element.keyword_of(tag)
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})" + (f" {keyword}" if keyword else "")


def tag_of_key(key: str) -> int | None:
    """Return the tag that a key of a script names: a keyword or gggg,eeee; None for others."""
    return _tag_of_key(key) if len(key) <= _LONGEST_KEY else None


@lru_cache(maxsize=4096)
def _tag_of_key(key: str) -> int | None:
    tag = tag_of(key)
    if tag is None and len(key) == len("gggg,eeee"):
        tag = parse_tag(key)
    return tag


def read_path(handle: ObjectHandle, key: str) -> str | bytes | ArrayHandle | None:
    """Return what a descriptor names (spec converters.md 7.2): `*elem`, `/seq.N/elem`.

    Without the leading `/` the sequence is returned. None when there is nothing.
    """
    if key.startswith("*"):
        tag = tag_of_key(key[1:])
        return None if tag is None else _search(handle, tag)
    if not key.startswith("/"):
        found = _STEP.fullmatch(key.partition("/")[0])
        tag = tag_of_key(found[1]) if found else None
        value = None if tag is None else handle.value(tag)
        return value if isinstance(value, ArrayHandle) else None
    *steps, last = key[1:].split("/")
    for step in steps:
        found = _STEP.fullmatch(step)
        tag = tag_of_key(found[1]) if found else None
        value = None if tag is None else handle.value(tag)
        number = 0 if found is None or not (found[2] or "").isdecimal() else int(found[2])
        if not isinstance(value, ArrayHandle) or number >= len(value.items):
            return None
        handle = value.items[number]
    if last.startswith("*"):
        return read_path(handle, last)
    tag = tag_of_key(last)
    return None if tag is None else handle.value(tag)


def _search(handle: ObjectHandle, tag: int) -> str | bytes | ArrayHandle | None:
    """Return the first element with a tag at any depth, depth first in tag order."""
    table = handle.table
    for other in sorted(table.tags()):
        if other == tag:
            return handle.value(tag)
        if table.is_sequence(other):
            for item in handle.sequence(other).items:
                found = _search(item, tag)
                if found is not None:
                    return found
    return None


def write_path(handle: ObjectHandle, key: str, text: str) -> None:
    """Set `seq.N/elem`: a missing sequence is made; N past the end, or `*`, appends an item.

    A path that names something unknown is ignored, as an unknown keyword is.
    """
    *steps, last = key.removeprefix("/").split("/")
    tag = tag_of_key(last)
    parsed = [_STEP.fullmatch(step) for step in steps]
    tags = [tag_of_key(found[1]) if found else None for found in parsed]
    if tag is None or None in tags:
        return
    for found, sequence in zip(parsed, tags, strict=True):
        assert found is not None, "checked above"
        assert sequence is not None, "checked above"
        if vr_of(sequence) != "SQ":
            raise RuleError(f"{show(sequence)} is not a sequence")
        array = handle.sequence(sequence)
        number = len(array.items) if found[2] == "*" else int(found[2] or 0)
        item = array.at(min(number, len(array.items)))
        assert item is not None, "one behind the last is always there"
        handle = item
    handle.set_text(tag, text)


def is_other_object(key: str) -> bool:
    """Tell whether a key is `(desc1)desc2`, which reads another stored object."""
    return _OTHER_OBJECT.fullmatch(key) is not None
