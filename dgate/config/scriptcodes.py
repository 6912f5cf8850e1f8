"""Compression codes s0 to s9 without the rule that they name. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dgate.config.keys import KeyType
from dgate.config.model import ConverterText, Value
from dgate.config.nodes import NodeMap
from dgate.config.problem import Report

_CODE = re.compile(r"s([0-9])", re.IGNORECASE)


def look_at_script_codes(
    values: Iterable[Value],
    nodes: NodeMap,
    converters: Iterable[ConverterText],
    ini: Report,
    node_map: Report,
) -> None:
    """Report codes that do nothing, because their CompressionConverter is missing."""
    there = {each.index for each in converters if each.family == "Compression"}
    for value in values:
        if value.key.type is KeyType.CODE and value.key.effective:
            number = _lacking(value.text, there)
            if number is not None:
                message = f"{value.name} = {value.text} does nothing: {_missing(number)}"
                ini.warning(value.line, message, _ADVICE)
    for node in nodes:
        number = _lacking(node.compression, there)
        if number is not None:
            message = (
                f"the code {node.compression} of {node.ae_title} does nothing: {_missing(number)}"
            )
            node_map.warning(node.line, message, _ADVICE)


_ADVICE = "add the rule, or use the code as"


def _lacking(code: str, there: set[int]) -> int | None:
    found = _CODE.fullmatch(code.strip())
    number = None if found is None else int(found[1])
    return None if number in there else number


def _missing(number: int) -> str:
    return f"there is no CompressionConverter{number}"
