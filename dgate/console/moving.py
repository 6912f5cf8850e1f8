"""Server commands that send: C-MOVE at every level, `forward`, `echo`.

Run in the caller's thread, to their end.
"""

from __future__ import annotations

from collections.abc import Mapping

from dgate.console.arguments import demand, identifier, split
from dgate.console.server import Command, Tools
from dgate.net import StatusCategory, category, describe
from dgate.rules.run import log

_LOCAL = ("", "(local)", "local")


def _move(tools: Tools, source: str, target: str, level: str, **keys: str) -> str:
    own = tools.current().settings.ae_title
    query = identifier(QueryRetrieveLevel=level, **keys)
    problem = tools.peers().move(
        own if source.lower() in _LOCAL else source,
        demand(target, "the destination"),
        query,
        patient_root=level == "PATIENT",
    )
    if problem:
        log.warning("A move that a script asked for failed: %s", problem)
    return f"1 Move failed: {problem}" if problem else "0"


def _with_patient(text: str) -> tuple[str, str]:
    """Split `[patient:]uid`."""
    patient, colon, key = text.rpartition(":")
    return (patient, key) if colon else ("", text)


def move_patient(tools: Tools, arguments: str, upload: bytes) -> str:
    """`movepatient:source,destination,id`."""
    source, target, patient = split(arguments, ",", 3)
    return _move(tools, source, target, "PATIENT", PatientID=demand(patient, "the patient ID"))


def move_study(tools: Tools, arguments: str, upload: bytes) -> str:
    """`movestudy:source,destination,[patient:]uid`."""
    source, target, key = split(arguments, ",", 3)
    patient, study = _with_patient(demand(key, "the study"))
    return _move(tools, source, target, "STUDY", PatientID=patient, StudyInstanceUID=study)


def move_series(tools: Tools, arguments: str, upload: bytes) -> str:
    """`moveseries:source,destination,[patient:]uid,study`."""
    source, target, key, study = split(arguments, ",", 4)
    patient, series = _with_patient(demand(key, "the series"))
    return _move(
        tools,
        source,
        target,
        "SERIES",
        PatientID=patient,
        StudyInstanceUID=study,
        SeriesInstanceUID=series,
    )


def move_any(tools: Tools, arguments: str, upload: bytes) -> str:
    """`move:source,destination,patient,study,series,sop`: the lowest level that is named."""
    source, target, patient, study, series, sop = split(arguments, ",", 6)
    named = (("IMAGE", sop), ("SERIES", series), ("STUDY", study), ("PATIENT", patient))
    level = next((level for level, key in named if key), "")
    return _move(
        tools,
        source,
        target,
        demand(level, "a patient, study, series or image"),
        PatientID=patient,
        StudyInstanceUID=study,
        SeriesInstanceUID=series,
        SOPInstanceUID=sop,
    )


def move_accession(tools: Tools, arguments: str, upload: bytes) -> str:
    """`moveaccession:source,destination,[patient:]accession`: the studies that a query finds."""
    source, target, key = split(arguments, ",", 3)
    patient, accession = _with_patient(demand(key, "the accession number"))
    return _move_found(tools, source, target, PatientID=patient, AccessionNumber=accession)


def move_studies(tools: Tools, arguments: str, upload: bytes) -> str:
    """`movestudies:source,destination,date`, or a range of dates: the studies found."""
    source, target, date = split(arguments, ",", 3)
    return _move_found(tools, source, target, StudyDate=demand(date, "the date"))


def _move_found(tools: Tools, source: str, target: str, **keys: str) -> str:
    """Have the studies sent that match; C-MOVE itself has unique keys only (PS3.4 C.4.2.2.1)."""
    own = tools.current().settings.ae_title
    node = own if source.lower() in _LOCAL else source
    query = identifier(**keys)
    query.set_text(0x0020000D, "")
    found = tools.peers().find(node, "STUDY", query)
    if found is None:
        return f"1 Move failed: {node} does not answer the query"
    answers = [
        _move(tools, node, target, "STUDY", StudyInstanceUID=uid)
        for uid in dict.fromkeys(table.text(0x0020000D) for table in found)
        if uid
    ]
    return next((answer for answer in answers if answer != "0"), "0")


def forward(tools: Tools, arguments: str, upload: bytes) -> str:
    """`forward:file,compression,AE`: one object, at once."""
    file, code, node = split(arguments, ",", 3)
    table = tools.archive().load(demand(file, "the file"))
    found = tools.peers().store(demand(node, "the AE title"), [table], code=code or None)
    if isinstance(found, str):
        return f"1 {found}"
    status = found[0].status
    if status is None:
        return "1 the object could not be sent: the log says why"
    failed = category(status) is StatusCategory.FAILURE
    return f"1 {describe(status)}" if failed else "0"


def echo(tools: Tools, arguments: str, upload: bytes) -> str:
    """`echo:AE`."""
    node = demand(arguments.partition(",")[0].strip(), "the AE title")
    return f"{node} is {'DOWN' if tools.peers().echo(node) is None else 'UP'}"


COMMANDS: Mapping[str, Command] = {
    "movepatient": move_patient,
    "movestudy": move_study,
    "moveseries": move_series,
    "moveaccession": move_accession,
    "movestudies": move_studies,
    "move": move_any,
    "forward": forward,
    "echo": echo,
}
