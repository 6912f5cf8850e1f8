"""DCMTK's print server, as tests start it."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.harness import Node
from tests.acceptance.peers import accepts_connections, peer_environment
from tests.acceptance.processes import START_DEADLINE_S, Ports, Process, find_program

TITLE = "FILM"
CONFIGURATION = """\
[[GENERAL]]
[APPLICATION]
LogDirectory = {folder}/log
LogLevel = INFO
[PRINT]
Directory = {folder}/spool
DetailedLog = false
BinaryLog = false
[DATABASE]
Directory = {folder}/database
[LUT]
Directory = {folder}/lut
[NETWORK]
aetitle = DCMPSTATE
[[COMMUNICATION]]
[FILM]
Aetitle = FILM
Description = printer
Hostname = localhost
Port = {port}
Type = LOCALPRINTER
BorderDensity = 150\\20\\BLACK\\WHITE
DisplayFormat = 1,1\\1,2\\2,2\\2,3
EmptyImageDensity = 20\\BLACK\\WHITE
FilmDestination = MAGAZINE\\PROCESSOR
FilmSizeID = 8INX10IN\\10INX12IN
ImplicitOnly = {implicit}
MagnificationType = REPLICATE\\BILINEAR\\CUBIC\\NONE
MaxDensity = 320
MaxPDU = 32768
MediumType = PAPER\\CLEAR FILM\\BLUE FILM
MinDensity = 20
ResolutionID = STANDARD\\HIGH
SmoothingType = NONE
Supports12Bit = true
SupportsDecimateCrop = true
SupportsImageSize = true
SupportsTrim = true
"""


class Dcmprscp:
    """A print server that keeps films (`SP_*`) and their images (`HG_*`) as files."""

    def __init__(self, folder: Path, ports: Ports, *, implicit: bool) -> None:
        self.port = ports.take()
        self.database = folder / "database"
        for name in ("database", "spool", "lut", "log"):
            (folder / name).mkdir(parents=True)
        file = folder / "dcmpstat.cfg"
        text = CONFIGURATION.format(folder=folder, port=self.port, implicit=str(implicit).lower())
        file.write_text(text)
        command = [find_program("dcmprscp"), "-v", "-c", str(file), "-p", "FILM"]
        self.process = Process(command, folder / "dcmprscp.log", peer_environment())
        self.process.launch()
        self.process.wait_ready(lambda: accepts_connections(self.port), START_DEADLINE_S)

    @property
    def node(self) -> Node:
        """Return its line for acrnema.map."""
        return Node(TITLE, self.port)

    def files(self, kind: str) -> list[Path]:
        """Return what it keeps: `SP` films, `HG` images, the oldest first."""
        found = self.database.glob(f"{kind}_*.dcm")
        return sorted(found, key=lambda path: path.stat().st_mtime_ns)
