"""Unique identifiers: transfer syntaxes as one declarative table, checking, and making new ones.

Not for SOP classes (`dgatesop.lst` decides those, `dgate.config.soplist`). Pure values;
`UidGenerator` is thread-safe.
"""

from __future__ import annotations

import itertools
import re
import secrets
from dataclasses import dataclass

from dgate.clock import Clock

MAX_LENGTH = 64

_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")

VERIFICATION = "1.2.840.10008.1.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model SOP Class (PS3.4 J.3)."""
STORAGE_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
"""Its one well-known SOP Instance (PS3.4 J.3.5)."""
STANDARD_PREFIX = "1.2.840.10008."

IMPLEMENTATION_CLASS = "2.25.73444560777346202552147626868025686947"
IMPLEMENTATION_VERSION = "DGATE_010"

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_SPECTRAL = "1.2.840.10008.1.2.4.53"
JPEG_PROGRESSIVE = "1.2.840.10008.1.2.4.55"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR_LOSSLESS = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"


@dataclass(frozen=True, slots=True)
class TransferSyntax:
    """How a data set is encoded (PS3.5 section 10 and annex A)."""

    uid: str
    name: str
    explicit: bool = True
    little_endian: bool = True
    deflated: bool = False
    encapsulated: bool = False


def _native(uid: str, name: str, **encoding: bool) -> TransferSyntax:
    return TransferSyntax(uid, name, **encoding)


def _encapsulated(suffix: str, name: str) -> TransferSyntax:
    return TransferSyntax(f"{IMPLICIT_LE}.{suffix}", name, encapsulated=True)


_SYNTAXES = {
    syntax.uid: syntax
    for syntax in (
        _native(IMPLICIT_LE, "Implicit VR Little Endian", explicit=False),
        _native(EXPLICIT_LE, "Explicit VR Little Endian"),
        _native(DEFLATED, "Deflated Explicit VR Little Endian", deflated=True),
        _native(EXPLICIT_BE, "Explicit VR Big Endian", little_endian=False),
        _native("1.2.840.10008.1.20", "Papyrus 3 Implicit VR Little Endian", explicit=False),
        _native("1.2.840.113619.5.2", "Implicit VR Little Endian with GE pixels", explicit=False),
        _native(f"{IMPLICIT_LE}.4.94", "JPIP Referenced"),
        _native(f"{IMPLICIT_LE}.4.95", "JPIP Referenced Deflate", deflated=True),
        _native(f"{IMPLICIT_LE}.4.204", "JPIP HTJ2K Referenced"),
        _native(f"{IMPLICIT_LE}.4.205", "JPIP HTJ2K Referenced Deflate", deflated=True),
        _native(f"{IMPLICIT_LE}.7.1", "SMPTE ST 2110-20 Uncompressed Progressive Active Video"),
        _native(f"{IMPLICIT_LE}.7.2", "SMPTE ST 2110-20 Uncompressed Interlaced Active Video"),
        _native(f"{IMPLICIT_LE}.7.3", "SMPTE ST 2110-30 PCM Digital Audio"),
        _encapsulated("1.98", "Encapsulated Uncompressed Explicit VR Little Endian"),
        _encapsulated("4.50", "JPEG Baseline (Process 1)"),
        _encapsulated("4.51", "JPEG Extended (Process 2 and 4)"),
        _encapsulated("4.53", "JPEG Spectral Selection (Process 6 and 8)"),
        _encapsulated("4.55", "JPEG Full Progression (Process 10 and 12)"),
        _encapsulated("4.57", "JPEG Lossless (Process 14)"),
        _encapsulated("4.70", "JPEG Lossless SV1 (Process 14)"),
        _encapsulated("4.80", "JPEG-LS Lossless"),
        _encapsulated("4.81", "JPEG-LS Near-Lossless"),
        _encapsulated("4.90", "JPEG 2000 Lossless"),
        _encapsulated("4.91", "JPEG 2000"),
        _encapsulated("4.92", "JPEG 2000 Part 2 Multi-component Lossless"),
        _encapsulated("4.93", "JPEG 2000 Part 2 Multi-component"),
        _encapsulated("4.100", "MPEG2 Main Profile / Main Level"),
        _encapsulated("4.101", "MPEG2 Main Profile / High Level"),
        _encapsulated("4.102", "MPEG-4 AVC/H.264 High Profile / Level 4.1"),
        _encapsulated("4.103", "MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1"),
        _encapsulated("4.104", "MPEG-4 AVC/H.264 High Profile / Level 4.2 for 2D Video"),
        _encapsulated("4.105", "MPEG-4 AVC/H.264 High Profile / Level 4.2 for 3D Video"),
        _encapsulated("4.106", "MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2"),
        _encapsulated("4.100.1", "Fragmentable MPEG2 Main Profile / Main Level"),
        _encapsulated("4.101.1", "Fragmentable MPEG2 Main Profile / High Level"),
        _encapsulated("4.102.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1"),
        _encapsulated("4.103.1", "Fragmentable MPEG-4 AVC/H.264 BD-compatible / Level 4.1"),
        _encapsulated("4.104.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 2D"),
        _encapsulated("4.105.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 3D"),
        _encapsulated("4.106.1", "Fragmentable MPEG-4 AVC/H.264 Stereo / Level 4.2"),
        _encapsulated("4.107", "HEVC/H.265 Main Profile / Level 5.1"),
        _encapsulated("4.108", "HEVC/H.265 Main 10 Profile / Level 5.1"),
        _encapsulated("4.110", "JPEG XL Lossless"),
        _encapsulated("4.111", "JPEG XL JPEG Recompression"),
        _encapsulated("4.112", "JPEG XL"),
        _encapsulated("4.201", "High-Throughput JPEG 2000 Lossless"),
        _encapsulated("4.202", "High-Throughput JPEG 2000 RPCL Lossless"),
        _encapsulated("4.203", "High-Throughput JPEG 2000"),
        _encapsulated("5", "RLE Lossless"),
        _encapsulated("8.1", "Deflated Image Frame Compression"),
    )
}


def transfer_syntax(uid: str) -> TransferSyntax:
    """Return what is known about a transfer syntax.

    An unknown one is taken as explicit VR little endian with encapsulated pixel data, which is what
    PS3.5 A.4 asks of every compressed syntax, private ones included.
    """
    known = _SYNTAXES.get(uid)
    return known or TransferSyntax(uid, f"unknown transfer syntax {uid}", encapsulated=True)


def is_uid(text: str) -> bool:
    """Tell whether the text is a UID: digits and single dots, up to 64 characters (PS3.5 9.1).

    Leading zeros in a component are let through: modalities in the field write them, and their
    images must not be lost.
    """
    return len(text) <= MAX_LENGTH and _UID.fullmatch(text) is not None


class UidGenerator:
    """Makes new UIDs of the form `prefix.6.<unix time>.<counter>` (converters.md, token %g).

    Those that replace others have another `branch`, 7 (anonymization.md section 1).

    The counter starts at a random number of up to 48 bits, so that neither a restart nor a second
    process with the same prefix repeats a UID within the same second. Thread-safe.
    """

    def __init__(self, prefix: str, clock: Clock, branch: int = 6) -> None:
        """Begin counting; raise ValueError when `prefix` is no UID or leaves no room."""
        prefix = prefix.rstrip(".")
        room = MAX_LENGTH - len(f"{prefix}.{branch}.{int(clock.now())}.")
        if not is_uid(prefix) or room < 8:
            raise ValueError(f"UID prefix {prefix!r} is not a UID of at most 42 characters")
        self._prefix = f"{prefix}.{branch}"
        self._clock = clock
        # Half of the room's numbers stay free above the start, so that counting on never gets
        # longer than the room.
        start = secrets.randbelow(min(1 << 48, 10**room // 2))
        self._counter = itertools.count(start + 1)

    def new(self) -> str:
        """Return a UID that nobody has used before."""
        # next() on itertools.count is one step under the interpreter lock: two threads never get
        # the same number.
        return f"{self._prefix}.{int(self._clock.now())}.{next(self._counter)}"
