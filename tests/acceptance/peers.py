"""Runs the independent programs at the other end: DCMTK's tools and Orthanc."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pydicom

from tests.acceptance.harness import Node
from tests.acceptance.processes import (
    START_DEADLINE_S,
    TOOL_DEADLINE_S,
    WAIT_DEADLINE_S,
    Ports,
    Process,
    find_program,
    peer_environment,
    run,
    wait_until,
)


def run_dcmtk(
    program: str, *words: str | Path, check: bool = True, deadline_s: float = TOOL_DEADLINE_S
) -> subprocess.CompletedProcess[str]:
    """Run a DCMTK tool to its end."""
    command = [find_program(program), *map(str, words)]
    return run(command, peer_environment(), check, deadline_s)


@dataclass(frozen=True, slots=True)
class Answer:
    """What storescu was told about one file."""

    path: Path
    status: str

    @property
    def is_success(self) -> bool:
        """Tell whether the server took responsibility for the object."""
        return self.status == "Success"


def echo(port: int, *, called: str = "DGATE") -> None:
    """Send a C-ECHO with echoscu; raises Failed without success."""
    run_dcmtk("echoscu", "-aec", called, "127.0.0.1", str(port))


def store(
    port: int,
    *files: Path,
    called: str = "DGATE",
    calling: str = "STORESCU",
    options: Sequence[str] = (),
    check: bool = True,
) -> list[Answer]:
    """Send files or folders with storescu over one association; returns its answers in order."""
    scan = ["+sd", "+r"] if any(path.is_dir() for path in files) else []
    result = run_dcmtk(
        "storescu",
        "-v",
        "-nh",
        *scan,
        *options,
        "-aet",
        calling,
        "-aec",
        called,
        "127.0.0.1",
        str(port),
        *files,
        check=check,
    )
    return list(store_answers(result.stdout.splitlines()))


def store_answers(lines: Iterable[str]) -> Iterator[Answer]:
    """Read storescu's verbose output: which file got which answer."""
    path = None
    for line in lines:
        if line.startswith("I: Sending file: "):
            path = Path(line.removeprefix("I: Sending file: ").strip())
        elif found := re.match(r"[IWE]: Received Store Response \((.*)\)", line):
            assert path is not None
            yield Answer(path, found[1])


def find(
    port: int,
    keys: Mapping[str, str],
    folder: Path,
    *,
    level: str = "STUDY",
    model: str = "-S",
    called: str = "DGATE",
    options: Sequence[str] = (),
) -> list[pydicom.Dataset]:
    """Query with findscu and return the answers; folder is scratch space for its result files."""
    scratch = folder / f"find{time.monotonic_ns()}"
    scratch.mkdir(parents=True)
    wanted = {"QueryRetrieveLevel": level, **keys}
    words = [word for key, value in wanted.items() for word in ("-k", f"{key}={value}")]
    run_dcmtk(
        "findscu",
        model,
        "-X",
        "-od",
        scratch,
        *options,
        "-aec",
        called,
        *words,
        "127.0.0.1",
        str(port),
    )
    return [pydicom.dcmread(path, force=True) for path in sorted(scratch.iterdir())]


@dataclass(slots=True)
class StoreScp:
    """DCMTK's storescp, which keeps what it gets in a folder and logs every object."""

    folder: Path
    port: int
    title: str
    process: Process

    @classmethod
    def create(
        cls,
        folder: Path,
        ports: Ports,
        *,
        title: str = "SINK",
        options: Sequence[str] = ("+B",),
        verbose: bool = True,
    ) -> Self:
        """Prepare a receiver; start() makes it listen."""
        folder.mkdir(parents=True, exist_ok=True)
        port = ports.take()
        words = ["-v"] if verbose else []
        words += ["--fork", "-aet", title, "-od", str(folder), *options, str(port)]
        command = [find_program("storescp"), *words]
        log = folder.parent / f"{folder.name}.log"
        return cls(folder, port, title, Process(command, log, peer_environment()))

    @property
    def node(self) -> Node:
        """Return its line for acrnema.map."""
        return Node(self.title, self.port)

    def start(self) -> Self:
        """Start listening."""
        self.process.launch()
        self.process.wait_ready(lambda: accepts_connections(self.port), START_DEADLINE_S)
        return self

    def stop(self) -> None:
        """Stop listening."""
        self.process.end()

    def kill(self) -> None:
        """End it at once."""
        self.process.end(signal.SIGKILL)

    def files(self) -> dict[str, Path]:
        """Return the received files by SOP instance UID (their names are MODALITY.UID)."""
        return {path.name.split(".", 1)[1]: path for path in self.folder.iterdir()}

    def wait_for(self, count: int, *, deadline_s: float = WAIT_DEADLINE_S) -> None:
        """Wait until so many objects have arrived, and those that are there are complete."""
        wait_until(
            lambda: self._has(count), f"{count} objects at {self.title}", deadline_s=deadline_s
        )

    def _has(self, count: int) -> bool:
        names = os.listdir(self.folder)  # noqa: PTH208 (many times a second)
        # A file has its name before it has its content, and is open until then.
        folder = self.folder.resolve()
        return len(names) >= count and not any(
            path.parent == folder for path in self.process.open_files()
        )


_QRSCP_CONFIGURATION = """\
NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
{hosts}
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
{title} {folder} RW (200, 1024mb) ANY
AETable END
"""


@dataclass(slots=True)
class QrScp:
    """DCMTK's dcmqrscp with a folder of its own: a small archive with C-FIND, C-MOVE and C-GET,
    strict about the hierarchy."""

    folder: Path
    port: int
    title: str
    process: Process

    @classmethod
    def create(
        cls,
        folder: Path,
        ports: Ports,
        *,
        title: str = "QRSCP",
        nodes: Iterable[Node] = (),
        options: Iterable[str] = (),
    ) -> Self:
        """Write its configuration; `nodes` are the destinations it knows."""
        storage = folder / "storage"
        storage.mkdir(parents=True)
        port = ports.take()
        hosts = "\n".join(
            f"host{place} = ({node.title}, 127.0.0.1, {node.port})"
            for place, node in enumerate(nodes)
        )
        path = folder / "dcmqrscp.cfg"
        path.write_text(
            _QRSCP_CONFIGURATION.format(port=port, hosts=hosts, title=title, folder=storage)
        )
        command = [find_program("dcmqrscp"), "-v", "-c", str(path), *options]
        log = folder.parent / f"{folder.name}.log"
        return cls(folder, port, title, Process(command, log, peer_environment()))

    @property
    def node(self) -> Node:
        """Return its line for acrnema.map."""
        return Node(self.title, self.port)

    def start(self) -> Self:
        """Start it and wait until it listens."""
        self.process.launch()
        self.process.wait_ready(lambda: accepts_connections(self.port), START_DEADLINE_S)
        return self


def accepts_connections(port: int) -> bool:
    """Tell whether somebody listens on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), START_DEADLINE_S).close()
    except OSError:
        return False
    return True


ORTHANC_LUA = """
function OnStoredInstance(instanceId, tags, metadata, origin)
  SendToModality(instanceId, 'SINK')
end
"""


@dataclass(slots=True)
class Orthanc:
    """An Orthanc server with its own folder, open to this machine only."""

    folder: Path
    port: int
    http_port: int
    process: Process

    @classmethod
    def create(
        cls,
        folder: Path,
        ports: Ports,
        *,
        nodes: Iterable[Node] = (),
        settings: Mapping[str, Any] | None = None,
        lua: str = "",
    ) -> Self:
        """Write its configuration; start() makes it listen."""
        folder.mkdir(parents=True, exist_ok=True)
        port, http_port = ports.take(), ports.take()
        configuration: dict[str, Any] = {
            "Name": "peer",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomPort": port,
            "DicomAet": "ORTHANC",
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "DicomModalities": {n.title: [n.title, "127.0.0.1", n.port] for n in nodes},
            **(settings or {}),
        }
        if lua:
            script = folder / "route.lua"
            script.write_text(lua)
            configuration["LuaScripts"] = [str(script)]
        path = folder / "orthanc.json"
        path.write_text(json.dumps(configuration, indent=1))
        command = [find_program("Orthanc"), str(path)]
        process = Process(command, folder.parent / f"{folder.name}.log", peer_environment())
        return cls(folder, port, http_port, process)

    @property
    def node(self) -> Node:
        """Return its line for acrnema.map."""
        return Node("ORTHANC", self.port)

    def start(self) -> Self:
        """Start it and wait until both of its ports answer."""
        self.process.launch()
        self.process.wait_ready(self._answers, START_DEADLINE_S)
        return self

    def stop(self) -> None:
        """Stop it."""
        self.process.end()

    def kill(self) -> None:
        """End it at once."""
        self.process.end(signal.SIGKILL)

    def _answers(self) -> bool:
        try:
            self.rest("system")
        except OSError:
            return False
        return accepts_connections(self.port)

    def rest(self, path: str, body: object = None) -> Any:
        """Call its REST interface: GET without a body, POST of bytes or JSON with one."""
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}/{path}", content)
        with urllib.request.urlopen(request, timeout=TOOL_DEADLINE_S) as response:
            answer = response.read()
        return json.loads(answer) if "json" in response.headers["Content-Type"] else answer

    def upload(self, path: Path) -> str:
        """Put a file into it and return the instance's identifier."""
        return str(self.rest("instances", path.read_bytes())["ID"])

    def instance_count(self) -> int:
        """Return how many instances it holds."""
        return int(self.rest("statistics")["CountInstances"])
