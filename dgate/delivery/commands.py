"""The queue commands on the control socket: both ends of the wire in one place.

`queue_commands` is what the running server offers, `RemoteDesk` the same operations for a command
in another process. Not for what the operations do (`dgate.delivery.desk`). Any thread.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from dgate.delivery.desk import Desk
from dgate.delivery.records import Changed, Count, Entry, Life, Order, Selection
from dgate.delivery.search import PAGE
from dgate.errors import DgateError
from dgate.ops.control import Answer, Command, ControlClient

_NO_ORDER = Order()


class QueueAccess(Protocol):
    """The ledger as operators use it, in this process or in the running server."""

    def entries(self, selection: Selection, limit: int = ..., offset: int = ...) -> list[Entry]:
        """Return the selected debts, oldest first; without states, those still owed."""
        ...

    def show(self, debt_id: int) -> Entry:
        """Return one debt; raises DgateError when there is none of this number."""
        ...

    def counts(self, *, closed: bool = ...) -> list[Count]:
        """Return how many debts each destination has in each state."""
        ...

    def find(
        self, selection: Selection, limit: int | None = ..., *, newest_first: bool = ...
    ) -> Iterator[Life]:
        """Yield the selected debts, whatever their state, with all that happened to them."""
        ...

    def lives(self, key: str) -> list[Life]:
        """Return the debts that a number or a SOP Instance UID names; raises DgateError when there
        are none."""
        ...

    def retry(self, selection: Selection, order: Order = ...) -> Changed:
        """Make stuck and waiting debts due at once."""
        ...

    def hold(self, selection: Selection, order: Order = ...) -> Changed:
        """Stop waiting and stuck debts until they are released."""
        ...

    def release(self, selection: Selection, order: Order = ...) -> Changed:
        """Make held debts due at once."""
        ...

    def cancel(self, selection: Selection, order: Order = ...) -> Changed:
        """Give debts up."""
        ...

    def reroute(
        self, selection: Selection, destination: str, order: Order = ..., *, called: str = ...
    ) -> Changed:
        """Send deliveries elsewhere; `called` as of `dgate.config.targets.owed_as`."""
        ...


@dataclass(frozen=True, slots=True)
class _Server:
    desk: Desk
    retry_now: Callable[[str | None], None]

    def list(self, arguments: Answer) -> Answer:
        entries = self.desk.entries(
            Selection.of(arguments["selection"]), int(arguments["limit"]), int(arguments["offset"])
        )
        return {"entries": [entry.as_dict() for entry in entries]}

    def show(self, arguments: Answer) -> Answer:
        return self.desk.show(int(arguments["id"])).as_dict()

    def counts(self, arguments: Answer) -> Answer:
        counts = self.desk.counts(closed=bool(arguments.get("closed")))
        return {"counts": [count.as_dict() for count in counts]}

    def find(self, arguments: Answer) -> Iterator[Answer]:
        selection = Selection.of(arguments["selection"])
        limit = arguments.get("limit")
        lives = self.desk.find(
            selection,
            None if limit is None else int(limit),
            newest_first=bool(arguments.get("newest_first")),
        )
        return _in_pages(lives)

    def lives(self, arguments: Answer) -> Answer:
        return {"lives": [life.as_dict() for life in self.desk.lives(str(arguments["key"]))]}

    def change(self, operation: str, arguments: Answer) -> Answer:
        selection = Selection.of(arguments["selection"])
        order = Order(**arguments.get("order", {}))
        if operation == "reroute":
            destination = str(arguments["destination"])
            called = str(arguments.get("called", ""))
            changed = self.desk.reroute(selection, destination, order, called=called)
            self.retry_now(destination)
            return changed.as_dict()
        operations = {
            "retry": self.desk.retry,
            "hold": self.desk.hold,
            "release": self.desk.release,
            "cancel": self.desk.cancel,
        }
        changed = operations[operation](selection, order)
        if operation in ("retry", "release"):
            # The operator has mended something: what was paused or refused is tried now.
            self.retry_now(selection.destination)
        return changed.as_dict()


def queue_commands(desk: Desk, retry_now: Callable[[str | None], None]) -> dict[str, Command]:
    """Return the commands for the control server; `retry_now` is the dispatcher's."""
    server = _Server(desk, retry_now)
    commands: dict[str, Command] = {
        "queue.list": server.list,
        "queue.show": server.show,
        "queue.counts": server.counts,
        "ledger.find": server.find,
        "ledger.lives": server.lives,
    }
    for operation in ("retry", "hold", "release", "cancel", "reroute"):
        commands[f"queue.{operation}"] = partial(server.change, operation)
    return {name: _understood(command) for name, command in commands.items()}


def _in_pages(lives: Iterator[Life]) -> Iterator[Answer]:
    """Yield debts a page at a time: an answer for each would cost more than the debt."""
    while page := list(itertools.islice(lives, PAGE)):
        yield {"lives": [life.as_dict() for life in page]}


def _understood(command: Command) -> Command:
    """Make arguments of the wrong kind the caller's error instead of a fault of the server."""

    def run(arguments: Answer) -> Iterator[Answer] | Answer:
        try:
            return command(arguments)
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise DgateError(f"the arguments cannot be understood: {exc!r}") from exc

    return run


class RemoteDesk:
    """The ledger of a running server."""

    def __init__(self, server: ControlClient) -> None:
        self._server = server

    def entries(self, selection: Selection, limit: int = 100, offset: int = 0) -> list[Entry]:
        """Return the selected debts, oldest first; without states, those still owed."""
        answer = self._server.call(
            "queue.list", {"selection": selection.as_dict(), "limit": limit, "offset": offset}
        )
        return [Entry(**values) for values in answer["entries"]]

    def show(self, debt_id: int) -> Entry:
        """Return one debt; raises DgateError when there is none of this number."""
        return Entry(**self._server.call("queue.show", {"id": debt_id}))

    def counts(self, *, closed: bool = False) -> list[Count]:
        """Return how many debts each destination has in each state."""
        answer = self._server.call("queue.counts", {"closed": closed})
        return [Count(**values) for values in answer["counts"]]

    def find(
        self, selection: Selection, limit: int | None = None, *, newest_first: bool = False
    ) -> Iterator[Life]:
        """Yield the selected debts, whatever their state, with all that happened to them."""
        arguments = {
            "selection": selection.as_dict(), "limit": limit, "newest_first": newest_first
        }  # fmt: skip
        for answer in self._server.stream("ledger.find", arguments):
            yield from map(Life.of, answer["lives"])

    def lives(self, key: str) -> list[Life]:
        """Return the debts that a number or a SOP Instance UID names; raises DgateError when there
        are none."""
        return [Life.of(life) for life in self._server.call("ledger.lives", {"key": key})["lives"]]

    def retry(self, selection: Selection, order: Order = _NO_ORDER) -> Changed:
        """Make stuck and waiting debts due at once."""
        return self._change("retry", selection, order)

    def hold(self, selection: Selection, order: Order = _NO_ORDER) -> Changed:
        """Stop waiting and stuck debts until they are released."""
        return self._change("hold", selection, order)

    def release(self, selection: Selection, order: Order = _NO_ORDER) -> Changed:
        """Make held debts due at once."""
        return self._change("release", selection, order)

    def cancel(self, selection: Selection, order: Order = _NO_ORDER) -> Changed:
        """Give debts up."""
        return self._change("cancel", selection, order)

    def reroute(
        self,
        selection: Selection,
        destination: str,
        order: Order = _NO_ORDER,
        *,
        called: str = "",
    ) -> Changed:
        """Send deliveries elsewhere; `called` as of `dgate.config.targets.owed_as`."""
        return self._change("reroute", selection, order, destination=destination, called=called)

    def _change(self, operation: str, selection: Selection, order: Order, **more: Any) -> Changed:
        arguments = {"selection": selection.as_dict(), "order": order.as_dict(), **more}
        return Changed.of(self._server.call(f"queue.{operation}", arguments))
