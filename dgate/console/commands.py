"""The table of server commands (spec lua-api.md 8.2), and what stands in the place of the others.

The commands themselves are in the modules beside this one, by what they work on.
"""

from __future__ import annotations

from collections.abc import Mapping

from dgate.console import archiving, configuring, fileing, moving, querying
from dgate.console.server import Command, Tools


def _lua(kind: str) -> Command:
    def run(tools: Tools, chunk: str, upload: bytes) -> bytes | None:
        return tools.run_lua(kind, chunk, upload)

    return run


COMMANDS: Mapping[str, Command] = {
    **archiving.COMMANDS,
    **moving.COMMANDS,
    **querying.COMMANDS,
    **configuring.COMMANDS,
    **fileing.COMMANDS,
    **{kind: _lua(kind) for kind in ("lua", "luastart", "globallua")},
}

_STOP = "stop or restart the service itself: `systemctl stop dgate`, or SIGTERM"
_LOGS = "set TroubleLog, UserLog or DebugLevel in dicom.ini"
_MAP = "edit acrnema.map; a change takes effect by itself"
_LIST = "edit dgatesop.lst; a change takes effect by itself"
_MEDIA = "copy files of a device with the tools of the system, then `dgate move-device`"
_PICTURES = "use the statement `save bmp to FILE` (or gif, jpg) in an export rule or Data:Script"
_WEB = "dgate serves no web pages: use `save jpg to FILE`, or dicomread and Data:Write(file)"
_SUBMIT = "use the statement `submit` or `submit2` in an export converter"
_MERGE = "use `dgate merge`, or Data:Script with set statements before the object is stored"

REPLACED: Mapping[str, str] = {
    "deleteimagefromdb": "remove the file, then `dgate regen --prune`",
    "deletesopfromdb": "remove the file, then `dgate regen --prune`",
    "grabimagesfromserver": "use dicomquery, and dicommove for each study that is missing",
    "modifypatid": "use `dgate correct patient ID --id NEW`, which changes all of the patient",
    "anonymize": "use modifier with a script, or an import or export converter",
    "mergestudyfile": "mergestudy merges at once, no file has to follow",
    "mergeseriesfile": "mergeseries merges at once, no file has to follow",
    "attachanytopatient": _MERGE,
    "attachanytostudy": _MERGE,
    "attachanytoseries": _MERGE,
    "attachrtplantortstruct": _MERGE,
    "attachfile": "use readdicom, Data:Script and Data:AddImage",
    "export": "use dicomread and Data:Write, then a program by `system`",
    "submit": _SUBMIT,
    "submit2": _SUBMIT,
    "scheduletransfer": "use a forward in an export converter",
    "loadanddeletedir": "put the files into WatchFolder",
    "addlocalfile": "use addimagefile",
    "dolua": "use lua:",
    "initializetables": "use `dgate regen --from-empty`",
    "clonedb": "copy the database with its own tools",
    "packdbf": "dBase is not offered: set SQLite = 1",
    "indexdbf": "dBase is not offered: set SQLite = 1",
    "extract": "use dbquery and write the rows with io.write",
    "todbf": "use dbquery and write the rows with io.write",
    "browsepatient": "there is no desktop program to show it",
    "convert_to_gif": _PICTURES,
    "convert_to_bmp": _PICTURES,
    "convert_to_jpg": _PICTURES,
    "wadorequest": _WEB,
    "wadoparse": _WEB,
    "extract_frames": "use the statement `save frame N to FILE` in an export rule or Data:Script",
    "write_amap": "acrnema.map is never changed in memory only: edit the file",
    "put_amap": _MAP,
    "delete_amap": _MAP,
    **{
        f"{verb}_{kind}": _LIST
        for verb in ("put", "delete")
        for kind in ("sop", "transfer", "application", "localae", "remoteae")
    },
    "mk_binary_dic": "the dictionary is part of dgate",
    "log_on": _LOGS,
    "debuglog_on": _LOGS,
    "testmode": "use the statement `testmode TEXT`, which `save` heeds; see also FileNameSyntax",
    "checklargestmalloc": "use heapinfo()",
    "quit": _STOP,
    "safequit": _STOP,
    "moveseriestodevice": "use `dgate move-device MAGn MAGm --series UID`",
    "patientfinder": "use dicomquery",
    "studyfinder": "use dicomquery",
    "seriesfinder": "use dicomquery",
    "imagefinder": "use dicomquery",
    "selectlruforarchival": _MEDIA,
    "selectseriestomove": _MEDIA,
    "preparebunchforburning": _MEDIA,
    "comparebunchafterburning": _MEDIA,
    "deletebunchafterburning": _MEDIA,
    "restoremagflags": _MEDIA,
    "verifymirrordisk": "use `dgate verify`",
    "testimages": "use `dgate verify`",
    "testcompress": "use Data:Compress",
}
"""What to use in the place of commands that are not offered."""
