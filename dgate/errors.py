"""The exception tree: every failure that dgate reports to an operator or a peer.

A class docstring is the operator's message. Each error carries what happened, where, and what to do
about it.
"""

from __future__ import annotations


class DgateError(Exception):
    """dgate could not do what was asked."""

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        """Return the message as `where: what (remedy)`, leaving out what is not known."""
        place = f"{self.where}: " if self.where else ""
        advice = f" ({self.remedy})" if self.remedy else ""
        return f"{place}{self.what}{advice}"


class ConfigError(DgateError):
    """The configuration cannot be used."""


class RuleError(DgateError):
    """A rule or script failed."""


class Busy(RuleError):
    """A script waited in vain for another one; nothing is wrong with it."""


class NotExecutable(RuleError):
    """The rule uses a statement that this version or configuration does not execute."""


class Deferred(DgateError):
    """A rule asked for its line to be run again later; nothing is wrong."""


class Unsafe(RuleError):
    """De-identification failed; the object is not kept, whatever ScriptErrors says."""


class StoreError(DgateError):
    """The object could not be stored or read."""


class OutOfSpace(StoreError):
    """The storage device is full or cannot be written; free space or add a MAGDevice."""


class TooManyFiles(OutOfSpace):
    """The process, or the machine, has as many files open as it may; nothing was stored."""


class NotSynced(OutOfSpace):
    """The disk lost a part of what was written; the object was not stored and has to come again."""


class DatabaseAway(StoreError):
    """The index database does not answer; nothing was stored."""


class OutcomeUnknown(DatabaseAway):
    """The database server, or SQLite's disk, failed while it committed: the object may be indexed,
    or not."""


class NotDicom(StoreError):
    """The data set cannot be parsed as DICOM."""


class DataSetMismatch(StoreError):
    """The data set does not match the SOP class or instance that the command names."""


class Refused(StoreError):
    """A rule or the identity check of the index refused the object."""


class Missing(StoreError):
    """The object is indexed but its file cannot be found."""


class Unreadable(StoreError):
    """The object's file is there but cannot be read; look at the disk that it lies on."""


class CannotTranscode(StoreError):
    """The object cannot be converted to a transfer syntax that the peer accepts."""


class PeerError(DgateError):
    """The peer could not be talked to."""


class Unreachable(PeerError):
    """No connection to the peer's address could be made."""


class Rejected(PeerError):
    """The peer rejected the association."""

    def __init__(
        self, what: str, *, result: int, source: int, reason: int, where: str = ""
    ) -> None:
        super().__init__(what, where=where)
        self.result = result
        self.source = source
        self.reason = reason


class TimedOut(PeerError):
    """The peer did not answer in time."""


class Aborted(PeerError):
    """The association was aborted or the connection was lost."""


class ProtocolError(PeerError):
    """The peer sent something that the DICOM upper layer protocol does not allow."""


class NoContext(PeerError):
    """The peer accepted no presentation context for the object's SOP class and transfer syntax."""
