from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

import dgate
from dgate.config.key_table import REGISTRY
from dgate.config.keys import ANY_KEY, MAIN, NODE, Key, KeyType, Mark
from dgate.config.model import Settings
from dgate.config.node_settings import NodeSettings

# Every key that the compatibility reference names, one of each family.
REFERENCE = (Path(__file__).parent.parent / "data" / "reference-keys.txt").read_text().split()
OWN = """Durability WebPort WebBind TLSPort HL7Port MaxAssociations AllowUnknown AllowSystemCommands
    ScriptErrors LuaUnrestricted CodecThreads ChangeLog ChangeLogDays LedgerDays StatusCodes
    MissingUIDs V2Content MatchCase UnknownSOPClasses ScriptFolders RetryFirst RetryMax
    SystemTimeout DiskReserve InodeReserve DiskWarningDays DuplicateContent"""
KEYS = [pytest.param(key, id=f"{key.section}-{key.name}") for key in REGISTRY]


@pytest.mark.parametrize("name", REFERENCE)
def test_key_of_the_reference_is_registered(name: str) -> None:
    section, _, key = name.rpartition("/") if name.startswith("[") else (MAIN, "", name)

    assert REGISTRY.find(key, section.strip("[]")) is not None


@pytest.mark.parametrize("name", OWN.split())
def test_key_of_our_own_is_registered(name: str) -> None:
    assert REGISTRY[name].mark is Mark.OWN


@pytest.mark.parametrize("key", KEYS)
def test_row_is_complete(key: Key) -> None:
    assert key.meaning.endswith(".")
    assert key.reason or key.mark is not Mark.LEGACY
    assert not (key.reason and key.feeds)
    assert (key.type is KeyType.CHOICE) == bool(key.choices)
    assert not key.choices or key.default in key.choices
    assert key.is_family == (key.name.endswith("N") and key.name != ANY_KEY)


def test_each_setting_is_fed_by_a_key_and_each_key_feeds_a_setting() -> None:
    fields = {field.name for field in dataclasses.fields(Settings)}
    others = {"ini_path", "base_folder", "peers"}

    fed = {key.feeds for key in REGISTRY if key.feeds and key.section != NODE}
    assert fed == fields - others


def test_each_setting_of_a_node_is_fed_by_one_key() -> None:
    fields = [field.name for field in dataclasses.fields(NodeSettings)]
    # `Statuses` names statuses and errors; it feeds both.
    fields.remove("errors")

    assert sorted(key.feeds for key in REGISTRY if key.section == NODE) == sorted(fields)


# Settings that the configuration itself puts to use.
USED_HERE = ("profile", "k_factor_file", "acrnema_map", "sop_class_list")
USED_HERE += ("import_converters", "export_converters")
SOURCES = "\n".join(
    path.read_text(encoding="utf-8")
    for path in Path(dgate.__file__).parent.rglob("*.py")
    if path.parent.name != "config"
)


@pytest.mark.parametrize("field", sorted({key.feeds for key in REGISTRY if key.effective}))
def test_setting_that_claims_an_effect_is_used(field: str) -> None:
    assert field in USED_HERE or re.search(rf"\b{field}\b", SOURCES)


@pytest.mark.parametrize(
    ("text", "name", "alias"),
    [
        ("tcpport", "TCPPort", ""),
        ("TCP/IPTimeOut", "TCPIPTimeOut", "TCP/IPTimeOut"),
        ("PadAewithZeros", "PadAEWithZeros", ""),
        ("MAGDeviceThreshHold", "MAGDeviceThreshold", "MAGDeviceThreshHold"),
        ("MAGDeviceFullThreshHold", "MAGDeviceFullThreshold", "MAGDeviceFullThreshHold"),
        ("IgnoreMAGDeviceThreshHold", "IgnoreMAGDeviceThreshold", "IgnoreMAGDeviceThreshHold"),
        ("NightlyCleanThreshhold", "NightlyCleanThreshold", "NightlyCleanThreshhold"),
        ("exportconverter17", "ExportConverter17", ""),
        ("MAGDevice0", "MAGDevice0", ""),
    ],
)
def test_spelling_is_recognised(text: str, name: str, alias: str) -> None:
    match = REGISTRY.find(text)

    assert match is not None
    assert (match.name, match.alias) == (name, alias)


@pytest.mark.parametrize("text", ["", "ExportConverter", "ExportConverter01", "startup", "X.Other"])
def test_other_text_is_no_key(text: str) -> None:
    assert REGISTRY.find(text) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("TCPPrt", "TCPPort"),
        ("ExportConvertor3", "ExportConverter3"),
        ("ImportModalty0", "ImportModality0"),
        ("MagDevise0", "MAGDevice0"),
        ("Something", None),
    ],
)
def test_nearest_key_is_offered(text: str, name: str | None) -> None:
    assert REGISTRY.nearest(text) == name


def test_search_finds_a_key_in_every_section_that_has_it() -> None:
    assert [key.section for key in REGISTRY.search("importconverter3")] == [MAIN, "lua"]
    assert [key.section for key in REGISTRY.search("MAGDeviceN")] == [MAIN]


def test_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        REGISTRY["NoSuchKey"]
