"""Other DICOM nodes as Lua scripts talk to them: the gateway's side of `rules.actions.Peers`.

Each call is one association (C-GET: as many as the SOP classes need) and waits for its end (spec
lua-api.md 5.5). Not for deliveries, which are debts. Any thread may use a `Peers`; what cannot be
reached is logged, since scripts seldom look.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from dgate.config.nodes import NodeMap
from dgate.config.settings import Settings
from dgate.config.soplist import SopList
from dgate.delivery.collection import classes_there, collect
from dgate.delivery.destination import Destination, resolve
from dgate.delivery.inquiry import PATIENT_ROOT, STUDY_ROOT, UNCOMPRESSED, UNIQUE
from dgate.delivery.offers import MOST_CONTEXTS, listed_classes
from dgate.delivery.opening import Connect, open_association
from dgate.dicom.codes import proposed_syntaxes
from dgate.dicom.element import SOP_CLASS_UID, SOP_INSTANCE_UID
from dgate.dicom.encode import QUERY_RETRIEVE_LEVEL
from dgate.dicom.payload import Payload, SpillFile
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import can_convert, convert
from dgate.dicom.uids import IMPLICIT_LE, VERIFICATION
from dgate.errors import (
    ConfigError,
    DgateError,
    NoContext,
    NotDicom,
    PeerError,
    Rejected,
    RuleError,
    Unreachable,
)
from dgate.net import (
    Association,
    Command,
    ContextProposal,
    Message,
    PresentationContext,
    Status,
    StatusCategory,
    category,
    connect,
    describe,
    echo,
    find,
    move,
    store,
)
from dgate.rules.actions import MoveProgress, check_memory
from dgate.services.commandtable import command_table, control_elements
from dgate.services.printing import PrintOptions, print_films, print_proposals

log = logging.getLogger(__name__)

PATIENT_STUDY_ONLY = "1.2.840.10008.5.1.4.1.2.3"
MODALITY_WORKLIST = "1.2.840.10008.5.1.4.31"
MEMORY_LIMIT_BYTES = 256 << 20
"""So much of what peers send is held in memory for one call; larger objects lie in files."""

_LEVELS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "PATIENT": ("PATIENT", (f"{PATIENT_ROOT}.1",)),
    "STUDY": ("STUDY", (f"{STUDY_ROOT}.1", f"{PATIENT_ROOT}.1")),
    "SERIES": ("SERIES", (f"{STUDY_ROOT}.1", f"{PATIENT_ROOT}.1")),
    "IMAGE": ("IMAGE", (f"{STUDY_ROOT}.1", f"{PATIENT_ROOT}.1")),
    "PATIENTP": ("PATIENT", (f"{PATIENT_STUDY_ONLY}.1",)),
    "STUDYP": ("STUDY", (f"{PATIENT_STUDY_ONLY}.1",)),
    "WORKLIST": ("", (MODALITY_WORKLIST,)),
}
"""By the level of a query: Query/Retrieve Level and information models, the first one preferred."""


@dataclass(frozen=True, slots=True)
class StoreResult:
    """A peer's answer to one C-STORE (`rules.actions.StoreAnswer`)."""

    sop_instance: str
    status: int | None
    """None: it could not be sent, the log says why."""


class Peers:
    """Asks other nodes under one configuration."""

    def __init__(
        self,
        nodes: NodeMap,
        settings: Settings,
        sop_list: SopList | None = None,
        *,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
        connect: Connect = connect,
    ) -> None:
        """`sop_list`: the storage classes to offer for C-GET where the peer does not list any."""
        self._nodes = nodes
        self._settings = settings
        self._sop_list = sop_list
        self._limit_bytes = memory_limit_bytes
        self._connect = connect

    def find(self, node: str, level: str, query: ElementTable) -> list[ElementTable] | None:
        """C-FIND; None when the node is unknown, cannot be reached, or refuses the query.

        Raises:
            RuleError: there is no such level, or more comes than the memory takes.
        """
        text, models = _model(level)
        try:
            with self._open(node, [ContextProposal(uid, UNCOMPRESSED) for uid in models]) as peer:
                context = _accepted(peer, models, "C-FIND")
                identifier = _identifier(query, text, context.transfer_syntax)
                return self._answers(peer, context, identifier)
        except (PeerError, ConfigError) as exc:
            log.warning("A script's query to %s failed: %s", node, exc)
            return None

    def _answers(
        self, association: Association, context: PresentationContext, identifier: bytes
    ) -> list[ElementTable]:
        found: list[ElementTable] = []
        size = 0
        with closing(find(association, context.id, identifier)) as answers:
            for answer in answers:
                kind = category(answer.status)
                if kind is StatusCategory.PENDING:
                    found.append(ElementTable(answer.identifier, context.transfer_syntax))
                    size += len(answer.identifier)
                    self._check(size, "answers of the query")
                elif kind is StatusCategory.FAILURE:
                    comment = f" {answer.command.error_comment}".rstrip()
                    raise PeerError(f"it was answered {describe(answer.status)}{comment}")
        return found

    def move(
        self,
        source: str,
        destination: str,
        query: ElementTable,
        *,
        patient_root: bool = False,
        extra: ElementTable | None = None,
        progress: MoveProgress | None = None,
    ) -> str:
        """C-MOVE; return an empty text on success, else what went wrong."""
        roots = (PATIENT_ROOT, STUDY_ROOT) if patient_root else (STUDY_ROOT, PATIENT_ROOT)
        models = tuple(f"{root}.2" for root in roots)
        if not query.text(QUERY_RETRIEVE_LEVEL).strip():
            return "***dicommove: the object has no QueryRetrieveLevel"
        try:
            peer_node = self._destination(source)
        except ConfigError as exc:
            log.warning("A script's C-MOVE was not sent: %s", exc)
            return f"***dicommove: AE not found: {source}"
        except PeerError as exc:
            return f"***dicommove: cannot connect to {source}: {exc.what}"
        final = Command()
        try:
            proposals = [ContextProposal(uid, UNCOMPRESSED) for uid in models]
            with self._associate(peer_node, proposals) as peer:
                context = _accepted(peer, models, "C-MOVE")
                identifier = _identifier(query, None, context.transfer_syntax)
                for response in move(
                    peer, context.id, destination, identifier, extra=control_elements(extra)
                ):
                    final = response
                    if progress and category(response.outcome) is StatusCategory.PENDING:
                        progress(*_counted(response))
        except (Unreachable, Rejected) as exc:
            return f"***dicommove: cannot connect to {source}: {exc.what}"
        except (PeerError, ConfigError) as exc:
            return f"***dicommove: {exc}"
        return _move_problem(source, final)

    def get(self, node: str, level: str, query: ElementTable) -> list[ElementTable] | None:
        """C-GET; None on failure. What is missing of a retrieval is logged.

        The peer is asked first which SOP classes the objects are of. An object over 1 MiB lies in
        a file without a name as long as anybody has it.

        Raises:
            RuleError: there is no such level, or more comes than the memory takes.
        """
        text, models = _model(level)
        if not text:
            raise RuleError(f"objects cannot be retrieved at level {level}")
        services = tuple(f"{model.rpartition('.')[0]}.3" for model in models)
        basket = _Basket(self._settings.temp_dir, self._check)
        connect = partial(self._open, node)
        try:
            keys = {tag: value for tag in UNIQUE if (value := query.text(tag).strip())}
            classes = classes_there(connect, keys) if keys else []
            ended = collect(
                connect,
                services,
                classes or listed_classes(self._sop_list),
                lambda syntax: _identifier(query, text, syntax),
                basket.keep,
                basket.payload,
            )
        except (PeerError, ConfigError) as exc:
            log.warning("A script's C-GET from %s failed: %s", node, exc)
            return None
        if ended.is_complete:
            return basket.objects
        log.warning(
            "A script's C-GET from %s was answered %s: %d object(s) came, %d did not.",
            node,
            describe(ended.final.outcome),
            len(basket.objects),
            ended.final.failed or 0,
        )
        return basket.objects or None

    def store(
        self, node: str, objects: Sequence[ElementTable], *, code: str | None = None
    ) -> list[StoreResult] | str:
        """C-STORE on one association; an answer for each object, or why nobody was reached.

        `code`: compression code in place of that of the node's line in acrnema.map.
        """
        results = [StoreResult(table.text(SOP_INSTANCE_UID), None) for table in objects]
        try:
            destination = self._destination(node)
            code = destination.code if code is None else code
            needs = {_need(table): None for table in objects}
            offers = {need: _offers(need, code) for need in needs}
            proposals = list(dict.fromkeys(each for found in offers.values() for each in found))
            if not proposals:
                log.warning("A script has nothing to send to %s that has a SOP class.", node)
                return results
            if len(proposals) > MOST_CONTEXTS:
                raise RuleError(
                    "these objects need more presentation contexts than an association has",
                    remedy="send them in several calls",
                )
            association = self._associate(destination, proposals)
        except (PeerError, ConfigError) as exc:
            log.warning("A script could not send to %s: %s", node, exc)
            return "Failed to connect to host"
        try:
            with association:
                for place, table in enumerate(objects):
                    results[place] = _send(association, table, code)
        except PeerError as exc:
            log.warning("A script's C-STORE to %s ended early: %s", node, exc)
        return results

    def echo(self, node: str, extra: ElementTable | None = None) -> ElementTable | None:
        """C-ECHO; the command set of the response, None when nobody answers."""
        try:
            with self._open(node, [ContextProposal(VERIFICATION, (IMPLICIT_LE,))]) as peer:
                response = echo(peer, extra=control_elements(extra))
        except (PeerError, ConfigError) as exc:
            log.warning("A script's C-ECHO to %s failed: %s", node, exc)
            return None
        return command_table(response)

    def print_films(
        self,
        node: str,
        images: Sequence[ElementTable],
        annotation: str,
        options: str,
        after_each: Callable[[], None] | None = None,
    ) -> bool:
        """Print images; False when the printer is not reached or refuses, the log says why."""
        wanted = PrintOptions.parse(options)
        try:
            with self._open(node, print_proposals(annotated=bool(annotation))) as peer:
                return print_films(peer, images, wanted, annotation, after_each)
        except (PeerError, ConfigError) as exc:
            log.warning("A script's images were not printed by %s: %s", node, exc)
            return False

    def _destination(self, node: str) -> Destination:
        return resolve(node, self._nodes, self._settings)

    def _open(self, node: str, proposals: Sequence[ContextProposal]) -> Association:
        return self._associate(self._destination(node), proposals)

    def _associate(
        self, destination: Destination, proposals: Sequence[ContextProposal]
    ) -> Association:
        return open_association(destination, proposals, self._settings, connect=self._connect)

    def _check(self, size_bytes: int, what: str) -> None:
        check_memory(size_bytes, self._limit_bytes, what)


class _Basket:
    """What comes by C-GET: small objects in memory, larger ones in files without a name."""

    def __init__(self, folder: Path | None, check: _Check) -> None:
        self._folder = folder
        self._check = check
        self._held = 0
        self.objects: list[ElementTable] = []

    def payload(
        self, association: Association, context: PresentationContext, command: Command
    ) -> Payload:
        """Return where an arriving object goes."""
        return Payload(self._spill)

    def _spill(self) -> SpillFile:
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix="dgate-", dir=self._folder)
        return SpillFile(descriptor, Path(name), 0)

    def keep(self, association: Association, message: Message) -> int:
        """Take one object; return the status to answer."""
        payload = message.payload
        if payload is None or payload.overflowed:
            return Status.CANNOT_UNDERSTAND
        if payload.error is not None:
            log.error("An object that a script fetched cannot be held: %s", payload.error)
            return Status.OUT_OF_RESOURCES
        view: memoryview | bytes = payload.view()
        if payload.spilled is None:
            # Its memory is given up with the payload.
            view = bytes(view)
            self._held += len(view)
            self._check(self._held, "objects of the retrieval")
        try:
            table = ElementTable(view, message.context.transfer_syntax)
        except NotDicom as exc:
            log.warning("An object that a script fetched cannot be read: %s", exc)
            return Status.CANNOT_UNDERSTAND
        self.objects.append(table)
        return Status.SUCCESS


class _Check(Protocol):
    def __call__(self, size_bytes: int, what: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Need:
    """What decides about the presentation contexts of an object."""

    sop_class: str
    syntax: str


def _need(table: ElementTable) -> _Need:
    return _Need(table.text(SOP_CLASS_UID), table.syntax)


def _offers(need: _Need, code: str) -> list[ContextProposal]:
    if not need.sop_class:
        return []
    offered = (
        tuple(uid for uid in syntaxes if uid == need.syntax or can_convert(need.syntax, uid))
        for syntaxes in proposed_syntaxes(code, need.syntax)
    )
    return [ContextProposal(need.sop_class, syntaxes) for syntaxes in offered if syntaxes]


def _send(association: Association, table: ElementTable, code: str) -> StoreResult:
    need, sop_instance = _need(table), table.text(SOP_INSTANCE_UID)
    wanted = [uid for offer in _offers(need, code) for uid in offer.syntaxes]
    accepted = {
        context.transfer_syntax: context.id
        for context in reversed(association.contexts_for(need.sop_class))
    }
    syntax = next((uid for uid in wanted if uid in accepted), None)
    if need.syntax in wanted and need.syntax in accepted:
        syntax = need.syntax
    if syntax is None:
        log.warning(
            "A script's object %s was not sent: %s does not take SOP class %s.",
            sop_instance,
            association.called,
            need.sop_class or "(none)",
        )
        return StoreResult(sop_instance, None)
    try:
        data = table.tobytes()
        if syntax != need.syntax:
            data = convert(data, need.syntax, syntax)
    except DgateError as exc:
        log.warning("A script's object %s was not sent: %s", sop_instance, exc)
        return StoreResult(sop_instance, None)
    response = store(association, accepted[syntax], need.sop_class, sop_instance, [data])
    if category(response.outcome) is StatusCategory.FAILURE:
        log.warning(
            "%s answered a script's object %s with %s %s",
            association.called,
            sop_instance,
            describe(response.outcome),
            response.error_comment,
        )
    return StoreResult(sop_instance, response.outcome)


def _model(level: str) -> tuple[str, tuple[str, ...]]:
    found = _LEVELS.get(level.strip().upper())
    if found is None:
        raise RuleError(
            f"there is no query level {level[:20]!r}", remedy=f"use one of {', '.join(_LEVELS)}"
        )
    return found


def _accepted(association: Association, models: Sequence[str], service: str) -> PresentationContext:
    for model in models:
        for context in association.contexts_for(model):
            return context
    raise NoContext(f"the node does not offer {service}", where=str(association.called))


def _identifier(query: ElementTable, level: str | None, syntax: str) -> bytes:
    """Return the query as it is sent; the query itself is not changed."""
    copy = query.snapshot()
    if level:
        copy.set_text(QUERY_RETRIEVE_LEVEL, level)
    data = copy.tobytes()
    return data if copy.syntax == syntax else convert(data, copy.syntax, syntax)


def _counted(response: Command) -> tuple[int, int]:
    done = (response.completed or 0) + (response.failed or 0) + (response.warning or 0)
    return done, done + (response.remaining or 0)


def _move_problem(source: str, final: Command) -> str:
    status = final.outcome
    if category(status) is StatusCategory.SUCCESS and not final.failed:
        return ""
    comment = f" {final.error_comment}".rstrip()
    lost = f", {final.failed} object(s) failed" if final.failed else ""
    return f"***dicommove: {source} answered {describe(status)}{comment}{lost}"


__all__ = ["MEMORY_LIMIT_BYTES", "Peers", "StoreResult"]
