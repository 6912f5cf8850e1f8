"""The four text files that steer dgate, read into typed, frozen values.

What is wrong in them is collected as problems, not raised. Nothing here knows network or database.
"""

from __future__ import annotations

from dgate.config.layout import Column, DicomType, Layout, SqlType, Table
from dgate.config.model import (
    Configuration,
    ConverterText,
    Durability,
    Engine,
    Filters,
    MissingUids,
    Settings,
    V2Content,
)
from dgate.config.nodes import Node, NodeMap
from dgate.config.problem import Problem, Severity
from dgate.config.settings import default_settings, load
from dgate.config.soplist import SopList

__all__ = [
    "Column",
    "Configuration",
    "ConverterText",
    "DicomType",
    "Durability",
    "Engine",
    "Filters",
    "Layout",
    "MissingUids",
    "Node",
    "NodeMap",
    "Problem",
    "Settings",
    "Severity",
    "SopList",
    "SqlType",
    "Table",
    "V2Content",
    "default_settings",
    "load",
]
