"""Finds nodes that are to commit to storage and could not say so. Pure."""

from __future__ import annotations

from dgate.config.ini import IniFile
from dgate.config.node_sections import node_sections
from dgate.config.node_settings import NodeTable
from dgate.config.problem import Report
from dgate.config.soplist import SopList

PUSH_MODEL = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model SOP Class (PS3.4 J.3)."""


def look_at_commitment(table: NodeTable, ini: IniFile, sop_list: SopList, report: Report) -> None:
    """Report sections with `Commit` whose node's reports would be refused, or whose objects would
    be kept for ever."""
    listed = sop_list.abstract is None or PUSH_MODEL in sop_list.abstract
    sections = dict(node_sections(ini))
    for title, node in table.by_title.items():
        section = sections[title]
        entry = section.get("Commit")
        line = section.line if entry is None else entry.line
        if node.commit and not listed:
            report.warning(
                line,
                f"[{section.name}] Commit: dgatesop.lst does not list storage commitment, so the "
                "reports of the node are refused when it opens an association for them",
                f"add the line `StorageCommitmentPushModel {PUSH_MODEL} sop`",
            )
        if node.commit_before_delete and not node.commit:
            report.warning(
                line,
                f"[{section.name}] CommitBeforeDelete without Commit keeps every object that the "
                "node takes, since it is never asked",
                "set Commit = yes",
            )
