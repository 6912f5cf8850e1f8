"""Objects larger than memory should ever hold, in and out."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from dgate.dicom.payload import Payload, SpillFile
from dgate.dicom.uids import EXPLICIT_LE
from dgate.net import (
    STORAGE,
    Association,
    Command,
    CommandField,
    ContextProposal,
    Message,
    PresentationContext,
    Router,
    connect,
    store,
)
from tests.net.kit import CT, FAST, serving

pytestmark = pytest.mark.integration

PIECE = bytes(range(256)) * 4096
PIECES = 200


class Counting(Payload):
    """Takes what it is given without keeping it."""

    __slots__ = ("largest",)

    def __init__(self) -> None:
        super().__init__(self._refuse)
        self.largest = 0

    def append(self, fragment: memoryview | bytes) -> None:
        """Count."""
        self.size += len(fragment)
        self.largest = max(self.largest, len(fragment))

    def _refuse(self) -> SpillFile:
        raise AssertionError("nothing is kept")


def test_memory_does_not_grow_with_the_size_of_an_object() -> None:
    seen: list[tuple[int, int]] = []

    def factory(
        association: Association, context: PresentationContext, command: Command
    ) -> Payload:
        return Counting()

    def note(association: Association, message: Message) -> None:
        assert isinstance(message.payload, Counting)
        seen.append((message.payload.size, message.payload.largest))
        association.respond(message)

    def chunks() -> Iterator[memoryview]:
        buffer = bytearray(PIECE)
        for _ in range(PIECES):
            yield memoryview(buffer)

    with serving() as server:
        server.router = Router({(CommandField.C_STORE_RQ, STORAGE): note}, factory)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with connect(
            *("127.0.0.1", server.port, "US", "THEM"),
            [ContextProposal(CT, (EXPLICIT_LE,))],
            timeouts=FAST,
        ) as association:
            response = store(association, 1, CT, "1.2.3", chunks())
        growth_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert response.status == 0
    ((size, largest),) = seen
    assert size == PIECES * len(PIECE)
    assert largest <= 1 << 18
    assert growth_kb < 16_000
