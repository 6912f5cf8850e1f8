"""In-memory twins of what delivery uses: a sender that follows a script, and a whole toolbox."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dgate.archive.records import InstanceRef
from dgate.config.nodes import NodeMap
from dgate.config.settings import default_settings
from dgate.delivery.destination import Destination
from dgate.delivery.performing import Performed
from dgate.delivery.records import Debt
from dgate.delivery.schedule import RetryPolicy
from dgate.delivery.sender import SendResult
from dgate.delivery.worker import Lane, Toolbox, Worker
from dgate.errors import DgateError, NoContext
from dgate.rules.effects import Expansion, Forward, Request
from tests.delivery.kit import Books

Answer = SendResult | Exception
Script = Callable[[InstanceRef], Answer]

OK = SendResult(0)


class TwinSender:
    """A sender whose peer answers by script; what happened is in `journal`."""

    def __init__(self, destination: Destination, journal: list[tuple[str, ...]]) -> None:
        self.destination = destination
        self.script: Script = lambda ref: OK
        self.refuses_connection: Exception | None = None
        self.is_open = False
        self.in_doubt = False
        self.was_cut = False
        self.on_cut: Callable[[], None] = lambda: None
        self._journal = journal

    def join(self, line: Any) -> None:
        """Have no use for what is shared."""

    def leave(self) -> None:
        """Have no use for what is shared."""

    def go_on_as(self, fresh: TwinSender) -> bool:
        """Stay where the address is the same."""
        return self.destination == fresh.destination

    def prepare(self, refs: Iterable[InstanceRef], code: str | None = None) -> None:
        """Note what was announced."""
        names = [ref.sop_instance for ref in refs]
        self._journal.append(("prepare", code or "", *names))

    def send(
        self,
        ref: InstanceRef,
        rewrite: Any = None,
        originator: Any = None,
        code: str | None = None,
        *,
        priority: int = 0,
        upcoming: InstanceRef | None = None,
    ) -> SendResult:
        """Answer as the script says."""
        self.in_doubt = False
        if not self.is_open:
            if self.refuses_connection is not None:
                raise self.refuses_connection
            self.is_open = True
            self._journal.append(("open", self.destination.calling, self.destination.called))
        ahead = upcoming.sop_instance if upcoming else ""
        self._journal.append(("send", ref.sop_instance, code or "", ahead))
        answer = self.script(ref)
        if isinstance(answer, Exception):
            if isinstance(answer, DgateError) and not isinstance(answer, NoContext):
                self.in_doubt = True
                self.is_open = False
            raise answer
        return answer

    def close(self, *, release: bool = True) -> None:
        """Close and note how."""
        if self.is_open:
            self._journal.append(("release" if release else "drop",))
        self.is_open = False

    def cut(self) -> None:
        """Note that somebody else cut the connection."""
        self.was_cut = True
        self.on_cut()


class Workshop:
    """A toolbox over a real ledger, with twin senders."""

    def __init__(self, books: Books, folder: Path, **settings: Any) -> None:
        values: dict[str, Any] = {
            "ae_title": "GATE",
            "forward_association_close_delay_s": 0.0,
            "forward_association_level": "GLOBAL",
        }
        self.books = books
        self.settings = default_settings(folder, **(values | settings))
        self.journal: list[tuple[str, ...]] = []
        self.senders: list[TwinSender] = []
        self.script: Script = lambda ref: OK
        self.refuses_connection: Exception | None = None
        self.expansions: Callable[[Any], list[Forward]] = lambda debt: []
        self.requests: Callable[[Any], list[Request]] = lambda debt: []
        self.performs: Callable[[Any], Performed] = lambda debt: Performed()
        self.rewrites: Callable[[Any], Any] = lambda debt: lambda table: None
        self.woken = 0
        nodes, _ = NodeMap.parse(b"SINK 10.0.0.1 104 as\nOTHER 10.0.0.2 104 as\n", "acrnema.map")
        self.tools = Toolbox(
            ledger=books.ledger,
            exporter=None,  # type: ignore[arg-type]
            settings=self.settings,
            nodes=nodes,
            clock=books.clock,
            expand=self.expand,
            rewrite=lambda debt: self.rewrites(debt),
            perform=lambda debt: self.performs(debt),
            make_sender=self.make_sender,  # type: ignore[arg-type]
            policy=RetryPolicy.of(self.settings),
        )

    def expand(self, debt: Debt) -> Expansion:
        """Return what the export converter of a debt wants."""
        return Expansion(tuple(self.expansions(debt)), tuple(self.requests(debt)))

    def make_sender(self, destination: Destination) -> TwinSender:
        """Return a sender that follows the workshop's script."""
        sender = TwinSender(destination, self.journal)
        sender.script = lambda ref: self.script(ref)
        sender.refuses_connection = self.refuses_connection
        self.senders.append(sender)
        return sender

    def work(self, destination: str = "SINK", lane: Lane | None = None) -> Lane:
        """Run a worker to its end in this thread and return its lane."""
        lane = lane or Lane(destination)
        worker = Worker(lane, lambda: self.tools, lambda _worker, _must: True, self.wake)
        worker.run()
        return lane

    def wake(self) -> None:
        """Count wake-ups."""
        self.woken += 1

    def sent(self) -> list[str]:
        """Return the SOP instances that were sent, in order."""
        return [entry[1] for entry in self.journal if entry[0] == "send"]

    def steps(self) -> list[str]:
        """Return what happened to associations and objects, without details."""
        return [entry[0] for entry in self.journal if entry[0] != "prepare"]


def await_exchange(destination: str) -> None:
    """Return when no exchange with the ledger runs beside the deliveries to a destination."""
    for thread in threading.enumerate():
        if thread.name == f"book-{destination}":
            thread.join()
