"""Finds nodes of which procedure steps are waited for that could not be told. Pure."""

from __future__ import annotations

from dgate.config.ini import IniFile
from dgate.config.node_sections import node_sections
from dgate.config.node_settings import Expect, NodeTable
from dgate.config.problem import Report
from dgate.config.soplist import SopList

PERFORMED_STEP = "1.2.840.10008.3.1.2.3.3"
"""Modality Performed Procedure Step SOP Class (PS3.4 F.7)."""


def look_at_steps(table: NodeTable, ini: IniFile, sop_list: SopList, report: Report) -> None:
    """Report sections with `ExpectCounts = mpps` where nobody can tell of steps."""
    if sop_list.abstract is None or PERFORMED_STEP in sop_list.abstract:
        return
    sections = dict(node_sections(ini))
    for title, node in table.by_title.items():
        if node.expect_counts is not Expect.STEPS:
            continue
        section = sections[title]
        entry = section.get("ExpectCounts")
        report.warning(
            section.line if entry is None else entry.line,
            f"[{section.name}] ExpectCounts = mpps: dgatesop.lst does not list performed procedure "
            "steps, so modalities cannot tell of them",
            f"add the line `ModalityPerformedProcedureStep {PERFORMED_STEP} sop`",
        )
