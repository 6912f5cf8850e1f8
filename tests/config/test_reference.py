from __future__ import annotations

from pathlib import Path

from dgate.config.key_table import REGISTRY
from dgate.config.keys import ANY_KEY
from dgate.config.reference import effect, markdown

PAGE = (Path(__file__).parent.parent.parent / "docs" / "settings.md").read_text(encoding="utf-8")


def test_page_in_the_manual_is_the_one_that_the_registry_makes() -> None:
    advice = "run: dgate config explain --markdown > docs/settings.md"
    assert markdown() == PAGE, advice


def test_every_key_is_in_the_manual() -> None:
    names = {key.name.replace("<", "&lt;") for key in REGISTRY if key.name != ANY_KEY}

    assert not {name for name in names if f"{name}`" not in PAGE}


def test_effect_is_told_in_words() -> None:
    assert effect(REGISTRY["TCPPort"]) == "yes"
    assert effect(REGISTRY["QueueSize"]).startswith("none: ")
    assert effect(REGISTRY["HL7Port"]).startswith("not yet: ")
