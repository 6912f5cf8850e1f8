"""Server commands that read one object and give it in another form.

Run in the caller's thread.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from dgate.console.arguments import demand, number, split
from dgate.console.server import Command, Tools
from dgate.dicom.codes import stored_syntax_for
from dgate.dicom.element import SOP_CLASS_UID, SOP_INSTANCE_UID
from dgate.dicom.jsonmodel import to_model
from dgate.dicom.listing import listing
from dgate.dicom.part10 import file_meta
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import convert
from dgate.errors import RuleError
from dgate.rules.values import checksum

_RETURNED = ("", "cgi", "binary", "pre")
_FRAMES = 0x00280008
_PIXEL_DATA = 0x7FE00010


def delivered(tools: Tools, content: bytes, file: str) -> bytes:
    """Return the content, or write it into a file of that name and return `0`."""
    if file.lower() in _RETURNED:
        return content
    tools.files().write(file, content)
    return b"0"


def dump_header(tools: Tools, arguments: str, upload: bytes) -> bytes:
    """`dump_header:in,out`: a text listing."""
    file, out = split(arguments, ",", 2)
    table = tools.archive().load(demand(file, "the file"))
    return delivered(tools, listing(table).encode("utf-8", "surrogateescape"), out)


def convert_to_json(tools: Tools, arguments: str, upload: bytes) -> bytes:
    """`convert_to_json:file,size,compression,frame,pixels`: the DICOM JSON model."""
    file, _, _, _, pixels = split(arguments, ",", 5)
    table = tools.archive().load(demand(file, "the file"))
    model = to_model(table, bulk=pixels in ("1", "true"))
    return json.dumps([model], ensure_ascii=False).encode("utf-8", "surrogateescape")


def convert_to_dicom(tools: Tools, arguments: str, upload: bytes) -> bytes:
    """`convert_to_dicom:file,size,compression,frame`: a Part 10 file in another syntax."""
    file, size, code, frame = split(arguments, ",", 4)
    if size not in ("", "0") or frame not in ("", "-1"):
        raise RuleError("convert_to_dicom cannot resize or take out a frame")
    return _recoded(tools.archive().load(demand(file, "the file")), code)


def compress(tools: Tools, arguments: str, upload: bytes) -> bytes:
    """`compress:file,mode,out`."""
    file, code, out = split(arguments, ",", 3)
    table = tools.archive().load(demand(file, "the file"))
    return delivered(tools, _recoded(table, demand(code, "the code")), out)


def uncompress(tools: Tools, arguments: str, upload: bytes) -> bytes:
    """`uncompress:file,out`."""
    file, out = split(arguments, ",", 2)
    table = tools.archive().load(demand(file, "the file"))
    return delivered(tools, _recoded(table, "un"), out)


def _recoded(table: ElementTable, code: str) -> bytes:
    syntax = stored_syntax_for(code, table.syntax)
    data = table.tobytes()
    if syntax != table.syntax:
        data = convert(data, table.syntax, syntax)
    return file_meta(table.text(SOP_CLASS_UID), table.text(SOP_INSTANCE_UID), syntax) + data


def count_frames(tools: Tools, arguments: str, upload: bytes) -> str:
    """`count_frames:file`."""
    table = tools.archive().load(demand(arguments.strip(), "the file"))
    if _PIXEL_DATA not in table:
        return "0"
    return str(number(table.text(_FRAMES).strip() or "1", "a number of frames"))


def check_sum(tools: Tools, arguments: str, upload: bytes) -> str:
    """`checksum:text`: as `%A` and `crc`."""
    return checksum(arguments)


COMMANDS: Mapping[str, Command] = {
    "dump_header": dump_header,
    "convert_to_json": convert_to_json,
    "convert_to_dicom": convert_to_dicom,
    "compress": compress,
    "uncompress": uncompress,
    "count_frames": count_frames,
    "checksum": check_sum,
}
