"""Every function of the spec is there (lua-api.md 5.6), and each method of 4.7; what refuses to
work says why."""

from __future__ import annotations

import pytest

from dgate.errors import RuleError
from tests.rules.lua.library_kit import Bench

FUNCTIONS = """
    print debuglog script destroy reject retry sleep tickcount heapinfo dictionary genuid changeuid
    changeuidback crc md5 dbquery sql get_sqldef get_amap gpps listoldestpatients mkdir tempfile
    system ConvertBinaryData readdicom resetdicom copydicom compressdicom writedicom writeheader
    newdicomobject newdicomarray deletedicomobject getvr setvr listitems serialize addimage getpixel
    setpixel getrow setrow getcolumn setcolumn getimage setimage dicomquery dicomquery2 dicommove
    dicomget dicomread dicomstore dicomecho dicomprint dicomdelete newdicomdelete newdicommodify
    newdicomcopy servercommand HTML CGI
"""
METHODS = """
    new newarray free Read Write Dump Reset Copy Compress Script AddImage ListItems Serialize GetVR
    SetVR GetPixel SetPixel GetRow SetRow GetColumn SetColumn GetImage SetImage DeleteFromSequence
"""
REFUSING = {
    "HTML": ("web pages only", "return the text"),
    "CGI": ("web pages only", "return the text"),
}
"""The functions that do nothing but refuse: why, and what to do instead."""
NEVER = "copydicomobject compressdicomobject deletefromsequence defer export iowrite"


@pytest.mark.parametrize("name", FUNCTIONS.split())
def test_function_is_there(bench: Bench, name: str) -> None:
    assert bench.run(f"return type({name})") == "function"


@pytest.mark.parametrize("arguments", ["", "'text'", "'a', 'b', Data"])
@pytest.mark.parametrize("name", REFUSING)
def test_function_that_refuses_says_why(bench: Bench, name: str, arguments: str) -> None:
    reason, remedy = REFUSING[name]

    with pytest.raises(RuleError, match=reason) as error:
        bench.run(f"{name}({arguments})")

    assert name in str(error.value)
    assert remedy in str(error.value)


@pytest.mark.parametrize("name", sorted({*FUNCTIONS.split()} - {*REFUSING}))
def test_no_other_function_refuses(bench: Bench, name: str) -> None:
    """Called without arguments it works, or misses them."""
    said = bench.run(f"local _, problem = pcall({name}); return tostring(problem)")

    assert not any(reason in said for reason, _ in REFUSING.values())


@pytest.mark.parametrize("name", METHODS.split())
def test_method_is_there(bench: Bench, name: str) -> None:
    assert bench.run(f"return type(Data.{name})") == "function"


@pytest.mark.parametrize("name", ["Add", "Delete", "Serialize"])
def test_method_of_arrays_is_there(bench: Bench, name: str) -> None:
    assert bench.run(f"return type(DicomObject:newarray().{name})") == "function"


@pytest.mark.parametrize("name", NEVER.split())
def test_what_the_original_only_names_is_not_there(bench: Bench, name: str) -> None:
    assert bench.run(f"return {name}") is None
