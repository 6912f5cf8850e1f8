"""Builds a folder as the original server leaves it, out of the compatibility reference alone.

Four text files, an SQLite database with the original's tables, indices, types and habits, and data
files under several forms of names. Nothing of dgate is used for it, so that what dgate makes of it
is a test. The same call builds the same bytes.
"""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import dcmwrite, write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

ROOT = "1.2.826.0.1.3680043.8.498.77"
WRITTEN = 1_400_000_000
"""When the last object was stored: Unix seconds."""

INI = """# This file contains configuration information for the DICOM server
# Do not edit unless you know what you are doing

[sscscp]
MicroPACS                = sscscp
Edition                  = Personal

# Network configuration: server name and TCP/IP port#
MyACRNema                = CONQUESTSRV1
TCPPort                  = {port}

# Host(ignored), name, username and password for ODBC data source
SQLHost                  = localhost
SQLServer                = {database}
Username                 = dontcare
Password                 = dontcare
PostGres                 = 0
MySQL                    = 0
SQLite                   = 1
UseEscapeStringConstants = 0
DoubleBackSlashToDB      = 0

# Configure database
TruncateFieldNames       = 10
MaxFieldLength           = 254
MaxFileNameLength        = 255
FixPhilips               = 0
FixKodak                 = 0
UIDPrefix                = 1.2.826.0.1.3680043.2.135.1066
EnableReadAheadThread    = 1
PatientQuerySortOrder    =
StudyQuerySortOrder      =
SeriesQuerySortOrder     =
ImageQuerySortOrder      =
EnableComputedFields     = 1
TCPIPTimeOut             = 300
FailHoldOff              = 60
RetryDelay               = 100
RetryForwardFailed       = 0
QueueSize                = 128
WorkListMode             = 0
WorkListReturnsISO_IR_100 = 1
DebugLevel               = 0
Prefetcher               = 0
LRUSort                  =
AllowTruncate            =
DecompressNon16BitsJpeg  = 1
UseBuiltInJPEG           = 1
LossyQuality             = 95
IgnoreOutOfMemoryErrors  = 0
NoDICOMCheck             = 0
PadAEWithZeros           = 0
FileNameSyntax           = {syntax}

# Configuration of compression for incoming images and archival
DroppedFileCompression   = un
IncomingCompression      = un
ArchiveCompression       = as

# Names of the database tables
PatientTableName         = DICOMPatients
StudyTableName           = DICOMStudies
SeriesTableName          = DICOMSeries
ImageTableName           = DICOMImages
DMarkTableName           = DICOMAccessUpdates
RegisteredMOPDeviceTable = RegisteredMOPIDs
UIDToMOPIDTable          = UIDToMOPID
UIDToCDRIDTable          = UIDToCDRID

# Banner and host for debug information
PACSName                 = CONQUESTSRV1
OperatorConsole          = 127.0.0.1

# Configuration of disk(s) to store images
MAGDeviceThreshold       = 0
MAGDeviceFullThreshold   = 30
IgnoreMAGDeviceThreshold = 0
MAGDevices               = 2
MAGDevice0               = {mag0}
MAGDevice1               = {mag1}
NightlyCleanThreshold    = 0
Dictionary               = dgate.dic
"""

MAP = """/* **********************************************************
 *  DICOM AE (Application entity) -> IP address / Port map  *
 ********************************************************** */

CONQUESTSRV1    127.0.0.1       {port}            un
{nodes}
/* the default entry */
V*              *               1234            un
S*              *               5678            un
"""

SOP_LIST = """#None\t\t\t\tnone\t\t\t\tRemoteAE
#None\t\t\t\tnone\t\t\t\tLocalAE
#DICOM\t\t\t\t1.2.840.10008.3.1.1.1\t\tapplication
Verification\t\t\t1.2.840.10008.1.1\t\tsop
StoreCTImage\t\t\t1.2.840.10008.5.1.4.1.1.2\tsop
StoreMRImage\t\t\t1.2.840.10008.5.1.4.1.1.4\tsop
FindPatientRootQuery\t\t1.2.840.10008.5.1.4.1.2.1.1\tsop
FindStudyRootQuery\t\t1.2.840.10008.5.1.4.1.2.2.1\tsop
MovePatientRootQuery\t\t1.2.840.10008.5.1.4.1.2.1.2\tsop
MoveStudyRootQuery\t\t1.2.840.10008.5.1.4.1.2.2.2\tsop
GetPatientRootQuery\t\t1.2.840.10008.5.1.4.1.2.1.3\tsop
GetStudyRootQuery\t\t1.2.840.10008.5.1.4.1.2.2.3\tsop
LittleEndianImplicit\t\t1.2.840.10008.1.2\t\ttransfer
LittleEndianExplicit\t\t1.2.840.10008.1.2.1\t\ttransfer
"""


@dataclass(frozen=True)
class Column:
    """A row of dicom.sql: tag, full name, length (0 = a date), DICOM type, keyword in pydicom."""

    tag: tuple[int, int]
    name: str
    length: int
    kind: str
    keyword: str

    @property
    def cut(self) -> str:
        """The name in the database."""
        return self.name[:10]

    @property
    def declaration(self) -> str:
        """Name and type in CREATE TABLE."""
        return f"{self.cut} " + (f"varchar({self.length})" if self.length else "char(8)")


def _column(tag: int, name: str, length: int, kind: str, keyword: str = "") -> Column:
    return Column((tag >> 16, tag & 0xFFFF), name, length, kind, keyword or name)


_PATIENT_ID = _column(0x00100020, "PatientID", 64, "DT_STR")
_NAME = _column(0x00100010, "PatientName", 64, "DT_STR")
_BIRTH = _column(0x00100030, "PatientBirthDate", 0, "DT_DATE")
_SEX = _column(0x00100040, "PatientSex", 16, "DT_STR")
_STUDY_UID = _column(0x0020000D, "StudyInstanceUID", 64, "DT_UI")
_SERIES_UID = _column(0x0020000E, "SeriesInstanceUID", 64, "DT_UI")
_S = "DT_STR"
PATIENT = (_PATIENT_ID, _NAME, _BIRTH, _SEX)
STUDY = (
    _STUDY_UID,
    _column(0x00080020, "StudyDate", 0, "DT_DATE"),
    _column(0x00080030, "StudyTime", 16, "DT_TIME"),
    _column(0x00200010, "StudyID", 16, _S),
    _column(0x00081030, "StudyDescription", 64, _S),
    _column(0x00080050, "AccessionNumber", 16, _S),
    _column(0x00080090, "ReferPhysician", 64, _S, "ReferringPhysicianName"),
    _column(0x00101010, "PatientsAge", 16, _S, "PatientAge"),
    _column(0x00101030, "PatientsWeight", 16, _S, "PatientWeight"),
    _column(0x00080061, "StudyModality", 64, "DT_MSTR", "ModalitiesInStudy"),
    _NAME,
    _BIRTH,
    _SEX,
    _PATIENT_ID,
)
SERIES = (
    _SERIES_UID,
    _column(0x00200011, "SeriesNumber", 12, _S),
    _column(0x00080021, "SeriesDate", 0, "DT_DATE"),
    _column(0x00080031, "SeriesTime", 16, "DT_TIME"),
    _column(0x0008103E, "SeriesDescription", 64, _S),
    _column(0x00080060, "Modality", 16, _S),
    _column(0x00185100, "PatientPosition", 16, _S),
    _column(0x00180010, "ContrastBolusAgent", 64, _S),
    _column(0x00080070, "Manufacturer", 64, _S),
    _column(0x00081090, "ModelName", 64, _S, "ManufacturerModelName"),
    _column(0x00180015, "BodyPartExamined", 64, _S),
    _column(0x00181030, "ProtocolName", 64, _S),
    _column(0x00081010, "StationName", 16, _S),
    _column(0x00080080, "Institution", 64, _S, "InstitutionName"),
    _column(0x00200052, "FrameOfReferenceUID", 64, "DT_UI"),
    _column(0x00100020, "SeriesPat", 64, _S, "PatientID"),
    _STUDY_UID,
)
IMAGE = (
    _column(0x00080018, "SOPInstanceUID", 64, "DT_UI"),
    _column(0x00080016, "SOPClassUID", 64, "DT_UI"),
    _column(0x00200013, "ImageNumber", 12, _S, "InstanceNumber"),
    _column(0x00080023, "ImageDate", 0, "DT_DATE", "ContentDate"),
    _column(0x00080033, "ImageTime", 16, "DT_TIME", "ContentTime"),
    _column(0x00180086, "EchoNumber", 64, "DT_MSTR", "EchoNumbers"),
    _column(0x00280008, "NumberOfFrames", 12, _S),
    _column(0x00080022, "AcqDate", 0, "DT_DATE", "AcquisitionDate"),
    _column(0x00080032, "AcqTime", 16, "DT_TIME", "AcquisitionTime"),
    _column(0x00181250, "ReceivingCoil", 16, _S, "ReceiveCoilName"),
    _column(0x00200012, "AcqNumber", 12, _S, "AcquisitionNumber"),
    _column(0x00201041, "SliceLocation", 16, _S),
    _column(0x00280002, "SamplesPerPixel", 5, "DT_UINT16"),
    _column(0x00280004, "PhotoMetricInterpretation", 16, _S, "PhotometricInterpretation"),
    _column(0x00280010, "QRows", 5, "DT_UINT16", "Rows"),
    _column(0x00280011, "QColumns", 5, "DT_UINT16", "Columns"),
    _column(0x00280101, "BitsStored", 5, "DT_UINT16"),
    _column(0x00080008, "ImageType", 128, "DT_MSTR"),
    _column(0x00540400, "ImageID", 16, _S),
    _column(0x00100020, "ImagePat", 64, _S, "PatientID"),
    _SERIES_UID,
)
WORKLIST = (
    (_column(0x00080050, "AccessionNumber", 16, _S), "OBR.3"),
    (_PATIENT_ID, "PID.4"),
    (_NAME, "PID.5"),
    (_BIRTH, "PID.7"),
    (_SEX, "PID.8"),
    (_STUDY_UID, "---"),
    (_column(0x00321032, "ReqPhysician", 64, _S), "OBR.16"),
)
ADDED = ("AccessTime int", "qTimeStamp int", "qFlags int", "qSpare varchar(64)")
TABLES = {
    "DICOMPatients": PATIENT,
    "DICOMStudies": STUDY,
    "DICOMSeries": SERIES,
    "DICOMImages": IMAGE,
}
INDICES = (
    ("study_lnk", "DICOMStudies", "PatientID"),
    # A slip of the original: the last column of the patient table.
    ("idx_patientid", "DICOMStudies", "PatientSex"),
    ("idx_patientid_studyinsta", "DICOMStudies", "PatientID, StudyInsta"),
    ("series_lnk", "DICOMSeries", "StudyInsta"),
    ("series_pat", "DICOMSeries", "SeriesPat"),
    ("idx_studyinsta_seriesinst", "DICOMSeries", "StudyInsta, SeriesInst"),
    ("images_lnk", "DICOMImages", "SeriesInst"),
    ("images_pat", "DICOMImages", "ImagePat"),
    ("idx_seriesinst_sopinstanc", "DICOMImages", "SeriesInst, SOPInstanc"),
    ("mods_old", "UIDMODS", "OldUID"),
    ("mods_stage", "UIDMODS", "Stage"),
    ("mods_joint", "UIDMODS", "OldUID, Stage"),
    ("mods_back", "UIDMODS", "NewUID, Stage"),
)


@dataclass(frozen=True)
class Stored:
    """An object that the installation holds."""

    sop_instance: str
    study: str
    series: str
    patient_id: str
    device: str
    name: str
    """As in column ObjectFile."""
    path: Path
    data: Dataset


@dataclass
class Installation:
    """A folder of the original's."""

    folder: Path
    port: int
    objects: list[Stored] = field(default_factory=list)

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.folder / "data" / "dbase" / "conquest.db3"

    def connect(self) -> sqlite3.Connection:
        """Open the database as the original does: text as bytes."""
        connection = sqlite3.connect(self.database, timeout=10)
        connection.text_factory = bytes
        return connection


@dataclass(frozen=True)
class Patient:
    """A patient of the fixture."""

    patient_id: str
    name: str
    charset: str
    raw_name: bytes


PATIENTS = (
    Patient("0009703828", "HEAD EXP2", "ISO_IR 100", b"HEAD EXP2"),
    Patient("P2", "Müller^Jürgen", "ISO_IR 100", "Müller^Jürgen".encode("latin-1")),
    Patient("P3", "Yamada^Tarou=山田^太郎", "ISO_IR 192", "Yamada^Tarou=山田^太郎".encode()),
    Patient("anon 4", "SMITH^JOHN", "", b"SMITH^JOHN"),
)

NAMES = {
    # FileNameSyntax of the time, as spec dimse.md 8.2 gives it; {t} = Unix seconds, {c} = counter.
    "0": "{name8}_{id8}/{s}_{i}_{t}.v2",
    "3": "{id16}/{series}_{s:04d}_{i:06d}_{t}{c:04x}.v2",
    "4": "{id16}/{series}_{s:04d}_{i:06d}_{t}{c:04x}.dcm",
    "5": "{name}/{series}_{s:04d}_{i:06d}_{t}{c:04x}.v2",
    "8": "{id32}/{study}/{series}/{sop}.dcm",
    "10": "Images/{sop}.dcm",
}


def build(
    folder: Path,
    *,
    port: int = 5678,
    nodes: Iterable[str] = (),
    syntax: str = "3",
    windows: bool = False,
    images: int = 2,
    indices: bool = True,
) -> Installation:
    """Build an installation: four patients with two studies each, one of them on MAG1.

    `windows`: names in the database and paths in dicom.ini have backslashes, lines end in CRLF.
    """
    folder.mkdir(parents=True)
    site = Installation(folder, port)
    (folder / "data" / "dbase").mkdir(parents=True)
    (folder / "data1").mkdir()
    texts = {
        "dicom.ini": _ini(port, syntax, windows=windows),
        "acrnema.map": MAP.format(port=port, nodes="\n".join(nodes)),
        "dicom.sql": dicom_sql(),
        "dgatesop.lst": SOP_LIST,
    }
    for name, text in texts.items():
        ending = "\r\n" if windows else "\n"
        (folder / name).write_bytes(text.replace("\n", ending).encode("latin-1"))
    connection = sqlite3.connect(site.database)
    create_tables(connection, indices=indices)
    forms = list(NAMES)
    counter = 0
    for number, patient in enumerate(PATIENTS):
        for study in range(2):
            for image in range(images):
                counter += 1
                form = forms[(number * 2 + study) % len(forms)]
                data = data_set(patient, number, study, image)
                name = file_name(form, patient, data, counter)
                device = f"MAG{study}"
                path = _write(folder / ("data1" if study else "data"), patient, name, data)
                shown = name.replace("/", "\\") if windows else name
                enter(connection, patient, data, device, shown, WRITTEN + counter * 40)
                site.objects.append(
                    Stored(
                        data.SOPInstanceUID,
                        data.StudyInstanceUID,
                        data.SeriesInstanceUID,
                        patient.patient_id,
                        device,
                        shown,
                        path,
                        data,
                    )
                )
    connection.commit()
    connection.close()
    return site


def _ini(port: int, syntax: str, *, windows: bool) -> str:
    text = INI.format(
        port=port,
        syntax=syntax,
        database="./data/dbase/conquest.db3",
        mag0="./data/",
        mag1="./data1/",
    )
    if windows:
        for path in ("./data/dbase/conquest.db3", "./data1/", "./data/"):
            text = text.replace(f"= {path}", "= " + path.replace("/", "\\"))
    return text


def dicom_sql() -> str:
    """Return dicom.sql in the shipped layout, the comma after PatientSex of *Study* missing."""
    parts = ["/*\n#\tDICOM Database layout\n*/\n"]
    for title, columns in (
        ("Patient", PATIENT),
        ("Study", STUDY),
        ("Series", SERIES),
        ("Image", IMAGE),
    ):
        rows = []
        for column in columns:
            row = _row(column)
            missing_comma = title == "Study" and column.name == "PatientSex"
            rows.append(row if missing_comma or column is columns[-1] else row + ",")
        parts.append(f"\n*{title}*\n{{\n" + "\n".join(rows) + "\n}\n")
    rows = [_row(column)[:-2] + f', "{hl7}" }}' for column, hl7 in WORKLIST]
    parts.append("\n*WorkList*\n{\n" + ",\n".join(rows) + "\n}\n")
    return "".join(parts)


def _row(column: Column) -> str:
    kind = "SQL_C_CHAR" if column.length else "SQL_C_DATE"
    group, element = column.tag
    length = column.length or 8
    return (
        f'\t{{ 0x{group:04x}, 0x{element:04x}, "{column.name}", {length}, {kind}, {column.kind} }}'
    )


def create_tables(connection: sqlite3.Connection, *, indices: bool = True) -> None:
    """Create tables and indices as `dgate -i` of the original does (`-i1` without indices)."""
    primary = " PRIMARY KEY not null" if indices else ""
    for table, columns in TABLES.items():
        lines = [column.declaration for column in columns]
        lines[0] += primary
        lines += ADDED
        if table == "DICOMImages":
            lines += ["ObjectFile varchar(254)", "DeviceName varchar(32)"]
        connection.execute(f"CREATE TABLE {table} ({', '.join(lines)})")
    worklist = [column.declaration for column, _ in WORKLIST]
    connection.execute(f"CREATE TABLE DICOMWorkList ({', '.join([*worklist, *ADDED])})")
    connection.execute(
        "CREATE TABLE UIDMODS (MODTime int, OldUID varchar(64), MODType varchar(32), "
        "NewUID varchar(64), Stage varchar(32), Annotation varchar(64))"
    )
    for name, table, names in INDICES if indices else ():
        connection.execute(f"CREATE INDEX {name} ON {table} ({names})")


def data_set(patient: Patient, number: int, study: int, image: int) -> Dataset:
    """Return an object; the same numbers give the same values."""
    data = Dataset()
    if patient.charset:
        data.SpecificCharacterSet = patient.charset
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.SOPClassUID = MRImageStorage if study else CTImageStorage
    data.SOPInstanceUID = f"{ROOT}.{number + 1}.{study + 1}.1.{image + 1}"
    data.StudyDate = f"201{number}0{study + 1}15"
    data.ContentDate = data.StudyDate
    data.StudyTime = "101500"
    data.AccessionNumber = f"A{number}{study}"
    data.Modality = "MR" if study else "CT"
    data.Manufacturer = "Example Imaging"
    data.StationName = "ROOM1"
    data.StudyDescription = "Schädel" if patient.charset == "ISO_IR 100" else "Head"
    data.PatientName = patient.name
    data.PatientID = patient.patient_id
    data.PatientBirthDate = "19600102"
    data.PatientSex = "M"
    data.StudyInstanceUID = f"{ROOT}.{number + 1}.{study + 1}"
    data.SeriesInstanceUID = f"{ROOT}.{number + 1}.{study + 1}.1"
    data.StudyID = str(study + 1)
    data.SeriesNumber = str(study + 1)
    data.InstanceNumber = str(image + 1)
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = 8, 8
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelRepresentation = 0
    data.PixelData = bytes((number, study, image, 0)) * 32
    data["PixelData"].VR = "OW"
    return data


def file_name(form: str, patient: Patient, data: Dataset, counter: int) -> str:
    """Return the name that the original gives; text is in the bytes of the object, as Latin-1."""
    cleaned = patient.raw_name.decode("latin-1")
    for odd in '/\\;><|,. :?*"':
        cleaned = cleaned.replace(odd, "_")
    identity = patient.patient_id.replace(" ", "_")
    return NAMES[form].format(
        name=cleaned,
        name8=cleaned[:8],
        id8=identity[:8],
        id16=identity[:16],
        id32=identity[:32],
        study=data.StudyInstanceUID,
        series=data.SeriesInstanceUID,
        sop=data.SOPInstanceUID,
        s=int(data.SeriesNumber),
        i=int(data.InstanceNumber),
        t=WRITTEN + counter * 40,
        c=counter,
    )


def _write(root: Path, patient: Patient, name: str, data: Dataset) -> Path:
    """Write a file: `.v2` as a bare implicit data set, others as Part 10."""
    # The original writes the bytes of the object's text into the name of the folder.
    raw = bytes(root) + b"/" + name.encode("latin-1")
    path = Path(raw.decode("utf-8", "surrogateescape"))
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    if name.endswith(".v2"):
        out = DicomFileLike(buffer)
        out.is_implicit_VR, out.is_little_endian = True, True
        write_dataset(out, data)
    else:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = data.SOPClassUID
        meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta = meta
        dcmwrite(buffer, data, enforce_file_format=True)
    path.write_bytes(buffer.getvalue())
    return path


def enter(
    connection: sqlite3.Connection,
    patient: Patient,
    data: Dataset,
    device: str,
    name: str,
    now: int,
) -> None:
    """Enter an object with the original's statements, text in the bytes of the object."""
    access = now & ~31
    for table in ("DICOMImages", "DICOMSeries", "DICOMStudies", "DICOMPatients"):
        columns = TABLES[table]
        values = {column.cut: _value(column, patient, data) for column in columns}
        found = {name: value for name, value in values.items() if value is not None}
        found["AccessTime"] = str(access).encode()
        if table == "DICOMImages":
            found["ObjectFile"] = name.encode("latin-1")
            found["DeviceName"] = device.encode()
        key = columns[0].cut
        exists = connection.execute(
            f"SELECT 1 FROM {table} WHERE {key} = CAST(? AS TEXT)", (found[key],)
        ).fetchone()
        if exists is None:
            connection.execute(insert_statement(table, found), list(found.values()))
        else:
            changed = ", ".join(f"{name} = CAST(? AS TEXT)" for name in found if name != key)
            rest = [value for name, value in found.items() if name != key]
            connection.execute(
                f"UPDATE {table} SET {changed} WHERE {key} = CAST(? AS TEXT)", [*rest, found[key]]
            )


def insert_statement(table: str, names: Iterable[str]) -> str:
    """Return INSERT with each value as the text that its bytes are, whatever they decode to."""
    listed: Sequence[str] = list(names)
    values = ", ".join("CAST(? AS TEXT)" for _ in listed)
    return f"INSERT INTO {table} ({', '.join(listed)}) VALUES ({values})"


def _value(column: Column, patient: Patient, data: Dataset) -> bytes | None:
    if column.name == "StudyModality":
        return str(data.Modality).encode()
    value = data.get(column.keyword)
    if value is None or value == "":
        return None
    if column.keyword == "PatientName":
        return patient.raw_name
    text = "\\".join(map(str, value)) if isinstance(value, list) else str(value)
    if not isinstance(value, str | int | float) and not isinstance(value, list):
        text = "\\".join(map(str, value)) if hasattr(value, "__iter__") else str(value)
    encoding = "latin-1" if patient.charset == "ISO_IR 100" else "utf-8"
    return text.encode(encoding)


__all__ = ["Installation", "Stored", "build"]
