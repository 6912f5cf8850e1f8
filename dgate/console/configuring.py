"""Server commands about the configuration and the state of the server.

Run in the caller's thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dgate.config.edit import entries_of, home_of, without
from dgate.config.ini import Entry, IniFile
from dgate.config.settings import load
from dgate.config.store import write_files
from dgate.console.arguments import demand, number, split
from dgate.console.formats import formatted
from dgate.console.server import Command, Tools
from dgate.dicom import dictionary
from dgate.dicom.element import keyword_of, vr_of
from dgate.errors import RuleError

_MEGABYTE = 1 << 20


def _entries(tools: Tools) -> list[Entry]:
    ini = tools.current().configuration.ini
    home = None if ini is None else home_of(ini, None, "MyACRNema")
    return [] if home is None else list(home.entries)


def get_param(tools: Tools, arguments: str, upload: bytes) -> str:
    """`get_param:name,format`: the value in dicom.ini, else the default."""
    name, form = split(arguments, ",", 2)
    found = tools.values.value(demand(name, "the name"))
    return formatted(form or "%s", ["" if found is None else str(found)])


def put_param(tools: Tools, arguments: str, upload: bytes) -> None:
    """`put_param:name,value`: change a key that dicom.ini has; it takes effect at once."""
    name, value = split(arguments, ",", 2)
    ini = tools.current().configuration.ini
    name = demand(name, "the name")
    if ini is None or not entries_of(home_of(ini, None, name), None, name):
        raise RuleError(
            f"dicom.ini has no {name}", remedy=f"`dgate config set {name} VALUE` adds it"
        )
    tools.values.change(name, value)


def delete_param(tools: Tools, arguments: str, upload: bytes) -> None:
    """`delete_param:name`: remove a line of dicom.ini, so that the default counts."""
    name = demand(arguments.strip(), "the name")
    settings = tools.current().settings
    path = settings.ini_path
    old = path.read_bytes()
    new = without(IniFile.parse(old, path), None, name)
    tools.values.check_change(load(path, {path: new}), name)
    write_files(settings.base_folder, {path: new}, {path: old})
    tools.reload(f"a script removed {name}")


def get_ini(tools: Tools, arguments: str, upload: bytes) -> str:
    """`get_ini:format`: every key and value."""
    form = arguments.strip() or "%s = %s\\n"
    return "".join(formatted(form, [each.key, each.value]) for each in _entries(tools))


def get_ini_number(tools: Tools, arguments: str, upload: bytes) -> str:
    """`get_ini_num:index,format`: the entry with a number, from 0; empty past the end."""
    index, form = split(arguments, ",", 2)
    entries = _entries(tools)
    place = number(index, "a number")
    if not 0 <= place < len(entries):
        return ""
    return formatted(form or "%s = %s", [entries[place].key, entries[place].value])


def read_ini(tools: Tools, arguments: str, upload: bytes) -> None:
    """`read_ini:` and `read_amap:`: read all files anew, now."""
    tools.reload("a script asked for it")


def get_node(tools: Tools, arguments: str, upload: bytes) -> str:
    """`get_amap:index,format`; empty past the end."""
    index, form = split(arguments, ",", 2)
    nodes = list(tools.current().configuration.nodes)
    place = number(index, "a number")
    if not 0 <= place < len(nodes):
        return ""
    return formatted(form or "%s %s %s %s", _node(nodes[place]))


def get_nodes(tools: Tools, arguments: str, upload: bytes) -> str:
    """`get_amaps:format`: every line without a wildcard."""
    form = arguments.strip() or "%s %s %s %s\\n"
    nodes = tools.current().configuration.nodes
    return "".join(formatted(form, _node(each)) for each in nodes if "*" not in each.ae_title)


def _node(node: object) -> list[str]:
    return [str(getattr(node, name)) for name in ("ae_title", "host", "port", "compression")]


def _listing(category: str) -> Command:
    def get_one(tools: Tools, arguments: str, upload: bytes) -> str:
        index, form = split(arguments, ",", 2)
        listed: Iterable[str] | None = getattr(tools.current().configuration.sop_list, category)
        values = sorted(listed or ())
        place = number(index, "a number")
        if not 0 <= place < len(values):
            return ""
        return formatted(form or "%s", [values[place]])

    return get_one


def get_column(tools: Tools, arguments: str, upload: bytes) -> str:
    """`get_sqldef:level,index,format`; empty past the end."""
    level, index, form = split(arguments, ",", 3)
    row = tools.archive().column(number(level, "a level"), number(index, "a number"))
    if row is None:
        return ""
    return formatted(form or "%s %s %s %s %s %s", [str(part) for part in row])


def get_element(tools: Tools, arguments: str, upload: bytes) -> str:
    """`get_dic:index,format`: tag, keyword and VR of a row of the dictionary, from 0."""
    index, form = split(arguments, ",", 2)
    tags = sorted(dictionary.ROWS)
    place = number(index, "a number")
    if not 0 <= place < len(tags):
        return ""
    tag = tags[place]
    shown = f"{tag >> 16:04x},{tag & 0xFFFF:04x}"
    return formatted(form or "%s %s %s", [shown, keyword_of(tag), vr_of(tag)])


def get_free_store(tools: Tools, arguments: str, upload: bytes) -> str:
    """`get_freestore:device,format`: free megabytes."""
    name, form = split(arguments, ",", 2)
    device = tools.current().devices.get((name or "MAG0").upper())
    if device is None:
        raise RuleError(f"there is no device {name}")
    return formatted(form or "%s", [str(device.free_bytes() // _MEGABYTE)])


def display_status(tools: Tools, arguments: str, upload: bytes) -> str:
    """`display_status:`: what `dgate status` shows, as text."""
    status = tools.status()
    lines = [f"DGATE ({status['ae_title']}) on port {status['port']}"]
    lines.append(f"Health: {status['health']['state']}")
    lines += [f"  {problem}" for problem in status["health"]["problems"]]
    lines.append(f"Up: {status['up_s']:.0f} s; associations: {status['associations']}")
    lines += [f"{name}: {count}" for name, count in status["archive"].items()]
    lines += [f"{each['name']}: {each['free_mb']} MB free" for each in status["devices"]]
    lines += [f"{each['destination']}: {each['count']} {each['state']}" for each in status["queue"]]
    return "\n".join(lines) + "\n"


def status_text(tools: Tools, arguments: str, upload: bytes) -> str:
    """`status_string:`: what `Global.StatusString` says."""
    return str(tools.values.value("StatusString") or "")


def debug_level(tools: Tools, arguments: str, upload: bytes) -> None:
    """`debuglevel:n`: change DebugLevel of dicom.ini."""
    put_param(tools, f"DebugLevel,{number(arguments, 'a level')}", b"")


COMMANDS: Mapping[str, Command] = {
    "get_param": get_param,
    "get_ini_param": get_param,
    "put_param": put_param,
    "delete_param": delete_param,
    "get_ini": get_ini,
    "get_ini_num": get_ini_number,
    "read_ini": read_ini,
    "read_amap": read_ini,
    "get_amap": get_node,
    "get_amaps": get_nodes,
    "get_sop": _listing("abstract"),
    "get_transfer": _listing("transfer"),
    "get_application": _listing("application"),
    "get_localae": _listing("local_ae"),
    "get_remoteae": _listing("remote_ae"),
    "get_sqldef": get_column,
    "get_dic": get_element,
    "get_freestore": get_free_store,
    "display_status": display_status,
    "status_string": status_text,
    "debuglevel": debug_level,
}
