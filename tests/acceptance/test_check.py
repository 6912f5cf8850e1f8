"""`dgate check` and `dgate config set` as programs, beside a running server."""

from __future__ import annotations

import json
import resource
import socket

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Node

CPU_S = 1.5
"""On one core that works for nobody else it takes less than half a second."""


def two_thousand_lines() -> dict[str, object]:
    """Return settings that fill a dicom.ini: rules with filters, and named scripts."""
    lines: dict[str, object] = {"ExportConverters": 20}
    for number in range(99):
        lines[f"ImportModality{number}"] = "CT"
        lines[f"ImportStationName{number}"] = f"ROOM{number}*"
        lines[f"ImportCallingAE{number}"] = f"SCANNER{number}"
        lines[f"ImportConverter{number}"] = (
            f'ifequal "%m", "CT"; {{ set PatientID to "S{number}%i"; nop %V0008,0090; }}; '
            f'ifnotempty "%V0010,0030"; forward to NODE{number}'
        )
    for number in range(20):
        lines[f"ExportModality{number}"] = "M*"
        lines[f"ExportConverter{number}"] = f'ifmatch "%i", "A*"; forward to NODE{number}'
    return lines


def test_check_beside_the_running_server_finds_its_port_in_order(farm: Farm) -> None:
    gateway = farm.gateway()

    result = gateway.command("check", check=False)
    assert (result.returncode, "0 error(s), 0 warning(s)" in result.stdout) == (0, True)
    # The look at the port left the server alone.
    assert gateway.answers()


def test_check_finds_a_port_of_somebody_else(farm: Farm) -> None:
    gateway = farm.gateway(start=False)
    with socket.create_server(("", gateway.port)):
        result = gateway.command("check", "--json", check=False)

    (problem,) = json.loads(result.stdout)["problems"]
    assert result.returncode == 1
    assert problem["severity"] == "error"
    assert f"TCPPort = {gateway.port}: another process listens" in problem["message"]
    assert problem["text"] == f"TCPPort = {gateway.port}"


def test_set_refuses_what_would_stop_the_server(farm: Farm) -> None:
    gateway = farm.gateway(start=False)
    before = gateway.ini.read_bytes()

    result = gateway.command("config", "set", "TCPPort", "70000", check=False)
    assert (result.returncode, gateway.ini.read_bytes()) == (1, before)
    assert "TCPPort = 70000 is not a port" in result.stdout


def test_two_thousand_lines_are_checked_in_a_moment(farm: Farm) -> None:
    nodes = [Node(f"NODE{number}", 104) for number in range(100)]
    gateway = farm.gateway(settings=two_thousand_lines(), nodes=nodes, start=False)
    scripts = [f'script{n} = ifequal "%m", "MR"; set StudyDescription to "X%d"' for n in range(800)]
    comments = ["# a remark"] * 700
    with gateway.ini.open("a") as file:
        file.write("\n".join([*comments, "[scripts]", *scripts, ""]))
    assert len(gateway.ini.read_text().splitlines()) >= 2000

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = gateway.command("check", check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    assert "0 error(s), 0 warning(s)" in result.stdout, result.stdout[:2000]
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert spent < CPU_S
