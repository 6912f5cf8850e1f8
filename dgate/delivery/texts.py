"""Brings texts from peers and headers into a form that the ledger's columns hold.

Some databases refuse NUL, lone surrogates and texts that are too long, and a refused row would keep
its neighbours from being written. Not for how texts are shown. Pure functions.
"""

from __future__ import annotations

import dataclasses
import re

from dgate.archive.debttable import DEBT_COLUMNS
from dgate.archive.records import DebtDraft
from dgate.printable import on_one_line

LONGEST_ERROR = 1000
_VARCHAR = re.compile(r"varchar\((\d+)\)")
_LENGTHS = {
    name: int(found[1])
    for name, kind in DEBT_COLUMNS
    if (found := _VARCHAR.match(kind)) is not None
}


def fitting(text: str, length: int) -> str:
    """Return text on one line, without control characters and not longer than `length`."""
    return on_one_line(text.replace("\0", ""))[:length]


def fitting_draft(draft: DebtDraft) -> DebtDraft:
    """Return the draft with names that its columns hold.

    A script is left as it is: changed, it would do something else. One that cannot be written makes
    its debt stuck.
    """
    return dataclasses.replace(
        draft,
        destination=fitting(draft.destination, _LENGTHS["destination"]),
        rule=fitting(draft.rule, _LENGTHS["rule"]),
        calling=fitting(draft.calling, _LENGTHS["calling"]),
        called=fitting(draft.called, _LENGTHS["called"]),
        compression=fitting(draft.compression, _LENGTHS["compression"]),
    )
