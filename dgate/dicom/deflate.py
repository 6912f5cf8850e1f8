"""The deflated transfer syntaxes (PS3.5 A.5): reading just enough, and writing with changes.

Never inflates more than it is asked for, so that a small object cannot fill the memory. Pure
functions.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from dgate.dicom.scan import Buffer, Encoding, Layout, scan
from dgate.errors import NotDicom

LIMIT_BYTES = 64 << 20
"""The longest header that is inflated; pixel data behind it does not count."""
_STEP = 256 << 10
"""The most that is inflated at once."""
_FEED = 64 << 10
"""What is fed at once: of a mapped file, only what is needed is ever read."""
_FIRST_LOOK = 32 << 10
_RAW = -15


class TooLong(NotDicom):
    """A data set is longer than it may be when it is inflated."""


def inflate_header(buffer: Buffer, encoding: Encoding) -> tuple[bytes, Layout, bool]:
    """Inflate until the header is complete: the bytes, their layout, whether they are all."""
    inflated = bytearray()
    due = _FIRST_LOOK
    for chunk in inflated_chunks(buffer):
        inflated += chunk
        if len(inflated) < due:
            continue
        # Each attempt starts with twice as much, so that scanning again costs a constant factor
        # only.
        due = min(2 * len(inflated), LIMIT_BYTES)
        try:
            layout = scan(inflated, encoding)
        except NotDicom:
            if len(inflated) >= LIMIT_BYTES:
                raise
            continue
        if layout.stop < len(inflated):
            return bytes(inflated), layout, False
        if len(inflated) >= LIMIT_BYTES:
            raise NotDicom(f"the inflated header exceeds {LIMIT_BYTES >> 20} MiB")
    return bytes(inflated), scan(inflated, encoding), True


def inflate_all(buffer: Buffer, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """Inflate a whole data set; raise TooLong when it is longer than the limit, NotDicom when it is
    damaged."""
    inflated = bytearray()
    for chunk in inflated_chunks(buffer):
        inflated += chunk
        if len(inflated) > limit_bytes:
            raise TooLong(f"the inflated data set exceeds {limit_bytes >> 20} MiB")
    return bytes(inflated)


def inflated_chunks(buffer: Buffer) -> Iterator[bytes]:
    """Yield the inflated data set in chunks of up to 256 KiB; a stream that is cut off just ends.

    Reads `buffer` only as far as the chunks are asked for.
    """
    stream = zlib.decompressobj(_RAW)
    try:
        with memoryview(buffer) as view:
            for start in range(0, len(view), _FEED):
                # What is not consumed is copied at each step: of this slice, not of all the rest.
                pending: Buffer = view[start : start + _FEED]
                while pending and not stream.eof:
                    chunk = stream.decompress(pending, _STEP)
                    pending = stream.unconsumed_tail
                    if chunk:
                        yield chunk
                if stream.eof:
                    return
        # All is consumed: no more than the last few codes can still be in there.
        if rest := stream.flush():
            yield rest
    except zlib.error as exc:
        raise NotDicom("the deflated data set is damaged") from exc


def deflate(chunks: Iterable[bytes]) -> bytes:
    """Return the deflated form of a data set, of even length."""
    stream = zlib.compressobj(wbits=_RAW)
    out = b"".join([*(stream.compress(chunk) for chunk in chunks), stream.flush()])
    return out + b"\0" * (len(out) % 2)


def splice(chunks: Iterable[bytes], cuts: Iterable[tuple[int, int, bytes]]) -> Iterator[bytes]:
    """Yield the chunks with each range of `cuts` (start, end, replacement; ascending) replaced."""
    remaining = iter(cuts)
    cut = next(remaining, None)
    offset = 0
    dropped_to = 0
    for chunk in chunks:
        end = offset + len(chunk)
        pos = max(offset, dropped_to)
        while cut is not None and cut[0] < end:
            if cut[0] > pos:
                yield chunk[pos - offset : cut[0] - offset]
            yield cut[2]
            pos = dropped_to = max(dropped_to, cut[1])
            cut = next(remaining, None)
        if pos < end:
            yield chunk[pos - offset :]
        offset = end
    while cut is not None:
        yield cut[2]
        cut = next(remaining, None)
