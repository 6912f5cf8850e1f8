"""The worklist as operators use it: list, enter, remove, load; in this process or over the socket.

Both ends of the wire in one place. Not for the table itself (`dgate.archive.worklist`) nor for what
files hold (`dgate.archive.orders`). Any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Protocol

from dgate.archive.orders import Order
from dgate.archive.worklist import NO_WORKLIST, NO_WORKLIST_REMEDY, Named, Worklist, WorklistKey
from dgate.errors import DgateError
from dgate.ops.control import Answer, Command

ORDERS_AT_ONCE = 500
"""So many orders travel in one request, and are entered or refused together."""

Values = dict[str, str | None]


class Ask(Protocol):
    """Runs a command of the worklist, here or in the running server."""

    def __call__(self, name: str, arguments: Mapping[str, object]) -> Answer:
        """Return the answer; raises DgateError."""
        ...


def worklist_commands(current: Callable[[], Worklist]) -> dict[str, Command]:
    """Return the commands for the control server, over the worklist that counts at the time."""
    return {
        "worklist.list": lambda arguments: _list(current(), arguments),
        "worklist.change": lambda arguments: _change(current(), arguments),
    }


def here(worklist: Worklist) -> Ask:
    """Return the same commands without a server."""
    commands = worklist_commands(lambda: worklist)

    def ask(name: str, arguments: Mapping[str, object]) -> Answer:
        answer = commands[name](dict(arguments))
        assert isinstance(answer, dict)
        return answer

    return ask


def entries(ask: Ask, keys: Mapping[str, str], limit: int, offset: int = 0) -> list[Values]:
    """Return the entries that match, by column name; keys match as in a C-FIND."""
    answer = ask("worklist.list", {"keys": dict(keys), "limit": limit, "offset": offset})
    found: list[Values] = answer["entries"]
    return found


def change(ask: Ask, orders: Iterable[Order]) -> Iterator[Answer]:
    """Carry out orders in groups; yields what became of each.

    An answer has `accession`, `step`, `new` and `truncated`, or `removed`, a number of entries.
    """
    waiting = iter(orders)
    while group := list(islice(waiting, ORDERS_AT_ONCE)):
        changes = [{"values": order.values, "ends": order.ends} for order in group]
        yield from ask("worklist.change", {"orders": changes})["results"]


def remove(ask: Ask, named: Named, *, everything: bool = False) -> int:
    """Remove entries; returns how many. All of them only if `everything` says so."""
    wanted = {
        "accession": named.accession,
        "step": named.step,
        "patient_id": named.patient_id,
        "everything": everything,
    }
    removed: int = ask("worklist.change", {"named": wanted})["removed"]
    return removed


def _list(worklist: Worklist, arguments: Answer) -> Answer:
    keys = []
    columns = worklist.columns
    if not columns:
        raise DgateError(NO_WORKLIST, remedy=NO_WORKLIST_REMEDY)
    try:
        start, limit = int(arguments["offset"]), int(arguments["limit"])
        for name, value in dict(arguments["keys"]).items():
            column = columns.named(name)
            if column is None:
                raise DgateError(f"the worklist has no column {name!r}")
            keys.append(WorklistKey(column.sequence, column.tag, str(value)))
    except (KeyError, TypeError, ValueError) as exc:
        raise _not_understood(exc) from exc
    found = worklist.find(keys)
    return {"entries": [dict(entry) for entry in islice(found, start, start + limit)]}


def _change(worklist: Worklist, arguments: Answer) -> Answer:
    try:
        if "named" in arguments:
            wanted = dict(arguments["named"])
            everything = bool(wanted.pop("everything", False))
            named = Named(**wanted)
            changes: list[Named | Mapping[str, str | None]] = [named]
            if named.means_all and not everything:
                raise DgateError("no entry was named")
        else:
            orders = [
                Order(dict(each["values"]), bool(each["ends"])) for each in arguments["orders"]
            ]
            changes = [order.change(worklist.columns) for order in orders] if worklist else [{}]
    except (KeyError, TypeError, ValueError) as exc:
        raise _not_understood(exc) from exc
    results: list[Answer] = []
    for done in worklist.change(changes):
        if isinstance(done, int):
            results.append({"removed": done})
        else:
            results.append(
                {
                    "accession": done.accession,
                    "step": done.step,
                    "new": done.is_new,
                    "truncated": list(done.truncated),
                }
            )
    removed = sum(result.get("removed", 0) for result in results)
    return {"results": results, "removed": removed}


def _not_understood(exc: Exception) -> DgateError:
    return DgateError(f"the arguments cannot be understood: {exc!r}")
