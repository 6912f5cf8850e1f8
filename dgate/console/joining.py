"""Server commands that give an object the identity of another one, or run a script on it.

Values of one object go into the other as they are: nothing in them is a statement. Run in the
caller's thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from dgate.archive.scripting import Change
from dgate.console.archiving import loaded
from dgate.console.arguments import demand, identifier, split
from dgate.console.server import Command, Tools
from dgate.dicom.element import tag_of
from dgate.dicom.table import ElementTable
from dgate.errors import RuleError
from dgate.rules.effects import ImportVerdict, Outcome

_PATIENT: Final = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
_STUDY: Final = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_SERIES: Final = (
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDate",
    "SeriesTime",
    "SeriesDescription",
    "Modality",
    "FrameOfReferenceUID",
)
_SOP_CLASS, _SOP_INSTANCE, _PATIENT_ID = 0x00080016, 0x00080018, 0x00100020
_STUDY_UID: Final = 0x0020000D
_STRUCTURES, _FRAME_OF_REFERENCE = 0x300C0060, 0x00200052
_REFERENCED_CLASS, _REFERENCED_INSTANCE = 0x00081150, 0x00081155
_PLAN: Final = "1.2.840.10008.5.1.4.1.1.481.5"
_STRUCTURE_SET: Final = "1.2.840.10008.5.1.4.1.1.481.3"
_ANONYMISER: Final = "lua/anonymize_script.lua"
_NO_ARGUMENT: Final = frozenset("()\"';%|\\\r\n")
"""What would end or change the argument of the anonymiser."""


def _attaching(*keywords: str) -> Command:
    """Return `attachanytopatient`, `attachanytostudy` or `attachanytoseries`."""

    def attach(tools: Tools, arguments: str, upload: bytes) -> None:
        """`attachanytoX:file,sample`: the stored object joins the patient, study or series.

        It gets new UIDs below that level, those of the register, so that objects that were together
        stay together; what was left behind keeps its own.
        """
        file, other = split(arguments, ",", 2)
        sample = tools.archive().load(demand(other, "the sample"))
        run = tools.current().hooks.run_statements

        def join(table: ElementTable) -> ImportVerdict:
            if all(table.text(tag) == sample.text(tag) for tag in _tags(keywords)):
                return ImportVerdict()
            verdict = run("newuids", table)
            _take(table, sample, keywords)
            return verdict

        _change(tools, demand(file, "the file"), join)

    return attach


def _tags(keywords: Sequence[str]) -> list[int]:
    found = [tag_of(keyword) for keyword in keywords]
    return [tag for tag in found if tag is not None]


def _take(table: ElementTable, sample: ElementTable, keywords: Sequence[str]) -> None:
    """Copy elements; what the sample does not have goes."""
    for tag in _tags(keywords):
        if tag in sample:
            table.set_text(tag, sample.text(tag))
        else:
            table.delete(tag)


def attach_plan(tools: Tools, arguments: str, upload: bytes) -> None:
    """`attachrtplantortstruct:plan,structure set`: the plan refers to that one of its study."""
    file, other = split(arguments, ",", 2)
    structures = tools.archive().load(demand(other, "the structure set"))
    if structures.text(_SOP_CLASS) != _STRUCTURE_SET:
        raise RuleError(f"{other} is no RT structure set")

    def refer(table: ElementTable) -> ImportVerdict:
        if table.text(_SOP_CLASS) != _PLAN:
            raise RuleError(f"{file} is no RT plan")
        if table.text(_STUDY_UID) != structures.text(_STUDY_UID):
            raise RuleError(
                "plan and structure set belong to different studies",
                remedy="use attachanytostudy first",
            )
        if structures.text(_FRAME_OF_REFERENCE):
            table.set_text(_FRAME_OF_REFERENCE, structures.text(_FRAME_OF_REFERENCE))
        item = table.new_item()
        item.set_text(_REFERENCED_CLASS, _STRUCTURE_SET)
        item.set_text(_REFERENCED_INSTANCE, structures.text(_SOP_INSTANCE))
        table.set_items(_STRUCTURES, [item])
        return ImportVerdict()

    _change(tools, demand(file, "the plan"), refer)


def _change(tools: Tools, file: str, change: Change) -> None:
    """Change one stored object in its place."""
    sop_instance = tools.archive().load(file).text(_SOP_INSTANCE)
    query = identifier(SOPInstanceUID=demand(sop_instance, "a SOPInstanceUID"))
    if not tools.archive().modify(query, change, copy=False):
        raise RuleError(f"{file} was not changed: it is not stored, or is like that already")


def attach_file(tools: Tools, arguments: str, upload: bytes) -> str:
    """`attachfile:file,script`: store a file, or what is uploaded, as import statements leave it.

    Other rules do not see it. Returns `0`, or `1` and why it is not stored.
    """
    file, script = split(arguments, ",", 2)
    return _store(tools, loaded(tools, file, upload), demand(script, "the script"))


def anonymise(tools: Tools, arguments: str, upload: bytes) -> str:
    """`anonymize:id,file`: store a copy of an object without what identifies, with another ID.

    By the script lua/anonymize_script.lua where the base folder has it, else by the basic profile
    of PS3.15 (spec anonymization.md A17: never by a list of seven elements).
    """
    patient, file = split(arguments, ",", 2)
    found = _NO_ARGUMENT & set(demand(patient, "the new patient ID"))
    if found:
        raise RuleError(f"the patient ID {patient[:40]!r} cannot be used: it has {min(found)!r}")
    table = loaded(tools, file, upload)
    if tools.files().place(_ANONYMISER).is_file():
        return _store(tools, table, f"{_ANONYMISER}({patient})")
    return _store(tools, table, "deidentify profile basic", patient)


def modify_patient_id(tools: Tools, arguments: str, upload: bytes) -> None:
    """`modifypatid:id,file`: give one stored object another patient ID, and new UIDs."""
    patient, file = split(arguments, ",", 2)
    demand(patient, "the patient ID")
    run = tools.current().hooks.run_statements

    def change(table: ElementTable) -> ImportVerdict:
        verdict = run("newuids", table)
        table.set_text(_PATIENT_ID, patient)
        return verdict

    _change(tools, demand(file, "the file"), change)


def _store(tools: Tools, table: ElementTable, script: str, patient: str = "") -> str:
    verdict = tools.current().hooks.run_statements(script, table)
    if verdict.forwards:
        raise RuleError(
            "the script of a server command cannot forward",
            remedy="write the forward into an export converter",
        )
    if verdict.outcome is not Outcome.KEEP:
        return f"1 {verdict.reason or 'the script refused the object'}"
    if patient:
        table.set_text(_PATIENT_ID, patient)
    tools.archive().add(table)
    return "0"


COMMANDS: Mapping[str, Command] = {
    "attachanytopatient": _attaching(*_PATIENT),
    "attachanytostudy": _attaching(*_PATIENT, *_STUDY),
    "attachanytoseries": _attaching(*_PATIENT, *_STUDY, *_SERIES),
    "attachrtplantortstruct": attach_plan,
    "attachfile": attach_file,
    "anonymize": anonymise,
    "modifypatid": modify_patient_id,
}
