"""The digest of the Conquest DICOM server: MD5 with the first four steps in another order.

Replaced UIDs of stages that begin with `#` are made of it, so it has to stay as it is (spec
anonymization.md 3). Not for anything that needs a sound digest. Pure functions.
"""

from __future__ import annotations

import math
import struct
from typing import Final

_MASK: Final = 0xFFFFFFFF
_SHIFTS: Final = ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21))
_CONSTANTS: Final = tuple(int(abs(math.sin(step + 1)) * 2**32) for step in range(64))
_ORDER: Final = (1, 2, 3, 0, *range(4, 64))
"""RFC 1321 begins with step 0."""
_BEGIN: Final = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)


def old_digest(message: bytes) -> bytes:
    """Return the 16 bytes of the digest."""
    data = message + b"\x80" + b"\0" * ((55 - len(message)) % 64)
    data += struct.pack("<Q", len(message) * 8 & 0xFFFFFFFFFFFFFFFF)
    state: tuple[int, ...] = _BEGIN
    for at in range(0, len(data), 64):
        state = _block(state, struct.unpack_from("<16I", data, at))
    return struct.pack("<4I", *state)


def _block(state: tuple[int, ...], words: tuple[int, ...]) -> tuple[int, ...]:
    registers = list(state)
    for step in _ORDER:
        first, second, third, fourth = ((place - step) % 4 for place in range(4))
        b, c, d = registers[second], registers[third], registers[fourth]
        mixed, word = _mixed(step, b, c, d)
        total = (registers[first] + mixed + _CONSTANTS[step] + words[word]) & _MASK
        shift = _SHIFTS[step // 16][step % 4]
        registers[first] = (b + (total << shift | total >> 32 - shift)) & _MASK
    return tuple((old + new) & _MASK for old, new in zip(state, registers, strict=True))


def _mixed(step: int, b: int, c: int, d: int) -> tuple[int, int]:
    """Return what a step adds of three registers, and which word of the message."""
    match step // 16:
        case 0:
            return b & c | ~b & d & _MASK, step
        case 1:
            return d & b | ~d & c & _MASK, (5 * step + 1) % 16
        case 2:
            return b ^ c ^ d, (3 * step + 5) % 16
        case _:
            return c ^ (b | ~d & _MASK), 7 * step % 16
