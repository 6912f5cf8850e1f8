"""RLE Lossless: frames to byte segments and back (PS3.5 annex G).

Works without numpy: planes are cut out and put together by slices, runs found by one regular
expression, so that the time goes into runs, not into bytes. Not for items and offset tables
(`dgate.dicom.encapsulation`). Pure functions, safe between threads.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Sequence

from dgate.dicom.scan import Buffer
from dgate.errors import NotDicom

MOST_SEGMENTS = 15
_HEADER = struct.Struct("<16L")
_RUN = re.compile(rb"\0\0+")
"""Two bytes or more that are like those before them, so three equal ones: two are not shorter as a
run."""
_LONGEST = 128
"""Bytes of one run, and of one stretch of literals."""
_LITERAL_HEADS = [bytes((max(0, count - 1),)) for count in range(_LONGEST + 1)]
_HEADS = [bytes((257 - count & 0xFF,)) for count in range(_LONGEST + 1)]


def encode_frame(
    frame: Buffer, row_bytes: int, samples: int, sample_bytes: int, *, planar: bool = False
) -> bytes:
    """Return a native frame as RLE: header, then a segment for each byte of each sample.

    Args:
        frame: little endian, whole rows.
        row_bytes: of one segment, that is one byte for each column; rows are encoded separately.
        samples: per pixel.
        sample_bytes: bytes per sample.
        planar: samples lie plane by plane (Planar Configuration 1).

    Raises:
        NotDicom: there would be more segments than the format has.
    """
    if samples * sample_bytes > MOST_SEGMENTS:
        raise NotDicom(f"RLE has at most {MOST_SEGMENTS} segments per frame")
    planes = _planes(bytes(frame), samples, sample_bytes, planar=planar)
    segments = [pack(plane, row_bytes) for plane in planes]
    offsets = [0] * 16
    offsets[0] = len(segments)
    position = _HEADER.size
    for number, segment in enumerate(segments, 1):
        offsets[number] = position
        position += len(segment)
    return b"".join((_HEADER.pack(*offsets), *segments))


def decode_frame(
    coded: Buffer, pixels: int, samples: int, sample_bytes: int, *, planar: bool = False
) -> bytes:
    """Return the native frame, little endian, of `pixels` pixels.

    Args:
        planar: how the samples are to lie (Planar Configuration 1).

    Raises:
        NotDicom: it is damaged, or has other samples than expected.
    """
    data = bytes(coded)
    if len(data) < _HEADER.size:
        raise NotDicom("the RLE header is cut off")
    count, *offsets = _HEADER.unpack_from(data)
    if count != samples * sample_bytes:
        raise NotDicom(f"RLE has {count} segments where {samples * sample_bytes} are expected")
    edges = [*offsets[:count], len(data)]
    if edges[0] < _HEADER.size or any(a > b for a, b in itertools.pairwise(edges)):
        raise NotDicom("the RLE header has impossible offsets")
    planes = [unpack(data[edges[n] : edges[n + 1]], pixels) for n in range(count)]
    return _joined(planes, pixels, samples, sample_bytes, planar=planar)


def pack(plane: bytes, row_bytes: int) -> bytes:
    """Return a segment: each row by itself, then padding to even length."""
    # A zero byte wherever a byte is like the one before it: found at the speed of C.
    value = int.from_bytes(plane, "big")
    alike = (value ^ value >> 8).to_bytes(len(plane), "big")
    out: list[bytes] = []
    # Rows of background are the same over and over.
    known: dict[bytes, bytes] = {}
    for start in range(0, len(plane), row_bytes):
        stop = min(start + row_bytes, len(plane))
        row = plane[start:stop]
        packed = known.get(row)
        if packed is None:
            packed = known[row] = _pack_row(plane, alike, start, stop)
        out.append(packed)
    segment = b"".join(out)
    return segment + b"\0" if len(segment) % 2 else segment


def _pack_row(plane: bytes, alike: bytes, at: int, stop: int) -> bytes:
    out: list[bytes] = []
    add = out.append
    heads, literal_heads = _HEADS, _LITERAL_HEADS
    for found in _RUN.finditer(alike, at + 1, stop):
        start, end = found.span()
        start -= 1
        literals = start - at
        if literals:
            if literals <= _LONGEST:
                add(literal_heads[literals])
                add(plane[at:start])
            else:
                _literals(out, plane, at, start)
        length = end - start
        if length <= _LONGEST:
            add(heads[length])
            add(plane[start : start + 1])
        else:
            for part in _lengths(length):
                out += (heads[part], plane[start : start + 1])
        at = end
    if at < stop:
        _literals(out, plane, at, stop)
    return b"".join(out)


def _lengths(length: int) -> Sequence[int]:
    """Return the parts of a run; none of them is a single byte, which would be no run."""
    whole, rest = divmod(length, _LONGEST)
    if rest == 0:
        return (_LONGEST,) * whole
    if rest == 1:
        return (*(_LONGEST,) * (whole - 1), _LONGEST - 1, 2)
    return (*(_LONGEST,) * whole, rest)


def _literals(out: list[bytes], plane: bytes, at: int, end: int) -> None:
    while at < end:
        stop = min(at + _LONGEST, end)
        out += (_LITERAL_HEADS[stop - at], plane[at:stop])
        at = stop


def unpack(segment: bytes, size: int) -> bytes:
    """Return the first `size` bytes that a segment stands for; raise NotDicom for fewer."""
    out: list[bytes] = []
    add = out.append
    at = found = 0
    end = len(segment)
    while found < size and at < end:
        head = segment[at]
        if head < 128:
            following = at + head + 2
            add(segment[at + 1 : following])
            found += head + 1
            at = following
        elif head > 128:
            add(segment[at + 1 : at + 2] * (257 - head))
            found += 257 - head
            at += 2
        else:
            at += 1
    plane = b"".join(out)
    if len(plane) < size:
        raise NotDicom(f"an RLE segment has {len(plane)} bytes where {size} are expected")
    return plane if len(plane) == size else plane[:size]


def _planes(frame: bytes, samples: int, sample_bytes: int, *, planar: bool) -> list[bytes]:
    """Return the bytes of each sample, most significant first."""
    if planar:
        size = len(frame) // samples
        parts = [frame[number * size : (number + 1) * size] for number in range(samples)]
        return [
            part[byte::sample_bytes] for part in parts for byte in range(sample_bytes - 1, -1, -1)
        ]
    step = samples * sample_bytes
    return [
        frame[sample * sample_bytes + byte :: step]
        for sample in range(samples)
        for byte in range(sample_bytes - 1, -1, -1)
    ]


def _joined(
    planes: Sequence[bytes], pixels: int, samples: int, sample_bytes: int, *, planar: bool
) -> bytes:
    if len(planes) == 1:
        return planes[0]
    frame = bytearray(pixels * samples * sample_bytes)
    step = sample_bytes if planar else samples * sample_bytes
    sample_step = pixels * sample_bytes if planar else sample_bytes
    for number, plane in enumerate(planes):
        sample, byte = divmod(number, sample_bytes)
        start = sample * sample_step + sample_bytes - 1 - byte
        frame[start : start + pixels * step : step] = plane
    return bytes(frame)
