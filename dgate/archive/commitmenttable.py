"""The tables of storage commitment: what was asked of peers, and what peers asked (PS3.4 J).

The deliveries that wait for a commitment, and the debts that ask and report, are rows of
`dgate_debts` (`dgate.archive.debttable`); here is what these have no column for. Not for rows
(`dgate.delivery.commitment.ledger`, `dgate.delivery.commitment.requests`). Runs at start, in the
transaction that makes the schema.
"""

from __future__ import annotations

from collections.abc import Collection

from dgate.archive.connection import Connection
from dgate.archive.database import Database
from dgate.config.settings import Engine

COMMITMENT_DEVICE = "COMMIT"
"""What stands in the place of a device's name in the rows of debts that ask or report; the name is
the Transaction UID of the request that runs, empty while objects are gathered, or the token of a
peer's request."""

ASKED_COLUMNS = (
    "uid varchar(64) PRIMARY KEY not null, debt bigint not null, peer varchar(255) not null, "
    "asked double precision not null, accepted double precision, ended double precision, "
    "apart int not null default 0"
)
"""Columns of `dgate_commitments`: a request for commitment by its Transaction UID. `debt` is the
debt that asks; `accepted` when the peer took the request, `ended` when it reported, with `apart` 1
on an association that it opened for that. Times are Unix seconds."""

SENT_COLUMNS = (
    "debt bigint PRIMARY KEY not null, sop_class varchar(64) not null, "
    "sop_instance varchar(64) not null"
)
"""Columns of `dgate_sent_as`: under which UIDs a delivery was sent, where a rule changed them."""

REQUEST_COLUMNS = (
    "token varchar(64) PRIMARY KEY not null, uid varchar(64) not null, peer varchar(64) not null, "
    "twin int not null, digest varchar(64) not null, received double precision not null, "
    "content {text} not null"
)
"""Columns of `dgate_commitment_requests`: what peers asked us to commit to. `twin` is 1 where
another request that runs has the same Transaction UID; `content` is empty, or what earlier versions
had in the place of parts."""

PART_COLUMNS = (
    "token varchar(64) not null, part int not null, received double precision not null, "
    "items int not null, content {text} not null, examined double precision, "
    "failed int not null default 0, good_bytes bigint not null default 0, "
    "bad_bytes bigint not null default 0, reasons {text}, PRIMARY KEY (token, part)"
)
"""Columns of `dgate_commitment_parts`: the objects of such a request, in lists that fit into
memory. `content` is one of SOP class and instance UIDs as JSON, `items` its length. `examined` is
when they were looked after; then `reasons` has the Failure Reason of each that is not committed to
by its place, `failed` how many these are, `good_bytes` and `bad_bytes` how long the items of a
report are."""


GIVEN_UP = "state = 'stuck' AND commitment IS NOT NULL"
"""Deliveries that got stuck since no report came; a late one is looked up among them."""


def prepare_commitments(
    database: Database,
    connection: Connection,
    existing: Collection[str],
    indices: Collection[str],
    options: str,
) -> None:
    """Create what is missing; raises the driver's errors.

    Args:
        existing: the tables that are there, in lower case.
        indices: the names of the indices that are there.
        options: what CREATE TABLE ends with; not empty on MariaDB only.
    """
    is_maria = database.engine is Engine.MYSQL
    text = "longtext" if is_maria else "text"
    for table, columns in (
        ("dgate_commitments", ASKED_COLUMNS),
        ("dgate_sent_as", SENT_COLUMNS),
        ("dgate_commitment_requests", REQUEST_COLUMNS.format(text=text)),
        ("dgate_commitment_parts", PART_COLUMNS.format(text=text)),
    ):
        if table not in existing:
            connection.execute(f"CREATE TABLE {table} ({columns}){options}")
    # The engines but PostgreSQL add the key by themselves.
    key = ", id" if database.engine is Engine.POSTGRES else ""
    waiting = "state, commitment, destination" if is_maria else f"commitment, destination{key}"
    at_work = "name(64)" if is_maria else "name"
    # For MariaDB the one of `waiting` serves these too.
    given_up = [] if is_maria else [("dgate_debts_given_up", "dgate_debts", "commitment", GIVEN_UP)]
    for name, table, columns, condition in (
        *given_up,
        ("dgate_debts_committing", "dgate_debts", waiting, "state = 'committing'"),
        ("dgate_debts_commit", "dgate_debts", at_work, f"device = '{COMMITMENT_DEVICE}'"),
        ("dgate_commitments_debt", "dgate_commitments", "debt", ""),
        ("dgate_commitments_peer", "dgate_commitments", "peer, ended", ""),
        ("dgate_commitment_requests_uid", "dgate_commitment_requests", "uid", ""),
        ("dgate_commitment_requests_peer", "dgate_commitment_requests", "peer", ""),
    ):
        if name not in indices:
            where = f" WHERE {condition}" if condition and not is_maria else ""
            connection.execute(f"CREATE INDEX {name} ON {table} ({columns}){where}")
