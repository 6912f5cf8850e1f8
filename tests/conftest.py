"""What every test shares: property tests that give the same result on every run and machine."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.servers import MariaServer, PostgresServer

# A slow machine must not fail a property by its clock; a failure must be there again next time.
settings.register_profile(
    "dgate", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("dgate")


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Let a worker tell of a failure whose text UTF-8 cannot hold, instead of dying of it."""
    return _sendable((yield))


def _sendable(value: Any) -> Any:
    """Return a report's content with what cannot be encoded shown by its number."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_sendable(key): _sendable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_sendable, value))
    return value


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
