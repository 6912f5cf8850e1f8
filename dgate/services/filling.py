"""Fetching into this archive what a node has: C-MOVE to ourselves, or C-GET where it must be.

For `dgate reconcile --fetch`. What comes passes no import or export converters, as what rules fetch
(spec dimse.md 2.1). Any thread may use a `Filling`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial

from dgate.archive.ingest import Ingest
from dgate.archive.levels import Level
from dgate.archive.records import Arrival
from dgate.config.nodes import NodeMap
from dgate.config.settings import Settings, SopList
from dgate.delivery.collection import collect
from dgate.delivery.destination import resolve
from dgate.delivery.inquiry import (
    PATIENT_ROOT,
    SERIES,
    SOP_INSTANCE,
    STUDY,
    STUDY_ROOT,
    encode_identifier,
)
from dgate.delivery.offers import listed_classes
from dgate.delivery.opening import open_association
from dgate.dicom.payload import Payload
from dgate.dicom.table import ElementTable
from dgate.errors import (
    Aborted,
    NoContext,
    NotDicom,
    PeerError,
    Rejected,
    RuleError,
    StoreError,
    TimedOut,
    Unreachable,
)
from dgate.net import (
    Association,
    Command,
    Message,
    PresentationContext,
    Status,
    describe,
)
from dgate.services.retrieval import Retrieval
from dgate.services.statuses import storage_status

log = logging.getLogger(__name__)

_MODELS = tuple(f"{root}.3" for root in (STUDY_ROOT, PATIENT_ROOT))


class Filling:
    """Fetches what keys name."""

    def __init__(
        self,
        settings: Settings,
        nodes: NodeMap,
        retrieval: Retrieval,
        ingest: Ingest,
        sop_list: SopList,
    ) -> None:
        """`retrieval` does the C-MOVE, and knows what comes because of it."""
        self._settings = settings
        self._nodes = nodes
        self._retrieval = retrieval
        self._ingest = ingest
        self._sop_list = sop_list

    def fetch(
        self, node: str, level: str, keys: Mapping[int, str], sop_classes: Sequence[str]
    ) -> int:
        """Fetch what the keys name and return how many objects came.

        Args:
            level: `STUDY`, `SERIES` or `IMAGE`.
            keys: the unique keys of the level and those above.
            sop_classes: what to expect; empty = all that dgatesop.lst names.

        Raises:
            ConfigError: the node is not known.
            PeerError: it cannot be reached, or sends neither by C-MOVE nor by C-GET; or not all.
            RuleError: it does not know us, and offers no C-GET.
        """
        try:
            return self._retrieval.fetch(node, level, dict(keys))
        except (Unreachable, Rejected, TimedOut, Aborted):
            raise
        except (PeerError, RuleError) as exc:
            # It cannot send to us: not at all, or it does not know where we are, which each peer
            # says by a status of its own.
            try:
                came = self._get(node, level, keys, sop_classes)
            except NoContext:
                raise exc from None
            log.info("%s was asked with C-GET, as C-MOVE did not work: %s", node, exc)
            return came

    def _get(
        self, node: str, level: str, keys: Mapping[int, str], sop_classes: Sequence[str]
    ) -> int:
        """C-GET; return how many objects came. Raises PeerError unless all did."""
        place = resolve(node, self._nodes, self._settings)
        ended = collect(
            lambda proposals: open_association(place, proposals, self._settings),
            _MODELS,
            sop_classes or listed_classes(self._sop_list),
            lambda syntax: encode_identifier(Level(level), keys, syntax, None),
            partial(self._store, keys),
            self._payload,
        )
        if not ended.is_complete:
            raise PeerError(
                f"{place.called} answered {describe(ended.final.outcome)}: {ended.came} object(s) "
                f"came, {ended.final.failed or 0} did not"
            )
        return ended.came

    def _payload(
        self, association: Association, context: PresentationContext, command: Command
    ) -> Payload:
        return self._ingest.payload(
            context.transfer_syntax, command.sop_class, command.sop_instance, association.called
        )

    def _store(self, keys: Mapping[int, str], association: Association, message: Message) -> int:
        """Take one object in; return the C-STORE status. A crash leaves what `Ingest.store` says.

        What the keys do not name is refused: a node that may be asked may not add what it likes.
        """
        command = message.command
        if not _is_asked_for(keys, message):
            log.warning(
                "Object %s from %s was not stored: it was not asked for",
                command.sop_instance,
                association.called,
            )
            return Status.DATA_SET_MISMATCH
        arrival = Arrival(
            message.payload or Payload(),
            message.context.transfer_syntax,
            association.called,
            self._settings.ae_title,
            command.sop_class,
            command.sop_instance,
            skip_rules=True,
        )
        try:
            self._ingest.store(arrival)
        except StoreError as exc:
            log.warning(
                "Object %s from %s was not stored: %s",
                command.sop_instance,
                association.called,
                exc,
            )
            settings = self._settings
            return storage_status(
                exc,
                failed_code=settings.storage_failed_error_code,
                classic=settings.classic_status_codes,
            )
        return Status.SUCCESS


def _is_asked_for(keys: Mapping[int, str], message: Message) -> bool:
    """Tell whether an arrived object has the UIDs that were asked for.

    True also for one that cannot be read, which `Ingest.store` refuses with its own status.
    """
    payload = message.payload
    if payload is None or payload.error is not None:
        return True
    try:
        table = ElementTable(payload.view(), message.context.transfer_syntax)
    except (NotDicom, OSError):
        return True
    return all(
        table.text(tag) in keys[tag].split("\\")
        for tag in (STUDY, SERIES, SOP_INSTANCE)
        if keys.get(tag)
    )
