"""The command line beside a running server and against independent peers."""

from __future__ import annotations

import json
from pathlib import Path

import pydicom
import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, run_dgate
from tests.acceptance.peers import Orthanc, find, store
from tests.generate import Generated, data_set_of


@pytest.fixture(scope="module")
def orthanc(shared_farm: Farm, objects: list[Generated]) -> Orthanc:
    """Return an Orthanc that holds the twenty objects."""
    peer = shared_farm.orthanc()
    for item in objects:
        peer.upload(item.path)
    return peer


@pytest.fixture(scope="module")
def client(shared_farm: Farm, orthanc: Orthanc) -> Gateway:
    """Return a configuration that knows that Orthanc; its server is not running."""
    return shared_farm.gateway("client", nodes=[orthanc.node], start=False)


def test_a_new_folder_serves_and_has_no_problems(farm: Farm) -> None:
    gateway = farm.gateway()

    result = gateway.command("check", check=False)

    assert result.returncode == 0, result.stdout


def test_check_names_file_and_line_of_an_error(farm: Farm) -> None:
    gateway = farm.gateway(settings={"ImportConverter0": "frobnicate the image"}, start=False)

    result = gateway.command("check", check=False)

    line = gateway.ini.read_text().splitlines().index("ImportConverter0 = frobnicate the image") + 1
    assert result.returncode == 1
    assert f"dicom.ini:{line}" in result.stdout


def test_init_does_not_overwrite_a_configuration(farm: Farm) -> None:
    gateway = farm.gateway(start=False)
    before = gateway.ini.read_text()

    result = run_dgate("init", str(gateway.folder))

    assert result.returncode != 0
    assert gateway.ini.read_text() == before


def test_config_show_and_explain(client: Gateway) -> None:
    assert "TCPPort" in client.command("config", "show").stdout
    explained = run_dgate("config", "explain", "forwardassociationclosedelay")
    assert explained.returncode == 0
    assert "ForwardAssociationCloseDelay" in explained.stdout


def test_echo_reaches_a_node_of_the_map_and_one_given_by_address(
    client: Gateway, orthanc: Orthanc
) -> None:
    client.command("echo", "ORTHANC")
    client.command("echo", f"ORTHANC@127.0.0.1:{orthanc.port}")


def test_echo_of_a_dead_node_fails_and_says_why(client: Gateway, farm: Farm) -> None:
    port = farm.ports.take()

    result = client.command("echo", f"DEAD@127.0.0.1:{port}", check=False)

    assert result.returncode != 0
    assert str(port) in result.stdout


def test_find_prints_matches(client: Gateway, objects: list[Generated]) -> None:
    result = client.command("find", "ORTHANC", "-k", "PatientID=P000*")

    assert objects[0].patient_id in result.stdout
    assert objects[-1].patient_id in result.stdout


def test_get_writes_the_objects_into_a_folder(
    client: Gateway, objects: list[Generated], tmp_path: Path
) -> None:
    client.command(
        "get", "ORTHANC", "-k", f"StudyInstanceUID={objects[0].study}", "-o", str(tmp_path)
    )

    received = {data_set_of(path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file()}
    assert received == {data_set_of(item.path.read_bytes()) for item in objects[:10]}


def test_send_stores_files_at_a_node(farm: Farm, client: Gateway, objects: list[Generated]) -> None:
    sink = farm.sink()

    client.command("send", f"SINK@127.0.0.1:{sink.port}", str(objects[0].path.parent))

    sink.wait_for(len(objects))
    received = {data_set_of(path.read_bytes()) for path in sink.files().values()}
    assert received == {data_set_of(item.path.read_bytes()) for item in objects}


def test_move_has_a_node_send_to_a_third(farm: Farm, objects: list[Generated]) -> None:
    sink = farm.sink()
    peer = farm.orthanc(nodes=[sink.node])
    client = farm.gateway(nodes=[peer.node], start=False)
    for item in objects[:10]:
        peer.upload(item.path)

    client.command("move", "ORTHANC", "--to", "SINK", "-k", f"StudyInstanceUID={objects[0].study}")

    sink.wait_for(10)


def test_import_beside_a_running_server_stores_and_forwards(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    sink = farm.sink()
    rule = {"ExportConverters": 1, "ExportConverter0": "forward to SINK"}
    gateway = farm.gateway(settings=rule, nodes=[sink.node])
    rubbish = tmp_path / "rubbish.dcm"
    rubbish.write_bytes(b"no DICOM at all")

    gateway.command("import", str(objects[0].path.parent))
    failed = gateway.command("import", str(rubbish), check=False)

    sink.wait_for(len(objects))
    assert len(gateway.stored_files()) == len(objects)
    assert failed.returncode != 0
    assert "rubbish.dcm" in failed.stdout


def test_import_without_a_server_stores(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    gateway = farm.gateway(start=False)

    gateway.command("import", str(objects[0].path.parent))

    gateway.start()
    found = find(gateway.port, {"SOPInstanceUID": ""}, tmp_path, level="IMAGE")
    assert len(found) == len(objects)


def test_status_counts_what_the_running_server_holds(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway()
    store(gateway.port, objects[0].path.parent)

    status = json.loads(gateway.command("status", "--json").stdout)

    assert status["port"] == gateway.port
    assert len(objects) in status["archive"].values()


def test_status_without_a_server_says_so(client: Gateway) -> None:
    result = client.command("status", check=False)

    assert result.returncode != 0
    assert "No server" in result.stdout


@pytest.mark.parametrize(
    "command",
    ["serve", "init", "check", "config", "import", "echo", "find", "move", "get", "send", "queue",
     "status"],
)  # fmt: skip
def test_every_command_explains_itself(command: str) -> None:
    result = run_dgate(command, "--help")

    assert result.returncode == 0
    assert len(result.stdout.splitlines()) > 5


def test_imported_objects_keep_their_bytes(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway(start=False)

    gateway.command("import", str(objects[3].path))

    (stored,) = gateway.stored_files()
    assert data_set_of(stored.read_bytes()) == data_set_of(objects[3].path.read_bytes())
    assert pydicom.dcmread(stored).SOPInstanceUID == objects[3].sop_instance
