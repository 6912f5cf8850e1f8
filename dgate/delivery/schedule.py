"""When a failed delivery is tried again: the back-off of rulings.md 17 as pure arithmetic.

Not for what counts as a failure (`dgate.delivery.failures`). Values and functions only, safe from
any thread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dgate.config.node_settings import NodeSettings
from dgate.config.settings import Settings

_JITTER = 0.2
"""Share of a growing pause that chance may add or take, so that gateways do not call in step."""
_MOST_DOUBLINGS = 40


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait after failures, and when to give up."""

    first_s: float = 5.0
    longest_s: float = 600.0
    fixed_s: float | None = None
    """`RetryDelay`: the same pause after every failure."""
    hold_off_s: float | None = None
    """`FailHoldOff`: the least pause of a destination after a failure."""
    most_tries: int = 0
    """`MaximumExportRetries`: tries after which a debt is stuck; 0 = never."""
    most_request_tries: int = 0
    """`MaximumDelayedFetchForwardRetries`: the same for delayed operations."""

    @classmethod
    def of(cls, settings: Settings) -> RetryPolicy:
        """Return the policy that the configuration asks for."""
        return cls(
            first_s=settings.retry_first_s,
            longest_s=settings.retry_max_s,
            fixed_s=settings.retry_delay_s,
            hold_off_s=settings.fail_hold_off_s,
            most_tries=settings.maximum_export_retries,
            most_request_tries=settings.maximum_request_tries,
        )

    def for_node(self, node: NodeSettings) -> RetryPolicy:
        """Return the policy for a node, which may have pauses and limits of its own."""
        changes: dict[str, Any] = {}
        if node.retry_first_s is not None or node.retry_max_s is not None:
            # Growing pauses, also where the general setting is a fixed one.
            changes["fixed_s"] = None
        for name, value in (
            ("first_s", node.retry_first_s),
            ("longest_s", node.retry_max_s),
            ("fixed_s", node.retry_delay_s),
            ("hold_off_s", node.fail_hold_off_s),
            ("most_tries", node.maximum_export_retries),
        ):
            if value is not None:
                changes[name] = value
        return replace(self, **changes) if changes else self

    @classmethod
    def longest_of(cls, settings: Settings) -> float:
        """Return the longest pause that any destination can have."""
        general = cls.of(settings)
        nodes = settings.peers.by_title.values()
        return max(general.most_s, *(general.for_node(node).most_s for node in nodes), 0.0)

    @property
    def most_s(self) -> float:
        """The longest pause that there can be."""
        most = self.longest_s if self.fixed_s is None else self.fixed_s
        return max(most, self.hold_off_s or 0.0)

    def pause_s(self, failures: int, chance: float) -> float:
        """Return the pause after the given number of failures in a row (1 = the first).

        `chance` is a random number in [0, 1).
        """
        if self.fixed_s is not None:
            pause = self.fixed_s
        else:
            doublings = min(max(failures, 1) - 1, _MOST_DOUBLINGS)
            pause = min(self.first_s * 2**doublings, self.longest_s)
            pause = min(pause * (1 + _JITTER * (2 * chance - 1)), self.longest_s)
        return max(pause, self.hold_off_s or 0.0)

    def is_exhausted(self, tries: int, *, is_request: bool = False) -> bool:
        """Return whether a debt that failed this often is to be given up."""
        most = self.most_request_tries if is_request else self.most_tries
        return 0 < most <= tries
