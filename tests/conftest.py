"""What every test shares: property tests that give the same result on every run and machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.servers import MariaServer, PostgresServer

# A slow machine must not fail a property by its clock; a failure must be there again next time.
settings.register_profile(
    "dgate", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("dgate")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Return a running PostgreSQL; every test makes databases of its own in it."""
    from tests.servers import PostgresServer

    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaServer]:
    """Return a running MariaDB; every test makes databases of its own in it."""
    from tests.servers import MariaServer

    server = MariaServer()
    yield server
    server.close()
