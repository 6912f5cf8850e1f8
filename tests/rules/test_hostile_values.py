"""Header values of strangers in every place of every statement that a token can stand in.

A value is only ever a value: it ends no argument, adds no statement, reaches no shell, no SQL and
no other folder. A statement may refuse the object because of it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from dgate.errors import RuleError, StoreError
from dgate.rules.effects import Expansion, Outcome
from dgate.rules.hooks import Rules, capture
from tests.rules import kit, wholepath

VALUES = [
    '"',
    '"; destroy; nop "',
    '", "',
    "'",
    "' OR 1=1; DROP TABLE DICOMPatients; --",
    "%",
    "%i%V0010,0010%%%n",
    "%%s%%d%x",
    "line\nbreak",
    "carriage\r\nreturn; destroy",
    "tab\there",
    "; destroy",
    "} ; destroy",
    "{ destroy",
    "lua:destroy()",
    "]] destroy() --[[",
    "$(touch owned)",
    "`touch owned`",
    "a|touch owned",
    "a&touch owned&",
    "a>owned",
    "<owned",
    "*?[a-z]~!#",
    "\\",
    "../../beside/owned",
    "/etc/owned",
    "..",
    ".",
    "-rf",
    "--help",
    " ",
    "a b",
    "[0,1]^",
    "\x0e0\x0f",
    "\x1b[2J",
    "名前 löwe",
    "x" * 64,
    "org EVIL script destroy",
]
T = "%V0010,4000"
AFTER = '; set StudyID to "ok"'
IMPORT = [
    f"nop {T}",
    f"testmode {T}",
    f'ifempty "{T}"; nop a',
    f'ifnotempty "{T}"; nop a',
    *(
        f'{word} "{left}", "{right}"; nop a'
        for word in ("ifequal", "ifnotequal", "ifmatch", "ifnotmatch", "ifnumequal", "between")
        for left, right in ((T, "1"), ("1", T), (T, T))
    ),
    f'ifnumnotequal "{T}", "{T}"; nop a',
    f'ifnumgreater "{T}", "{T}"; nop a',
    f'ifnumless "{T}", "{T}"; nop a',
    f'set SeriesDescription to "{T}"',
    f'set SeriesDescription if "{T}"',
    f'set SeriesDescription format "{T}%%s{T}" to "{T}"',
    f'set SeriesDescription format "%%5d" if "{T}"',
    f'set Rows to "{T}"',
    f'set ReferencedStudySequence.*/SeriesDescription to "{T}"',
    f'set x to "{T}"; nop %x; set SeriesDescription to "%x"',
    f'setifempty 0018,1030 to "{T}"',
    f'setifempty y if "{T}"',
    f"newuids stage {T}",
    f"newuids except {T}",
    f"newuids except 0020,000d={T}",
    f"olduids stage {T}",
    f"olduids except {T}",
    f"process with tool {T} a{T}",
    f'write "{T}" to file.txt',
    f'write "text" to {T}',
    f'append "{T}" to {T}.txt',
    f"copy {T} to copied",
    f"copy left to {T}",
    f"save to {T}",
    f"save to below{T}.v2",
    f"save frame {T} to {T}",
    f"save bmp level {T} window {T} frame {T} size {T} gamma {T} to {T}",
    f"mkdir {T}",
    f"rm {T}",
    f"system tool {T} a{T}",
    f"forward to {T} org {T} dest {T} channel {T} script nop {T}",
    f"forward to A{T}",
    f"forward compressed as {T} to A",
    f"forward study study {T} to A",
    f"forward study series {T} to A",
    f"forward study sop {T} to A",
    f"forward study date {T} to A",
    f"forward study modality {T} to A",
    f"forward study imagetype {T} to A",
    f"forward study seriesdesc {T} to A",
    f"forward study split {T} to A",
    f"forward study after {T} to A",
    f"forward study age -{T}+0 to A",
    f"forward study to {T} script nop {T}",
    f"get study from {T}",
    f"preretrieve {T}",
    f"process study by tool {T} a{T}",
    f"process study by job.lua {T}",
    f"submit study target {T} password {T} script nop {T}",
    f"submit2 study target {T} command [tool %%s %%s {T}]",
    f"storage {T}",
    f'script "nop {T}"',
    f"script \"set SeriesDescription to %'{T}%'\"",
    f"script \"script %'nop {T}%'\"",
    f"lua \"Data.SeriesDescription = '{T}'\"",
    f'lua "x = [[{T}]]"',
    f"lua:Data.SeriesDescription = '{T}' -- {T}",
    f'job.lua("{T}")',
    "nop %Qa0010,4000 %E0010,4000 %R0010,4000 %A0010,4000",
    "nop %QP0010,4000 %QS0010,4000 %QE0010,4000 %QW0010,4000",
    "nop %V(0010,4000)PatientName %V*0010,4000 %V0010,4000[0,3]^",
]
EXPORT = [
    line
    for line in IMPORT
    if line.split(" ")[0]
    in ("nop", "write", "append", "copy", "save", "mkdir", "rm", "forward", "get", "preretrieve")
    and "%Q" not in line
] + [f"tool {T}", f"system tool a{T}", f"delete study series {T}", f"submit study target {T}"]
PROGRAMS = ("tool",)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> wholepath.Site:
    return wholepath.Site(tmp_path_factory.mktemp("site"))


@cache
def compiled(line: str, family: str, base: Path) -> Rules:
    """Return the rules of one line, compiled once for all values."""
    return kit.rules(
        kit.converter(line, family), base=base, allow_system_commands=True, export_converters=1
    )


def hostile(value: str) -> kit.ElementTable:
    """Return an object whose patient comments hold the value, byte for byte."""
    table = kit.table(SpecificCharacterSet="ISO_IR 192")
    table.set_raw(0x00104000, "LT", value.encode("utf-8"))
    return table


@pytest.mark.parametrize("line", IMPORT)
def test_value_in_an_import_line(line: str, site: wholepath.Site) -> None:
    made = compiled(line + ("\n" if line.startswith("lua:") else AFTER), "Import", site.base)
    for value in VALUES:
        table, env = hostile(value), site.environment()
        verdict = made.run_import(table, capture(table, "SCANNER", "DGATE"), env)
        # Nothing but the line itself decides: what cannot be done refuses.
        assert verdict.outcome is not Outcome.DESTROY, value
        if verdict.outcome is Outcome.KEEP and not line.startswith(("lua:", "storage")):
            assert table.text(0x00200010) == "ok", value
        for ran in env.programs.ran:
            assert ran[0] in PROGRAMS, value
        for request in verdict.requests:
            assert request.operation in line, value
            assert request.arguments[:1] in ((), ("tool",)) or request.lua_file, value
    _check_files(site)


@pytest.mark.parametrize("line", EXPORT)
def test_value_in_an_export_line(line: str, site: wholepath.Site) -> None:
    made = compiled(line, "Export", site.base)
    for value in VALUES:
        table, env = hostile(value), site.environment()
        try:
            done = made.expand(0, table, capture(table, "SCANNER", "DGATE"), env)
        except (RuleError, StoreError):
            done = Expansion()
        assert len(done.forwards) + len(done.requests) <= 1, value
        for ran in env.programs.ran:
            assert ran[0] in PROGRAMS, value
            assert len(ran) <= 3, value
    _check_files(site)


def _check_files(site: wholepath.Site) -> None:
    """Make sure that nothing was touched beside the site, and no program of a shell ran in it."""
    assert not (site.base / "owned").exists()
    assert not Path("owned").exists()
    site.check()


@pytest.mark.parametrize("value", VALUES)
def test_value_arrives_as_it_is(value: str, site: wholepath.Site) -> None:
    table = hostile(value)
    seen = table.text(0x00104000)
    env = kit.FakeEnvironment()
    line = (
        f'set SeriesDescription to "<{T}>"; system tool a{T}; write "{T}" to file.txt; '
        f"forward to A org x{T}; lua \"Data.StationName = 'b{T}'\""
    )
    verdict = compiled(line, "Import", site.base).run_import(table, kit.captured(), env)
    assert verdict.outcome is Outcome.KEEP, verdict.reason
    assert table.text(0x0008103E) == f"<{seen}>"
    assert table.text(0x00081010) == f"b{seen}".rstrip(" ")
    assert env.programs.ran == [["tool", f"a{seen}"]]
    assert env.files.content == {Path("/base/file.txt"): seen.encode()}
    assert verdict.forwards[0].forward.calling == f"x{seen}".strip()
