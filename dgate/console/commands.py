"""The table of server commands (spec lua-api.md 8.2), and what stands in the place of the others.

The commands themselves are in the modules beside this one, by what they work on.
"""

from __future__ import annotations

from collections.abc import Mapping

from dgate.console import (
    archiving,
    configuring,
    fileing,
    handing,
    joining,
    moving,
    picturing,
    querying,
)
from dgate.console.server import Command, Tools
from dgate.rules.actions import APART


def _lua(kind: str) -> Command:
    def run(tools: Tools, chunk: str, upload: bytes) -> bytes | None:
        return tools.run_lua(kind, chunk.removeprefix(APART), upload)

    return run


COMMANDS: Mapping[str, Command] = {
    **archiving.COMMANDS,
    **moving.COMMANDS,
    **querying.COMMANDS,
    **configuring.COMMANDS,
    **fileing.COMMANDS,
    **picturing.COMMANDS,
    **joining.COMMANDS,
    **handing.COMMANDS,
    **{kind: _lua(kind) for kind in ("lua", "luastart", "globallua")},
    "dolua": _lua("lua"),
}

_STOP = "stop or restart the service itself: `systemctl stop dgate`, or SIGTERM"
_LOGS = "set TroubleLog, UserLog or DebugLevel in dicom.ini"
_MAP = "edit acrnema.map; a change takes effect by itself"
_LIST = "edit dgatesop.lst; a change takes effect by itself"
_MEDIA = "copy files of a device with the tools of the system, then `dgate move-device`"
_WEB = "dgate serves no web pages: use `save jpg to FILE`, or dicomread and Data:Write(file)"
_SUBMIT = "use the statement `submit` or `submit2` in an export converter"

REPLACED: Mapping[str, str] = {
    "deleteimagefromdb": "remove the file, then `dgate regen --prune`",
    "deletesopfromdb": "remove the file, then `dgate regen --prune`",
    "mergestudyfile": "mergestudy merges at once, no file has to follow",
    "mergeseriesfile": "mergeseries merges at once, no file has to follow",
    "submit": _SUBMIT,
    "submit2": _SUBMIT,
    "scheduletransfer": "use a forward in an export converter",
    "initializetables": "use `dgate regen --from-empty`",
    "clonedb": "copy the database with its own tools",
    "packdbf": "dBase is not offered: set SQLite = 1",
    "indexdbf": "dBase is not offered: set SQLite = 1",
    "extract": "use dbquery and write the rows with io.write",
    "browsepatient": "there is no desktop program to show it",
    "wadorequest": _WEB,
    "wadoparse": _WEB,
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
