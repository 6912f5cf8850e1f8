"""The tables of the ledger: what is owed, each try, what operators decided, what was received.

Not for rows (`dgate.archive.owing`, `dgate.delivery.ledger`) nor for the index's tables
(`dgate.archive.schema`). An existing table gets the columns that it lacks; nothing of its rows is
changed. Runs at start, one thread, in the transaction that makes the schema.
"""

from __future__ import annotations

from collections.abc import Collection

from dgate.archive.connection import Connection
from dgate.archive.database import Database
from dgate.config.settings import Engine

DEBT_COLUMNS = (
    ("kind", "varchar(16) not null"),
    ("state", "varchar(16) not null"),
    ("destination", "varchar(255) not null"),
    ("rule", "varchar(64) not null"),
    ("calling", "varchar(64) not null"),
    ("called", "varchar(64) not null"),
    ("compression", "varchar(64) not null"),
    ("script", "text not null"),
    ("sop_class", "varchar(64) not null"),
    ("sop_instance", "varchar(64) not null"),
    ("patient_id", "varchar(255) not null"),
    ("study", "varchar(64) not null"),
    ("series", "varchar(64) not null"),
    ("device", "varchar(32) not null"),
    ("name", "varchar(1024) not null"),
    ("context", "text not null"),
    ("due", "double precision not null"),
    ("lease_until", "double precision"),
    ("owner", "varchar(128)"),
    ("attempts", "int not null default 0"),
    ("repeats", "int not null default 0"),
    ("last_error", "text"),
    ("last_status", "int"),
    ("created", "double precision not null"),
    ("finished", "double precision"),
    ("priority", "int not null default 1"),
    ("source", "varchar(64)"),
    ("source_host", "varchar(64)"),
    ("received", "double precision"),
    ("digest", "varchar(64)"),
    ("size", "bigint"),
    ("accession", "varchar(64)"),
    ("accepted", "double precision"),
    ("committed", "double precision"),
    ("commitment", "varchar(64)"),
    ("why", "text"),
    ("origin", "varchar(255)"),
)
"""Columns of `dgate_debts` after `id`. Times are Unix seconds. `state` is one of queued, leased,
held, stuck, committing, done, cancelled. `device` is MAGn, or SPOOL for a copy that its debts own
(then `name` names it in the spool folder). From `source` on, rows may have NULL. `priority` is 0
stat, 1 normal, 2 bulk; `source` the calling AE that brought the object, or a word such as `import`;
`digest` the SHA-256 of the data set as it was received (hexadecimal), `size` its bytes; `accepted`
when the peer answered success; `committed` when it took responsibility, and `commitment` the
Transaction UID of the last request for that (PS3.4 J), also where it is stuck without a report;
`why` an operator's reason; `origin` the destination before a reroute or a fallback."""

OPEN_STATES = ("queued", "leased", "held", "stuck", "committing")
"""States in which something is owed, covered by the index `dgate_debts_lanes (state, destination,
priority, due)`. It serves only statements that write the state as a literal (`state = 'queued'`),
because a partial index cannot be proven right for a parameter."""
OPEN_SQL = "(" + " OR ".join(f"state = '{state}'" for state in OPEN_STATES) + ")"
"""The same as a condition, as the partial indices have it: SQLite compares word by word."""

TRIES_COLUMNS = (
    "debt bigint not null, at double precision not null, destination varchar(255) not null, "
    "outcome varchar(16) not null, status int, error text, seconds double precision"
)
"""Columns of `dgate_tries` after `id`: a row for each try to pay a debt, written with what became
of it. `outcome` is the state that followed; `seconds` how long the try took, where it was
measured."""
DECISION_COLUMNS = (
    "debt bigint not null, at double precision not null, decision varchar(16) not null, "
    "who varchar(64) not null, why text, destination varchar(255) not null"
)
"""Columns of `dgate_decisions` after `id`: what operators did to a debt; `destination` is the one
that it had before."""
RECEIVED_COLUMNS = (
    "sop varchar(64) not null, received double precision not null, source varchar(64), "
    "source_host varchar(64), digest varchar(64), size bigint, accession varchar(64)"
)
"""Columns of `dgate_received` after `id`: where objects came from for which delayed operations
wait; the columns are as in `dgate_debts`."""

REFUSAL_COLUMNS = (
    "node varchar(255) not null, sop_class varchar(64) not null, syntax varchar(64) not null, "
    "result int not null, at double precision not null"
)
"""Columns of `dgate_refusals` after `id`: what peers do not take; `result` is that of the
presentation context (PS3.8 table 9-18), `at` when it was refused first."""
SENT_COLUMNS = (
    "context varchar(96) not null, sop varchar(64) not null, owed double precision not null"
)
"""`dgate_sent`: which objects delayed operations have sent whose deliveries have left the history,
so that a study that grows is sent as the difference however late. `context` is that of the
deliveries, `owed` when they were entered."""
SENT_CONTEXT = "request:"
"""Begins the context of a delivery that a delayed operation was replaced by; its identity
follows."""
KEEP_SENT = (
    "INSERT INTO dgate_sent (context, sop, owed) SELECT context, sop_instance, created "
    "FROM dgate_debts WHERE id >= ? AND id <= ? AND finished < ? AND kind = 'deliver' "
    f"AND state = 'done' AND substr(context, 1, {len(SENT_CONTEXT)}) = '{SENT_CONTEXT}'"
)
"""Keeps what is known of deliveries that are about to leave the history."""
FORGET_SENT = "DELETE FROM dgate_sent WHERE sop = ?"
"""For an object that is there no more, or no more as it was sent."""

_TABLES = (
    ("dgate_tries", TRIES_COLUMNS, "dgate_tries_debt", "debt"),
    ("dgate_decisions", DECISION_COLUMNS, "dgate_decisions_debt", "debt"),
    ("dgate_received", RECEIVED_COLUMNS, "dgate_received_sop", "sop"),
    ("dgate_sent", SENT_COLUMNS, "dgate_sent_sop", "sop"),
    ("dgate_refusals", REFUSAL_COLUMNS, "dgate_refusals_node", "node"),
)
_PREFIXED = ("name", "context")
"""Columns of which MariaDB can index only the beginning."""


def prepare_debts(
    database: Database,
    connection: Connection,
    existing: Collection[str],
    indices: Collection[str],
    options: str,
) -> None:
    """Create what is missing of the ledger's tables; raises the driver's errors.

    Args:
        existing: the tables that are there, in lower case.
        indices: the names of the indices that are there.
        options: what CREATE TABLE ends with; not empty on MariaDB only.
    """
    identity = {
        Engine.POSTGRES: "id bigserial PRIMARY KEY",
        Engine.MYSQL: "id bigint auto_increment PRIMARY KEY",
    }.get(database.engine, "id integer PRIMARY KEY AUTOINCREMENT")
    if "dgate_debts" in existing:
        found = connection.columns("dgate_debts")
        for name, kind in DEBT_COLUMNS:
            if name not in found:
                connection.execute(f"ALTER TABLE dgate_debts ADD COLUMN {name} {kind}")
    else:
        lines = [identity, *(f"{name} {kind}" for name, kind in DEBT_COLUMNS)]
        connection.execute(f"CREATE TABLE dgate_debts ({', '.join(lines)}){options}")
    for table, columns, index, column in _TABLES:
        if table not in existing:
            connection.execute(f"CREATE TABLE {table} ({identity}, {columns}){options}")
        if index not in indices:
            connection.execute(f"CREATE INDEX {index} ON {table} ({column})")
    if "dgate_sent_context" not in indices:
        connection.execute("CREATE INDEX dgate_sent_context ON dgate_sent (context)")
    for name, columns, condition in _debt_indices(database.engine):
        if name not in indices:
            where = f" WHERE {condition}" if condition else ""
            connection.execute(f"CREATE INDEX {name} ON dgate_debts ({columns}){where}")
    if "dgate_debts_open" in indices:
        # From before there were priorities; `dgate_debts_lanes` does its work.
        on = " ON dgate_debts" if database.engine is Engine.MYSQL else ""
        connection.execute(f"DROP INDEX dgate_debts_open{on}")


def _debt_indices(engine: Engine) -> list[tuple[str, str, str]]:
    """Return name, columns and condition of the indices on `dgate_debts`."""
    partial = engine is not Engine.MYSQL
    # The other engines add the key by themselves.
    key = ", id" if engine is Engine.POSTGRES else ""
    found = []
    for name, columns, condition in (
        ("dgate_debts_lanes", f"state, destination, priority, due{key}", OPEN_SQL),
        ("dgate_debts_spool", "name", "device = 'SPOOL'"),
        ("dgate_debts_request", "name", "device = 'REQUEST'"),
        ("dgate_debts_collected", "context", "kind = 'deliver' AND context <> ''"),
        ("dgate_debts_sop", "sop_instance", ""),
        ("dgate_debts_study", "study", ""),
        ("dgate_debts_patient", "patient_id", ""),
        ("dgate_debts_accession", "accession", "accession IS NOT NULL"),
    ):
        prefix = f"{columns}(255)" if not partial and columns in _PREFIXED else columns
        found.append((name, prefix, condition if partial else ""))
    return found
