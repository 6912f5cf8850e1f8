"""What a stored object becomes when it moves to another device: MoveDeviceConverter0, then
ArchiveCompression (spec dimse.md 8.6).

Makes the new bytes and says what the index is to hold of them. Not for where they go
(`move_device`). Runs in the caller's thread.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import PurePath

from dgate.archive.changes import ChangeRecord, record_of
from dgate.archive.devices import Device
from dgate.archive.export import Exporter, Outgoing
from dgate.archive.incoming import check_identity
from dgate.archive.index import Index
from dgate.archive.levels import PATIENT_NAME
from dgate.archive.maintenance.stored_rules import StoredRules
from dgate.archive.naming import Naming, extension
from dgate.archive.records import InstanceRef
from dgate.archive.repair import repair
from dgate.archive.rows import Entry
from dgate.config.layout import PATIENT_ID, SERIES_UID, SOP_UID, STUDY_UID
from dgate.config.settings import Settings
from dgate.dicom.part10 import file_meta
from dgate.dicom.payload import Payload
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import stored_syntax_for
from dgate.dicom.uids import transfer_syntax
from dgate.errors import CannotTranscode
from dgate.rules.events import Event

log = logging.getLogger(__name__)

_NAMING = (PATIENT_ID, PATIENT_NAME, STUDY_UID, SERIES_UID, SOP_UID)
"""Who the object is: when one of these changes, its file gets the name that they make."""


@dataclass(slots=True)
class Recast:
    """An object as it is to be at its new place; `payload` has to be closed."""

    payload: Payload
    header: bytes
    """What stands before the data set in the file."""
    name: str
    sop_instance: str
    entry: Entry | None
    """What the index is to hold, when a rule changed the object."""
    record: ChangeRecord | None = None
    """What the rule changed."""


class Recaster:
    """Changes objects that move."""

    def __init__(
        self,
        settings: Settings,
        index: Index,
        exporter: Exporter,
        naming: Naming,
        rules: StoredRules | None,
    ) -> None:
        self._settings = settings
        self._index = index
        self._exporter = exporter
        self._naming = naming
        self._rules = rules if rules is not None and rules.has(Event.MOVE_DEVICE) else None

    @property
    def has_rule(self) -> bool:
        """Whether a converter sees each object, so that studies have to move as a whole."""
        return self._rules is not None

    def recast(self, ref: InstanceRef, device: Device) -> Recast | None:
        """Return what an object becomes on its way to a device; None when it stays as it is.

        A crash leaves at most a spill file, which recovery removes.

        Raises:
            RuleError: the converter failed; the object must then not move.
            StoreError: the object cannot be read, or what the converter made of it is none.
        """
        syntax = self._wanted_syntax(ref)
        rule = None
        if self._rules is not None:
            path = self._exporter.path(ref)
            rule = _Rule(self._rules, self._settings, self._index, self._naming, ref, path)
        outgoing = None
        while outgoing is None and (rule is not None or syntax is not None):
            try:
                outgoing = self._exporter.open(ref, syntax, rule)
            except _AsItWas:
                rule = None
            except CannotTranscode as exc:
                log.warning("An object moved in the transfer syntax that it has: %s", exc)
                syntax = None
        if outgoing is None:
            return None
        try:
            changed = rule is not None and rule.entry is not None
            if syntax is None and not changed:
                return None
            return self._copy(ref, device, outgoing, rule if changed else None, syntax)
        finally:
            outgoing.close()

    def _wanted_syntax(self, ref: InstanceRef) -> str | None:
        """Return what ArchiveCompression asks for; None when that is what the object has."""
        compression = self._settings.archive_compression
        if not compression or ref.name.lower().endswith(".v2"):
            return None
        stored = self._exporter.peek(ref).syntax
        wanted = stored_syntax_for(compression, stored)
        return None if wanted == stored else wanted

    def _copy(
        self,
        ref: InstanceRef,
        device: Device,
        outgoing: Outgoing,
        rule: _Rule | None,
        syntax: str | None,
    ) -> Recast:
        header = self._exporter.head(ref)
        changed = header and (
            outgoing.sop_instance != ref.sop_instance
            or outgoing.syntax != self._exporter.peek(ref).syntax
        )
        if syntax is not None or changed:
            header = file_meta(outgoing.sop_class, outgoing.sop_instance, outgoing.syntax)
        payload = Payload(lambda: device.spill(ref.sop_instance, header))
        try:
            for chunk in outgoing.chunks():
                payload.append(chunk)
        except BaseException:
            payload.close()
            raise
        if rule is None:
            return Recast(payload, header, ref.name, ref.sop_instance, None)
        assert rule.entry is not None
        sop_instance = rule.entry.sop_instance
        return Recast(payload, header, rule.name, sop_instance, rule.entry, rule.record)


class _AsItWas(Exception):
    """The converter said that the object is to be left as it was."""


class _Rule:
    """MoveDeviceConverter0 for one object, as `Exporter.open` runs it."""

    def __init__(
        self,
        rules: StoredRules,
        settings: Settings,
        index: Index,
        naming: Naming,
        ref: InstanceRef,
        path: PurePath,
    ) -> None:
        self._rules = rules
        self._settings = settings
        self._index = index
        self._naming = naming
        self._ref = ref
        self._path = path
        self.entry: Entry | None = None
        """What the index is to hold; None when nothing was changed."""
        self.record: ChangeRecord | None = None
        self.name = ref.name

    def __call__(self, table: ElementTable) -> None:
        self.entry, self.record, self.name = None, None, self._ref.name
        original = table.snapshot()
        before = [table.text(tag) for tag in _NAMING]
        if not self._rules.run(Event.MOVE_DEVICE, table, self._ref, self._path):
            raise _AsItWas
        if not table.revision:
            return
        check_identity(table, "", "")
        repaired = repair(table, self._settings)
        for tag, uid in repaired.generated:
            table.set_text(tag, uid)
        self.entry = self._index.entry(table, repaired)
        if self._settings.change_log:
            self.record = record_of(original, table, [f"{Event.MOVE_DEVICE.value}Converter0"])
        if before != [table.text(tag) for tag in _NAMING]:
            encapsulated = transfer_syntax(table.syntax).encapsulated
            name = self._naming.name(table, self.entry, "", "", encapsulated=encapsulated)
            # The ending says how the file is written.
            if extension(name).lower() == extension(self._ref.name).lower():
                self.name = name
