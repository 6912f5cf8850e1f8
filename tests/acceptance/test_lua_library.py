"""Scripts of a real server talk to its archive, to itself over the network, and to its settings."""

from __future__ import annotations

import json
from pathlib import Path

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node, run_dgate
from tests.acceptance.processes import wait_until
from tests.archive.intake_kit import data_set

AE = "DGATE"
SCRIPT = r"""
local q = DicomObject:new()
q.PatientID, q.StudyInstanceUID = Data.PatientID, ''
local found = dicomquery('%(ae)s', 'STUDY', q)
local move = DicomObject:new()
move.QueryRetrieveLevel, move.StudyInstanceUID = 'STUDY', '1.2.3.1'
local rows = dbquery('DICOMImages', 'SOPInstanc', 'ImagePat = ?', '', { Data.PatientID })
local loaded = DicomObject:new()
loaded:Read(':1.2.3.1.1.1')
local answers = {
  studies = #found,
  move = tostring(dicommove('%(ae)s', '%(ae)s', move, 0)),
  rows = rows[1][1],
  name = loaded.PatientName,
  echo = dicomecho('%(ae)s').Status,
  got = #dicomget('%(ae)s', 'STUDY', move),
  read = #dicomread(move),
  amap = get_amap(0),
  param = servercommand('get_param:MyACRNema'),
  lua = servercommand('lua:return 6 * 7'),
  pixel = Data:GetPixel(1, 0),
  global = Global.MyACRNema,
}
Data:SetPixel(1, 0, 0, 4660)
local file = io.open('answers.json', 'w')
local parts = {}
for name, value in pairs(answers) do
  parts[#parts + 1] = string.format('%%q: %%q', name, tostring(value))
end
file:write('{' .. table.concat(parts, ',') .. '}')
file:close()
Data.PatientComments = loaded:Serialize(true):sub(1, 1)
"""


def send(gateway: Gateway, folder: Path, number: int) -> None:
    path = folder / f"{number}.v2"
    path.write_bytes(data_set(SOPInstanceUID=f"1.2.3.1.1.{number}", PatientID="P1"))
    run_dgate("send", f"{AE}@127.0.0.1:{gateway.port}", str(path), check=True)


def test_import_script_uses_everything_that_it_can_reach(farm: Farm, tmp_path: Path) -> None:
    gateway = farm.gateway()
    script = gateway.folder / "reach.lua"
    script.write_text(SCRIPT % {"ae": AE})
    gateway.name_nodes([Node(AE, gateway.port)])
    gateway.restart()
    send(gateway, tmp_path, 1)
    gateway.configure(ImportConverter0='ifequal "%o", "1.2.3.1.1.2"; reach.lua')
    gateway.restart()

    send(gateway, tmp_path, 2)

    path = gateway.folder / "answers.json"
    wait_until(path.exists, "the script has written its answers")
    answers = json.loads(path.read_text())
    assert answers == {
        "studies": "1",
        "move": "nil",
        "rows": "1.2.3.1.1.1",
        "name": "SMITH^JOHN",
        "echo": "0",
        "got": "1",
        "read": "1",
        "amap": AE,
        "param": AE,
        "lua": "42",
        "pixel": "770",
        "global": AE,
    }
