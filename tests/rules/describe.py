"""Trees as one readable line, for golden files."""

from __future__ import annotations

import dataclasses

from dgate.rules.grammar import Broken, is_executable, is_unavailable
from dgate.rules.opaque import MARK
from dgate.rules.statements.base import Statement
from dgate.rules.tokens import Skeleton, Template, Token


def template(made: Template) -> str:
    """Return a template with its tokens in angle brackets."""
    return "".join(part if isinstance(part, str) else token(part) for part in made.parts)


def token(made: Token) -> str:
    """Return a token as `<code descriptor[a,b]^>`."""
    text = made.code
    if made.descriptor is not None:
        text += f" {made.descriptor.text}"
    if made.modifiers is not None:
        cut = made.modifiers
        text += f" [{cut.first},{cut.last}]" if cut.last is not None else ""
        text += cut.case
    return f"<{text}>"


def value(made: object) -> str:
    """Return a field of a statement."""
    if isinstance(made, Template):
        return repr(template(made))
    if isinstance(made, Skeleton):
        values = [template(inner) for inner in made.values]
        return repr(MARK.sub(lambda found: f"#{found[1]}", made.text.value)) + (
            f" with {', '.join(values)}" if values else ""
        )
    if isinstance(made, frozenset):
        return ", ".join(sorted(f"{one:08X}" if isinstance(one, int) else one for one in made))
    if isinstance(made, tuple):
        return f"({', '.join(value(item) for item in made)})"
    if dataclasses.is_dataclass(made) and not isinstance(made, type):
        return f"{type(made).__name__}({fields(made)})"
    return repr(made)


def fields(made: object) -> str:
    """Return the fields that are not at their defaults."""
    shown = []
    for field in dataclasses.fields(made):  # type: ignore[arg-type]
        content = getattr(made, field.name)
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        if field.name != "column" and content != default:
            text = f"{content:08X}" if field.name == "tag" else value(content)
            shown.append(f"{field.name}={text}")
    return ", ".join(shown)


def statement(made: Statement) -> str:
    """Return a statement, with a mark in front: `+` executable, `-` not yet, `!` cannot be read."""
    if isinstance(made, Broken):
        return f"! {made.error.column}: {made.error.what}"
    mark = "+" if is_executable(made) else "-" if is_unavailable(made) else "?"
    return f"{mark} {type(made).__name__}({fields(made)})"
