"""Server commands that change what is stored: delete, modify, merge, add, regen, make space.

Run in the caller's thread.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dgate.archive.importer import FILE_SOURCE_AE, IMPORTED, files_below, import_file
from dgate.archive.levels import Level
from dgate.archive.maintenance.corrections import Plan
from dgate.archive.orders import load_orders
from dgate.archive.records import Arrival
from dgate.console.arguments import demand, identifier, number, objects_of, split, uid
from dgate.console.server import Command, Tools
from dgate.dicom.table import ElementTable
from dgate.errors import DgateError, RuleError
from dgate.rules.actions import APART
from dgate.rules.run import log

_WHO = "a script"
_WHY = "server command"
_PATIENT_ID = 0x00100020
_MEGABYTE = 1 << 20
_CHANGES = ("", "1", "0", "change", "copy")
_DATES = re.compile(r"(\d{8})?(-)?(\d{8})?\Z")


def _remove(tools: Tools, **keys: str) -> None:
    tools.archive().delete(identifier(**keys))


def delete_patient(tools: Tools, arguments: str, upload: bytes) -> None:
    """`deletepatient:id`, worklist entries and all."""
    patient = demand(arguments.strip(), "the patient ID")
    for _ in tools.caretaker().deleter.delete(Level.PATIENT, patient, who=_WHO, why=_WHY):
        pass


def delete_study(tools: Tools, arguments: str, upload: bytes) -> None:
    """`deletestudy:patient:uid`."""
    patient, study = split(arguments, ":", 2)
    _remove(tools, PatientID=patient, StudyInstanceUID=uid(demand(study, "the study"), "a study"))


def delete_series(tools: Tools, arguments: str, upload: bytes) -> None:
    """`deleteseries:patient:uid`."""
    patient, series = split(arguments, ":", 2)
    _remove(
        tools, PatientID=patient, SeriesInstanceUID=uid(demand(series, "the series"), "a series")
    )


def delete_image(tools: Tools, arguments: str, upload: bytes) -> None:
    """`deleteimage:patient:sop`."""
    patient, sop_instance = split(arguments, ":", 2)
    _remove(
        tools, PatientID=patient, SOPInstanceUID=uid(demand(sop_instance, "the image"), "an image")
    )


def delete_studies(tools: Tools, arguments: str, upload: bytes) -> None:
    """`deletestudies:date` or `date-date`."""
    dates = demand(arguments.strip(), "the date")
    if _DATES.match(dates) is None or dates == "-":
        raise RuleError(f"{dates[:20]!r} is not a date or range of dates (YYYYMMDD-YYYYMMDD)")
    found = tools.archive().studies_of(dates)
    for study in found:
        _remove(tools, StudyInstanceUID=study)


def delete_image_file(tools: Tools, arguments: str, upload: bytes) -> None:
    """`deleteimagefile:file`: the stored object whose file that is."""
    table = tools.archive().load(demand(arguments.strip(), "the file"))
    _remove(tools, SOPInstanceUID=demand(table.text(0x00080018), "a SOPInstanceUID"))


def delete_record(tools: Tools, arguments: str, upload: bytes) -> str:
    """`deleterecord:table,where`."""
    table, where = split(arguments, ",", 2)
    return _executed(
        tools, f"DELETE FROM {demand(table, 'the table')} WHERE {demand(where, 'the condition')}"
    )


def add_record(tools: Tools, arguments: str, upload: bytes) -> str:
    """`addrecord:table|fields|values`."""
    table, fields, values = (demand(each, "an argument") for each in split(arguments, "|", 3))
    return _executed(tools, f"INSERT INTO {table} ({fields}) VALUES ({values})")


def _executed(tools: Tools, statement: str) -> str:
    if not tools.archive().execute(statement):
        raise RuleError("the database refused the statement: the log says why")
    return "0"


def modifier(tools: Tools, arguments: str, upload: bytes) -> None:
    """`modifier:patient,study,series,sop,change(1)/copy(0),script`."""
    patient, study, series, sop, change, script = split(arguments, ",", 6)
    query = objects_of(patient, study, series, sop)
    if change.lower() not in _CHANGES:
        raise RuleError(f"{change[:40]!r} is neither 1 (change) nor 0 (copy)")
    copy = change.lower() in ("0", "copy")
    tools.archive().modify(query, demand(script, "the script"), copy=copy)


def modify_study(tools: Tools, arguments: str, upload: bytes) -> None:
    """`modifystudy:patient,study,script`."""
    patient, study, script = split(arguments, ",", 3)
    query = identifier(
        PatientID=patient, StudyInstanceUID=uid(demand(study, "the study"), "a study")
    )
    tools.archive().modify(query, demand(script, "the script"), copy=False)


def modify_series(tools: Tools, arguments: str, upload: bytes) -> None:
    """`modifyseries:patient,series,script`."""
    patient, series, script = split(arguments, ",", 3)
    query = identifier(
        PatientID=patient, SeriesInstanceUID=uid(demand(series, "the series"), "a series")
    )
    tools.archive().modify(query, demand(script, "the script"), copy=False)


def modify_image(tools: Tools, arguments: str, upload: bytes) -> None:
    """`modifyimage:file,script`; `'` stands for `"` in the script."""
    file, script = split(arguments, ",", 2)
    sop_instance = tools.archive().load(demand(file, "the file")).text(0x00080018)
    query = identifier(SOPInstanceUID=demand(sop_instance, "a SOPInstanceUID"))
    script = demand(script, "the script").replace("'", '"')
    tools.archive().modify(query, script, copy=False)


def merge_study(tools: Tools, arguments: str, upload: bytes) -> str:
    """`mergestudy:uid,uid..`: give the objects of the other studies to the first one.

    What can be checked is checked of all before the first is merged. Then each is merged by itself:
    a failure leaves those before it merged, and it and those after it as they were. Returns how
    many were merged; the error of a failure says that, too, and which are left.
    """
    return _merge(tools, arguments, tools.caretaker().planner.merge_study)


def merge_series(tools: Tools, arguments: str, upload: bytes) -> str:
    """`mergeseries:uid,uid..`: give the objects of the other series to the first one; as
    `merge_study`."""
    return _merge(tools, arguments, tools.caretaker().planner.merge_series)


def _merge(tools: Tools, arguments: str, plan: Callable[[str, str], Plan]) -> str:
    first, *others = _uids(arguments)
    plans = {other: plan(other, first) for other in others}
    for done, other in enumerate(plans):
        try:
            _correct(tools, plans[other])
        except DgateError as exc:
            left = ",".join([first, *list(plans)[done:]])
            raise RuleError(
                f"{done} of {len(plans)} were merged into {first}, {other} was not: {exc}",
                remedy=f"when that is mended, merge the rest: {left}",
            ) from exc
    return f"{len(plans)} of {len(plans)} merged"


def _uids(arguments: str) -> list[str]:
    found = [part.strip() for part in arguments.replace(APART, ",").split(",") if part.strip()]
    if len(found) < 2:
        raise RuleError("a merge takes two UIDs or more")
    return found


def _correct(tools: Tools, plan: Plan) -> None:
    corrector = tools.caretaker().corrector
    for correction in plan.corrections:
        for _ in corrector.correct(correction, who=_WHO, why=plan.what):
            pass


def add_image_file(tools: Tools, arguments: str, upload: bytes) -> str:
    """`addimagefile:file[,patient]`, or of the bytes that came with the command."""
    file, patient = split(arguments, ",", 2)
    return _added(tools, file, patient, upload)


def _added(tools: Tools, file: str, patient: str, upload: bytes = b"") -> str:
    """Store a file and return `0`, else `1` and why not."""
    try:
        if patient:
            _add_as(tools, file, upload, patient)
        elif upload:
            with uploaded(tools, upload) as path:
                import_file(tools.current().ingest, path)
        else:
            place = tools.files().place(demand(file, "the file"))
            import_file(tools.current().ingest, place)
    except (DgateError, OSError) as exc:
        log.warning("A script could not add %s: %s", file or "a file", exc)
        return f"1 {exc}"
    return "0"


def load_and_delete_dir(tools: Tools, arguments: str, upload: bytes) -> str:
    """`loadanddeletedir:folder[,patient]`: enter all files below a folder, and remove each that is
    stored.

    What is refused stays where it is, and the answer counts it.
    """
    name, patient = split(arguments, ",", 2)
    folder = tools.files().place(demand(name, "the folder")).resolve()
    if not folder.is_dir():
        raise RuleError(f"{name} is no folder")
    settings = tools.current().settings
    for device in (*settings.mag_devices, *settings.mirror_devices):
        place = device.resolve()
        if folder.is_relative_to(place) or place.is_relative_to(folder):
            raise RuleError(
                f"{name} is the place of stored objects, or holds it: nothing was done",
                remedy="use `dgate regen` to enter files of a device",
            )
    failed = 0
    for path in list(files_below([folder])):
        if _added(tools, str(path), patient) == "0":
            tools.files().remove(str(path))
        else:
            failed += 1
    return f"1 {failed} of the files below {name} are not stored, and stay there" if failed else "0"


def _add_as(tools: Tools, file: str, upload: bytes, patient: str) -> None:
    with uploaded(tools, upload) if upload else _placed(tools, file) as path:
        table = tools.archive().load(str(path))
    table.set_text(_PATIENT_ID, patient)
    ingest = tools.current().ingest
    payload = ingest.payload(table.syntax, table.text(0x00080016), table.text(0x00080018), "")
    try:
        payload.append(table.tobytes())
    except BaseException:
        payload.close()
        raise
    ingest.store(Arrival(payload, table.syntax, FILE_SOURCE_AE, FILE_SOURCE_AE, source=IMPORTED))


@contextmanager
def _placed(tools: Tools, file: str) -> Iterator[Path]:
    yield tools.files().place(demand(file, "the file"))


def loaded(tools: Tools, file: str, upload: bytes) -> ElementTable:
    """Return the object in a file, or in what came with the command where no file is named."""
    if not file and upload:
        with uploaded(tools, upload) as path:
            return tools.archive().load(str(path))
    return tools.archive().load(demand(file, "the file"))


@contextmanager
def uploaded(tools: Tools, upload: bytes) -> Iterator[Path]:
    """Lend a file with what came with the command."""
    folder = tools.current().settings.temp_dir
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix="dgate-", suffix=".dcm", dir=folder)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(upload)
        yield path
    finally:
        path.unlink(missing_ok=True)


def load_hl7(tools: Tools, arguments: str, upload: bytes) -> None:
    """`loadhl7:file`: worklist entries out of HL7 messages."""
    data = upload or tools.files().read(demand(arguments.strip(), "the file"))
    load_orders(data, tools.current().worklist)


def regen(tools: Tools, arguments: str, upload: bytes) -> None:
    """`regen:`: enter the files of all devices again."""
    tools.rebuild("", "")


def regen_device(tools: Tools, arguments: str, upload: bytes) -> None:
    """`regendevice:MAGn`."""
    tools.rebuild(demand(arguments.strip(), "the device"), "")


def regen_dir(tools: Tools, arguments: str, upload: bytes) -> None:
    """`regendir:device,folder`, or the folder alone."""
    first, second = split(arguments, ",", 2)
    device, folder = (first, second) if second else ("", demand(first, "the folder"))
    tools.rebuild(device, folder)


def regen_file(tools: Tools, arguments: str, upload: bytes) -> None:
    """`regenfile:file`: enter what its folder holds again."""
    tools.rebuild("", os.path.dirname(demand(arguments.strip(), "the file")))  # noqa: PTH120


def make_space(tools: Tools, arguments: str, upload: bytes) -> str:
    """`makespace:MB`: delete least recent patients until so much is free."""
    wanted = number(arguments, "a number of megabytes") * _MEGABYTE
    for _ in tools.caretaker().cleaner.make_room(wanted, who=_WHO, why=_WHY):
        pass
    return "0"


def move_data(tools: Tools, arguments: str, upload: bytes) -> None:
    """`movedatatodevice:to,from`."""
    target, source = split(arguments, ",", 2)
    mover = tools.caretaker().mover
    mover.check(source, target)
    for _ in mover.move(source, target, None):
        pass


def move_series(tools: Tools, arguments: str, upload: bytes) -> None:
    """`moveseriestodevice:to,from[,series]`: one series, or all of them."""
    target, source, series = split(arguments, ",", 3)
    mover = tools.caretaker().mover
    mover.check(source, target)
    for _ in mover.move(source, target, (Level.SERIES, series) if series else None):
        pass


def rename_device(tools: Tools, arguments: str, upload: bytes) -> None:
    """`renamedevice:from,to`."""
    source, target = split(arguments, ",", 2)
    mover = tools.caretaker().mover
    mover.check(source, target, rename=True)
    for _ in mover.rename(source, target):
        pass


def prefetch(tools: Tools, arguments: str, upload: bytes) -> None:
    """`prefetch:patient`: read all files of a patient, so that they are in the system's cache."""
    exporter = tools.current().exporter
    for ref in tools.caretaker().deleter.find(Level.PATIENT, demand(arguments, "the patient ID")):
        outgoing = exporter.open(ref)
        try:
            for _ in outgoing.chunks():
                pass
        finally:
            outgoing.close()


def generate_uid(tools: Tools, arguments: str, upload: bytes) -> str:
    """`genuid:`."""
    return tools.new_uid()


def change_uid(tools: Tools, arguments: str, upload: bytes) -> str:
    """`changeuid:uid`, in the stage without a name."""
    return tools.uids().forward(arguments.strip(), "", "--changeuid")


def change_uid_back(tools: Tools, arguments: str, upload: bytes) -> str:
    """`changeuidback:uid`."""
    return tools.uids().back(arguments.strip()) or ""


COMMANDS: Mapping[str, Command] = {
    "deletepatient": delete_patient,
    "deletestudy": delete_study,
    "deleteseries": delete_series,
    "deleteimage": delete_image,
    "deletestudies": delete_studies,
    "deleteimagefile": delete_image_file,
    "deleterecord": delete_record,
    "addrecord": add_record,
    "modifier": modifier,
    "modifystudy": modify_study,
    "modifyseries": modify_series,
    "modifyimage": modify_image,
    "mergestudy": merge_study,
    "mergeseries": merge_series,
    "addimagefile": add_image_file,
    "addlocalfile": add_image_file,
    "loadanddeletedir": load_and_delete_dir,
    "loadhl7": load_hl7,
    "regen": regen,
    "regendevice": regen_device,
    "regendir": regen_dir,
    "regenfile": regen_file,
    "makespace": make_space,
    "movedatatodevice": move_data,
    "moveseriestodevice": move_series,
    "renamedevice": rename_device,
    "prefetch": prefetch,
    "genuid": generate_uid,
    "changeuid": change_uid,
    "changeuidback": change_uid_back,
}
