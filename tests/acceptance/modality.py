"""A modality that tells of its procedure steps (MPPS), played by pynetdicom as SCU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import ModalityPerformedProcedureStep

from tests.reactor import steadied

PATIENCE_S = 120.0


class Modality:
    """An association for performed procedure steps."""

    def __init__(self, port: int, calling: str) -> None:
        ae = AE(ae_title=calling)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = PATIENCE_S
        ae.connection_timeout = PATIENCE_S
        ae.add_requested_context(
            ModalityPerformedProcedureStep, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
        )
        self._answers: list[Dataset] = []
        heard = [(evt.EVT_DIMSE_RECV, self._hear)]
        self.association = steadied(
            ae.associate("127.0.0.1", port, ae_title="GATE", evt_handlers=heard)
        )

    def create(self, data: Dataset, uid: str | None) -> Dataset:
        """Send an N-CREATE; returns the command set of the answer."""
        self.association.send_n_create(data, ModalityPerformedProcedureStep, uid)
        return self._answers.pop()

    def change(self, data: Dataset, uid: str) -> Dataset:
        """Send an N-SET."""
        self.association.send_n_set(data, ModalityPerformedProcedureStep, uid)
        return self._answers.pop()

    def _hear(self, event: Any) -> None:
        self._answers.append(event.message.command_set)


def accepted(port: int, calling: str) -> bool:
    """Tell whether steps are taken from a caller."""
    association = Modality(port, calling).association
    found = bool(association.accepted_contexts)
    if association.is_established:
        association.release()
    return found


@contextmanager
def associated(port: int, calling: str = "CT1") -> Iterator[Modality]:
    """Yield an association that was accepted."""
    modality = Modality(port, calling)
    assert modality.association.is_established
    try:
        yield modality
    finally:
        modality.association.release()


def begun(*studies: str, **more: Any) -> Dataset:
    """Return what an N-CREATE says; None leaves an attribute out."""
    data = Dataset()
    data.ScheduledStepAttributesSequence = []
    for study in studies:
        item = Dataset()
        item.StudyInstanceUID = study
        item.ReferencedStudySequence = []
        item.AccessionNumber = "A4711"
        item.RequestedProcedureID = "RP1"
        data.ScheduledStepAttributesSequence.append(item)
    values: dict[str, Any] = {
        "PatientName": "Doe^Jane",
        "PatientID": "P1",
        "PerformedProcedureStepID": "PPS1",
        "PerformedStationAETitle": "CT1",
        "PerformedProcedureStepStartDate": "20260314",
        "PerformedProcedureStepStartTime": "101500",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "PerformedProcedureStepEndDate": "",
        "PerformedProcedureStepEndTime": "",
        "Modality": "CT",
        "StudyID": "1",
        "PerformedSeriesSequence": [],
        **more,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(data, keyword, value)
    return data


def ended(
    series: dict[str, Sequence[str]] | None, status: str = "COMPLETED", reports: Sequence[str] = ()
) -> Dataset:
    """Return what an N-SET says of the end of a step; `reports` are objects that are no images, of
    the first series."""
    data = Dataset()
    data.PerformedProcedureStepStatus = status
    data.PerformedProcedureStepEndDate = "20260314"
    data.PerformedProcedureStepEndTime = "103000"
    if series is not None:
        data.PerformedSeriesSequence = [performed(*each) for each in series.items()]
        if reports:
            first = data.PerformedSeriesSequence[0]
            first.ReferencedNonImageCompositeSOPInstanceSequence = list(map(reference, reports))
    return data


def performed(series: str, objects: Sequence[str]) -> Dataset:
    """Return an item of the Performed Series Sequence."""
    item = Dataset()
    item.SeriesInstanceUID = series
    item.ProtocolName = "Head"
    item.ReferencedImageSequence = list(map(reference, objects))
    item.ReferencedNonImageCompositeSOPInstanceSequence = []
    return item


def reference(sop_instance: str) -> Dataset:
    """Return a reference to an object."""
    item = Dataset()
    item.ReferencedSOPClassUID = CTImageStorage
    item.ReferencedSOPInstanceUID = sop_instance
    return item
