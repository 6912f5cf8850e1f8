"""Fixtures of the campaign's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.processes import Ports

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder: all of them start processes, or mount a disk."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.acceptance)


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """Return a farm for one test."""
    farm = Farm(tmp_path, Ports())
    yield farm
    farm.close()
