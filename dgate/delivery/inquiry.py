"""Questions to a peer's archive: C-FIND with decoded answers, and lists of its objects.

One way for virtual servers and for `dgate get`. Not for retrieving what was found. An `Inquiry`
belongs to the thread that owns its association.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass

from dgate.archive.levels import Level
from dgate.dicom.encode import QUERY_RETRIEVE_LEVEL, UTF_8, encode_data_set
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from dgate.errors import NoContext, NotDicom, PeerError, ProtocolError
from dgate.net import (
    Association,
    ContextProposal,
    PresentationContext,
    StatusCategory,
    category,
    describe,
    find,
)

UNCOMPRESSED = (EXPLICIT_LE, IMPLICIT_LE)
PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1"
STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2"
"""Query/retrieve models; `.1` is C-FIND, `.2` C-MOVE, `.3` C-GET (PS3.4 C.6)."""

PATIENT_ID = 0x00100020
ACCESSION = 0x00080050
OBJECTS_OF_PATIENT = 0x00201204
OBJECTS_OF_STUDY = 0x00201208
OBJECTS_OF_SERIES = 0x00201209
"""Optional keys: how many objects there are (PS3.4 C.3.4)."""
STUDY_DATE = 0x00080020
STUDY_TIME = 0x00080030
SOP_CLASS = 0x00080016
SOP_INSTANCE = 0x00080018
STUDY = 0x0020000D
SERIES = 0x0020000E
UNIQUE = (PATIENT_ID, STUDY, SERIES, SOP_INSTANCE)
"""The unique keys, from the highest level down (PS3.4 C.2.2.1.1)."""

Answer = dict[int, str]
Amend = Callable[[ElementTable], None]
"""Changes an identifier before it is sent, or an answer before it is used."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a peer's archive lists it; what the peer did not say is empty."""

    sop_class: str
    sop_instance: str
    patient_id: str
    study: str
    series: str


def find_proposals() -> list[ContextProposal]:
    """Return the contexts that an inquiry needs."""
    return [ContextProposal(f"{root}.1", UNCOMPRESSED) for root in (STUDY_ROOT, PATIENT_ROOT)]


def model_context(
    association: Association, level: Level, service: int, *, patient_root: bool = False
) -> PresentationContext:
    """Return the accepted context for a level: Study Root where possible, else Patient Root.

    `service` is the last component of the SOP class: 1 C-FIND, 2 C-MOVE, 3 C-GET. Raises NoContext.
    """
    roots = [PATIENT_ROOT] if level is Level.PATIENT else [STUDY_ROOT, PATIENT_ROOT]
    for root in reversed(roots) if patient_root else roots:
        for context in association.contexts_for(f"{root}.{service}"):
            return context
    what = {1: "C-FIND", 2: "C-MOVE", 3: "C-GET"}[service]
    raise NoContext(
        f"the node does not offer {what} at level {level.value}", where=str(association.called)
    )


def encode_identifier(
    level: Level, values: Mapping[int, str | None], syntax: str, amend: Amend | None
) -> bytes:
    """Encode the identifier of a request; raises PeerError for a value that cannot be encoded."""
    texts = "".join(value for value in values.values() if value)
    try:
        data = encode_data_set(
            {**values, QUERY_RETRIEVE_LEVEL: level.value}, syntax, "" if texts.isascii() else UTF_8
        )
    except ValueError as exc:
        raise PeerError(f"a key of the query cannot be encoded: {exc}") from exc
    if amend is None:
        return data
    table = ElementTable(data, syntax)
    amend(table)
    return table.tobytes()


class Inquiry:
    """Asks one peer over one association."""

    def __init__(
        self, association: Association, amend: Amend | None = None, received: Amend | None = None
    ) -> None:
        """`amend` changes each identifier, `received` each answer."""
        self._association = association
        self._amend = amend
        self._received = received

    def find(self, level: Level, values: Mapping[int, str | None]) -> Generator[Answer, None, None]:
        """Yield the decoded answers; closing the iterator early cancels the query.

        Raises:
            NoContext: the peer does not offer queries at this level.
            PeerError: it refused the query, failed, or went away.
        """
        context = model_context(self._association, level, 1)
        data = encode_identifier(level, values, context.transfer_syntax, self._amend)
        with closing(find(self._association, context.id, data)) as answers:
            for answer in answers:
                kind = category(answer.status)
                if kind is StatusCategory.PENDING:
                    yield self._decoded(answer.identifier, context.transfer_syntax)
                elif kind is not StatusCategory.SUCCESS:
                    comment = f" {answer.command.error_comment}".rstrip()
                    raise PeerError(
                        f"the query was answered {describe(answer.status)}{comment}",
                        where=self._association.called,
                    )

    def _decoded(self, data: bytes, syntax: str) -> Answer:
        try:
            table = ElementTable(data, syntax)
            if self._received is not None:
                self._received(table)
            return {tag: table.text(tag) for tag in table.tags() if not table.is_sequence(tag)}
        except NotDicom as exc:
            raise ProtocolError(
                f"an answer cannot be read: {exc.what}", where=self._association.called
            ) from exc


def plain_uid(text: str) -> str:
    """Return a UID without padding: NUL by the standard (PS3.5 9.1), blanks by mistake."""
    return text.strip(" \0")


def number_in(answer: Answer, tag: int) -> int | None:
    """Return a count (IS) of an answer, None when the peer does not say or writes none."""
    text = plain_uid(answer.get(tag, ""))
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 12 else None


Recall = Callable[[tuple[str, ...], Callable[[], list[Listed]]], list[Listed]]
"""Gives a list that is remembered under a key, or has it made and perhaps remembers it."""


def _always_ask(key: tuple[str, ...], ask: Callable[[], list[Listed]]) -> list[Listed]:
    return ask()


def list_objects(
    inquiry: Inquiry,
    keys: Mapping[int, str],
    *,
    of_study: Recall = _always_ask,
    of_series: Recall = _always_ask,
) -> list[Listed]:
    """Return the objects that a retrieve request with these keys means, level by level.

    Each question has the unique keys of all levels above, as PS3.4 C.4.1.2.1 asks; only a request
    that leaves out an upper level itself is put as it stands. Raises what `Inquiry.find` raises.
    """
    walk = _Walk(inquiry, keys, of_study, of_series)
    if keys.get(STUDY):
        studies = _values(keys[STUDY])
    elif keys.get(SERIES) or keys.get(SOP_INSTANCE):
        return walk.images({tag: value for tag, value in keys.items() if value})
    else:
        studies = walk.studies(keys.get(PATIENT_ID, ""))
    found = [listed for study in studies for listed in walk.study(study)]
    wanted = frozenset(_values(keys.get(SOP_INSTANCE, "")))
    return [each for each in found if not wanted or each.sop_instance in wanted]


class _Walk:
    """One descent through the levels of a peer's archive."""

    def __init__(
        self, inquiry: Inquiry, keys: Mapping[int, str], of_study: Recall, of_series: Recall
    ) -> None:
        self._inquiry = inquiry
        self._series = _values(keys.get(SERIES, ""))
        self._instances = keys.get(SOP_INSTANCE, "")
        self._patient = keys.get(PATIENT_ID, "")
        self._others = {tag: value for tag, value in keys.items() if value and tag not in UNIQUE}
        self._of_study = of_study
        self._of_series = of_series

    def studies(self, patient_id: str) -> list[str]:
        values = {PATIENT_ID: patient_id, STUDY: ""}
        answers = self._inquiry.find(Level.STUDY, values)
        return list(dict.fromkeys(filter(None, (each.get(STUDY, "") for each in answers))))

    def study(self, study: str) -> list[Listed]:
        is_whole = not (self._series or self._instances or self._others)
        if is_whole:
            return self._of_study((study,), lambda: self._ask_study(study))
        return self._ask_study(study)

    def _ask_study(self, study: str) -> list[Listed]:
        series = self._series
        if not series:
            answers = self._inquiry.find(Level.SERIES, {STUDY: study, SERIES: ""})
            series = list(dict.fromkeys(filter(None, (each.get(SERIES, "") for each in answers))))
        return [listed for each in series for listed in self._ask_series(study, each)]

    def _ask_series(self, study: str, series: str) -> list[Listed]:
        values = {**self._others, STUDY: study, SERIES: series}
        if self._instances or self._others:
            return self.images({**values, SOP_INSTANCE: self._instances})
        return self._of_series((study, series), lambda: self.images(values))

    def images(self, values: Mapping[int, str]) -> list[Listed]:
        wanted: dict[int, str | None] = dict.fromkeys((SOP_CLASS, SOP_INSTANCE, STUDY, SERIES))
        answers = self._inquiry.find(Level.IMAGE, wanted | dict(values))
        return [
            Listed(
                answer.get(SOP_CLASS, ""),
                answer[SOP_INSTANCE],
                answer.get(PATIENT_ID, "") or self._patient,
                answer.get(STUDY) or values.get(STUDY, ""),
                answer.get(SERIES) or values.get(SERIES, ""),
            )
            for answer in answers
            if answer.get(SOP_INSTANCE)
        ]


def _values(text: str) -> list[str]:
    return [value for value in dict.fromkeys(part.strip() for part in text.split("\\")) if value]
