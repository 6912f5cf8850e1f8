"""Fixtures of the network tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.net.kit import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that accepts everything and serves C-ECHO and C-STORE."""
    with serving() as running:
        yield running
