"""Control elements of group 9999 against the real server, with DCMTK's movescu and getscu."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pydicom
import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import StoreScp, run_dcmtk, store
from tests.acceptance.processes import wait_until
from tests.acceptance.rawdicom import STUDY_ROOT_MOVE, Offer, RawAssociation, identifier
from tests.generate import Generated, Kind, Plan, write_files

IMPLICIT_LE, EXPLICIT_LE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
RETRIEVE = "RetrieveConverter0"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[Generated]:
    """Five objects of one series."""
    return write_files(tmp_path_factory.mktemp("study"), Plan(5, per_series=5))


@pytest.fixture
def sink(farm: Farm) -> StoreScp:
    return farm.sink(options=("+B", "-d"))


def serving(farm: Farm, study: list[Generated], sink: StoreScp, **settings: object) -> Gateway:
    """Return a server that holds the study."""
    gateway = farm.gateway(settings=settings, nodes=[sink.node])
    assert all(each.is_success for each in store(gateway.port, *(one.path for one in study)))
    return gateway


def move(gateway: Gateway, study: list[Generated]) -> str:
    """Have movescu ask for the study; returns what it says."""
    return run_dcmtk(
        "movescu", "-d", "-S", "-aet", "VIEWER", "-aec", "DGATE", "-aem", "SINK",
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study[0].study}",
        "127.0.0.1", str(gateway.port), check=False,
    ).stdout  # fmt: skip


def control(tag: int, vr: bytes, value: bytes) -> bytes:
    """Encode an element of group 9999 in explicit little endian."""
    return struct.pack("<HH2sH", 0x9999, tag, vr, len(value)) + value


def raw_move(gateway: Gateway, study: list[Generated], *controls: bytes) -> int | None:
    """Ask for the study as a peer that sends control elements itself; returns the final status."""
    keys = {0x00080052: "STUDY", 0x0020000D: study[0].study}
    with RawAssociation.open(gateway.port, [Offer(STUDY_ROOT_MOVE)]) as association:
        command = {
            0x0002: STUDY_ROOT_MOVE,
            0x0100: 0x0021,
            0x0110: association.next_id(),
            0x0600: "SINK",
            0x0700: 0,
        }
        data = identifier(keys) + b"".join(controls)
        association.send(association.context_for(STUDY_ROOT_MOVE), command, data)
        reply = association.receive()
        while reply.status == 0xFF00:
            reply = association.receive()
        return reply.status


def syntaxes(sink: StoreScp) -> set[str]:
    """Return the transfer syntaxes of what has arrived."""
    read = (pydicom.dcmread(path) for path in sink.files().values())
    return {str(each.file_meta.TransferSyntaxUID) for each in read}


def titles(sink: StoreScp) -> list[str]:
    """Return the calling AE titles of the associations that brought something, in order."""
    found = re.findall(r"Calling Application Name: *(\S+)", sink.process.text())
    return list(dict.fromkeys(found))


def test_no_more_objects_leave_than_the_converter_allows(
    farm: Farm, study: list[Generated], sink: StoreScp
) -> None:
    gateway = serving(farm, study, sink, **{RETRIEVE: 'set 9999,0500 to "2"'})

    said = move(gateway, study)

    assert "0x0000: Success" in said
    sink.wait_for(2)
    assert len(sink.files()) == 2


def test_parts_of_a_study_make_the_whole_of_it(
    farm: Farm, study: list[Generated], sink: StoreScp
) -> None:
    gateway = serving(farm, study, sink)

    assert raw_move(gateway, study, control(0xB00, b"LO", b"0/2 ")) == 0
    first = set(sink.files())
    assert raw_move(gateway, study, control(0xB00, b"LO", b"1/2 ")) == 0

    assert (len(first), len(sink.files())) == (3, 5)
    assert raw_move(gateway, study, control(0xB00, b"LO", b"2/2 ")) == 0xA900


def test_converter_chooses_the_transfer_syntax(
    farm: Farm, study: list[Generated], sink: StoreScp
) -> None:
    gateway = serving(farm, study, sink, **{RETRIEVE: 'set 9999,0700 to "ui"'})
    assert {
        str(pydicom.dcmread(path).file_meta.TransferSyntaxUID) for path in gateway.stored_files()
    } == {EXPLICIT_LE}

    assert "0x0000: Success" in move(gateway, study)

    assert syntaxes(sink) == {IMPLICIT_LE}


def test_a_get_keeps_to_the_limit_and_to_what_was_negotiated(
    farm: Farm, study: list[Generated], sink: StoreScp, tmp_path: Path
) -> None:
    gateway = serving(
        farm, study, sink, **{RETRIEVE: 'set 9999,0700 to "ui"; set 9999,0500 to "3"'}
    )

    got = tmp_path / "got"
    got.mkdir()
    run_dcmtk(
        "getscu", "-S", "+B", "-od", got, "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={study[0].study}", "127.0.0.1", str(gateway.port),
    )  # fmt: skip

    assert len(list(got.iterdir())) == 3


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('set 9999,0700 to "k1"', "'k1' of (9999,0700) is not carried out"),
        ('set 9999,0202 to "0010,0010"', "which is not + or - and a list"),
        ('set 9999,0A00 to "MUCH TOO LONG A TITLE"', "cannot be an AE title"),
    ],
)
def test_what_cannot_be_done_keeps_everything_from_being_sent(
    farm: Farm, study: list[Generated], sink: StoreScp, line: str, reason: str
) -> None:
    gateway = serving(farm, study, sink, **{RETRIEVE: line})

    said = move(gateway, study)

    assert "0xa702" in said.lower()
    wait_until(lambda: reason in gateway.log, reason)
    assert sink.files() == {}


def received(sink: StoreScp) -> list[pydicom.Dataset]:
    """Return what has arrived."""
    return [pydicom.dcmread(path) for path in sink.files().values()]


def test_script_of_the_converter_runs_over_each_copy(
    farm: Farm, study: list[Generated], sink: StoreScp
) -> None:
    # Twice the percent sign: these tokens are the script's, not those of the request.
    script = "set PatientComments to %'%%u/%%c/%%s%'; set InstitutionName to %'%%VPatientID%'"
    line = f'set 9999,0900 to "{script}"; set 9999,0700 to "ui"'
    gateway = serving(farm, study, sink, **{RETRIEVE: line})

    assert "0x0000: Success" in move(gateway, study)

    sink.wait_for(len(study))
    assert {str(each.PatientComments) for each in received(sink)} == {"VIEWER/DGATE/SINK"}
    assert {str(each.InstitutionName) for each in received(sink)} == {study[0].patient_id}
    assert syntaxes(sink) == {IMPLICIT_LE}
    assert all("PatientComments" not in pydicom.dcmread(p) for p in gateway.stored_files())


def test_some_requesters_get_copies_by_a_named_script(
    farm: Farm, study: list[Generated], sink: StoreScp
) -> None:
    line = (
        'ifequal "%u", "{}"; {{ set 9999,0202 to "-00100010,00100030"; '
        'set 9999,0900 to "teaching"; }}'
    )
    gateway = serving(farm, study, sink, **{RETRIEVE: line.format("VIEWER")})
    gateway.stop()
    script = 'teaching = set PatientID to "%VPatientID[0,3]"; delete PatientComments'
    gateway.ini.write_text(f"{gateway.ini.read_text()}\n[scripts]\n{script}\n")
    gateway.start()

    assert "0x0000: Success" in move(gateway, study)

    sink.wait_for(len(study))
    for each in received(sink):
        assert "PatientName" not in each
        assert str(each.PatientID) == study[0].patient_id[:4]

    for path in sink.files().values():
        path.unlink()
    gateway.stop()
    gateway.configure(**{RETRIEVE: line.format("STUDENTS")})
    gateway.start()
    assert "0x0000: Success" in move(gateway, study)
    sink.wait_for(len(study))
    assert {str(each.PatientID) for each in received(sink)} == {study[0].patient_id}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('set 9999,0900 to "destroy"', "could not be sent: destroy by script.0"),
        ('set 9999,0900 to "no such statement"', "there is no script no such statement"),
        ('set 9999,0202 to "+0010"', "leave a copy without SOPClassUID"),
        ('set 9999,0202 to "-nonsense"', "is not GGGGEEEE, GGGG, a VR or Private"),
        ('set 9999,0201 to "3"', "there is no frame 3"),
    ],
)
def test_copy_that_cannot_be_made_as_wanted_is_not_sent(
    farm: Farm, study: list[Generated], sink: StoreScp, line: str, reason: str
) -> None:
    gateway = serving(farm, study, sink, **{RETRIEVE: line})

    said = move(gateway, study)

    assert "0xa702" in said.lower()
    wait_until(lambda: reason in gateway.log, reason)
    assert sink.files() == {}


def test_copies_are_scrubbed(farm: Farm, study: list[Generated], sink: StoreScp) -> None:
    line = 'set 9999,0202 to "-00100010,0028"'
    gateway = serving(farm, study, sink, **{RETRIEVE: line})

    assert "0x0000: Success" in move(gateway, study)

    sink.wait_for(len(study))
    for each in received(sink):
        assert "PatientName" not in each
        assert "Rows" not in each
        assert str(each.PatientID) == study[0].patient_id


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Generated]:
    """Two objects of one series: one of three frames, and one that is a single picture."""
    written = write_files(tmp_path_factory.mktemp("pictures"), Plan(2, Kind.SMALL, per_series=2))
    data_set = pydicom.dcmread(written[0].path)
    data_set.NumberOfFrames = 3
    size = len(data_set.PixelData)
    data_set.PixelData = b"".join(bytes([frame]) * size for frame in range(3))
    data_set.save_as(written[0].path)
    return written


def test_one_frame_is_sent_and_smaller(
    farm: Farm, pictures: list[Generated], sink: StoreScp
) -> None:
    line = 'set 9999,0201 to "2"; set 9999,0200 to "21"; set 9999,0900 to "delete PatientName"'
    gateway = serving(farm, pictures[:1], sink, **{RETRIEVE: line})

    assert "0x0000: Success" in move(gateway, pictures)

    sink.wait_for(1)
    (each,) = received(sink)
    assert str(each.SOPInstanceUID) == pictures[0].sop_instance
    assert (int(each.NumberOfFrames), each.Rows, each.Columns) == (1, 16, 21)
    assert set(each.PixelData) == {2}
    assert "PatientName" not in each


def test_a_get_sends_smaller_copies(
    farm: Farm, study: list[Generated], sink: StoreScp, tmp_path: Path
) -> None:
    lines = 'set 9999,0200 to "10"; set 9999,0201 to "0"; set 9999,0900 to "delete PatientName"'
    gateway = serving(farm, study, sink, **{RETRIEVE: lines})

    got = tmp_path / "got"
    got.mkdir()
    run_dcmtk(
        "getscu", "-S", "+B", "-od", got, "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={study[0].study}", "127.0.0.1", str(gateway.port),
    )  # fmt: skip

    found = [pydicom.dcmread(path) for path in got.iterdir()]
    assert len(found) == len(study)
    assert {max(each.Rows, each.Columns) for each in found} == {10}
    assert all("PatientName" not in each for each in found)


def test_converter_chooses_the_calling_title_and_a_peer_does_not(
    farm: Farm, study: list[Generated], sink: StoreScp
) -> None:
    gateway = serving(farm, study, sink)
    asked = [
        control(0x500, b"US", b"\1\0"),
        control(0x900, b"LO", b"destroy "),
        control(0xA00, b"LO", b"LIAR"),
    ]
    assert raw_move(gateway, study, *asked) == 0
    assert len(sink.files()) == 1
    for name in ("another calling AE title by (9999,0a00)", "a script by (9999,0900)"):
        wait_until(lambda text=name: f"asked for {text}: that is ignored" in gateway.log, name)
    gateway.stop()

    gateway.configure(**{RETRIEVE: 'set 9999,0A00 to "OTHERTITLE"'})
    gateway.start()
    assert "0x0000: Success" in move(gateway, study)

    wait_until(lambda: titles(sink) == ["DGATE", "OTHERTITLE"], "the other title at the sink")
