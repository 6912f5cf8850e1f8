"""From an error to a DIMSE status: where a service chooses what to answer (PS3.7 annex C).

Pure functions.
"""

from __future__ import annotations

from dgate.errors import (
    DatabaseAway,
    DataSetMismatch,
    DgateError,
    NotDicom,
    OutOfSpace,
    Refused,
    RuleError,
)
from dgate.net.dimse import Status


def storage_status(error: DgateError, *, failed_code: int, classic: bool) -> int:
    """Return the C-STORE status for an object that was not stored.

    `failed_code` is StorageFailedErrorCode, which `classic` (StatusCodes = classic) gives for every
    cause.
    """
    if classic:
        return failed_code
    if isinstance(error, OutOfSpace | DatabaseAway):
        return Status.OUT_OF_RESOURCES
    if isinstance(error, DataSetMismatch):
        return Status.DATA_SET_MISMATCH
    if isinstance(error, NotDicom):
        return Status.CANNOT_UNDERSTAND
    if isinstance(error, Refused | RuleError):
        return failed_code
    return Status.PROCESSING_FAILURE


def comment(error: DgateError) -> str:
    """Return the error comment (0000,0902): the cause without places of this machine (LO, 64
    characters).
    """
    return error.what[:64]
