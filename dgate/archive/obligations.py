"""What is owed for an object: from what rules want to debts that are committed with its rows.

Not for working them off (`dgate.delivery`). Used by the thread that brings the object.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from dgate.archive.devices import Devices
from dgate.archive.incoming import Incoming
from dgate.archive.provenance import priority_of, provenance_of
from dgate.archive.records import DebtDraft, DebtKind
from dgate.archive.requests import request_draft
from dgate.archive.spool import Spool
from dgate.config.node_settings import NodeTable
from dgate.config.nodes import NodeMap
from dgate.config.targets import owed_as
from dgate.dicom.table import ElementTable
from dgate.rules.effects import ExportPlan, Forward, ImportForward, Request

DIGEST = "digest"
"""In the context of an EXPORT debt: which line was deferred; beside the fields of `Captured`."""


class Obligations:
    """The debts of one object, with the copies in the spool that they own (rulings.md 4).

    The copies are written and synced before the commit that makes them owned; a crash in between
    leaves copies without debts, which recovery sets aside.
    """

    def __init__(self, spool: Spool, item: Incoming, *, kept: bool) -> None:
        self._spool = spool
        self._item = item
        self._kept = kept
        self._copies: dict[int, Path] = {}
        self.drafts: list[DebtDraft] = []

    def forward(self, forwards: Iterable[ImportForward]) -> None:
        """Owe what import converters forwarded, each in the state that the object had then.

        Raises:
            OutOfSpace: a copy cannot be written.
        """
        for wanted in forwards:
            self.drafts.append(_deliver(wanted.forward, self._copy(wanted.snapshot)))

    def export(self, plans: Iterable[ExportPlan]) -> None:
        """Owe what export converters plan for the object as it is stored.

        Raises:
            OutOfSpace: a copy cannot be written.
        """
        for plan in plans:
            if not plan.deferred and not plan.forwards:
                continue
            copy = self._copy(self._item.table)
            if plan.deferred:
                self.drafts.append(self._deferred(plan, copy))
            else:
                self.drafts.extend(_deliver(forward, copy) for forward in plan.forwards)

    def request(self, requests: Iterable[Request], default_delay_s: float) -> None:
        """Owe the delayed operations that rules asked for, on what the index will have."""
        entry = self._item.entry
        self.drafts.extend(request_draft(each, default_delay_s, entry) for each in requests)

    def mirror(self, devices: Devices, device: str) -> None:
        """Owe the copy of the stored object to the mirror of its device, if there is one."""
        if devices.mirrors:
            self.drafts += mirror_debts(devices, device)

    def sign(self, peers: NodeTable, nodes: NodeMap) -> None:
        """Say of all that is owed by now where the object came from, how urgent it is, and where
        to, by the one name of each destination.

        Raises:
            Unreadable: the file of a large object cannot be read back.
        """
        if not self.drafts:
            return
        provenance, priority = provenance_of(self._item), priority_of(self._item, peers)
        self.drafts = [
            replace(_addressed(draft, nodes), provenance=provenance, priority=priority)
            for draft in self.drafts
        ]

    def secure(self) -> None:
        """Make the names of the copies durable.

        Before the commit: behind a power cut between it and a later sync there would be debts
        whose copy is gone.

        Raises:
            OutOfSpace: the folder cannot be synced.
        """
        if self._copies:
            self._spool.sync()

    @property
    def first_copy(self) -> str:
        """Name of the first copy in the spool, empty when none was needed."""
        return next((path.name for path in self._copies.values()), "")

    def withdraw(self) -> None:
        """Remove the copies: the commit failed, nobody owns them."""
        for path in self._copies.values():
            self._spool.remove(path.name)
        self._copies.clear()

    def _copy(self, table: ElementTable) -> Path | None:
        """Return the copy of this state of the object; None when the stored object is it."""
        item = self._item
        if self._kept and table.revision == item.table.revision:
            return None
        known = self._copies.get(table.revision)
        if known is not None:
            return known
        name = None
        spill = item.payload.spilled
        if spill is not None and item.is_on_disk(table):
            name = self._spool.link(spill.descriptor, spill.path)
        if name is None:
            name = self._spool.add(item.file_parts(table))
        path = self._copies[table.revision] = self._spool.folder / name
        return path

    def _deferred(self, plan: ExportPlan, copy: Path | None) -> DebtDraft:
        item = self._item
        name = f"ExportConverter{plan.converter}"
        captured = {} if item.captured is None else asdict(item.captured)
        return DebtDraft(
            DebtKind.EXPORT,
            destination=name,
            rule=name,
            calling=item.calling,
            called=item.called,
            spool=copy,
            context=json.dumps({**captured, DIGEST: plan.digest}),
        )


def _addressed(draft: DebtDraft, nodes: NodeMap) -> DebtDraft:
    if draft.kind is not DebtKind.DELIVER:
        return draft
    destination, called = owed_as(draft.destination, draft.called, nodes)
    if destination == draft.destination:
        return draft
    return replace(draft, destination=destination, called=called)


def mirror_debts(devices: Devices, device: str) -> list[DebtDraft]:
    """Return what is owed for an object that is stored on a device: nothing without a mirror."""
    mirror = devices.mirrors.get(device)
    if mirror is None:
        return []
    return [DebtDraft(DebtKind.MIRROR, destination=mirror.name, rule=f"mirror of {device}")]


def _deliver(forward: Forward, copy: Path | None) -> DebtDraft:
    return DebtDraft(
        DebtKind.DELIVER,
        destination=forward.target,
        rule=forward.rule,
        calling=forward.calling or "",
        called=forward.called or "",
        compression=forward.compression or "",
        script=forward.script or "",
        spool=copy,
    )
