"""What the tests of storage commitment share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.delivery.commitment.ledger import Commitments
from tests.archive.database_kit import ENGINES
from tests.delivery.kit import Books, open_on


@pytest.fixture(params=ENGINES)
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    """Return an empty ledger, on each engine in turn."""
    opened = open_on(request, tmp_path)
    yield opened
    opened.archive.close()


@pytest.fixture
def commitments(books: Books) -> Commitments:
    """Return what is asked."""
    archive = books.archive
    return Commitments(
        archive.database, archive.writer, books.clock, books.released.append, lambda: None
    )
