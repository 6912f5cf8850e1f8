"""Where a database server is reached."""

from __future__ import annotations

import pytest

from dgate.config.sqlhost import address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("localhost", None)),
        (" db ", ("db", None)),
        ("db:5433", ("db", 5433)),
        (":5433", ("localhost", 5433)),
        ("[::1]:5433", ("::1", 5433)),
        ("::1", ("::1", None)),
        ("/var/run/postgresql", ("/var/run/postgresql", None)),
        ("/var/run/postgresql:5433", ("/var/run/postgresql", 5433)),
    ],
)
def test_host_and_port(text: str, expected: tuple[str, int | None]) -> None:
    assert address(text) == expected


@pytest.mark.parametrize("text", ["db:http", "db:0", "db:65536", "db:-1"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a port number"):
        address(text)
