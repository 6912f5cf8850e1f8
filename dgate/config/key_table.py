"""The rows of the registry: every setting of spec dicom-ini.md 2-11 and of dgate's own.

A table of constants; the look-ups are in `keys`. The order is that of the reference page.
"""

from __future__ import annotations

from dgate.config.key_notes import with_notes
from dgate.config.keys import ANY_KEY, Key, KeyType, Mark, Registry
from dgate.config.node_keys import NODE_KEYS

_CORE, _CORE2, _LEGACY, _OWN = Mark.CORE, Mark.CORE2, Mark.LEGACY, Mark.OWN
_INT, _BOOL, _TEXT, _PATH = KeyType.INT, KeyType.BOOL, KeyType.TEXT, KeyType.PATH
_SECONDS, _CODE, _CHOICE = KeyType.SECONDS, KeyType.CODE, KeyType.CHOICE

_NAME_DETAILS = """\
A number stands for one of these; S is the series number, I the image number, T the time:
   0  Name[8]_ID[8]/S_I_T.v2              7  StudyUID/SeriesUID/SOPUID.v2
   1  Name[8]_ID[8]/S_I_TC.v2             8  ID[32]/StudyUID/SeriesUID/SOPUID.dcm
   2  Name[8]_ID[8]/SeriesUID_S_I_TC.v2   9  StudyUID/SeriesUID/SOPUID.dcm
   3  ID[16]/SeriesUID_S_I_TC.v2         10  Images/SOPUID.dcm
   4  ID[16]/SeriesUID_S_I_TC.dcm        11  Name/StudyUID/SeriesUID/SOPUID.dcm
   5  Name/SeriesUID_S_I_TC.v2           12  Name_ID/Modality_StudyID/SeriesNumber/SOPUID.dcm
   6  ID[32]/StudyUID/SeriesUID/SOPUID.v2
A template is a name with tokens: %name %id %modality %studyid %studydesc %studyuid %seriesuid
%sopuid %seriesid %series %imagenum %image %imageid %studydate %time %date %counter %calledae
%callingae, and %vGGGG,EEEE for any element. A token may be cut: %id[0,7].
Example: %id/%studyuid/%seriesuid/%sopuid.dcm"""
_CODE_DETAILS = """\
as (or empty, is)  unchanged            un  uncompressed
ui  uncompressed, implicit VR           ul  uncompressed, explicit VR
ub  uncompressed, big endian            uj  JPEG kept, everything else uncompressed
j1, j2  JPEG lossless                   j3NN, j4NN  JPEG lossy of quality NN
js  JPEG-LS lossless                    j7NN  JPEG-LS near-lossless
jk  JPEG 2000 lossless                  jlNN  JPEG 2000 lossy
rl  RLE lossless                        s0 to s9  what CompressionConverter0 to 9 do
k1 k2 k4 k8 ka kb kc  at most 1024, 512, 256, 128, 64, 32, 16 pixels for the longer side
Which of them can be written depends on the codecs that are installed."""
_VIRTUAL_DETAILS = """\
FIXKODAK      patient IDs: a leading zero is added for this node, and taken from its answers
CACHESERIES   the list of images of a series is kept for a day, unless the study is of today
CACHESTUDIES  the same for all images of a study
NONVIRTUAL    the node is told not to ask its own virtual servers
IMAGETYPEFIX, IMAGETYPEFIX3   accepted, without effect
Example: VirtualServerFor0 = ARCHIVE,NONVIRTUAL"""
_DEVICE_DETAILS = """\
A device that is added behind the others is used at once. Another folder for one that is there
already needs a restart, and the files have to be moved to it before."""
_CLEAN_DETAILS = """\
Whole patients are deleted, least recent first (see LRUSort), with their files on all devices and
mirrors. Never deleted: patients with open deliveries, patients of whom an object arrived within the
last hour, patients with objects on devices that are read only or away. Each is logged.
Nothing is deleted where IgnoreMAGDeviceThreshold = 1."""
_RESERVE_DETAILS = """\
A device with no more free than this, or than MAGDeviceFullThreshold, takes no new objects; the next
device does, and with none left senders get A700 (out of resources) and send again. The disks of the
database and of the base folder may use half of the reserve while a device elsewhere has room; then
nothing is taken any more. A disk is used again when a tenth more than the reserve is free."""
_DUPLICATE_DETAILS = """\
replace  the object that came last is the one that is kept
aside    the first is kept; the new one goes to dgate/aside in the base folder with a report of what
         differs, the sender gets success, and `dgate aside` decides what becomes of it
reject   the first is kept, the sender gets the status of StorageFailedErrorCode
An object that comes again with the same data set is no conflict. IgnoreRewrite = 1 goes before."""
_MIRROR_DETAILS = """\
The copies are owed like deliveries (`dgate queue list --destination MIRROR0`), so they survive a
restart and are tried again when the mirror was away. What is deleted goes from the mirror too."""
_NO_CHECK_DETAILS = """\
Such an object is stored byte for byte as it came by C-STORE. The index gets what stands before the
place where it cannot be read on, and the UIDs of the command for what is missing of it. Where
import rules run it is refused all the same: a rule could not be sure to see all of it."""
_THREAD_DETAILS = """\
With more than 1, objects for one destination go out over several associations at once, and so
may arrive in another order than they were stored."""
_WATCH_DETAILS = """\
A file is taken when it has not changed for a second and nobody has it open for writing. When its
object is stored the file is removed; one that cannot be imported goes to the folder failed in it,
with the reason beside it. Folders below, zip files and gzip files are looked into. The folder
incoming on the first storage device is watched in the same way, if it exists."""
_ZIP_DETAILS = """\
The begin of a time of day as HH:MM:SS: 05: packs between five and six, 23:30 at half past eleven in
the evening. The user log and the trouble log go into logs/logs_YYYYMMDD.zip beside dicom.ini and
begin anew; before eight in the morning the date is that of the day before."""
_LIMIT_DETAILS = """\
A script that exceeds the limit is stopped and fails, as ScriptErrors says; what it kept in global
variables is lost. The server goes on."""
_RULE_DETAILS = """\
Statements are separated by ; and run from left to right. A test that fails skips the statement,
or the block in braces, that follows it.
Example: ifequal "%m", "CT"; forward to WORKSTATION1"""

_IDENTITY = (
    Key(
        "MicroPACS",
        _TEXT,
        "sscscp",
        "Name of the section that holds all other settings; several such sections are profiles.",
        _CORE,
        "profile",
    ),
    Key(
        "MyACRNema",
        KeyType.AE,
        "none",
        "AE title of this server: calling title of what it sends, Retrieve AE in answers. "
        "Incoming associations are not checked against it.",
        _CORE,
        "ae_title",
    ),
    Key(
        "TCPPort",
        KeyType.PORT,
        "104",
        "DICOM port that the server listens on; 0 takes any free one.",
        _CORE,
        "tcp_port",
        live=False,
    ),
    Key(
        "PACSName",
        _TEXT,
        "MicroPACS",
        "Name of this server, put in front of log lines; without the key, the name of the section.",
        _CORE,
        "pacs_name",
    ),
    Key(
        "TCPIPTimeOut",
        _INT,
        "300",
        "Seconds after which a silent peer is given up.",
        _CORE,
        "tcpip_timeout_s",
        aliases=("TCP/IPTimeOut",),
        least=1,
        most=86400,
    ),
    Key(
        "PDUSize",
        _INT,
        "131072",
        "Largest protocol data unit in bytes that is offered to peers.",
        _CORE2,
        "pdu_size",
        least=4096,
        most=16777216,
    ),
    Key(
        "SendUpperCaseAE",
        _BOOL,
        "0",
        "1 writes the destination of a C-MOVE in upper case when calling it.",
        _CORE2,
        "send_upper_case_ae",
    ),
    Key(
        "PadAEWithZeros",
        _BOOL,
        "0",
        "1 pads outgoing AE titles with zero bytes instead of blanks, for a few old peers.",
        _CORE2,
        "pad_ae_with_zeros",
    ),
    Key(
        "MaxAssociations",
        _INT,
        "100",
        "How many associations are served at once; further ones are told to try again later.",
        _OWN,
        "max_associations",
        least=1,
        most=10000,
    ),
    Key(
        "AllowUnknown",
        _BOOL,
        "1",
        "0 lets callers that acrnema.map does not name do nothing but C-ECHO.",
        _OWN,
        "allow_unknown",
    ),
    Key(
        "StatusCodes",
        _CHOICE,
        "standard",
        "classic answers failures with the few status codes of the original program.",
        _OWN,
        "classic_status_codes",
        choices=("standard", "classic"),
    ),
    Key(
        "UnknownSOPClasses",
        _CHOICE,
        "list",
        "list follows dgatesop.lst; accept also takes storage classes that it does not name.",
        _OWN,
        "accept_unknown_sop_classes",
        choices=("list", "accept"),
    ),
    Key(
        "NoDicomCheck",
        _BOOL,
        "0",
        "1 keeps objects that cannot be parsed instead of refusing them, and writes every file as "
        "Part 10.",
        _CORE2,
        "no_dicom_check",
        differs="where import rules run, such an object is refused all the same: a rule that "
        "anonymises could not see all of it",
        details=_NO_CHECK_DETAILS,
    ),
    Key("TLSPort", _INT, "0", "Port for DICOM over TLS; 0 is off.", _OWN, live=False),
    Key(
        "Edition",
        _TEXT,
        "Workgroup",
        "Edition name of the original program.",
        _LEGACY,
        reason="nothing depends on it any more",
    ),
    Key(
        "Dictionary",
        _PATH,
        "dgate.dic",
        "Text file of attribute names.",
        _LEGACY,
        reason="the attribute names are built in",
    ),
    Key(
        "IgnoreOutOfMemoryErrors",
        _BOOL,
        "0",
        "What a failed memory allocation led to.",
        _LEGACY,
        reason="memory is managed by the runtime",
    ),
)

_FILES = (
    Key(
        "kFactorFile",
        _PATH,
        "dicom.sql",
        "The layout of the index database.",
        _CORE,
        "k_factor_file",
        live=False,
    ),
    Key("ACRNemaMap", _PATH, "acrnema.map", "The table of known nodes.", _CORE, "acrnema_map"),
    Key(
        "SOPClassList",
        _PATH,
        "dgatesop.lst",
        "What incoming associations may ask for; without the file everything is accepted.",
        _CORE,
        "sop_class_list",
    ),
    Key(
        "UserLog",
        _PATH,
        "PacsUser.log",
        "One line for each C-STORE, C-MOVE and C-GET.",
        _CORE,
        "user_log",
    ),
    Key(
        "TroubleLog",
        _PATH,
        "PacsTrouble.log",
        "Warnings and errors.",
        _CORE,
        "trouble_log",
        differs="its lines are dgate's own warnings and errors, and have no *** in them",
    ),
    Key(
        "TempDir",
        _PATH,
        "",
        "Folder for scratch files; empty stands for printer_files on the first device.",
        _CORE2,
        "temp_dir",
    ),
    Key(
        "DebugLevel",
        _INT,
        "0",
        "How much the log tells: 0 what matters, 1 also DIMSE commands, 2 also what is asked for, "
        "3 also what is found, 4 also statements to the database.",
        _CORE,
        "debug_level",
        differs="it needs no debug log to be on",
        least=0,
        most=4,
        details="From level 2 on the log holds names and IDs of patients.",
    ),
    Key(
        "OperatorConsole",
        _TEXT,
        "",
        "Host that gets a copy of the log lines by UDP: host or host:port, the usual port is 1111. "
        "A name that begins with a slash or backslash, as a Windows pipe does, is off.",
        _CORE2,
        "operator_console",
        example="192.168.1.5",
        differs="without the key nothing is sent, and there are no Windows pipes",
    ),
    Key(
        "ziptime",
        _TEXT,
        "",
        "Time of day at which the log files are packed away; empty is off.",
        _CORE2,
        "zip_time",
        example="05:",
        differs="it works wherever the log goes; dicom.ini, and so its passwords, stays out of the "
        "archive",
        details=_ZIP_DETAILS,
    ),
    Key(
        "StatusLog",
        _PATH,
        "",
        "Log file of service scripts.",
        _LEGACY,
        reason="the server never read it",
    ),
    Key(
        "HomeDir",
        _PATH,
        "",
        "Folder used by service scripts.",
        _LEGACY,
        reason="the server never read it",
    ),
    Key(
        "AccessUpdates",
        _TEXT,
        "",
        "A second log pipe.",
        _LEGACY,
        reason="nothing was ever sent there",
    ),
    *(
        Key(
            f"<X>.{part}",
            _TEXT,
            "",
            "Old routing of debug output.",
            _LEGACY,
            reason="the log has its own settings",
        )
        for part in ("TransportType", "FileName", "NamedPipeName", "UDPHost", "UDPPort")
    ),
)

_DATABASE = (
    Key(
        "SQLServer",
        _TEXT,
        "",
        "SQLite: the database file; otherwise the database name. Empty: no index is kept, "
        "as for a pure router.",
        _CORE,
        "sql_server",
        live=False,
    ),
    Key("SQLite", _BOOL, "0", "1 keeps the index in an SQLite file.", _CORE, "engine", live=False),
    Key("PostGres", _BOOL, "0", "1 keeps the index in PostgreSQL.", _CORE, "engine", live=False),
    Key("MySQL", _BOOL, "0", "1 keeps the index in MySQL or MariaDB.", _CORE, "engine", live=False),
    Key(
        "SQLHost",
        _TEXT,
        "localhost",
        "Host of the database server, host:port where the port is not the usual one.",
        _CORE,
        "sql_host",
        live=False,
    ),
    Key("Username", _TEXT, "Administrator", "Login at the database server.", _CORE, "username"),
    Key(
        "Password",
        _TEXT,
        "password",
        "Password at the database server.",
        _CORE,
        "password",
        secret=True,
    ),
    Key(
        "SQLiteStartup",
        _TEXT,
        "",
        "SQL statements run after opening the file; synchronous and journal_mode are left to "
        "Durability.",
        _CORE2,
        "sqlite_startup",
        live=False,
    ),
    Key(
        "MySQLStartup",
        _TEXT,
        "",
        "SQL statements, separated by semicolons, run after connecting to MySQL or MariaDB.",
        _CORE2,
        "mysql_startup",
        live=False,
    ),
    Key(
        "PostGreSQLStartup",
        _TEXT,
        "",
        "SQL statements, separated by semicolons, run after connecting to PostgreSQL; "
        "synchronous_commit is left to Durability.",
        _CORE2,
        "postgres_startup",
        live=False,
    ),
    Key(
        "Durability",
        _CHOICE,
        "full",
        "What is on disk before a sender hears success: full file and index, index the index "
        "only, none nothing for certain.",
        _OWN,
        "durability",
        choices=("full", "index", "none"),
        live=False,
    ),
    Key(
        "TruncateFieldNames",
        _INT,
        "10",
        "Column names are cut to so many characters; 0 does not cut.",
        _CORE,
        "truncate_field_names",
        least=0,
        most=64,
        live=False,
    ),
    Key(
        "MaxFieldLength",
        _INT,
        "0",
        "Upper bound for the length of every column; 0 is off.",
        _CORE,
        "max_field_length",
        least=0,
        most=65535,
        live=False,
    ),
    Key(
        "AllowTruncate",
        KeyType.LIST,
        "",
        "Columns whose values may be cut to fit without a warning.",
        _CORE2,
        "allow_truncate",
    ),
    *(
        Key(
            f"{level}TableName",
            _TEXT,
            f"DICOM{plural}",
            f"Name of the {level.lower()} table.",
            _CORE,
            f"{level.lower()}_table",
            live=False,
        )
        for level, plural in (
            ("Patient", "Patients"),
            ("Study", "Studies"),
            ("Series", "Series"),
            ("Image", "Images"),
            ("WorkList", "WorkList"),
        )
    ),
    Key(
        "UTF8ToDB",
        _BOOL,
        "0",
        "1 converts Latin-1 text to UTF-8 when writing.",
        _CORE2,
        reason="text is always decoded by the object's character set and written as UTF-8, and "
        "older Latin-1 text is still read",
    ),
    Key(
        "UTF8FromDB",
        _BOOL,
        "0",
        "1 converts UTF-8 to Latin-1 in query results.",
        _CORE2,
        reason="answers come in the character set that the query asks for, in that of "
        "QueriesReturnISO_IR or Latin-1, or in UTF-8, the first that holds the text",
    ),
    *(
        Key(
            name,
            _BOOL,
            "0",
            "How text was put into SQL statements.",
            _LEGACY,
            reason="values are bound to the statements, nothing needs escaping",
        )
        for name in ("DoubleBackSlashToDB", "UseEscapeStringConstants")
    ),
    *(
        Key(
            name,
            _TEXT,
            default,
            "Name of a table of the original program.",
            _LEGACY,
            reason="the table was never created",
        )
        for name, default in (
            ("DMarkTableName", "DICOMAccessUpdates"),
            ("RegisteredMOPIDTableName", "RegisteredMOPIDs"),
            ("UIDToMOPIDTableName", "UIDToMOPID"),
            ("UIDToCDRIDTableName", "UIDToCDRID"),
        )
    ),
    *(
        Key(
            name,
            _TEXT,
            "",
            "Misspelt name of a table setting.",
            _LEGACY,
            reason="the spelling was never read, and the table is not used",
        )
        for name in ("RegisteredMOPDeviceTable", "UIDToMOPIDTable", "UIDToCDRIDTable")
    ),
    *(
        Key(
            name,
            _INT,
            default,
            "Tuning of the built-in dBase files.",
            _LEGACY,
            reason="there is no dBase engine",
        )
        for name, default in (("PackDBF", "0"), ("IndexDBF", "10"), ("LongQueryDBF", "1000"))
    ),
)

_QUERY = (
    Key(
        "EnableComputedFields",
        _BOOL,
        "0",
        "1 answers Number of ... Related ... keys by counting.",
        _CORE,
        "enable_computed_fields",
    ),
    *(
        Key(
            f"{level}QuerySortOrder",
            _TEXT,
            "",
            f"Order of answers at {level.lower()} level: table.column, names cut as in the "
            "database, separated by commas.",
            _CORE,
            f"{level.lower()}_query_sort_order",
        )
        for level in ("Patient", "Study", "Series")
    ),
    Key(
        "ImageQuerySortOrder",
        _TEXT,
        "",
        "Order of answers at image level, and of sending by C-MOVE and C-GET.",
        _CORE,
        "image_query_sort_order",
    ),
    Key(
        "QueriesReturnISO_IR",
        _INT,
        "0",
        "NNN adds the character set ISO_IR NNN to answers; 0 is off.",
        _CORE,
        "queries_return_iso_ir",
        least=0,
        most=999,
    ),
    Key(
        "MatchCase",
        _BOOL,
        "0",
        "1 respects letter case when names and descriptions are matched in queries.",
        _OWN,
        "match_case",
    ),
    Key(
        "FixPhilips",
        _BOOL,
        "0",
        "1 removes leading zeros from patient IDs of ten digits.",
        _CORE2,
        "fix_philips",
    ),
    Key(
        "FixKodak",
        _BOOL,
        "0",
        "1 removes the leading zero from patient IDs of eight digits.",
        _CORE2,
        "fix_kodak",
    ),
    Key(
        "AllowEmptyPatientID",
        _BOOL,
        "0",
        "0 indexes objects without patient ID under 00000000, 1 leaves the ID empty.",
        _CORE2,
        "allow_empty_patient_id",
    ),
    Key(
        "WorkListMode",
        _INT,
        "0",
        "1 or 2 fills objects from their worklist entry; 2 refuses objects that have none.",
        _CORE,
        "worklist_mode",
        least=0,
        most=2,
        details="The entry is found by the accession number. Each top-level element that the "
        "object has and that is a column of *WorkList* takes the value of the entry, unless that "
        "is empty. With 2, an object without entry is answered with StorageFailedErrorCode.",
    ),
    Key(
        "WorkListReturnsISO_IR_100",
        _INT,
        "-1",
        "Character set of worklist answers, divided by 100; wins over WorkListReturnsISO_IR.",
        _CORE,
        "worklist_iso_ir",
    ),
    Key(
        "WorkListReturnsISO_IR",
        _INT,
        "100",
        "Character set of worklist answers: NNN stands for ISO_IR NNN, 0 for none.",
        _CORE,
        "worklist_iso_ir",
        details="The text of the answer really is in this character set. An answer that it cannot "
        "hold is given in UTF-8, which it then says (ISO_IR 192).",
        differs="the original declares the character set and sends the bytes of the database",
    ),
)

_STORAGE = (
    Key(
        "MAGDevices",
        _INT,
        "1",
        "Number of storage folders.",
        _CORE,
        "mag_devices",
        least=0,
        most=1000,
        live=False,
    ),
    Key(
        "MAGDeviceN",
        _PATH,
        "",
        "Folder of storage area MAGn.",
        _CORE,
        "mag_devices",
        numbers=1000,
        live=False,
        details=_DEVICE_DETAILS,
    ),
    Key(
        "MAGDeviceFullThreshold",
        _INT,
        "30",
        "A device with no more free megabytes than this takes no new files.",
        _CORE,
        "mag_device_full_threshold_mb",
        aliases=("MAGDeviceFullThreshHold",),
        least=0,
    ),
    Key(
        "IgnoreMAGDeviceThreshold",
        _BOOL,
        "0",
        "1 does not look at the free space.",
        _CORE,
        "ignore_mag_device_threshold",
        aliases=("IgnoreMAGDeviceThreshHold",),
    ),
    Key(
        "DiskReserve",
        _TEXT,
        "",
        "Megabytes, or with % the share of each disk, that objects never take, so that database, "
        "log and deliveries can go on; empty is what MAGDeviceFullThreshold says.",
        _OWN,
        "disk_reserve",
        example="5%",
        details=_RESERVE_DETAILS,
    ),
    Key(
        "InodeReserve",
        _TEXT,
        "1000",
        "Inodes, or with % the share of them, that objects never take, as DiskReserve.",
        _OWN,
        "inode_reserve",
        example="1%",
    ),
    Key(
        "DiskWarningDays",
        _INT,
        "7",
        "Warn when a storage device is going to be full in fewer days, as it has filled up lately; "
        "0 is off.",
        _OWN,
        "disk_warning_days",
        least=0,
        most=365,
    ),
    Key(
        "FileNameSyntax",
        _TEXT,
        "4",
        "How stored files are named: a number from 0 to 12, or a template with % tokens.",
        _CORE,
        "file_name_syntax",
        live=False,
        details=_NAME_DETAILS,
    ),
    Key(
        "MaxFileNameLength",
        _INT,
        "255",
        "Longest name below the top folder; longer ones lose characters at their beginning.",
        _CORE2,
        "max_file_name_length",
        least=32,
        most=4096,
        live=False,
    ),
    Key(
        "RenameOnRewrite",
        _BOOL,
        "0",
        "1 gives an object that arrives again a new file name, 0 keeps the old one.",
        _CORE2,
        "rename_on_rewrite",
        live=False,
    ),
    Key(
        "IgnoreRewrite",
        _BOOL,
        "0",
        "1 answers success to an object that is stored already and changes nothing.",
        _CORE,
        "ignore_rewrite",
    ),
    Key(
        "DuplicateContent",
        _CHOICE,
        "replace",
        "What is done with an object whose SOP instance is stored already with other content: "
        "replace the stored one, put the new one aside, or reject it.",
        _OWN,
        "duplicate_content",
        choices=("replace", "aside", "reject"),
        details=_DUPLICATE_DETAILS,
    ),
    Key(
        "UIDPrefix",
        _TEXT,
        "1.2.826.0.1.3680043.2.135.1066",
        "Root of the UIDs that the server makes; use one that was registered for you.",
        _CORE,
        "uid_prefix",
    ),
    Key(
        "MissingUIDs",
        _CHOICE,
        "generate",
        "What an object without Study or Series UID gets: generate a new UID, undefined the "
        "text of the original program, reject a refusal.",
        _OWN,
        "missing_uids",
        choices=("generate", "undefined", "reject"),
    ),
    Key(
        "V2Content",
        _CHOICE,
        "part10",
        "What files named .v2 contain: part10, or raw as the original program wrote them.",
        _OWN,
        "v2_content",
        choices=("part10", "raw"),
    ),
    Key(
        "StorageFailedErrorCode",
        _INT,
        "272",
        "C-STORE status, in decimal, for what a rule or the identity check refuses.",
        _CORE,
        "storage_failed_error_code",
    ),
    Key(
        "ImportExportDragAndDrop",
        _BOOL,
        "1",
        "0 lets files from watched folders and of `dgate import` pass without import and export "
        "rules.",
        _CORE,
        "import_export_drag_and_drop",
    ),
    Key(
        "WatchFolder",
        _PATH,
        "",
        "Folder whose files are imported and then removed; empty is none.",
        _CORE,
        "watch_folder",
        example="/srv/dgate/in",
        differs="files that are still being written are not taken, and what cannot be imported is "
        "moved to the folder failed instead of being deleted; a folder among the images is refused",
        details=_WATCH_DETAILS,
    ),
    Key(
        "DelayIncomingFileOpen",
        _INT,
        "0",
        "Milliseconds that a file in a watched folder is left alone after its last change; never "
        "less than about a second.",
        _CORE2,
        "delay_incoming_file_open_ms",
        unit="milliseconds",
        least=0,
        most=86_400_000,
    ),
    Key(
        "MIRRORDevices",
        _INT,
        "0",
        "Number of mirror folders.",
        _CORE,
        "mirror_devices",
        least=0,
        most=1000,
    ),
    Key(
        "MIRRORDeviceN",
        _PATH,
        "",
        "Folder that mirrors MAGn: every object stored there is copied to it soon after.",
        _CORE,
        "mirror_devices",
        numbers=1000,
        details=_MIRROR_DETAILS,
        differs="copies that are still to be made survive a restart",
    ),
    Key(
        "MAGDeviceThreshold",
        _INT,
        "0",
        "Free megabytes of a device below which the oldest patients are deleted at once, until "
        "1005 more than that are free; 0 is off.",
        _CORE,
        "mag_device_threshold_mb",
        aliases=("MAGDeviceThreshHold",),
        least=0,
        unit="megabytes",
        differs="what is still owed, has just arrived, or cannot be reached is never deleted, and "
        "the proper spelling counts, which the original ignored",
        details=_CLEAN_DETAILS,
    ),
    Key(
        "NightlyCleanThreshold",
        _INT,
        "0",
        "Free megabytes of the emptiest device below which, at 01:00, the oldest patients are "
        "deleted until 5 more than that are free; 0 is off.",
        _CORE,
        "nightly_clean_threshold_mb",
        aliases=("NightlyCleanThreshhold",),
        least=0,
        unit="megabytes",
        differs="it works wherever the log goes, while the original's needed a log file; what is "
        "still owed, has just arrived, or cannot be reached is never deleted",
        details=_CLEAN_DETAILS,
    ),
    Key(
        "LRUSort",
        _TEXT,
        "",
        "Column that tells which patients are oldest, such as StudyDate; empty takes the "
        "AccessTime of the patient, that is the time of the last object received.",
        _CORE,
        "lru_sort",
        example="StudyDate",
        differs="the name is looked up among the index's columns and is never part of a statement; "
        "of several studies the latest counts, and patients without a value go last",
    ),
    Key(
        "NightlyMoveThreshold",
        _INT,
        "0",
        "Free megabytes of a device below which its oldest patients move to NightlyMoveTarget by "
        "night; 0 is off.",
        _CORE2,
        "nightly_move_threshold_mb",
        aliases=("NightlyMoveThreshhold",),
        least=0,
        unit="megabytes",
        differs="the server itself moves; of the original only the Windows program did",
    ),
    Key(
        "NightlyMoveTarget",
        _TEXT,
        "0",
        "Device to which old data moves by night, such as MAG1.",
        _CORE2,
        "nightly_move_target",
    ),
    Key(
        "NightlyStrTimeToMove",
        _TEXT,
        "0",
        "Time of day of that, such as 02:00, which is also the default.",
        _CORE2,
        "nightly_move_minute",
    ),
    *(
        Key(
            f"{kind}Devices",
            _INT,
            "0",
            "Number of folders for CD and tape archives.",
            _LEGACY,
            reason="there is no archiving to CD or tape; old volumes are read where "
            f"{kind}DeviceN names their folders",
        )
        for kind in ("CACHE", "JUKEBOX")
    ),
    *(
        Key(
            f"{kind}DeviceN",
            _PATH,
            "",
            f"Folder of the old volumes that an index names {kind}n.m; they are read only. "
            f"{fields}",
            _CORE2,
            f"{kind.lower()}_devices",
            numbers=1000,
            example=f"/mnt/{kind.lower()}{'%d/' if kind == 'CACHE' else ''}%d",
            differs="nothing is archived there any more",
        )
        for kind, fields in (
            ("CACHE", "Two %d in it stand for n and m."),
            ("JUKEBOX", "A %d in it stands for m."),
        )
    ),
    Key(
        "AllowNKIAsDICOM",
        _BOOL,
        "0",
        "Private compression in DICOM files.",
        _LEGACY,
        reason="the private compression is not written",
    ),
)

_COMPRESSION = (
    Key(
        "IncomingCompression",
        _CODE,
        "",
        "How received objects are re-encoded; as or empty leaves them as they are.",
        _CORE,
        "incoming_compression",
        details=_CODE_DETAILS,
    ),
    Key(
        "DroppedFileCompression",
        _CODE,
        "",
        "How imported files are re-encoded; as or empty leaves them as they are.",
        _CORE,
        "dropped_file_compression",
        details=_CODE_DETAILS,
    ),
    Key(
        "ArchiveCompression",
        _CODE,
        "as",
        "How objects are re-encoded when they move to another device; as or empty leaves them as "
        "they are.",
        _CORE2,
        "archive_compression",
        details=_CODE_DETAILS,
    ),
    Key(
        "LossyQuality",
        _INT,
        "95",
        "Quality of lossy codes that do not name one.",
        _CORE,
        "lossy_quality",
        waits="this version only decompresses: it has no encoder that a quality could be given to",
        least=1,
        most=100,
    ),
    Key(
        "StopOnJPEGWarnings",
        _BOOL,
        "0",
        "1 makes warnings of a codec errors.",
        _CORE2,
        waits="the decoders that this version uses report errors, but no warnings",
    ),
    Key(
        "CodecThreads",
        _INT,
        "",
        "Workers for compression; empty takes one per core.",
        _OWN,
        waits="this version decompresses in the thread that sends the object",
    ),
    Key(
        "FileCompressMode",
        _INT,
        "0",
        "Old private compression.",
        _LEGACY,
        reason="the private compression is not written",
    ),
    *(
        Key(
            name,
            _BOOL,
            default,
            "Choice of codec in the original program.",
            _LEGACY,
            reason="the codecs are chosen by what is installed",
            live=False,
        )
        for name, default in (
            ("UseBuiltInDecompressor", "1"),
            ("UseBuiltInJPEG", "1"),
            ("DecompressNon16BitsJpeg", "1"),
            ("UseOpenJPG", "0"),
        )
    ),
)

_GATEWAY = (
    Key(
        "EnableReadAheadThread",
        _INT,
        "1",
        "0 switches reading ahead of C-MOVE and C-GET off; any other number switches it on.",
        _CORE2,
        "read_ahead",
        least=0,
        details=(
            "The next object is opened and read while the peer works on the one before. Numbers "
            "above 1 mean the same as 1: with one object ahead, the peer is what is waited for."
        ),
        unit="objects",
        differs="numbers above 1 mean the same as 1, and RetrieveResultConverter0 never runs early",
    ),
    Key(
        "VirtualServerForN",
        _TEXT,
        "",
        "Node whose archive is offered here as well: AE title of acrnema.map, flags after commas.",
        _CORE,
        "virtual_servers",
        numbers=10,
        details=_VIRTUAL_DETAILS,
        example="ARCHIVE,NONVIRTUAL",
        differs="all servers are asked at the same time, the local answer comes first, and "
        "counts are the largest of all; C-GET is used where C-MOVE does not work; gateways in a "
        "ring come to an end without NONVIRTUAL; IMAGETYPEFIX does nothing",
    ),
    Key(
        "VirtualServerPerSeriesN",
        _INT,
        "0",
        "Images of a series above which the whole series is fetched in one request; 0 = never.",
        _CORE2,
        "virtual_servers",
        numbers=10,
        unit="images",
        example="20",
    ),
    Key(
        "OverlapVirtualGet",
        _INT,
        "0",
        "Objects of virtual servers that may be held while they are passed on as they arrive; "
        "0 = a request is fetched to its end before its objects are passed on.",
        _CORE2,
        "overlap_virtual_get",
        least=0,
        unit="objects",
        example="10",
    ),
    Key(
        "CacheVirtualData",
        _BOOL,
        "1",
        "Whether objects fetched from virtual servers are kept; 0 = only passed on.",
        _CORE,
        "cache_virtual_data",
        differs="with 0, what is fetched never becomes part of the archive, not even for a moment",
    ),
    Key(
        "Prefetcher",
        _INT,
        "0",
        "Reading ahead of files after a query.",
        _LEGACY,
        reason="the operating system reads ahead well enough",
    ),
)

_ROUTING = (
    Key(
        "ImportConverters",
        _INT,
        "99",
        "How many import rules are tried, counted from 0.",
        _CORE,
        "import_converters",
        least=0,
        most=100,
    ),
    Key(
        "ExportConverters",
        _INT,
        "0",
        "How many export rules run, counted from 0; a rule with a higher number never runs.",
        _CORE,
        "export_converters",
        least=0,
        most=20,
    ),
    Key(
        "ForwardAssociationLevel",
        _TEXT,
        "STUDY",
        "When a forwarding association is closed: PATIENT, STUDY, SERIES, IMAGE, SOPCLASS or "
        "GLOBAL, in upper case.",
        _CORE,
        "forward_association_level",
    ),
    Key(
        "ForwardAssociationCloseDelay",
        _SECONDS,
        "5",
        "Seconds after which an idle forwarding association is closed.",
        _CORE,
        "forward_association_close_delay_s",
        least=0,
    ),
    Key(
        "ForwardAssociationRelease",
        _BOOL,
        "1",
        "0 drops the connection instead of releasing the association.",
        _CORE2,
        "forward_association_release",
    ),
    Key(
        "RetryFirst",
        _SECONDS,
        "5",
        "Seconds before a failed delivery is tried again; doubled after each failure.",
        _OWN,
        "retry_first_s",
        least=0,
    ),
    Key(
        "RetryMax",
        _SECONDS,
        "600",
        "Longest pause in seconds between two tries of a delivery.",
        _OWN,
        "retry_max_s",
        least=0,
    ),
    Key(
        "RetryDelay",
        _SECONDS,
        "",
        "When set: fixed pause in seconds between tries, instead of RetryFirst and RetryMax.",
        _CORE,
        "retry_delay_s",
        least=0,
    ),
    Key(
        "FailHoldOff",
        _SECONDS,
        "",
        "When set: least pause in seconds of a destination after a failure.",
        _CORE,
        "fail_hold_off_s",
        least=0,
    ),
    Key(
        "MaximumExportRetries",
        _INT,
        "0",
        "Tries after which a delivery is set aside as stuck; 0 tries for ever.",
        _CORE,
        "maximum_export_retries",
        least=0,
    ),
    Key(
        "ForwardCollectDelay",
        _SECONDS,
        "600",
        "Quiet time in seconds before an operation on a whole series, study or patient.",
        _CORE,
        "forward_collect_delay_s",
        least=0,
    ),
    Key(
        "ScriptErrors",
        _CHOICE,
        "reject",
        "What a failing import rule does to its object: reject refuses it, ignore stores it.",
        _OWN,
        "script_errors_reject",
        choices=("reject", "ignore"),
    ),
    Key(
        "AllowSystemCommands",
        _BOOL,
        "0",
        "1 lets rules start programs, without a shell.",
        _OWN,
        "allow_system_commands",
    ),
    Key(
        "SystemTimeout",
        _SECONDS,
        "300",
        "Seconds after which a program that a rule started is killed, with all that it started.",
        _OWN,
        "system_timeout_s",
        least=1,
    ),
    Key(
        "ForwardAssociationRefreshDelay",
        _SECONDS,
        "3600",
        "Seconds after which a peer is asked again whether it takes what it refused, although its "
        "association is still open.",
        _CORE2,
        "forward_association_refresh_delay_s",
        differs="each new association asks the peer anew; the delay is for one that stays open",
        least=0,
    ),
    Key(
        "MaximumDelayedFetchForwardRetries",
        _INT,
        "0",
        "Tries of an operation on a whole series, study or patient; 0 tries for ever.",
        _CORE,
        "maximum_request_tries",
        least=0,
    ),
    Key(
        "DelayedForwarderThreads",
        _INT,
        "1",
        "How many associations deliver to one destination at once.",
        _CORE,
        "delayed_forwarder_threads",
        differs="they are counted for each destination, not for each queue",
        least=1,
        most=20,
        details=_THREAD_DETAILS,
    ),
    Key(
        "QueueSize",
        _INT,
        "128",
        "Length of the queues in memory.",
        _LEGACY,
        reason="deliveries are kept in the database and block nobody",
    ),
    *(
        Key(
            name,
            _BOOL,
            "0",
            "Whether failed sends are tried again.",
            _LEGACY,
            reason="failed deliveries are always tried again",
        )
        for name in ("RetryForwardFailed", "RetryForwardRemoteDICOMError")
    ),
    Key(
        "ScriptFolders",
        KeyType.LIST,
        "",
        "Folders that rules and scripts may use beside the base folder, the devices and TempDir.",
        _OWN,
        "script_folders",
    ),
    Key(
        "LuaUnrestricted",
        _BOOL,
        "0",
        "1 lifts the limits on the files that rules and Lua may use.",
        _OWN,
        "lua_unrestricted",
    ),
    Key(
        "LuaInstructions",
        _INT,
        "1000",
        "Millions of Lua instructions that one run of Lua code may execute; 0 is no limit.",
        _OWN,
        "lua_instructions",
        least=0,
        most=1_000_000,
        details=_LIMIT_DETAILS,
    ),
    Key(
        "LuaMemoryMB",
        _INT,
        "256",
        "Megabytes that the Lua code of an association or rule may hold; 0 is no limit.",
        _OWN,
        "lua_memory_mb",
        least=0,
        most=65536,
        details=_LIMIT_DETAILS,
    ),
    Key(
        "LuaSeconds",
        KeyType.SECONDS,
        "30",
        "Seconds that one run of Lua code may take; 0 is no limit. Waiting for other nodes counts "
        "a hundredth.",
        _OWN,
        "lua_seconds",
        details=_LIMIT_DETAILS,
    ),
    Key(
        "ReidentificationKey",
        _PATH,
        "reidentification.key",
        "Key file of de-identification, made by `dgate deidentify key`; readable for the server's "
        "user only.",
        _OWN,
        "reidentification_key",
    ),
    Key(
        "ChangeLog",
        _BOOL,
        "0",
        "1 records what rules and scripts change in each object, so that it can be taken back.",
        _OWN,
        "change_log",
    ),
    Key(
        "ChangeLogDays",
        _INT,
        "30",
        "Days that the record of changes is kept.",
        _OWN,
        "change_log_days",
        least=1,
    ),
    Key(
        "LedgerDays",
        _INT,
        "30",
        "Days that deliveries which are done or cancelled stay in the ledger, with their tries, "
        "and that procedure steps (MPPS) are known; what is still owed stays for ever.",
        _OWN,
        "ledger_days",
        least=1,
        most=36500,
    ),
)

# Family of rules: how many, when it runs, and its mark.
_CONVERTERS = (
    ("Import", 100, "each object before it is stored", _CORE),
    ("Export", 20, "each object after it is stored", _CORE),
    ("Query", 1, "each C-FIND request", _CORE),
    ("WorkListQuery", 1, "each worklist request", _CORE),
    ("Retrieve", 1, "each C-MOVE and C-GET request", _CORE),
    ("RetrieveResult", 1, "each object about to be sent by C-MOVE or C-GET", _CORE2),
    ("QueryResult", 1, "each C-FIND answer", _CORE2),
    ("ModalityWorkListQueryResult", 1, "each worklist answer", _CORE2),
    ("VirtualServerQuery", 1, "each request to a virtual server", _CORE2),
    ("VirtualServerQueryResult", 1, "each answer of a virtual server", _CORE2),
    ("RejectedImage", 1, "each object that the index refused", _CORE2),
    ("RejectedImageWorkList", 1, "each object without worklist entry", _CORE2),
    ("Regen", 1, "each file while the index is rebuilt", _CORE2),
    ("RegenFail", 1, "each unreadable file while the index is rebuilt", _CORE2),
    ("MergeSeries", 1, "each object of series being merged", _CORE2),
    ("MergeStudies", 1, "each object of studies being merged", _CORE2),
    ("Archive", 1, "each object being archived", _CORE2),
    ("MoveDevice", 1, "each object being moved to another device", _CORE2),
    ("Compression", 10, "each object under the compression codes s0 to s9", _CORE2),
)
CONVERTER_FAMILIES = tuple(family for family, *_ in _CONVERTERS)
"""Prefixes of the rule families, in the order of the reference."""
_NOT_CALLED = {
    "Archive": "objects are not archived to jukeboxes; what does that will run it. Where they move "
    "between devices, MoveDeviceConverter0 runs",
}
"""The families whose moment never comes in this version."""
_FILTERS = (
    ("Modality", "the modality (0008,0060)"),
    ("StationName", "the station name (0008,1010)"),
    ("CallingAE", "the sender's AE title"),
    ("CalledAE", "the AE title that the sender called"),
)
_DIFFERENCES = {
    "Query": "a rule that fails refuses the request, as ScriptErrors says",
    "WorkListQuery": "a rule that fails refuses the request, as ScriptErrors says",
    "Retrieve": "a rule that fails refuses the request, as ScriptErrors says",
    "RetrieveResult": "an object whose rule fails is not sent, and counted as failed",
    "QueryResult": "every answer passes the rule, while the original leaves some out; a rule that "
    "fails ends the query",
    "ModalityWorkListQueryResult": "a rule that fails ends the query",
    "RejectedImage": "retry works as a statement, and a forward is owed like any other",
    "RejectedImageWorkList": "retry works as a statement, and a forward is owed like any other",
    "Compression": "an object whose rule fails is refused, or not sent",
    "MergeSeries": "it runs for `dgate merge series`; an object that it destroys or rejects stays "
    "in its series, and when it fails nothing is merged",
    "MergeStudies": "it runs for `dgate merge study`; an object that it destroys or rejects stays "
    "in its study, and when it fails nothing is merged",
    "MoveDevice": "the index follows what the rule changes; an object that it destroys or rejects "
    "moves as it was, and one whose rule fails stays",
}
_STATION_OF = {"Retrieve": "the move destination", "RetrieveResult": "the move destination"}


def _converter_keys() -> list[Key]:
    """Return the rule lines, their filters, and their Lua twins."""
    keys = []
    for family, numbers, moment, mark in _CONVERTERS:
        waits = _NOT_CALLED.get(family, "")
        name, script = f"{family}ConverterN", KeyType.SCRIPT
        meaning = f"Rule that runs on {moment}."
        keys.append(
            Key(
                name,
                script,
                "",
                meaning,
                mark,
                "converters",
                waits,
                numbers=numbers,
                details=_RULE_DETAILS,
                differs=_DIFFERENCES.get(family, ""),
            )
        )
        for part, subject in _FILTERS:
            name, pattern = f"{family}{part}N", KeyType.PATTERN
            subject = _STATION_OF.get(family, subject) if part == "StationName" else subject
            meaning = f"The rule of this number runs only when {subject} matches."
            keys.append(
                Key(name, pattern, "*", meaning, mark, "converters", waits, numbers=numbers)
            )
        if family == "Export":
            meaning = (
                "The rule of this number runs only when the SQL condition holds for the object."
            )
            name = "ExportFilterN"
            keys.append(Key(name, _TEXT, "*", meaning, mark, "converters", numbers=numbers))
    for family, numbers, moment, _ in _CONVERTERS:
        name, section = f"{family}ConverterN", "lua"
        meaning = f"Lua code that runs on {moment}, instead of the rule and its filters."
        keys.append(
            Key(
                name,
                KeyType.LUA,
                "",
                meaning,
                _CORE2,
                "converters",
                _NOT_CALLED.get(family, ""),
                section=section,
                numbers=numbers,
            )
        )
    return keys


_SECTIONS = (
    *(
        Key(
            name,
            KeyType.LUA,
            "",
            f"Lua code that runs {moment}.",
            _CORE2,
            "lua_events",
            section="lua",
        )
        for name, moment in (
            ("startup", "once at start"),
            ("association", "at the begin of each association"),
            ("endassociation", "at the end of each association"),
            ("command", "for each DIMSE command"),
            ("clienterror", "when an association ends by an error of the client"),
            ("nightly", "at 03:00, local time"),
            ("background", "every second"),
        )
    ),
    Key(
        "printserver",
        KeyType.LUA,
        "",
        "Lua code that runs for each print action.",
        _LEGACY,
        section="lua",
        reason="printing does not run through Lua",
    ),
    Key(
        ANY_KEY,
        KeyType.SCRIPT,
        "",
        "Named rule statements, for `call name`.",
        _CORE,
        "scripts",
        section="scripts",
    ),
    *(
        Key(
            ANY_KEY,
            _TEXT,
            "",
            "Settings of the old web pages.",
            _LEGACY,
            section=section,
            reason="the old web pages do not exist",
        )
        for section in (
            "wadoservers",
            "webdefaults",
            "DefaultPage",
            "AnyPage",
            "markstudy",
            "markseries",
            "shoppingcart",
        )
    ),
)

_WEB = (
    Key("WebPort", _INT, "8080", "Port of console, DICOMweb and metrics; 0 is off.", _OWN),
    Key("WebBind", _TEXT, "127.0.0.1", "Address that the web console listens on.", _OWN),
    Key("HL7Port", _INT, "0", "Port for HL7 messages; 0 is off.", _OWN),
    *(
        Key(
            name,
            _TEXT,
            "",
            "Setting of the old web pages.",
            _LEGACY,
            reason="the old web pages do not exist",
        )
        for name in (
            "WEBReadOnly",
            "WEBPush",
            "WEBScriptAddress",
            "WEBMAG0Address",
            "WebServerFor",
            "WebCodeBase",
            "DefaultPage",
            "AnyPage",
            "admin_email",
        )
    ),
    *(
        Key(
            name,
            _TEXT,
            "",
            "Password of the old web pages.",
            _LEGACY,
            reason="the old web pages do not exist; remove the password from the file",
            secret=True,
        )
        for name in ("admin_password", "student_password", "teacher_password", "moodle_password")
    ),
)

_GUI = """KeepAlive LargeFileSizeKB ExternalViewer DemoViewer DemoCopy Headerbmp Footerbmp
    Backgroundbmp Ladleport PrintSquareLandscape UseKpacsDecompression"""
_MAIL = "MailHost MailPort MailSignon MailFromName MailCollectTime MailWaitTime"
_JUKEBOX = """ActiveJukebox BackupTime BurnThresholdMB BurnTime BurnTime2 BurnWeekend CDCapacityMB
    CheckActions CheckCDs CheckDays CheckTimes MirrorVerifyTime NextCDToBurn NextSlotToUse NumberCDs
    TapeCapacityMB TapeControl TapeDevice TapeDriveLetter TestReadTime UsedTapeMB PacsAE SourceAE
    SubmitCheckTime"""
_KILLER = "KillDeadWood KillSleepTime"


def _tool_keys() -> list[Key]:
    """Return the keys that only other programs of the original's package used."""
    keys = []
    for names, meaning, reason in (
        (_GUI, "Setting of the Windows program.", "there is no Windows program"),
        (_MAIL, "Import of mails by the Windows program.", "mail is not read"),
        (_JUKEBOX, "CD and tape archiving.", "there is no archiving to CD or tape"),
        (_KILLER, "Setting of a separate clean-up tool.", "the tool does not exist"),
    ):
        for name in names.split():
            keys.append(Key(name, _TEXT, "", meaning, _LEGACY, reason=reason))
    for name, numbers, meaning, reason in (
        (
            "VirtualPerSeriesN",
            10,
            "Misspelling by the Windows program.",
            "it was never read; write VirtualServerPerSeriesN",
        ),
        ("MailRcptNameN", 1000, "Import of mails by the Windows program.", "mail is not read"),
        ("BurnProgramN", 1000, "CD archiving.", "there is no archiving to CD or tape"),
    ):
        keys.append(Key(name, _TEXT, "", meaning, _LEGACY, reason=reason, numbers=numbers))
    return keys


REGISTRY = Registry(
    with_notes(
        *_IDENTITY,
        *_FILES,
        *_DATABASE,
        *_QUERY,
        *_STORAGE,
        *_COMPRESSION,
        *_GATEWAY,
        *_ROUTING,
        *_converter_keys(),
        *_SECTIONS,
        *NODE_KEYS,
        *_WEB,
        *_tool_keys(),
    )
)
