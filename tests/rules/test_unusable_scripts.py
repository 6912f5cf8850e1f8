"""Scripts that are missing, unreadable or no scripts at all: reported, and objects are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dgate.rules.effects import Outcome
from tests.rules import kit

LUA_BYTECODE = b"\x1bLua\x51\0\1\4\4\4\x08\0" + bytes(50)
FILES: dict[str, bytes] = {
    "program": b"\x7fELF\x02\x01\x01\0" + bytes(200),
    "wide.txt": "nop\n".encode("utf-16"),
    "nul.txt": b"nop a\0b\n",
    "picture": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "long.txt": b"nop\n" * 1_100_000,
    "words.txt": b"this is no rule\n",
    "tokens.txt": b"%i %VPatientName\n",
    "code.lua": LUA_BYTECODE,
    "noise.lua": b"\xff\xfe\x81(((",
    "nul.lua": b"x = 1\0",
}
CASES = [
    ("call program", "binary"),
    ("call wide.txt", "binary"),
    ("call nul.txt", "binary"),
    ("call picture", "binary"),
    ("call long.txt", "more than 4 MB"),
    ("call words.txt", "this"),
    ("call tokens.txt", "%-tokens"),
    ("call absent.txt", "there is no script absent.txt"),
    ("absent", "there is no script absent"),
    ("call folder", "there is no script folder"),
    ("call pipe", "there is no script pipe"),
    ("call circle", "there is no script circle"),
    (f"call {'x' * 5000}", "there is no script xxx"),
    ("call /dev/zero", "there is no script /dev/zero"),
    ("code.lua", "compiled Lua code"),
    ("noise.lua", "unexpected symbol"),
    ("nul.lua", "binary"),
    ("absent.lua", "there is no Lua file absent.lua"),
    ("folder.lua", "there is no Lua file folder.lua"),
    ("pipe.lua", "there is no Lua file pipe.lua"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("scripts")
    for name, content in FILES.items():
        (made / name).write_bytes(content)
    for name in ("folder", "folder.lua"):
        (made / name).mkdir()
    for name in ("pipe", "pipe.lua"):
        os.mkfifo(made / name)
    (made / "circle").symlink_to(made / "circle")
    return made


@pytest.mark.parametrize(("line", "reason"), CASES, ids=[line[:30] for line, _ in CASES])
def test_script_that_cannot_be_run_is_reported_and_refuses(
    line: str, reason: str, folder: Path
) -> None:
    made = kit.importing(line, base=folder)
    assert [problem.gravity.value for problem in made.problems] == ["error"]
    assert reason in made.problems[0].message

    verdict, _ = kit.run_import(made)
    assert verdict.outcome is Outcome.REJECT
    assert verdict.reason.startswith("dicom.ini:40 ImportConverter0.0")


def test_empty_script_does_nothing(folder: Path) -> None:
    (folder / "empty.txt").write_bytes(b"")
    (folder / "comments.txt").write_bytes(b"# nothing\n; nothing\n\n")
    verdict, table = kit.run_import(
        kit.importing('call empty.txt; call comments.txt; set StudyID to "on"', base=folder)
    )
    assert verdict.outcome is Outcome.KEEP
    assert table.text(0x00200010) == "on"


def test_script_that_goes_away_after_the_start_runs_as_it_was_checked(folder: Path) -> None:
    path = folder / "going.txt"
    path.write_text('set StudyID to "on"\n')
    made = kit.importing("call going.txt", base=folder)
    path.unlink()

    verdict, table = kit.run_import(made)
    assert verdict.outcome is Outcome.KEEP
    assert table.text(0x00200010) == "on"
