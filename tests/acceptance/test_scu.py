"""Commands to a node against real nodes: what is proposed, converted and answered; `status`."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node, run_dgate
from tests.acceptance.peers import QrScp, store
from tests.acceptance.processes import wait_until
from tests.acceptance.rawdicom import Request, listening, next_request
from tests.generate import Generated, Kind, Plan, data_set_of, write_files

RLE = "1.2.840.10008.1.2.5"
STUDY = "1.2.826.0.1.3680043.8.498.77"
ODD_CLASS = "1.2.840.10008.5.1.4.1.1.88.67"
"""X-Ray Radiation Dose SR: a long UID, not among the common ones."""


def mixed_study(folder: Path, objects: list[Generated]) -> dict[str, Path]:
    """Write a study of two plain MR images, an RLE one and a dose report; return them by UID."""
    folder.mkdir()
    sources = [objects[0].path, objects[1].path, Path(str(get_testdata_file("MR_small_RLE.dcm")))]
    found = {}
    for number, source in enumerate([*sources, objects[2].path]):
        dataset = pydicom.dcmread(source)
        dataset.StudyInstanceUID, dataset.PatientID = STUDY, "MIXED"
        dataset.SeriesInstanceUID = f"{STUDY}.{number}"
        dataset.SOPInstanceUID = f"{STUDY}.{number}.1"
        if number == 3:
            dataset.SOPClassUID = ODD_CLASS
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        path = folder / f"{number}.dcm"
        dataset.save_as(path)
        found[str(dataset.SOPInstanceUID)] = path
    return found


def fetched(folder: Path) -> dict[str, bytes]:
    return {path.stem: data_set_of(path.read_bytes()) for path in folder.glob("*.dcm")}


def contents(path: Path) -> tuple[str, str, bytes]:
    """Return what a program that writes files anew must leave as it is."""
    dataset = pydicom.dcmread(path)
    return str(dataset.SOPClassUID), str(dataset.file_meta.TransferSyntaxUID), dataset.PixelData


@pytest.mark.parametrize("kind", ["dgate", "orthanc", "dcmqrscp"])
def test_get_fetches_every_class_as_it_is_stored(
    farm: Farm, objects: list[Generated], tmp_path: Path, kind: str
) -> None:
    files = mixed_study(tmp_path / "mixed", objects)
    if kind == "dgate":
        node = Node("DGATE", farm.gateway().port)
    elif kind == "orthanc":
        node = farm.orthanc().node
    else:
        peer = QrScp.create(farm.folder / "qrscp", farm.ports, options=["+xr"])
        farm.add(peer.process)
        node = peer.start().node
    for path in files.values():
        assert run_dgate("send", f"{node.title}@127.0.0.1:{node.port}", str(path)).returncode == 0

    result = run_dgate(
        "get", f"{node.title}@127.0.0.1:{node.port}", "-k", f"StudyInstanceUID={STUDY}",
        "-o", str(tmp_path / "out"),
    )  # fmt: skip

    assert result.returncode == 0, result.stdout
    assert "4 completed, 0 failed" in result.stdout
    found = {path.stem: contents(path) for path in (tmp_path / "out").iterdir()}
    assert found == {uid: contents(path) for uid, path in files.items()}
    assert found[f"{STUDY}.2.1"][1] == RLE
    if kind == "dgate":
        assert fetched(tmp_path / "out") == {
            uid: data_set_of(path.read_bytes()) for uid, path in files.items()
        }


def test_send_converts_for_a_node_that_takes_no_other(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    files = mixed_study(tmp_path / "mixed", objects)
    sink = farm.sink(options=("+B", "+xi"))

    result = run_dgate("send", f"SINK@127.0.0.1:{sink.port}", str(tmp_path / "mixed"))

    assert result.returncode == 0, result.stdout
    assert "4 of 4 object(s) accepted" in result.stdout
    received = {uid: pydicom.dcmread(path) for uid, path in sink.files().items()}
    assert set(received) == set(files)
    assert {str(each.file_meta.TransferSyntaxUID) for each in received.values()} == {
        "1.2.840.10008.1.2"
    }
    assert received[f"{STUDY}.2.1"].PixelData == (
        pydicom.dcmread(str(get_testdata_file("MR_small.dcm"))).PixelData
    )


def test_send_goes_on_after_an_object_that_the_node_refuses(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    target = farm.gateway(settings={"ImportConverter0": 'ifequal "%i", "MIXED"; reject'})
    mixed_study(tmp_path / "mixed", objects)

    result = run_dgate(
        "send", f"DGATE@127.0.0.1:{target.port}", str(tmp_path / "mixed"), str(objects[5].path)
    )

    assert result.returncode == 1
    assert "1 of 5 object(s) accepted" in result.stdout
    assert result.stdout.count("status 0110") == 4


@pytest.mark.parametrize(
    "words",
    [
        ["echo", "Sink"],
        ["find", "Sink"],
        ["move", "Sink", "--to", "OTHER", "-k", "StudyInstanceUID=1.2"],
        ["get", "Sink", "-k", "StudyInstanceUID=1.2", "-o", "got"],
        ["send", "Sink", "FILE"],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize(
    ("settings", "pdu_size", "padding"),
    [({}, 131072, b" "), ({"PDUSize": 16384, "PadAEWithZeros": 1}, 16384, b"\0")],
    ids=["default", "set"],
)
def test_commands_to_a_node_keep_to_pdu_size_and_padding(
    farm: Farm,
    objects: list[Generated],
    words: list[str],
    settings: dict[str, object],
    pdu_size: int,
    padding: bytes,
) -> None:
    names = {"FILE": str(objects[0].path), "got": str(farm.folder / "got")}
    with listening() as server:
        client = farm.gateway(
            settings={"MyACRNema": "CLIENT", **settings},
            nodes=[Node("Sink", server.getsockname()[1])],
            start=False,
        )
        with ThreadPoolExecutor(1) as pool:
            command = pool.submit(
                run_dgate, *(names.get(word, word) for word in words), "-c", str(client.folder)
            )
            request = next_request(server)
            # Whoever tries again is to be refused at once.
            server.close()
            result = command.result()

    assert request == Request(b"Sink".ljust(16, padding), b"CLIENT".ljust(16, padding), pdu_size)
    assert result.returncode == 1
    assert "Traceback" not in result.stdout


# status


def status(gateway: Gateway) -> tuple[int, dict[str, object]]:
    """Return exit code and answer of `dgate status --json`."""
    result = run_dgate("status", "-c", str(gateway.folder), "--json")
    return result.returncode, json.loads(result.stdout) if result.returncode != 1 else {}


def test_a_server_that_is_well_says_so(farm: Farm) -> None:
    code, answer = status(farm.gateway())

    assert code == 0
    assert answer["health"] == {"state": "ok", "problems": []}


def test_a_server_without_room_is_degraded(farm: Farm) -> None:
    gateway = farm.gateway(settings={"MAGDeviceFullThreshold": 2**40})

    code, answer = status(gateway)

    assert code == 2
    assert "no storage device has room" in str(answer["health"])


def test_a_server_with_stuck_deliveries_is_degraded(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway(
        settings={
            "ExportConverters": 1,
            "ExportConverter0": "forward to GONE",
            "MaximumExportRetries": 1,
            "RetryFirst": 0.1,
        },
        nodes=[Node("GONE", farm.ports.take())],
    )
    store(gateway.port, objects[0].path)

    wait_until(lambda: status(gateway)[0] == 2, "the delivery to be stuck")

    assert "1 delivery waits for a person" in str(status(gateway)[1]["health"])


def test_a_server_that_is_stopped_or_killed_is_not_there(farm: Farm) -> None:
    gateway = farm.gateway()
    gateway.kill()
    assert status(gateway)[0] == 1
    gateway.start()
    assert status(gateway)[0] == 0
    gateway.process.end(signal.SIGTERM)
    assert status(gateway)[0] == 1


def test_looking_at_the_status_never_keeps_a_server_from_starting(farm: Farm) -> None:
    gateway = farm.gateway(start=False)
    (gateway.folder / "dgate.lock").write_text("{}")
    before = (gateway.folder / "dgate.lock").stat().st_mtime_ns

    assert status(gateway)[0] == 1

    assert (gateway.folder / "dgate.lock").stat().st_mtime_ns == before


def test_get_of_a_ct_and_an_unknown_node_is_an_error(farm: Farm, tmp_path: Path) -> None:
    pictures = write_files(tmp_path / "ct", Plan(2, Kind.CT, seed=9))
    gateway = farm.gateway()
    store(gateway.port, pictures[0].path.parent)

    result = run_dgate(
        "get", f"DGATE@127.0.0.1:{gateway.port}", "-k", f"StudyInstanceUID={pictures[0].study}",
        "-o", str(tmp_path / "out"),
    )  # fmt: skip
    lost = run_dgate("get", f"DGATE@127.0.0.1:{farm.ports.take()}", "-k", "StudyInstanceUID=1")

    assert result.returncode == 0
    assert len(fetched(tmp_path / "out")) == 2
    assert lost.returncode == 1
    assert "no connection" in lost.stdout
