"""`dgate trace` and `dgate test` beside a running server, which must not notice."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import store
from tests.acceptance.processes import wait_until
from tests.generate import Generated

RULES = {
    "ImportConverter0": 'ifequal "%u", "TRIAL"; { set PatientID to "T%i"; forward to SINK; }',
    "ExportConverters": 2,
    "ExportCallingAE0": "TRIAL",
    "ExportConverter0": "forward to SINK",
    "ExportFilter1": "ImagePat = 'PATIENT'",
    "ExportConverter1": "forward to OTHER",
}


def site(farm: Farm, objects: list[Generated]) -> Gateway:
    """Start a server with rules, which stores objects of another sender."""
    # Nobody listens there: a forward that was really made would be seen as a debt.
    nodes = [Node("SINK", 1), Node("OTHER", 2)]
    rules = {
        key: str(value).replace("PATIENT", objects[0].patient_id) for key, value in RULES.items()
    }
    gateway = farm.gateway(settings=rules, nodes=nodes)
    store(gateway.port, objects[0].path, objects[1].path)
    return gateway


def state(gateway: Gateway) -> tuple[list[tuple[str, ...]], dict[str, bytes]]:
    """Return everything that a trace could have changed: what is owed, and all small files."""
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as connection:
        owed = connection.execute(
            "SELECT kind, destination, sop_instance FROM dgate_debts WHERE kind = 'deliver'"
        )
        debts = sorted(tuple(row) for row in owed)
    files = {
        str(path.relative_to(gateway.folder)): path.read_bytes()
        for path in sorted(gateway.folder.rglob("*"))
        if path.is_file() and path.suffix in (".dcm", ".ini", ".map")
    }
    return debts, files


def traces(text: str) -> list[dict[str, object]]:
    """Return the lines of a JSON output."""
    return [json.loads(line) for line in text.splitlines()]


def targets(trace: dict[str, object]) -> list[str]:
    """Return where an object would be sent."""
    places = trace["destinations"]
    assert isinstance(places, list)
    return [place["target"] for place in places]


def test_stored_objects_and_files_are_traced_and_nothing_is_touched(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = site(farm, objects)
    # The export rules of the real objects are worked off in the background.
    wait_until(lambda: len(state(gateway)[0]) == 2, "the deliveries that are really owed")
    before = state(gateway)

    query = f"PatientID={objects[0].patient_id}"
    shown = gateway.command("trace", "--json", "--from-archive", query, "--calling", "TRIAL")
    found = traces(shown.stdout)
    assert len(found) == 2
    for trace in found:
        # The rows of the patient as the import rule leaves it are what the filter looks at.
        assert targets(trace) == ["SINK", "SINK"]
    shown = gateway.command("trace", "--json", "--calling", "ELSE", str(objects[0].path))
    (trace,) = traces(shown.stdout)
    assert targets(trace) == ["OTHER"]
    assert trace["changes"] == []

    assert state(gateway) == before
    assert gateway.answers()


def test_exit_codes(farm: Farm, objects: list[Generated], tmp_path: Path) -> None:
    gateway = site(farm, objects)
    other = tmp_path / "text.dcm"
    other.write_text("This is no DICOM object at all. " * 20)

    failed = gateway.command("trace", str(other), check=False)
    assert failed.returncode == 1
    assert "text.dcm" in failed.stdout
    assert gateway.command("trace", check=False).returncode == 2
    nothing = gateway.command("trace", "--from-archive", "PatientID=NOBODY", check=False)
    assert (nothing.returncode, nothing.stdout) == (1, "No object was found.\n")
    wrong = gateway.command("trace", "--from-archive", "Nonsense", check=False)
    assert wrong.returncode == 2


def test_rules_are_tested_before_a_reload(farm: Farm, objects: list[Generated]) -> None:
    gateway = site(farm, objects)
    tests = gateway.folder / "rules.toml"
    tests.write_text(
        "[[test]]\n[test.tags]\nPatientID = '5'\n[test.association]\ncalling = 'TRIAL'\n"
        "[test.expect]\nchanges = ['PatientID']\ndestinations = ['SINK', 'SINK']\n"
        "values = {PatientID = 'T5'}\n"
    )
    assert "1 of 1 test(s) passed." in gateway.command("test", str(tests)).stdout
    gateway.configure(ImportConverter0='set PatientID to "U%i"')
    failed = gateway.command("test", str(tests), check=False)
    assert failed.returncode == 1
    assert "PatientID is 'U5', not 'T5'" in failed.stdout
