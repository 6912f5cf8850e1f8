"""The file system of a disk that forgets, fills up and fails: speaks to the kernel's FUSE.

Run as a program by `disk.Disk`: `python -m tests.campaign.fusedisk FOLDER LOG SEED ORDERING`, as
root. Commands and answers are lines of JSON on standard input and output. One thread: each request
of the kernel is one instant, and the order of the log is the order in which things happened.

Since it is a mounted file system, all that a program does to files comes here: what SQLite writes
from C, copies made by the kernel, memory maps. A power cut is the instant after which no request is
answered any more; the programs are killed, and the same folder then holds what `Volatile.cut` left.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import json
import os
import random
import select
import stat
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from tests.campaign.volatile import ROOT, Node, Ordering, Trouble, Volatile

_IN = struct.Struct("<IIQQIIII")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY = struct.Struct("<QQQQII")
_ATTR_HEAD = struct.Struct("<QII")
_SETATTR = struct.Struct("<IIQQQQQQIIIIIIII")
_READ = struct.Struct("<QQII")
_WRITE = struct.Struct("<QQIIQII")
_FSYNC = struct.Struct("<QII")
_STATFS = struct.Struct("<QQQQQIIII24x")
_LONG = 1 << 20
"""For how many seconds the kernel may keep what it was told: nobody else changes anything."""
_MOST_BYTES = 1 << 20
_MAX_PAGES = _MOST_BYTES // 4096
_FLAGS = 1 << 0 | 1 << 5 | 1 << 22  # ASYNC_READ, BIG_WRITES, MAX_PAGES
_WRITEBACK_CACHE = 1 << 16
_KEEP_CACHE = 2
_SIZE_BIT, _MODE_BIT = 1 << 3, 1 << 0
_BLOCKS = 1 << 21
"""Of 4096 bytes: the disk seems to have 8 GiB."""
_DETACH = 2
WRITES_LATE = "late"
"""Last word of the command line where writes stay with the kernel for a while."""


class Faults:
    """What goes wrong at the moment, and how often it did."""

    def __init__(self) -> None:
        self.room: int | None = None
        """Bytes by which files may still grow; None: as many as they like."""
        self.is_honest = True
        """`statvfs` tells of the room that is left."""
        self.failing: frozenset[str] = frozenset()
        """What fails with EIO: write, sync, name, read."""
        self.chance = 0.0
        self.ending = ""
        """Only files that were created under a name with this ending fail."""
        self.seen = 0

    def check(self, kind: str, source: random.Random) -> None:
        """Raise EIO where this is to fail."""
        if kind in self.failing and source.random() < self.chance:
            self.seen += 1
            raise Trouble(errno.EIO, f"injected in {kind}")

    def take(self, wanted: int) -> int:
        """Return how many bytes a file may grow by; raises ENOSPC when it is none."""
        if self.room is None or wanted <= 0:
            return wanted
        granted = min(wanted, self.room)
        if granted <= 0:
            self.seen += 1
            raise Trouble(errno.ENOSPC, "injected")
        self.room -= granted
        return granted


class _NoReply(Exception):
    """The request wants no answer."""


class Server:
    """Answers the kernel's requests, and the commands of the test."""

    def __init__(
        self, folder: str, log: TextIO, seed: int, ordering: Ordering, *, writes_late: bool = False
    ) -> None:
        """`writes_late` leaves what is written with the kernel, which brings it here when it
        likes, and tells of failures later."""
        self._flags = _FLAGS | (_WRITEBACK_CACHE if writes_late else 0)
        self._folder = folder
        self._log = log
        self._source = random.Random(seed)
        self._disk = Volatile(ordering)
        self._faults = Faults()
        self._descriptor = -1
        self._operations = 0
        self._syncs = 0
        self._cut_at: tuple[str, int] | None = None
        self._is_cut = False
        self._handlers: dict[int, Callable[[int, memoryview], bytes]] = {
            1: self._lookup,
            2: self._forget,
            3: self._getattr,
            4: self._setattr,
            8: self._mknod,
            9: self._mkdir,
            10: self._unlink,
            11: self._rmdir,
            12: self._rename,
            13: self._link,
            14: self._open,
            15: self._read,
            16: self._write,
            17: self._statfs,
            18: self._nothing,
            20: self._fsync,
            26: self._init,
            27: self._open,
            28: self._readdir,
            29: self._nothing,
            30: self._fsync,
            35: self._create,
            36: self._silent,
            38: self._nothing,
            42: self._batch_forget,
            45: self._rename2,
        }
        # What is not among them is answered by ENOSYS, and the kernel does without.

    # The two ends.

    def serve(self) -> None:
        """Serve until standard input ends."""
        self._mount()
        self._answer({"mounted": True})
        commands = sys.stdin.buffer.raw  # type: ignore[attr-defined]
        poll = select.poll()
        poll.register(commands, select.POLLIN)
        poll.register(self._descriptor, select.POLLIN)
        held = b""
        try:
            while True:
                for descriptor, _ in poll.poll():
                    if descriptor == self._descriptor:
                        self._serve_one()
                        if self._is_cut:
                            poll.unregister(descriptor)
                        continue
                    piece = commands.read(65536)
                    if not piece:
                        return
                    *lines, held = (held + piece).split(b"\n")
                    for line in lines:
                        self._answer(self._command(json.loads(line)))
                        if not self._is_cut:
                            poll.register(self._descriptor, select.POLLIN)
        finally:
            self._unmount()

    def _command(self, command: dict[str, Any]) -> dict[str, Any]:
        match command.pop("do"):
            case "cut":
                # At the end of so many further operations, or around so many further syncs.
                base = self._operations if command["at"] == "operation" else self._syncs
                self._cut_at = (command["at"], base + command["count"])
                return {"armed": True}
            case "cut now":
                was, self._is_cut = self._is_cut, True
                self._cut_at = None
                return {"cut": "before" if was else "now"}
            case "restore":
                return self._restore()
            case "fault":
                self._faults.room = command.get("room")
                self._faults.is_honest = command.get("honest", True)
                self._faults.failing = frozenset(command.get("failing", ()))
                self._faults.chance = command.get("chance", 0.0)
                self._faults.ending = command.get("ending", "")
                self._note(f"faults {command}")
                return {"seen": self._faults.seen}
            case "mark":
                self._note(f"mark {command['text']}")
                if command.get("fresh"):
                    self._log.seek(0)
                    self._log.truncate()
                self._disk.collect()
                self._log.flush()
                return {"operations": self._operations, "syncs": self._syncs}
            case other:
                return {"error": f"no command {other}"}

    def _restore(self) -> dict[str, Any]:
        """Come back after a power cut; whoever used the folder must be dead."""
        self._unmount()
        text = self._disk.cut(self._source)
        self._note(f"power cut: {text}")
        self._log.flush()
        self._is_cut, self._cut_at = False, None
        self._faults.room, self._faults.failing = None, frozenset()
        self._mount()
        return {"survived": text}

    def _answer(self, answer: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    def _note(self, text: str) -> None:
        self._log.write(f"{self._operations} {text}\n")

    def _mount(self) -> None:
        self._descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        options = f"fd={self._descriptor},rootmode=40000,user_id=0,group_id=0,allow_other"
        libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
        arguments = (b"dgate-campaign", self._folder.encode(), b"fuse", 0, options.encode())
        if libc.mount(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), self._folder)

    def _unmount(self) -> None:
        # Closed first: requests that are under way then fail instead of waiting.
        os.close(self._descriptor)
        libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
        libc.umount2(self._folder.encode(), _DETACH)

    # Requests.

    def _serve_one(self) -> None:
        try:
            request = memoryview(os.read(self._descriptor, _MOST_BYTES + 65536))
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                return
            raise
        _, code, unique, number, *_ = _IN.unpack_from(request)
        handler = self._handlers.get(code)
        error, answer = 0, b""
        try:
            if handler is None:
                raise Trouble(errno.ENOSYS, "")
            answer = handler(number, request[_IN.size :])
        except _NoReply:
            return
        except Trouble as exc:
            error = exc.errno or errno.EIO
        if self._is_cut:
            return
        try:
            os.write(self._descriptor, _OUT.pack(_OUT.size + len(answer), -error, unique) + answer)
        except OSError as exc:
            # The caller was interrupted and waits no more.
            if exc.errno != errno.ENOENT:
                raise

    def _counted(self, text: str) -> None:
        """Note an operation that changes something; the power may go at its end."""
        self._operations += 1
        self._log.write(f"{self._operations} {text}\n")
        if self._cut_at is not None and self._cut_at == ("operation", self._operations):
            self._power_off()

    def _power_off(self) -> None:
        self._is_cut = True
        self._cut_at = None
        self._note("the power goes")
        self._answer({"event": "cut"})

    def _init(self, number: int, body: memoryview) -> bytes:
        minor, readahead, offered = struct.unpack_from("<III", body, 4)
        flags = self._flags & offered
        head = struct.pack("<IIIIHHII", 7, min(minor, 38), readahead, flags, 16, 12, _MOST_BYTES, 1)
        return head + struct.pack("<HHI28x", _MAX_PAGES, 0, 0)

    def _lookup(self, number: int, body: memoryview) -> bytes:
        return self._entry(self._disk.lookup(number, _name(body)))

    def _entry(self, node: Node) -> bytes:
        node.lookups += 1
        return _ENTRY.pack(node.number, 0, _LONG, _LONG, 0, 0) + _attributes(node)

    def _forget(self, number: int, body: memoryview) -> bytes:
        self._disk.forget(number, struct.unpack_from("<Q", body)[0])
        raise _NoReply

    def _batch_forget(self, number: int, body: memoryview) -> bytes:
        (count,) = struct.unpack_from("<I", body)
        for place in range(count):
            self._disk.forget(*struct.unpack_from("<QQ", body, 8 + 16 * place))
        raise _NoReply

    def _silent(self, number: int, body: memoryview) -> bytes:
        raise _NoReply

    def _nothing(self, number: int, body: memoryview) -> bytes:
        return b""

    def _getattr(self, number: int, body: memoryview) -> bytes:
        return _ATTR_HEAD.pack(_LONG, 0, 0) + _attributes(self._disk.node(number))

    def _setattr(self, number: int, body: memoryview) -> bytes:
        valid, _, _, size, *_, mode = _SETATTR.unpack_from(body)[:13]
        node = self._disk.node(number)
        if valid & _SIZE_BIT and size != len(node.data):
            self._check("write", node)
            self._faults.take(size - len(node.data))
            self._disk.resize(node, size)
            self._counted(f"size {number} {size}")
        if valid & _MODE_BIT:
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        return _ATTR_HEAD.pack(_LONG, 0, 0) + _attributes(node)

    def _make(self, folder: int, name: str, mode: int) -> Node:
        self._faults.check("name", self._source)
        self._faults.take(1)
        node = self._disk.make(folder, name, mode)
        self._counted(f"make {node.number} {mode:o} as {folder}/{name}")
        return node

    def _mknod(self, number: int, body: memoryview) -> bytes:
        mode = struct.unpack_from("<I", body)[0]
        return self._entry(self._make(number, _name(body[16:]), mode))

    def _mkdir(self, number: int, body: memoryview) -> bytes:
        mode = struct.unpack_from("<I", body)[0]
        return self._entry(self._make(number, _name(body[8:]), stat.S_IFDIR | mode))

    def _create(self, number: int, body: memoryview) -> bytes:
        mode = struct.unpack_from("<II", body)[1]
        node = self._make(number, _name(body[16:]), mode)
        return self._entry(node) + struct.pack("<QII", 0, _KEEP_CACHE, 0)

    def _unlink(self, number: int, body: memoryview, *, is_folder: bool = False) -> bytes:
        name = _name(body)
        self._faults.check("name", self._source)
        self._disk.unlink(number, name, is_folder=is_folder)
        self._counted(f"unlink {number}/{name}")
        return b""

    def _rmdir(self, number: int, body: memoryview) -> bytes:
        return self._unlink(number, body, is_folder=True)

    def _rename(self, number: int, body: memoryview) -> bytes:
        return self._move(number, struct.unpack_from("<Q", body)[0], 0, body[8:])

    def _rename2(self, number: int, body: memoryview) -> bytes:
        folder, flags = struct.unpack_from("<QI", body)
        return self._move(number, folder, flags, body[16:])

    def _move(self, folder: int, new_folder: int, flags: int, names: memoryview) -> bytes:
        name, new_name, _ = bytes(names).decode("utf-8", "surrogateescape").split("\0", 2)
        self._faults.check("name", self._source)
        self._disk.rename(folder, name, new_folder, new_name, flags)
        self._counted(f"rename {folder}/{name} to {new_folder}/{new_name}")
        return b""

    def _link(self, number: int, body: memoryview) -> bytes:
        (old,) = struct.unpack_from("<Q", body)
        name = _name(body[8:])
        self._faults.check("name", self._source)
        self._faults.take(1)
        node = self._disk.link(number, name, old)
        self._counted(f"link {old} as {number}/{name}")
        return self._entry(node)

    def _open(self, number: int, body: memoryview) -> bytes:
        self._disk.node(number)
        return struct.pack("<QII", 0, _KEEP_CACHE, 0)

    def _read(self, number: int, body: memoryview) -> bytes:
        _, offset, size, _ = _READ.unpack_from(body)
        node = self._disk.node(number)
        self._check("read", node)
        return bytes(node.data[offset : offset + size])

    def _write(self, number: int, body: memoryview) -> bytes:
        _, offset, size, *_ = _WRITE.unpack_from(body)
        node = self._disk.node(number)
        content = bytes(body[_WRITE.size : _WRITE.size + size])
        self._check("write", node)
        growth = offset + size - max(len(node.data), offset)
        if growth > 0 and not node.is_map:
            granted = self._faults.take(growth)
            if granted < growth:
                content = content[: size - (growth - granted)]
        self._disk.write(node, offset, content)
        self._counted(f"write {number} {offset} {len(content)} {zlib.crc32(content):08x}")
        return struct.pack("<II", len(content), 0)

    def _fsync(self, number: int, body: memoryview) -> bytes:
        flags = _FSYNC.unpack_from(body)[1]
        node = self._disk.node(number)
        self._syncs += 1
        is_last = self._cut_at == ("sync", self._syncs)
        if is_last and self._source.random() < 0.5:
            self._power_off()
            return b""
        try:
            self._check("sync", node)
        except Trouble:
            self._disk.lose(node)
            self._counted(f"{'fdatasync' if flags & 1 else 'fsync'} {number} fails")
            raise
        self._disk.sync(node)
        self._counted(f"{'fdatasync' if flags & 1 else 'fsync'} {number}")
        if is_last:
            self._power_off()
        return b""

    def _statfs(self, number: int, body: memoryview) -> bytes:
        free = _BLOCKS // 2
        if self._faults.room is not None and self._faults.is_honest:
            free = max(0, self._faults.room) // 4096
        return _STATFS.pack(_BLOCKS, free, free, 1 << 20, 1 << 19, 4096, 255, 4096, 0)

    def _readdir(self, number: int, body: memoryview) -> bytes:
        _, offset, size, _ = _READ.unpack_from(body)
        folder = self._disk.node(number)
        names = [(".", number), ("..", ROOT), *folder.entries.items()]
        answer = bytearray()
        for place, (name, each) in enumerate(names[offset:], offset + 1):
            encoded = name.encode("utf-8", "surrogateescape")
            kind = stat.S_IFMT(self._disk.nodes[each].mode) >> 12
            record = struct.pack("<QQII", each, place, len(encoded), kind) + encoded
            record += bytes(-len(record) % 8)
            if len(answer) + len(record) > size:
                break
            answer += record
        return bytes(answer)

    def _check(self, kind: str, node: Node) -> None:
        # An error in a map would end the process by a signal, and it is no data of a disk.
        if not node.is_map and node.name.endswith(self._faults.ending):
            self._faults.check(kind, self._source)


def _name(body: memoryview) -> str:
    return bytes(body).split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _attributes(node: Node) -> bytes:
    seconds, rest = divmod(int(node.changed * 1e9), 1_000_000_000)
    size = len(node.data)
    return _ATTR.pack(
        node.number, size, -(-size // 512), seconds, seconds, seconds, rest, rest, rest,
        node.mode, max(node.links, 0), 0, 0, 0, 4096, 0,
    )  # fmt: skip


def main() -> None:
    """Serve what the command line asks for."""
    folder, log, seed, ordering, *more = sys.argv[1:]
    with Path(log).open("w", encoding="utf-8", errors="surrogateescape") as file:
        late = more == [WRITES_LATE]
        Server(folder, file, int(seed), Ordering(ordering), writes_late=late).serve()


if __name__ == "__main__":
    main()
