"""The queue commands on the control socket: both ends of the wire in one place.

`queue_commands` is what the running server offers, `RemoteDesk` the same operations for a command
in another process. Not for what the operations do (`dgate.delivery.desk`). Any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from dgate.delivery.desk import Desk
from dgate.delivery.records import Changed, Count, Entry, Selection
from dgate.errors import DgateError
from dgate.ops.control import Answer, Command, ControlClient


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

    def retry(self, selection: Selection) -> Changed:
        """Make stuck and waiting debts due at once."""
        ...

    def hold(self, selection: Selection) -> Changed:
        """Stop waiting and stuck debts until they are released."""
        ...

    def release(self, selection: Selection) -> Changed:
        """Make held debts due at once."""
        ...

    def cancel(self, selection: Selection) -> Changed:
        """Give debts up."""
        ...

    def reroute(self, selection: Selection, destination: str) -> Changed:
        """Send deliveries elsewhere."""
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

    def change(self, operation: str, arguments: Answer) -> Answer:
        selection = Selection.of(arguments["selection"])
        if operation == "reroute":
            destination = str(arguments["destination"])
            changed = self.desk.reroute(selection, destination)
            self.retry_now(destination)
            return changed.as_dict()
        operations = {
            "retry": self.desk.retry,
            "hold": self.desk.hold,
            "release": self.desk.release,
            "cancel": self.desk.cancel,
        }
        changed = operations[operation](selection)
        if operation in ("retry", "release"):
            # The operator has mended something: what was paused or refused is tried now.
            self.retry_now(selection.destination)
        return changed.as_dict()


def queue_commands(desk: Desk, retry_now: Callable[[str | None], None]) -> dict[str, Command]:
    """Return the commands for the control server; `retry_now` is the dispatcher's."""
    server = _Server(desk, retry_now)
    commands: dict[str, Callable[[Answer], Answer]] = {
        "queue.list": server.list,
        "queue.show": server.show,
        "queue.counts": server.counts,
    }
    for operation in ("retry", "hold", "release", "cancel", "reroute"):
        commands[f"queue.{operation}"] = partial(server.change, operation)
    return {name: _understood(command) for name, command in commands.items()}


def _understood(command: Callable[[Answer], Answer]) -> Command:
    """Make arguments of the wrong kind the caller's error instead of a fault of the server."""

    def run(arguments: Answer) -> Answer:
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

    def retry(self, selection: Selection) -> Changed:
        """Make stuck and waiting debts due at once."""
        return self._change("retry", selection)

    def hold(self, selection: Selection) -> Changed:
        """Stop waiting and stuck debts until they are released."""
        return self._change("hold", selection)

    def release(self, selection: Selection) -> Changed:
        """Make held debts due at once."""
        return self._change("release", selection)

    def cancel(self, selection: Selection) -> Changed:
        """Give debts up."""
        return self._change("cancel", selection)

    def reroute(self, selection: Selection, destination: str) -> Changed:
        """Send deliveries elsewhere."""
        return self._change("reroute", selection, destination=destination)

    def _change(self, operation: str, selection: Selection, **more: Any) -> Changed:
        arguments = {"selection": selection.as_dict(), **more}
        return Changed.of(self._server.call(f"queue.{operation}", arguments))
