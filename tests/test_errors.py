"""What errors say, and that each has a message for an operator."""

from __future__ import annotations

import inspect

import pytest

from dgate import errors
from dgate.errors import DgateError, Rejected

CLASSES = [each for _, each in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (DgateError("it failed"), "it failed"),
        (DgateError("it failed", where="dicom.ini:3"), "dicom.ini:3: it failed"),
        (DgateError("it failed", remedy="mend it"), "it failed (mend it)"),
        (DgateError("it failed", where="x", remedy="mend it"), "x: it failed (mend it)"),
    ],
)
def test_message_has_place_and_remedy(error: DgateError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_is_one_of_dgate_and_explains_itself(kind: type[Exception]) -> None:
    assert issubclass(kind, DgateError)
    assert (kind.__doc__ or "").rstrip().endswith(".")


def test_rejection_keeps_the_codes_of_the_standard() -> None:
    error = Rejected("called AE title not recognised", result=1, source=1, reason=7, where="PEER")

    assert (error.result, error.source, error.reason) == (1, 1, 7)
    assert str(error) == "PEER: called AE title not recognised"
