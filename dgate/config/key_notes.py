"""What people are told about keys beside their meaning: units, examples, differences.

Kept apart from the rows in `key_table`, which decide what a key does, and joined with them there. A
row that has a note of its own keeps it. A table of constants.
"""

from __future__ import annotations

from dataclasses import replace

from dgate.config.keys import MAIN, Key, KeyType

_MB, _S = "megabytes", "seconds"

UNITS = {
    "TCPIPTimeOut": _S,
    "PDUSize": "bytes",
    "MaxAssociations": "associations",
    "TruncateFieldNames": "characters",
    "MaxFieldLength": "characters",
    "MaxFileNameLength": "characters",
    "MAGDeviceFullThreshold": _MB,
    "MAGDeviceThreshold": _MB,
    "NightlyCleanThreshold": _MB,
    "NightlyMoveThreshold": _MB,
    "DelayIncomingFileOpen": "milliseconds",
    "LossyQuality": "per cent",
    "CodecThreads": "threads",
    "DelayedForwarderThreads": "associations",
    "MaximumExportRetries": "tries",
    "MaximumDelayedFetchForwardRetries": "tries",
    "ImportConverters": "rules",
    "ExportConverters": "rules",
    "MAGDevices": "folders",
    "MIRRORDevices": "folders",
    "OverlapVirtualGet": "objects",
    "VirtualServerPerSeriesN": "images",
    "ChangeLogDays": "days",
    "DiskWarningDays": "days",
}
"""What a number counts; those of type SECONDS need no entry."""

EXAMPLES = {
    "MyACRNema": "SITE1",
    "TCPPort": "11112",
    "PACSName": "ARCHIVE",
    "SQLServer": "./data/dbase/dgate.db3",
    "SQLite": "1",
    "PostGres": "1",
    "MySQL": "1",
    "SQLHost": "db.example:5432",
    "Username": "dgate",
    "Password": "secret",
    "SQLiteStartup": "PRAGMA cache_size = -65536",
    "MySQLStartup": "SET SESSION wait_timeout = 86400",
    "PostGreSQLStartup": "SET statement_timeout = '60s'",
    "AllowTruncate": "StudyDescr,SeriesDesc",
    "TempDir": "/var/tmp/dgate",
    "OperatorConsole": "127.0.0.1",
    "ziptime": "05:",
    "EnableComputedFields": "1",
    "PatientQuerySortOrder": "DICOMPatients.PatientNam",
    "StudyQuerySortOrder": "DICOMStudies.StudyDate DESC",
    "SeriesQuerySortOrder": "DICOMSeries.SeriesNumb",
    "ImageQuerySortOrder": "DICOMImages.ImageNumbe",
    "QueriesReturnISO_IR": "192",
    "WorkListReturnsISO_IR_100": "1",
    "MAGDeviceN": "./data/",
    "MIRRORDeviceN": "/mnt/mirror/",
    "MAGDeviceThreshold": "5000",
    "NightlyCleanThreshold": "5000",
    "LRUSort": "StudyDate",
    "NightlyMoveThreshold": "5000",
    "NightlyMoveTarget": "MAG1",
    "NightlyStrTimeToMove": "02:00",
    "WatchFolder": "./incoming/",
    "IncomingCompression": "as",
    "DroppedFileCompression": "as",
    "CodecThreads": "2",
    "VirtualServerForN": "ARCHIVE,NONVIRTUAL",
    "ExportConverters": "1",
    "RetryDelay": "100",
    "FailHoldOff": "60",
    "ScriptFolders": "/srv/dgate/scripts",
    "TLSPort": "2762",
    "HL7Port": "2575",
}
"""Values worth showing where the default is empty or says nothing."""

_FOLDER = (
    "A relative path starts at the folder of dicom.ini, and only where nothing is there at the "
    "current folder, so that it does not matter from where the server is started."
)
_THRESHOLD = (
    "The usual spelling counts. In the original it had no effect, because a misspelt twin "
    "(...ThreshHold) with a default was asked for first; that one is read too, as another spelling."
)
_COLUMNS = (
    "A list of columns, each with ASC or DESC if wanted, that has to name columns of the index; "
    "the original put any text into its SQL statement."
)
_REPAIR = "The repair goes into the index and into queries; the stored object stays as it came."
_TRANSACTION = (
    "Used as written on SQLite, in lower case on PostgreSQL, and on MariaDB in the spelling that "
    "exists already."
)
_RETRIES = (
    "Deliveries are rows of the database: none is lost by a restart, a full queue or a limit."
)

DIFFERS = {
    "MicroPACS": "A misspelt section header is tolerated with a warning where only one section "
    "can be meant; the original ran on with AE title none, port 104 and no database.",
    "TCPIPTimeOut": "TCP/IPTimeOut, which is in old files and was ignored, is read too.",
    "PDUSize": "The default is 131072 rather than 4096 or 32768, which makes fewer messages.",
    "kFactorFile": "Mistakes are reported with their line; a link row that is missing or stands "
    "elsewhere is put in its place; columns are added to existing tables and never dropped.",
    "ACRNemaMap": "A comment behind an entry does not swallow the next line; comments are read as "
    "they look. Hosts may be IPv6 addresses. The file is read again when it changes.",
    "SOPClassList": "The last line counts without a line end, and comments may be indented or "
    "begin with // or ;.",
    "TroubleLog": "It has all warnings and errors, not lines with three asterisks.",
    "UserLog": _FOLDER,
    "SQLServer": f"{_FOLDER} A folder, which meant dBase files, gets an SQLite file; an ODBC data "
    "source is an error.",
    "SQLite": "The driver is chosen by these keys in one order, SQLite first, with a warning when "
    "several are set; the original used two orders.",
    "PostGres": "SQLite wins where several are set, with a warning.",
    "MySQL": "SQLite and PostGres win where several are set, with a warning.",
    "SQLiteStartup": "The default is empty rather than PRAGMA synchronous = OFF, with which a "
    "power cut could destroy the index; synchronous and journal_mode are left to Durability.",
    "AllowTruncate": "Blanks after the commas are allowed.",
    **{f"{level}TableName": _TRANSACTION for level in ("Patient", "Study", "Series", "Image")},
    **{f"{level}QuerySortOrder": _COLUMNS for level in ("Patient", "Study", "Series", "Image")},
    "FixPhilips": _REPAIR,
    "FixKodak": _REPAIR,
    "AllowEmptyPatientID": _REPAIR,
    "MAGDeviceN": f"{_FOLDER} A device without folder is an error rather than a folder NULL.",
    "MAGDeviceThreshold": _THRESHOLD,
    "MAGDeviceFullThreshold": _THRESHOLD,
    "IgnoreMAGDeviceThreshold": _THRESHOLD,
    "NightlyCleanThreshold": f"{_THRESHOLD} It does not depend on logging to a file.",
    "FileNameSyntax": "Files named .v2 are DICOM files unless V2Content = raw. A name that another "
    "object has gets _1, _2 and so on; the original overwrote that object. A template must not "
    "lead out of the device.",
    "UIDPrefix": "What cannot begin a UID is an error.",
    "StorageFailedErrorCode": "For what a rule or the identity check refuses. A full disk, a data "
    "set that does not match its command, or one that cannot be parsed have the statuses of the "
    "standard (StatusCodes = classic gives the old single code). A number that means success is an "
    "error: the sender would delete its copy.",
    "IncomingCompression": "The private compressions n1 to n5 have no encoder: objects are left "
    "uncompressed.",
    "DroppedFileCompression": "The private compressions n1 to n5 have no encoder: objects are left "
    "uncompressed.",
    "DelayedForwarderThreads": "Associations to one destination, not threads of every queue.",
    "RetryDelay": "Without the key the pauses grow from RetryFirst to RetryMax; the original "
    f"waited 100 seconds. {_RETRIES}",
    "FailHoldOff": "Without the key there is no least pause beside that of RetryFirst. Only the "
    "destination that failed pauses.",
    "MaximumExportRetries": "The delivery is set aside as stuck and stays in `dgate queue`; the "
    "original deleted all that was waiting.",
    "MaximumDelayedFetchForwardRetries": "The operation is set aside as stuck; the original "
    "deleted all that was waiting.",
    "ImportConverterN": "A forward is a delivery that survives restarts and is tried again, not a "
    "send in the middle of the C-STORE whose failure was logged and forgotten. A rule that fails "
    "refuses the object (ScriptErrors). Programs need AllowSystemCommands, and no shell is used.",
    "ExportConverterN": "A send that failed is always tried again; the original dropped it unless "
    "it was the connection that failed. Programs need AllowSystemCommands, and no shell is used.",
    "ExportFilterN": "A condition of one statement: semicolons and comments are refused. Values "
    "are compared with what is stored, columns may be written in full or as they are cut.",
}
"""How the effect of a key is another than in the original, and why."""


def with_notes(*rows: Key) -> tuple[Key, ...]:
    """Return the rows of the registry with their notes."""
    return tuple(_with_note(row) for row in rows)


def _with_note(row: Key) -> Key:
    if row.section != MAIN:
        return row
    unit = row.unit or UNITS.get(row.name, _S if row.type is KeyType.SECONDS else "")
    example = row.example or EXAMPLES.get(row.name, "")
    differs = row.differs or DIFFERS.get(row.name, "")
    if not example and row.type is KeyType.PATTERN:
        example = {"Modality": "CT", "Station": "ROOM1"}.get(_field_of(row.name), "SCANNER1")
    if not example and row.type is KeyType.SCRIPT:
        example = "forward to ARCHIVE" if row.name == "ExportConverterN" else 'ifempty "%i"; reject'
    if (unit, example, differs) == (row.unit, row.example, row.differs):
        return row
    return replace(row, unit=unit, example=example, differs=differs)


def _field_of(name: str) -> str:
    """Return the element that a filter is about."""
    return next((field for field in ("Modality", "Station") if field in name), "")
