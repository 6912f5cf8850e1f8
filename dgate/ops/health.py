"""Is the server well? What `dgate status` says about it, in words and as an exit code.

Not for how a part is asked: it is given as functions. Pure but for what they do; any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dgate.errors import StoreError

OK = "ok"
DEGRADED = "degraded"
STUCK = "stuck"
"""State of deliveries that wait for a person."""


def report(
    *,
    counts: Callable[[], dict[str, int]],
    queue: Callable[[], list[dict[str, Any]]],
    devices: Sequence[dict[str, Any]],
    full_mb: int | None,
    beside: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the state of archive, queue and devices, and the verdict with its reasons.

    `counts` and `queue` raise StoreError while the database is away. `devices` have `name` and
    `free_mb`; one with no more than `full_mb` takes no new files, nor does one whose `state` is
    another than ok; None = that is not looked at. `beside` is what else is wrong.
    """
    problems: list[str] = []
    answer: dict[str, Any] = {"archive": {}, "devices": list(devices), "queue": []}
    try:
        answer["archive"] = counts()
        answer["queue"] = queue()
    except StoreError as exc:
        problems.append(f"the database does not answer: {exc.what}")
    stuck = sum(each["count"] for each in answer["queue"] if each["state"] == STUCK)
    if stuck:
        noun = "delivery waits" if stuck == 1 else "deliveries wait"
        problems.append(f"{stuck} {noun} for a person: dgate queue list --state {STUCK}")
    if full_mb is not None and devices and all(_is_full(each, full_mb) for each in devices):
        names = ", ".join(each["name"] for each in devices)
        problems.append(f"no storage device has room for new objects: {names}")
    problems += beside
    answer["health"] = {"state": DEGRADED if problems else OK, "problems": problems}
    return answer


def _is_full(device: dict[str, Any], full_mb: int) -> bool:
    return device.get("state", OK) not in (OK, "failing") or bool(device["free_mb"] <= full_mb)
