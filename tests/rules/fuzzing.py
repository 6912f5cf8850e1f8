"""Rule lines nobody would write: grown from the grammar, then damaged.

The same seed gives the same lines. Used by `test_fuzz.py` and `scripts/fuzz_rules.py`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from dgate.rules.grammar import KEYWORDS

WORDS = [
    "a",
    "MR",
    "SINK",
    "0010,0020",
    "PatientID",
    "ReferencedStudySequence.1/PatientID",
    "x",
    "12",
    "-3",
    "MAG0",
    "study",
    "after",
    "to",
    "from",
    "by",
    "stage",
    "except",
    "script",
    "nil",
    "format",
    "level",
    "frame",
    "0,0,10,10",
    "+0010,PN",
    "j395",
    "../x",
    "*",
    "löwe",
    "名前",
    "\N{GRINNING FACE}",
    # A byte that was no UTF-8, as the readers of configuration and headers hand it on.
    "\udcff",
    "\u2028",
]
TOKENS = [
    *(f"%{letter}" for letter in "abcdefghijklmnopqrstuvwxyzIVQ%^~['"),
    "%VPatientName",
    "%V0010,0020",
    "%V/0008,1110.1/PatientID",
    "%V*Modality",
    "%V(0008,1155)0010,0010",
    "%QP0010,0010",
    "%Qa0010,0010",
    "%i[0,3]",
    "%i[,3]",
    "%i[3]",
    "%i[",
    "%i[9,1]^",
    "%m~",
    "%%%",
    "%",
]
NOISE = [
    '"',
    '""',
    "'",
    ";",
    ";;",
    "{",
    "}",
    " ",
    "  ",
    "\t",
    "\0",
    "\r",
    "\\",
    "%",
    "lua:",
    "/",
    ",",
]


def _value(chance: random.Random) -> str:
    return "".join(
        chance.choice(chance.choice((WORDS, TOKENS))) for _ in range(chance.randrange(4))
    )


def _string(chance: random.Random) -> str:
    return f'"{_value(chance)}"'


def _arguments(chance: random.Random, depth: int) -> str:
    parts = []
    for _ in range(chance.randrange(5)):
        kind = chance.randrange(9)
        if kind < 3:
            parts.append(_string(chance))
        elif kind < 5:
            parts.append(_value(chance))
        elif kind < 7:
            parts.append(chance.choice(WORDS))
        elif kind < 8 or depth > 1:
            parts.append(f"{_string(chance)}, {_string(chance)}")
        else:
            parts.append(f'"{line(chance, depth + 1)}"')
    return " ".join(parts)


def statement(chance: random.Random, depth: int = 0) -> str:
    """Return a statement that begins like one."""
    keyword = chance.choice(KEYWORDS).prefix
    if chance.random() < 0.05:
        keyword = keyword.upper()
    if keyword == "script " and depth < 2:
        return f'script "{line(chance, depth + 1)}"'
    return keyword + _arguments(chance, depth)


def line(chance: random.Random, depth: int = 0) -> str:
    """Return a line of a few statements, blocks among them."""
    parts = []
    for _ in range(chance.randrange(1, 4)):
        brace = chance.choice(("", "", "", "{ ", "} ", "{"))
        parts.append(brace + statement(chance, depth))
    return chance.choice(("; ", ";")).join(parts)


def damaged(text: str, chance: random.Random) -> str:
    """Return a line after a few accidents."""
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(text) + 1)
        accident = chance.randrange(6)
        if accident == 0:
            text = text[:at] + chance.choice(NOISE) + text[at:]
        elif accident == 1:
            text = text[:at] + text[at + chance.randrange(1, 6) :]
        elif accident == 2:
            text = text[:at]
        elif accident == 3:
            text = text[:at] + chr(chance.randrange(0x20, 0x250)) + text[at + 1 :]
        elif accident == 4:
            text = text[:at] + chance.choice(TOKENS) + text[at:]
        else:
            text += text[at : at + 200]
    return text


def lines(seed: int, count: int) -> Iterator[str]:
    """Yield lines; some are very long."""
    chance = random.Random(seed)
    for number in range(count):
        text = damaged(line(chance), chance)
        if number % 5000 == 4999:
            text = (text or "nop;") * (40_000 // max(1, len(text) or 4))
        yield text
