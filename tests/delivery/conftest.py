"""Fixtures of the delivery tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.delivery.kit import Books, open_books


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    """Return an empty ledger on an SQLite file."""
    opened = open_books(tmp_path)
    yield opened
    opened.archive.close()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Books]:
    """Return the same, beside a `books` that is on each engine in turn."""
    opened = open_books(tmp_path)
    yield opened
    opened.archive.close()
