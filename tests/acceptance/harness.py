"""Runs a real dgate server on a temporary folder, and dgate commands beside it.

Not for assertions about what the server does: those are in the tests.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.acceptance.processes import (
    START_DEADLINE_S,
    Failed,
    Ports,
    Process,
    files_below,
    run,
)
from tests.acceptance.rawdicom import Closed, RawAssociation


@dataclass(frozen=True, slots=True)
class Node:
    """A line of acrnema.map."""

    title: str
    port: int
    code: str = "as"

    def __str__(self) -> str:
        """Return the line."""
        return f"{self.title} 127.0.0.1 {self.port} {self.code}\n"


@dataclass(slots=True)
class Gateway:
    """A dgate server on a folder of its own."""

    folder: Path
    port: int
    process: Process

    @classmethod
    def create(
        cls,
        folder: Path,
        ports: Ports,
        *,
        settings: Mapping[str, object] | None = None,
        nodes: Iterable[Node] = (),
        wrapper: Sequence[str] = (),
    ) -> Self:
        """Write what `dgate init` writes, with changes; wrapper is put before `serve`."""
        folder.mkdir(parents=True)
        for name, content in _new_configuration().items():
            (folder / name).write_bytes(content)
        port = int(str((settings or {}).get("TCPPort") or ports.take()))
        command = [*wrapper, sys.executable, "-m", "dgate", "serve", "-c", str(folder)]
        process = Process(command, folder.parent / f"{folder.name}.log", dict(os.environ))
        gateway = cls(folder, port, process)
        gateway.configure(**{"TCPPort": port, **(settings or {})})
        gateway.name_nodes(nodes)
        return gateway

    @property
    def ini(self) -> Path:
        """Return the path of dicom.ini."""
        return self.folder / "dicom.ini"

    def configure(self, **settings: object) -> None:
        """Set keys in dicom.ini; a key that is there is replaced where it stands."""
        text = self.ini.read_text()
        for key, value in settings.items():
            text = _with_key(text, key, str(value))
        self.ini.write_text(text)

    def name_nodes(self, nodes: Iterable[Node]) -> None:
        """Replace acrnema.map."""
        (self.folder / "acrnema.map").write_text("".join(map(str, nodes)))

    def start(self) -> Self:
        """Start the server and wait until all of it works."""
        self.process.launch()
        # Its last words of a start. The port is open before: whoever asked there could meet a
        # server that has neither a control socket nor all of its threads yet, and the association
        # would count as one for a while.
        self.process.wait_ready(self.has_started, START_DEADLINE_S)
        return self

    def has_started(self) -> bool:
        """Tell whether the server has said that it serves."""
        return self.process.has_said("is listening on port")

    def answers(self) -> bool:
        """Ask with a C-ECHO whether the server serves."""
        try:
            with RawAssociation.open(self.port) as association:
                return association.echo().status == 0
        except (OSError, Closed):
            return False

    def stop(self) -> int:
        """Stop it as a service manager does; returns the exit code."""
        return self.process.end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it as a power cut would."""
        self.process.end(signal.SIGKILL)

    def restart(self) -> Self:
        """Stop cleanly and start again."""
        self.stop()
        return self.start()

    @property
    def log(self) -> str:
        """Return what all runs of this server printed."""
        return self.process.text()

    @property
    def database(self) -> Path:
        """Return the index database's file, as dicom.ini names it."""
        found = re.search(r"^SQLServer[ \t]*=[ \t]*(.+)$", self.ini.read_text(), re.I | re.M)
        if found is None:
            raise Failed("dicom.ini names no SQLServer")
        return self.folder / found[1].strip()

    def device(self) -> Path:
        """Return the folder of MAGDevice0."""
        found = re.search(r"^MAGDevice0[ \t]*=[ \t]*(.+)$", self.ini.read_text(), re.I | re.M)
        if found is None:
            raise Failed("dicom.ini names no MAGDevice0")
        return self.folder / found[1].strip()

    def stored_files(self) -> list[Path]:
        """Return the object files of MAGDevice0, without dgate's own folder in it."""
        device = self.device()
        return [
            path
            for path in files_below(device)
            if path.suffix in (".dcm", ".v2", ".img")
            and "dgate" not in path.relative_to(device).parts[:1]
        ]

    def command(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `dgate WORDS... -c FOLDER` beside the server."""
        return run_dgate(*words, "-c", str(self.folder), check=check)


@functools.cache
def _new_configuration() -> dict[str, bytes]:
    """Return what `dgate init` writes: asked once, since every test needs it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "new"
        run_dgate("init", str(folder), check=True)
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def _with_key(text: str, key: str, value: str) -> str:
    line = f"{key} = {value}"
    # Replacements are functions, so that a backslash in a value stays one.
    present = re.compile(rf"^{re.escape(key)}[ \t]*=.*$", re.IGNORECASE | re.MULTILINE)
    if present.search(text):
        return present.sub(lambda _: line, text)
    # Right after the section header: the end of the file may be in another section.
    header = re.compile(r"^\[sscscp\].*$", re.IGNORECASE | re.MULTILINE)
    return header.sub(lambda found: f"{found[0]}\n{line}", text, count=1)


def run_dgate(*words: str, check: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a dgate command to its end."""
    return run([sys.executable, "-m", "dgate", *words], dict(os.environ), check)
