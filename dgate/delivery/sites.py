"""What operators see of destinations: breakers, windows and refusals, over the control socket.

Both ends of the wire. Not for what is owed (`dgate.delivery.commands`). Any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from dgate.delivery.refusals import Refusal, Refusals
from dgate.ops.control import Answer, Command


@dataclass(frozen=True, slots=True)
class SiteStatus:
    """What a destination is doing at the moment."""

    destination: str
    state: str
    """Of its breaker: `closed` (it is worked on), `open` (it pauses after a failure), `probing`
    (one association tries, the others wait for what it finds)."""
    workers: int
    """How many associations work on it."""
    failures: int
    """Failures of the destination in a row."""
    pause_s: float
    """How long until it is tried again; 0 = now."""
    window_s: float
    """How long what is due waits for the hours in which it is sent; 0 = it need not."""
    last_error: str

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name, for JSON."""
        return asdict(self)

    @property
    def remark(self) -> str:
        """Say what keeps the destination from being worked on; empty when nothing does."""
        if self.state == "probing":
            return "one association tries, the others wait"
        if self.state == "open":
            return f"pauses, next try in {self.pause_s:.0f} s"
        if self.window_s > 0:
            return f"outside of its hours, which begin in {_span(self.window_s)}"
        return ""


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(1, minutes)} min"


def site_commands(sites: Callable[[], list[SiteStatus]], refusals: Refusals) -> dict[str, Command]:
    """Return the commands for the control server."""

    def list_sites(arguments: Answer) -> Answer:
        return {"sites": [site.as_dict() for site in sites()]}

    def list_refusals(arguments: Answer) -> Answer:
        node = arguments.get("node")
        found = refusals.all(None if node is None else str(node))
        return {"refusals": [refusal.as_dict() for refusal in found]}

    return {"queue.sites": list_sites, "queue.refusals": list_refusals}


def sites_from(answer: Answer) -> list[SiteStatus]:
    """Return what `queue.sites` answered."""
    return [SiteStatus(**values) for values in answer["sites"]]


def refusals_from(answer: Answer) -> list[Refusal]:
    """Return what `queue.refusals` answered."""
    rows = ({k: v for k, v in values.items() if k != "reason"} for values in answer["refusals"])
    return [Refusal(**row) for row in rows]
