"""The open associations of one worker: one for each pair of calling and called titles.

Decides when an association ends and which debts may share one (`ForwardAssociationLevel`, spec
converters.md 8.5). Not for sending (`dgate.delivery.sender`). Belongs to the worker's thread;
`cut` may be called from others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dgate.archive.records import DebtKind, InstanceRef
from dgate.config.nodes import NodeMap
from dgate.config.settings import Settings
from dgate.delivery.destination import Destination, resolve
from dgate.delivery.line import Line
from dgate.delivery.records import Debt
from dgate.delivery.sender import Sender
from dgate.errors import DgateError

MOST_SENDERS = 8

_LEVELS: dict[str, Callable[[InstanceRef], str]] = {
    "PATIENT": lambda ref: ref.patient_id,
    "STUDY": lambda ref: ref.study,
    "SERIES": lambda ref: ref.series,
    "IMAGE": lambda ref: ref.sop_instance,
    "SOPCLASS": lambda ref: ref.sop_class,
}

_Key = tuple[str, str]


class Associations:
    """Gives each debt a `Sender` whose association may carry it."""

    def __init__(
        self,
        nodes: NodeMap,
        settings: Settings,
        make_sender: Callable[[Destination], Sender],
        line: Callable[[], Line] | None = None,
    ) -> None:
        """`line` returns what a sender shares with others of its destination."""
        self._line = line
        self._counts: dict[_Key, int] = {}
        self._senders: dict[_Key, Sender] = {}
        self._targets: dict[_Key, str] = {}
        self._levels: dict[_Key, str] = {}
        self._found: dict[_Key, Destination | DgateError] = {}
        self._take(nodes, settings, make_sender)

    def change(
        self,
        nodes: NodeMap,
        settings: Settings,
        make_sender: Callable[[Destination], Sender],
    ) -> None:
        """Work by another configuration from now on.

        Associations stay open, except those whose destination has another address, or is none, by
        the new configuration.
        """
        level_of = self._level_of
        self._take(nodes, settings, make_sender)
        if level_of is not self._level_of:
            # An open association was filled by another measure.
            self._levels.clear()
        self._found.clear()
        for key, sender in list(self._senders.items()):
            found = self._resolved(key, self._targets[key])
            if isinstance(found, DgateError) or not sender.go_on_as(make_sender(found)):
                self._drop(sender)
                del self._senders[key]

    def _take(
        self,
        nodes: NodeMap,
        settings: Settings,
        make_sender: Callable[[Destination], Sender],
    ) -> None:
        self._nodes = nodes
        self._settings = settings
        self._make_sender = make_sender
        self._release = settings.forward_association_release
        self._one_object_each = settings.forward_association_level.startswith("IMAGE")
        self._has_limits = any(
            node.objects_per_association for node in settings.peers.by_title.values()
        )
        self._level_of = _level_function(settings.forward_association_level)

    def ready(self, debt: Debt, ahead: Sequence[Debt]) -> Sender:
        """Return the sender for a debt, prepared for those that can follow it.

        `ahead` begins with the debt. Raises ConfigError or Unreachable when the destination cannot
        be resolved.
        """
        key = _key(debt)
        sender = self._senders.get(key) or self._new_sender(key, debt)
        level = self._level_of(debt.ref)
        if sender.is_open and self._levels.get(key) != level:
            sender.close(release=self._release)
        if not sender.is_open:
            self._counts[key] = 0
            self._levels[key] = level
            self._prepare(sender, debt, ahead)
        return sender

    def finished(self, debt: Debt) -> None:
        """Close the debt's association if that was its last object."""
        if not (self._one_object_each or self._has_limits):
            return
        key = _key(debt)
        count = self._counts[key] = self._counts.get(key, 0) + 1
        most = self._settings.peers.of(debt.destination).objects_per_association
        if self._one_object_each or 0 < most <= count:
            sender = self._senders.get(key)
            if sender is not None:
                sender.close(release=self._release)

    def follows(self, debt: Debt, following: Debt) -> bool:
        """Return whether the next debt can use the association of this one."""
        return (
            following.kind is DebtKind.DELIVER
            and _key(following) == _key(debt)
            and not self._one_object_each
            and self._level_of(following.ref) == self._level_of(debt.ref)
        )

    def arranged(self, debts: Sequence[Debt]) -> list[Debt]:
        """Bring together what shares an association, otherwise keep the order.

        What is more urgent stays in front.
        """
        groups: dict[tuple[int, _Key, str], list[Debt]] = {}
        for debt in debts:
            place = debt.priority, _key(debt), self._level_of(debt.ref)
            groups.setdefault(place, []).append(debt)
        return [debt for group in groups.values() for debt in group]

    def forget_addresses(self) -> None:
        """Look targets up afresh from now on; open associations stay."""
        self._found.clear()

    def close(self) -> None:
        """End all associations; waits for the peers' answers."""
        for sender in self._senders.values():
            self._drop(sender)
        self._senders.clear()
        self._targets.clear()

    def cut(self) -> None:
        """Drop all connections at once; wakes the worker if it waits for a peer."""
        for sender in list(self._senders.values()):
            sender.cut()

    def _new_sender(self, key: _Key, debt: Debt) -> Sender:
        found = self._resolved(key, debt.destination)
        if isinstance(found, DgateError):
            raise found
        if len(self._senders) >= MOST_SENDERS:
            self.close()
        sender = self._senders[key] = self._make_sender(found)
        if self._line is not None:
            sender.join(self._line())
        self._targets[key] = debt.destination
        return sender

    def _drop(self, sender: Sender) -> None:
        sender.close(release=self._release)
        sender.leave()

    def _resolved(self, key: _Key, target: str) -> Destination | DgateError:
        """Return where a target is to be reached, or why that cannot be told."""
        found = self._found.get(key)
        if found is None:
            calling, called = key
            try:
                found = resolve(
                    target, self._nodes, self._settings, calling or None, called or None
                )
            except DgateError as exc:
                # Kept for the batch: asking a name service for each of its debts takes too long.
                found = exc
            self._found[key] = found
        return found

    def _prepare(self, sender: Sender, debt: Debt, ahead: Sequence[Debt]) -> None:
        """Announce what can follow the debt; its own needs `send` finds out by itself."""
        codes: dict[str, list[InstanceRef]] = {}
        for other in ahead[1:]:
            if not self.follows(debt, other):
                break  # `arranged` has brought together what shares an association.
            codes.setdefault(other.compression, []).append(other.ref)
        for code, refs in codes.items():
            sender.prepare(refs, code or None)


def _key(debt: Debt) -> _Key:
    return debt.calling, debt.called


def _level_function(level: str) -> Callable[[InstanceRef], str]:
    """Return what must stay the same within an association; unknown text is GLOBAL."""
    for name, value_of in _LEVELS.items():
        if level.startswith(name):
            return value_of
    return _same_for_all


def _same_for_all(ref: InstanceRef) -> str:
    return ""
