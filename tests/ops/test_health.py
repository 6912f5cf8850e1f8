"""When the server is well, and what is said when it is not."""

from __future__ import annotations

from typing import Any

import pytest

from dgate.errors import DatabaseAway
from dgate.ops.health import report

STUCK = {"destination": "PACS", "state": "stuck", "count": 3}
WAITING = {"destination": "PACS", "state": "waiting", "count": 7}


def away() -> Any:
    raise DatabaseAway("it is away")


def health(
    *, queue: Any = None, counts: Any = None, free: tuple[int, ...] = (500,), full: int | None = 30
) -> dict[str, Any]:
    answer = report(
        counts=counts or (lambda: {"instances": 1}),
        queue=lambda: queue or [],
        devices=[{"name": f"MAG{n}", "free_mb": mb} for n, mb in enumerate(free)],
        full_mb=full,
    )
    return dict(answer["health"])


def test_all_is_well() -> None:
    assert health(queue=[WAITING]) == {"state": "ok", "problems": []}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"counts": away}, "the database does not answer: it is away"),
        ({"queue": [WAITING, STUCK]}, "3 deliveries wait for a person"),
        ({"queue": [STUCK | {"count": 1}]}, "1 delivery waits for a person"),
        ({"free": (30, 2)}, "no storage device has room for new objects: MAG0, MAG1"),
    ],
    ids=["database", "stuck", "one stuck", "full"],
)
def test_something_is_wrong(changes: dict[str, Any], text: str) -> None:
    found = health(**changes)

    assert found["state"] == "degraded"
    assert text in found["problems"][0]


@pytest.mark.parametrize(
    ("free", "full"), [((2, 500), 30), ((2,), None)], ids=["another has room", "not looked at"]
)
def test_a_full_device_alone_is_no_trouble(free: tuple[int, ...], full: int | None) -> None:
    assert health(free=free, full=full)["state"] == "ok"
