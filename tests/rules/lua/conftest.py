"""What the tests of the libraries share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rules.lua.library_kit import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A Lua state with a small CT image as `Data`."""
    made = Bench()
    yield made
    made.close()
