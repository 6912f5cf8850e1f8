"""The commands of `dgate aside`, for the control socket and for an archive opened by the command
(rulings.md 20).

Runs in the caller's thread. Without `apply` nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dgate.archive.aside import Aside, Report
from dgate.archive.files import COPY_BYTES
from dgate.archive.ingest import Ingest
from dgate.archive.maintenance.journal import JOURNAL_NAME, Journal
from dgate.archive.records import Arrival, Outcome
from dgate.clock import Clock
from dgate.config.settings import Engine, Settings
from dgate.dicom.part10 import read_meta
from dgate.errors import DgateError, StoreError
from dgate.ops.control import Answer, Command

_HEAD_BYTES = 1 << 16


def aside_commands(
    settings: Callable[[], Settings], ingest: Callable[[], Ingest], clock: Clock
) -> dict[str, Command]:
    """Return the commands; `settings` and `ingest` give what counts now."""
    office = _Office(settings, ingest, clock)
    return {
        "aside.list": office.list,
        "aside.show": office.show,
        "aside.accept": office.accept,
        "aside.discard": office.discard,
    }


class _Office:
    def __init__(
        self, settings: Callable[[], Settings], ingest: Callable[[], Ingest], clock: Clock
    ) -> None:
        self._settings = settings
        self._ingest = ingest
        self._clock = clock

    def list(self, arguments: Answer) -> Iterator[Answer]:
        """Yield the report of each object that was put aside, without what differs."""
        for report in self._aside().reports():
            shown = report.as_dict()
            shown["differences"] = len(report.differences) + report.more
            yield {"aside": shown}

    def show(self, arguments: Answer) -> Iterator[Answer]:
        """Yield the whole report of an entry, or of all entries of a SOP instance."""
        aside = self._aside()
        for report in aside.find(_name(arguments)):
            yield {"aside": {**report.as_dict(), "file": str(aside.path(report))}}

    def accept(self, arguments: Answer) -> Iterator[Answer]:
        """Let an object that was put aside take the place of the stored one.

        A crash leaves the entry as it was, and perhaps the object stored already; the same command
        then finishes.

        Raises:
            StoreError: it does not take the place; the entry stays, as it may be the only copy of
                what its sender was told is kept.
        """
        aside, name = self._aside(), _name(arguments)
        found = aside.find(name)
        if len(found) > 1:
            raise DgateError(
                f"{len(found)} contents of {name} were put aside",
                remedy="name one of them: " + ", ".join(report.name for report in found),
            )
        [report] = found
        if arguments.get("apply"):
            with self._journal().work(
                "accept", who=_who(arguments), why="dgate aside accept", **_told(report)
            ):
                self._store(aside, report)
                aside.remove(report)
        yield {"aside": report.as_dict()}

    def discard(self, arguments: Answer) -> Iterator[Answer]:
        """Remove an entry, or all entries of a SOP instance; the stored object stays."""
        aside = self._aside()
        for report in aside.find(_name(arguments)):
            if arguments.get("apply"):
                with self._journal().work(
                    "discard", who=_who(arguments), why="dgate aside discard", **_told(report)
                ):
                    aside.remove(report)
            yield {"aside": report.as_dict()}

    def _store(self, aside: Aside, report: Report) -> None:
        path = aside.path(report)
        if self._settings().engine is Engine.NONE:
            raise StoreError(
                "no database is configured that would keep it; it stays aside",
                where=str(path),
                remedy="configure one, then give the same command",
            )
        ingest = self._ingest()
        payload = ingest.payload(
            report.aside.syntax, report.sop_class, report.sop_instance, report.calling
        )
        try:
            with path.open("rb") as file:
                meta = read_meta(file.read(_HEAD_BYTES))
                file.seek(meta.data_offset)
                while piece := file.read(COPY_BYTES):
                    payload.append(piece)
        except OSError as exc:
            payload.close()
            raise StoreError(f"it cannot be read: {exc.strerror}", where=str(path)) from exc
        except BaseException:
            payload.close()
            raise
        receipt = ingest.store(
            Arrival(
                payload,
                report.aside.syntax,
                report.calling,
                report.called,
                report.sop_class,
                report.sop_instance,
                replaces=True,
                decided=True,
                passed_rules=True,
                source_host=report.host,
            )
        )
        if receipt.outcome not in (Outcome.STORED, Outcome.REWRITTEN):
            raise StoreError(
                "the stored object was left as it is; this one stays aside",
                where=f"{receipt.device} {receipt.name}".strip(),
                remedy="move the stored object to a storage device, then give the same command, "
                "or discard this one",
            )

    def _aside(self) -> Aside:
        # Not one of its own: what arrives meanwhile goes by the same lock.
        return self._ingest().aside

    def _journal(self) -> Journal:
        return Journal(self._settings().base_folder / "dgate" / JOURNAL_NAME, self._clock)


def _told(report: Report) -> dict[str, Any]:
    """Return what the journal says of an entry."""
    return {
        "patient": report.patient_id,
        "sop_instance": report.sop_instance,
        "name": report.name,
        "stored": report.stored.sha256,
        "aside": report.aside.sha256,
    }


def _name(arguments: Answer) -> str:
    name = arguments.get("name")
    if not isinstance(name, str) or not name:
        raise DgateError("the name of the entry is missing", remedy="dgate aside list")
    return name


def _who(arguments: Answer) -> str:
    return str(arguments.get("who") or "somebody")
