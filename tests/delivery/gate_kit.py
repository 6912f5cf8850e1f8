"""Everything of dgate that a delivery passes, over a real ledger, real files and real sockets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dgate.archive.database import Database
from dgate.archive.index import Index
from dgate.archive.records import InstanceRef
from dgate.archive.schema import prepare
from dgate.archive.writer import Writer, database_time
from dgate.clock import SystemClock
from dgate.config.layout import default_layout
from dgate.config.node_settings import NodeSettings, NodeTable
from dgate.config.nodes import NodeMap
from dgate.config.settings import Durability
from dgate.delivery.desk import Desk
from dgate.delivery.dispatcher import Dispatcher
from dgate.delivery.ledger import Ledger
from dgate.delivery.moving import Mover
from dgate.delivery.performing import Performed
from dgate.delivery.records import Entry, Selection, State
from dgate.delivery.refusals import Refusals
from dgate.delivery.schedule import RetryPolicy
from dgate.delivery.sender import Sender
from dgate.delivery.sites import SiteStatus
from dgate.delivery.toolbox import Toolbox
from dgate.rules.effects import Expansion
from tests.acceptance.processes import wait_until
from tests.delivery.kit import draft
from tests.delivery.peer_kit import Store


class Gate:
    """A dispatcher with what it works on."""

    def __init__(
        self,
        folder: Path,
        ports: Mapping[str, int],
        nodes: Mapping[str, NodeSettings] | None = None,
        **settings: Any,
    ) -> None:
        """`ports` by title; `nodes` are the sections about them."""
        self.store = Store(folder)
        values: dict[str, Any] = {
            "sql_server": str(folder / "index.db3"),
            "retry_first_s": 0.05,
            "retry_max_s": 0.2,
            "forward_association_close_delay_s": 0.2,
        }
        self.settings = dataclasses.replace(self.store.settings, **(values | settings))
        self.database = Database(self.settings)
        self.database.open()
        self.clock = SystemClock()
        self.writer = Writer(self.database, Durability.NONE)
        schema = prepare(self.database, default_layout(), self.settings)
        self.index = Index(self.database, schema, self.settings)
        release = self.store.exporter.release_spool
        self.ledger = Ledger(self.database, self.writer, self.clock, self.index.add_debts, release)
        self.desk = Desk(self.database, self.writer, self.clock, release, self.ledger.recalled)
        now = partial(database_time, self.database, self.clock)
        self.refusals = Refusals(self.database, self.writer, now)
        self.mover = Mover(self.database, self.writer, now)
        lines = "".join(f"{title} 127.0.0.1 {port} as\n" for title, port in ports.items())
        self.nodes, _ = NodeMap.parse(lines.encode(), "acrnema.map")
        self.tools = self.new_tools(nodes or {})
        self.dispatcher = Dispatcher(lambda: self.tools)

    def new_tools(self, nodes: Mapping[str, NodeSettings], **changes: Any) -> Toolbox:
        """Return what another configuration gives."""
        peers = NodeTable({title.lower(): node for title, node in nodes.items()})
        settings = dataclasses.replace(self.settings, peers=peers, **changes)
        exporter = self.store.exporter
        return Toolbox(
            ledger=self.ledger,
            exporter=exporter,
            settings=settings,
            nodes=self.nodes,
            clock=self.clock,
            expand=lambda debt: Expansion(),
            rewrite=lambda debt: lambda table: None,
            perform=lambda debt: Performed(),
            make_sender=lambda destination: Sender(destination, exporter, settings),
            policy=RetryPolicy.of(settings),
            mover=self.mover,
            refusals=self.refusals,
        )

    def change(self, nodes: Mapping[str, NodeSettings], **changes: Any) -> None:
        """Go on by another configuration, as after a reload."""
        self.tools = self.new_tools(nodes, **changes)
        self.dispatcher.wake()

    def owe(self, *refs: InstanceRef, to: str = "SINK", **changes: Any) -> None:
        """Commit one delivery for each object, as intake does, and wake the dispatcher."""
        owed = [draft(to, **changes)]
        for one in refs:
            self.writer.transact(
                lambda t, one=one: self.index.add_debts(t, one, owed, self.clock.now())
            )
        self.dispatcher.wake()

    def start(self) -> Gate:
        """Begin to deliver."""
        self.dispatcher.start()
        return self

    def entries(self) -> list[Entry]:
        """Return all debts."""
        return self.desk.entries(Selection(states=tuple(State)), 100_000)

    def entry(self, number: int = 0) -> Entry:
        """Return one of the debts, in the order in which they were entered."""
        return sorted(self.entries(), key=lambda entry: entry.id)[number]

    def site(self, name: str = "SINK") -> SiteStatus:
        """Return what a destination is doing."""
        nothing = SiteStatus(name, "closed", 0, 0, 0.0, 0.0, "")
        return next((one for one in self.dispatcher.sites() if one.destination == name), nothing)

    def await_states(self, **states: int) -> None:
        """Wait until there are so many debts in each state and none in another."""

        def arrived() -> bool:
            found: dict[str, int] = {}
            for entry in self.entries():
                found[entry.state] = found.get(entry.state, 0) + 1
            return found == states

        wait_until(arrived, f"{states}")

    def close(self) -> None:
        """Stop everything."""
        self.dispatcher.stop(1.0)
        self.writer.close()
        self.database.close()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
