"""What a running server writes down, and where: logs, copies, levels, packing, full disks."""

from __future__ import annotations

import re
import signal
import socket
import time
import zipfile
from pathlib import Path

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import run_dcmtk, store
from tests.acceptance.processes import WAIT_DEADLINE_S, wait_until
from tests.acceptance.rawdicom import (
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
    Offer,
    RawAssociation,
    identifier,
)
from tests.generate import Generated


def find_patient(gateway: Gateway, name: str) -> None:
    """Ask for a patient's studies."""
    with RawAssociation.open(gateway.port, [Offer(STUDY_ROOT_FIND)]) as association:
        association.find({0x00080052: "STUDY", 0x00100010: name, 0x00100020: ""})


def move_to(gateway: Gateway, *destinations: str) -> None:
    """Ask for studies to be moved to these, over one association."""
    with RawAssociation.open(gateway.port, [Offer(STUDY_ROOT_MOVE)]) as association:
        context = association.context_for(STUDY_ROOT_MOVE)
        for destination in destinations:
            command = {
                0x0002: STUDY_ROOT_MOVE,
                0x0100: 0x0021,
                0x0110: association.next_id(),
                0x0600: destination,
                0x0700: 0,
            }
            association.send(
                context, command, identifier({0x00080052: "STUDY", 0x0020000D: "1.2.3"})
            )
            association.receive()


def reload(gateway: Gateway, **settings: object) -> None:
    """Change settings and let the server take them up."""
    before = gateway.log.count("(SIGHUP)")
    gateway.configure(**settings)
    gateway.process.running.send_signal(signal.SIGHUP)
    # Not any reload: the server may have noticed the change by itself at the same time.
    wait_until(lambda: gateway.log.count("(SIGHUP)") > before, "the reload")


def test_each_transfer_is_in_the_user_log(farm: Farm, objects: list[Generated]) -> None:
    sink = farm.sink()
    gateway = farm.gateway(nodes=[Node("SINK", sink.port)])
    store(gateway.port, objects[0].path, objects[1].path, calling="CT1")
    run_dcmtk(
        "movescu", "-S", "-aet", "VIEWER", "-aem", "SINK", "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={objects[0].study}", "127.0.0.1", str(gateway.port),
    )  # fmt: skip

    lines = (gateway.folder / "PacsUser.log").read_text().splitlines()
    assert all(re.match(r"\[\d{8} \d\d:\d\d:\d\d\] ", line) for line in lines)
    assert [line[20:] for line in lines] == [
        '"C-Store","CT1             "',
        '"C-Store","CT1             "',
        '"C-Move ","VIEWER          "',
    ]


def test_warnings_are_in_the_trouble_log_and_ordinary_things_are_not(farm: Farm) -> None:
    gateway = farm.gateway()
    move_to(gateway, "NOBODY")

    trouble = (gateway.folder / "PacsTrouble.log").read_text()
    assert "'NOBODY' is not in acrnema.map" in trouble
    wait_until(lambda: "listening" in gateway.log, "the start to be told")
    assert "listening" not in trouble


def test_the_servers_name_stands_in_front(farm: Farm) -> None:
    gateway = farm.gateway(settings={"PACSName": "CITY HOSPITAL"})

    assert "[CITY HOSPITAL] 2" in gateway.log
    reload(gateway, PACSName="OTHER")
    wait_until(lambda: "[OTHER] 2" in gateway.log, "the new name")


def test_debug_level_adds_commands_questions_answers_and_sql(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = farm.gateway(settings={"Password": "hunter2-secret"})
    store(gateway.port, *(one.path for one in objects))
    seen = []
    for level in range(5):
        if level:
            reload(gateway, DebugLevel=level)
        start = len(gateway.log)
        find_patient(gateway, f"Doe*{'?' * level}")
        text = gateway.log[start:]
        seen.append(
            (
                "received C-FIND-RQ" in text and "sends C-FIND-RSP" in text,
                f"(0010,0010) PatientName [Doe*{'?' * level}]" in text,
                "(0010,0010) PatientName [Doe^Jane]" in text,
                "SELECT" in text,
            )
        )

    # Names that match: with one letter more, the question is another text each time.
    assert [sum(one) for one in seen] == [0, 1, 2, 3, 4]
    assert "hunter2" not in gateway.log
    store(gateway.port, objects[0].path)
    assert "INSERT" in gateway.log or "UPDATE" in gateway.log


def test_console_elsewhere_gets_a_copy(farm: Farm) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as console:
        console.bind(("127.0.0.1", 0))
        console.settimeout(WAIT_DEADLINE_S)
        farm.gateway(
            settings={"OperatorConsole": f"127.0.0.1:{console.getsockname()[1]}", "PACSName": "X"}
        )
        lines = []
        while not lines or b"is listening on port" not in lines[-1]:
            lines.append(console.recv(4000))

    assert all(line.startswith(b"[X] ") and line.endswith(b"\n") for line in lines)


def test_logs_are_packed_away_without_any_password(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway(settings={"Password": "hunter2-secret"})
    store(gateway.port, objects[0].path)
    logs = gateway.folder / "logs"
    prefix = ""

    def is_packed() -> bool:
        # A prefix that fits the time now, and for some hours, but for its last seconds.
        nonlocal prefix
        if prefix != (prefix := time.strftime("%H:%M:%S")[:1]):
            reload(gateway, ziptime=prefix)
        return bool(list(logs.glob("*.zip")))

    wait_until(is_packed, "the packing")
    store(gateway.port, objects[1].path)

    content: dict[str, bytes] = {}
    # At eight o'clock, when another day's archive begins, there may be a second one.
    for packed in logs.glob("*.zip"):
        assert re.fullmatch(r"logs_\d{8}\.zip", packed.name)
        with zipfile.ZipFile(packed) as archive:
            assert archive.testzip() is None
            content |= {name: archive.read(name) for name in archive.namelist()}
    assert [name for name in content if not name.startswith(("PacsUser", "PacsTrouble"))] == []
    assert b"hunter2" not in b"".join(content.values())
    left = [path.read_bytes() for path in gateway.folder.glob("PacsUser.log*")]
    assert b"".join([*content.values(), *left]).count(b'"C-Store"') == 2


def test_logs_may_be_moved_away(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway()
    store(gateway.port, objects[0].path)
    user = gateway.folder / "PacsUser.log"
    user.rename(gateway.folder / "PacsUser.log.1")
    # A log file looks once a second whether it was moved.
    store(gateway.port, objects[1].path)
    wait_until(lambda: store(gateway.port, objects[1].path) and user.exists(), "a new file")

    assert "C-Store" in user.read_text()


def test_full_disk_of_the_logs_does_not_stop_the_server(
    farm: Farm, objects: list[Generated]
) -> None:
    full = {"UserLog": "/dev/full", "TroubleLog": "/dev/full"}
    gateway = farm.gateway(settings=full)
    answers = store(gateway.port, *(one.path for one in objects))

    assert all(answer.is_success for answer in answers)
    move_to(gateway, *["NOBODY"] * 5)
    # Once for each of the two.
    assert gateway.log.count("/dev/full cannot be written: No space left") == 2
    assert gateway.log.count("is not in acrnema.map") == 5


def test_what_strangers_send_cannot_forge_a_line(farm: Farm) -> None:
    gateway = farm.gateway(settings={"DebugLevel": 3})
    evil = "X\n2026-01-01 00:00:00,000 ERROR forged\r\x1b[31m"
    find_patient(gateway, evil)
    move_to(gateway, "A\nforged")

    for text in (gateway.log, (gateway.folder / "PacsTrouble.log").read_text()):
        assert "forged" in text
        assert not [line for line in text.splitlines() if line.startswith(("forged", "2026-01-01"))]
        assert "\x1b" not in text


def test_log_files_are_the_ones_that_are_named(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway(settings={"UserLog": "users.txt", "TroubleLog": "trouble.txt"})
    store(gateway.port, objects[0].path)
    names = {path.name for path in Path(gateway.folder).iterdir()}

    assert "users.txt" in names
    assert not names & {"PacsUser.log", "PacsTrouble.log"}
