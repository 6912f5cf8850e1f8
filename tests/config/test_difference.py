"""What a changed configuration changes, in words, and what waits for a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dgate.config.difference import MOST_LINES, differences, held_back
from dgate.config.settings import Configuration, load

INI = """[sscscp]
MicroPACS = sscscp
MyACRNema = GATE
TCPPort = 10400
SQLite = 1
SQLServer = ./index.db3
Password = geheim1
MAGDevice0 = ./data
FileNameSyntax = 4
ImportConverter0 = nop one
[scripts]
tidy = nop tidy
[markstudy]
secret = hidden1
"""
MAP = """SINK 127.0.0.1 10400 as
OTHER 127.0.0.1 10401 as
LAST 127.0.0.1 10402 as
"""


class Site:
    """A folder whose files are changed and loaded again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "dicom.ini").write_text(INI)
        (folder / "acrnema.map").write_text(MAP)
        self.before = self.load()

    def load(self) -> Configuration:
        """Return what the files say now."""
        return load(self.folder)

    def edit(self, name: str, old: str, new: str) -> Configuration:
        """Replace a text in a file and return what the files say then."""
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        return self.load()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new", "lines"),
    [
        ("dicom.ini", "= GATE", "= DOOR", ["MyACRNema: GATE -> DOOR (dicom.ini:3)"]),
        (
            "dicom.ini",
            "[scripts]",
            "IgnoreRewrite = 1\n[scripts]",
            ["IgnoreRewrite: 0 -> 1 (dicom.ini:11)"],
        ),
        ("dicom.ini", "MyACRNema = GATE\n", "", ["MyACRNema: GATE -> none (the default)"]),
        (
            "dicom.ini",
            "ImportConverter0 = nop one\n",
            "",
            ["ImportConverter0: nop one removed"],
        ),
        (
            "dicom.ini",
            "[scripts]",
            "ImportConverter1 = nop two\n[scripts]",
            ["ImportConverter1: nop two added (dicom.ini:11)"],
        ),
        ("dicom.ini", "= geheim1", "= geheim2", ["Password: changed (dicom.ini:7)"]),
        (
            "dicom.ini",
            "= nop tidy",
            "= nop clean",
            ["[scripts] tidy: nop tidy -> nop clean (dicom.ini:12)"],
        ),
        ("dicom.ini", "= hidden1", "= hidden2", ["[markstudy] secret: changed (dicom.ini:14)"]),
        ("dicom.ini", "[sscscp]", "# a comment\n[sscscp]", []),
        (
            "acrnema.map",
            "127.0.0.1 10401",
            "10.0.0.7 104",
            ["acrnema.map:2: node OTHER: 127.0.0.1 10401 as -> 10.0.0.7 104 as"],
        ),
        (
            "acrnema.map",
            "OTHER",
            "NEW 10.0.0.9 104 j2\nOTHER",
            ["acrnema.map:2: node NEW added: 10.0.0.9 104 j2"],
        ),
        (
            "acrnema.map",
            "OTHER 127.0.0.1 10401 as\n",
            "",
            ["acrnema.map: node OTHER removed"],
        ),
        (
            "acrnema.map",
            MAP,
            "".join(reversed(MAP.splitlines(True))),
            ["acrnema.map: the order of the nodes has changed"],
        ),
    ],
    ids=[
        "changed",
        "set",
        "back to default",
        "rule removed",
        "rule added",
        "password",
        "script",
        "foreign section",
        "comment",
        "node changed",
        "node added",
        "node removed",
        "order",
    ],
)
def test_change_is_told_with_its_place(
    site: Site, name: str, old: str, new: str, lines: list[str]
) -> None:
    after = site.edit(name, old, new)

    assert differences(site.before, after) == lines


def test_secrets_are_never_shown(site: Site) -> None:
    after = site.edit("dicom.ini", "geheim1", "geheim2")
    after = site.edit("dicom.ini", "hidden1", "hidden2")
    (site.folder / "dicom.ini").write_text("[sscscp]\nMyACRNema = GATE\n")

    text = "\n".join(differences(site.before, after) + differences(after, site.load()))

    assert "Password" in text
    assert "geheim" not in text
    assert "hidden1" not in text
    assert "hidden2" not in text


def test_many_changes_are_cut_short(site: Site) -> None:
    more = "".join(f"NODE{number} 10.0.0.1 {number} as\n" for number in range(1, 101))
    after = site.edit("acrnema.map", MAP, MAP + more)

    lines = differences(site.before, after)

    assert len(lines) == MOST_LINES + 1
    assert lines[-1] == f"... and {100 - MOST_LINES} more changes there"


def test_sop_list_and_layout_changes_are_told(site: Site) -> None:
    (site.folder / "dgatesop.lst").write_text(
        "Verification 1.2.840.10008.1.1 sop\nExplicit 1.2.840.10008.1.2.1 transfer\n"
    )
    before = site.load()
    after = site.edit("dgatesop.lst", "1.2.840.10008.1.1 sop", "1.2.840.10008.1.9 sop")

    assert differences(before, after) == [
        "dgatesop.lst: abstract: 1.2.840.10008.1.9 added",
        "dgatesop.lst: abstract: 1.2.840.10008.1.1 removed",
    ]
    assert differences(site.before, before) == [
        "dgatesop.lst: abstract: only what is listed is accepted now",
        "dgatesop.lst: abstract: 1.2.840.10008.1.1 added",
        "dgatesop.lst: transfer: only what is listed is accepted now",
        "dgatesop.lst: transfer: 1.2.840.10008.1.2.1 added",
    ]


RESTARTS: list[tuple[str, str, str, Callable[[Configuration], object]]] = [
    ("TCPPort", "= 10400", "= 10500", lambda c: c.settings.tcp_port),
    ("FileNameSyntax", "Syntax = 4", "Syntax = 9", lambda c: c.settings.file_name_syntax),
    ("SQLServer", "./index.db3", "./other.db3", lambda c: c.settings.sql_server),
    ("SQLite", "SQLite = 1", "PostGres = 1", lambda c: c.settings.engine),
    ("MAGDevice0", "./data", "./other", lambda c: c.settings.mag_devices),
    ("Durability", "[scripts]", "Durability = none\n[scripts]", lambda c: c.settings.durability),
    (
        "StudyTableName",
        "[scripts]",
        "StudyTableName = Studies\n[scripts]",
        lambda c: c.settings.study_table,
    ),
    (
        "MaxFileNameLength",
        "[scripts]",
        "MaxFileNameLength = 100\n[scripts]",
        lambda c: c.settings.max_file_name_length,
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "read"), RESTARTS, ids=[r[0] for r in RESTARTS])
def test_what_needs_a_restart_keeps_its_value_and_is_named(
    site: Site, name: str, old: str, new: str, read: Callable[[Configuration], object]
) -> None:
    site.edit("dicom.ini", old, new)
    wanted = site.edit("dicom.ini", "= GATE", "= DOOR")

    merged, waiting = held_back(site.before, wanted)

    assert read(merged) == read(site.before) != read(wanted)
    assert merged.settings.ae_title == "DOOR"
    assert name in [one.name for one in waiting]
    assert all("needs a restart" in one.line for one in waiting)


def test_what_waits_is_named_again_until_it_is_taken_back(site: Site) -> None:
    running, _ = held_back(site.before, site.edit("dicom.ini", "= 10400", "= 10500"))
    wanted = site.edit("dicom.ini", "= GATE", "= DOOR")

    running, waiting = held_back(running, wanted)
    assert [one.line for one in waiting] == [
        "TCPPort: 10400 -> 10500 (dicom.ini:4) needs a restart; the old value counts till then"
    ]

    running, waiting = held_back(running, site.edit("dicom.ini", "= 10500", "= 10400"))
    assert waiting == []
    assert running.settings == site.load().settings


def test_a_further_device_needs_no_restart(site: Site) -> None:
    wanted = site.edit("dicom.ini", "MAGDevice0", "MAGDevices = 2\nMAGDevice1 = ./more\nMAGDevice0")

    merged, waiting = held_back(site.before, wanted)

    assert waiting == []
    assert [path.name for path in merged.settings.mag_devices] == ["data", "more"]


def test_another_layout_needs_a_restart(site: Site) -> None:
    shipped = Path(__file__).resolve().parents[2] / "dgate" / "config" / "default" / "dicom.sql"
    text = shipped.read_text()
    (site.folder / "dicom.sql").write_text(text)
    before = site.load()
    wanted = site.edit("dicom.sql", f'"StudyID",{" " * 20}16', f'"StudyID",{" " * 20}32')

    merged, waiting = held_back(before, wanted)

    assert merged.layout == before.layout != wanted.layout
    assert [one.name for one in waiting] == ["dicom.sql"]
    assert differences(before, wanted) == ["dicom.sql: column StudyID of the study table changed"]
