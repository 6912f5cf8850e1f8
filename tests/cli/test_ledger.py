"""`dgate ledger` as an operator and a script see it."""

from __future__ import annotations

import csv
import io
import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dgate.archive.records import Provenance
from dgate.cli.ledger import ledger_group
from dgate.cli.ledger_files import COLUMNS
from dgate.delivery.commands import queue_commands
from dgate.delivery.records import Order, Selection, Settlement, State
from dgate.errors import DgateError
from dgate.ops.control import ControlServer
from tests.cli.site_kit import Site
from tests.delivery.kit import draft, ref

DIGEST = "ab" * 32
ORIGIN = Provenance("CT1", "10.0.0.5", 1_700_000_000.0, DIGEST, 524_288, "A100")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Debts 1 (stuck after two tries), 2 (delivered) and 3 (cancelled) of two objects."""
    site = Site(tmp_path)
    with site.opened() as shop:
        for number, destination in ((1, "SINK"), (1, "OTHER"), (2, "SINK")):
            owed = [draft(destination, provenance=ORIGIN, priority=0)]
            shop.writer.transact(
                lambda t, o=owed, n=number: shop.index.add_debts(t, ref(n), o, 1_700_000_001.0)
            )
        for state in (State.QUEUED, State.STUCK):
            first, *rest = sorted(shop.ledger.exchange([], "SINK", 10), key=lambda one: one.id)
            back = [Settlement(debt, State.QUEUED, tried=False) for debt in rest]
            refusal = Settlement(first, state, 0xA900, "does \x1b[31mnot match", seconds=0.5)
            shop.ledger.exchange([refusal, *back], "SINK", 0)
        [debt] = shop.ledger.exchange([], "OTHER", 10)
        shop.ledger.exchange([Settlement(debt, State.DONE, 0, seconds=0.25)], "OTHER", 0)
        shop.desk.cancel(Selection(ids=(3,)), Order("anna", "=sent by hand"))
    return site


def run(site: Site, *arguments: str) -> Result:
    verb, *rest = arguments
    return CliRunner().invoke(
        ledger_group, [verb, "-c", str(site.folder), *rest], catch_exceptions=False
    )


def test_find_shows_the_newest_first_with_what_became_of_them(site: Site) -> None:
    lines = run(site, "find").output.splitlines()

    assert lines[0].split() == [
        *("ID", "STATE", "DESTINATION", "RECEIVED", "FROM", "ACCESSION", "OBJECT", "RESULT")
    ]
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["3", "cancelled", "SINK"],
        ["2", "done", "OTHER"],
        ["1", "stuck", "SINK"],
    ]
    assert lines[1].endswith("CT1   A100       1.2.3.2  =sent by hand")
    assert "accepted" in lines[2]
    assert lines[3].endswith("does ?[31mnot match")


def test_find_takes_conditions_and_a_limit(site: Site) -> None:
    assert "1.2.3.2" not in run(site, "find", "--sop", "1.2.3.1").output
    assert run(site, "find", "--accession", "A100", "--limit", "1").output.count("A100") == 1
    assert "… and more" in run(site, "find", "--limit", "1").output
    assert "… and more" not in run(site, "find", "--limit", "3").output


def test_find_for_scripts_is_one_object_a_line_with_its_tries(site: Site) -> None:
    lines = [json.loads(line) for line in run(site, "find", "--json").output.splitlines()]

    assert [line["id"] for line in lines] == [3, 2, 1]
    assert [one["outcome"] for one in lines[2]["tries"]] == ["queued", "stuck"]
    assert lines[0]["decisions"][0]["who"] == "anna"
    assert run(site, "find", "--json", "--accession", "B").output == ""


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--accession", "B1"), "Nothing found for accession B1."),
        (("--accession", "B1"), "LedgerDays"),
        (("--destination", "SIMK"), "There are deliveries to: SINK."),
        (("--destination", "ZZZ"), "There are deliveries to: OTHER, SINK."),
    ],
)
def test_find_says_what_may_be_wrong(site: Site, arguments: tuple[str, ...], text: str) -> None:
    result = run(site, "find", *arguments)

    assert result.exit_code == 0
    assert text in result.output


def test_show_tells_the_whole_life_of_an_object(site: Site) -> None:
    lines = run(site, "show", "1.2.3.1").output.splitlines()

    assert lines[0] == "Object 1.2.3.1"
    assert lines[1] == "  patient    P1, accession A100"
    assert lines[4] == "Delivery 1 to SINK: stuck"
    assert lines[5].startswith("  received   2023-11-1")
    assert lines[5].endswith(" from CT1 (10.0.0.5)")
    assert lines[6] == f"  SHA-256    {DIGEST} of 524288 bytes, as received"
    assert lines[7].endswith("by ExportConverter0.1, stat")
    refusal = "status A900, 0.50 s: does ?[31mnot match"
    assert lines[8].endswith(f"to SINK: failed, to be tried again, {refusal}")
    assert lines[9].endswith(f"to SINK: failed for good, {refusal}")
    assert "retry 1" in lines[11]
    assert "Delivery 2 to OTHER: done" in lines
    assert [line for line in lines if line.endswith("to OTHER: delivered, status 0000, 0.25 s")]
    assert [line for line in lines if line.startswith("  accepted   ")]


def test_show_tells_what_operators_decided(site: Site) -> None:
    output = run(site, "show", "3").output

    assert "cancel by anna: =sent by hand" in output
    assert json.loads(run(site, "show", "3", "--json").output)["why"] == "=sent by hand"


def test_show_of_what_is_not_known_fails_with_advice(site: Site) -> None:
    with pytest.raises(DgateError, match=r"--study 1\.2\.3"):
        run(site, "show", "1.2.3")
    with pytest.raises(DgateError, match="no debt 99"):
        run(site, "show", "99")
    assert run(site, "show", " ").exit_code == 2


def test_export_for_spreadsheets_has_a_row_for_each_delivery(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "ledger.csv"

    assert run(site, "export", str(file)).output == f"3 written to {file}.\n"

    rows = list(csv.DictReader(io.StringIO(file.read_bytes().decode())))
    assert tuple(rows[0]) == COLUMNS
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert (rows[0]["sha256"], rows[0]["tries"], rows[0]["last_status"]) == (DIGEST, "2", "A900")
    assert rows[0]["last_error"] == "does ?[31mnot match"
    # No formula: a spreadsheet would run it.
    assert rows[2]["why"] == "'=sent by hand"
    assert (rows[2]["decision"], rows[2]["decided_by"]) == ("cancel", "anna")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_export_for_programs_has_everything(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"

    run(site, "export", str(file), "--destination", "SINK")

    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["id"] for line in lines] == [1, 3]
    assert lines[1]["why"] == "=sent by hand"
    assert [len(line["tries"]) for line in lines] == [2, 0]


def test_destination_may_be_written_as_it_is_in_a_rule(site: Site, tmp_path: Path) -> None:
    found = run(site, "find", "--destination", "sink", "--json").output.splitlines()
    assert sorted(json.loads(line)["id"] for line in found) == [1, 3]

    exported = run(site, "export", "-", "--format", "json", "--destination", "Other").output
    assert [json.loads(line)["id"] for line in exported.splitlines()] == [2]


def test_export_can_go_to_the_output(site: Site) -> None:
    lines = run(site, "export", "-", "--format", "json", "--state", "done").output.splitlines()

    assert [json.loads(line)["id"] for line in lines] == [2]


def test_export_replaces_no_file_unasked_and_leaves_none_behind(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "out" / "ledger.csv"
    with pytest.raises(DgateError, match="cannot be written"):
        run(site, "export", str(file))
    file.parent.mkdir()
    file.write_text("mine")
    with pytest.raises(DgateError, match="--force"):
        run(site, "export", str(file))
    assert file.read_text() == "mine"

    run(site, "export", str(file), "--force")

    assert file.read_text().startswith("id,state")
    assert [one.name for one in file.parent.iterdir()] == ["ledger.csv"]


def test_a_running_server_is_asked(site: Site, tmp_path: Path) -> None:
    socket = tmp_path / "s.sock"
    with site.opened() as shop:
        server = ControlServer(socket, queue_commands(shop.desk, lambda destination: None))
        server.start()
        try:
            with site.locked(socket):
                assert "1.2.3.2" in run(site, "find", "--state", "cancelled").output
                assert "Delivery 2 to OTHER: done" in run(site, "show", "1.2.3.1").output
                file = tmp_path / "all.csv"
                assert "3 written" in run(site, "export", str(file)).output
        finally:
            server.stop()
