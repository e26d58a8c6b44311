"""The statements of `gateway/claims/sqlite.py`; they run on the writer's thread, in its transaction.

The keys of a batch come as one blob, taken apart in C: a statement for each row would take and give back the
interpreter's lock every time, and a busy event loop makes that wait.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.claims.crowding import Crowding
from gateway.claims.limits import Limits
from gateway.claims.offsets import offsets_to_json
from gateway.claims.staging import RANGES, Move
from gateway.ledger.tally import Tally
from mesh.bus.port import Offsets
from mesh.ids import new_id

_SPLIT: Final = (
    "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :count),"
    " given(key) AS (SELECT CAST(substr(:keys, i * 16 + 1, 16) AS BLOB) FROM n)"
)
KNOWN: Final = f"{_SPLIT} SELECT given.key FROM given CROSS JOIN messages USING (key) WHERE expires > :now"  # noqa: S608 - constants
_NEWS: Final = (
    f"{_SPLIT} INSERT INTO messages (key, expires) SELECT key, :expires FROM given WHERE true"  # noqa: S608 - constants
    " ON CONFLICT DO NOTHING"
)
_AGAIN: Final = f"{_SPLIT} UPDATE messages SET expires = :expires FROM given WHERE messages.key = given.key"  # noqa: S608 - constants
_RANGE: Final = "key >= :low AND key < :high"
_FORGET_EXPIRED: Final = f"DELETE FROM messages WHERE {_RANGE} AND expires <= :now"  # noqa: S608 - constants
_FORGET_OLDEST: Final = (
    f"DELETE FROM messages WHERE key IN (SELECT key FROM messages WHERE {_RANGE}"  # noqa: S608 - constants
    " ORDER BY expires DESC LIMIT -1 OFFSET :most)"
)
_BEGINNINGS: Final = f"SELECT DISTINCT substr(key, 2, 2) FROM messages WHERE {_RANGE}"  # noqa: S608 - constants
_COUNT: Final = (
    "INSERT INTO ledger (workspace, source, minute, outcome, count) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET count = count + excluded.count"
)
LEDGER: Final = (
    "SELECT workspace, source, CASE WHEN :per_minute THEN minute ELSE 0 END, outcome, SUM(count) FROM ledger"
    " WHERE minute >= :first_minute AND minute < :end_minute"
    " AND (:workspace = '' OR workspace = :workspace) AND (:source = '' OR source = :source) GROUP BY 1, 2, 3, 4"
)
# A range is searched for what has expired when that is cheap beside what moves into it, else on every so many visits.
_CHEAP: Final = 8
_SEARCH_CYCLES: Final = 8


def enter(connection: sqlite3.Connection) -> str:
    """Who this gateway is, made up on the first start."""
    connection.execute("INSERT OR IGNORE INTO position (one, owner) VALUES (1, ?)", (new_id(),))
    owner: str = connection.execute("SELECT owner FROM position").fetchone()[0]
    return owner


def set_position(connection: sqlite3.Connection, cluster: str, lows: Offsets | None) -> None:
    """Note up to where the topics are accounted for."""
    text = None if lows is None else offsets_to_json(lows)
    connection.execute("UPDATE position SET cluster = ?, lows = ?", (cluster, text))


def add_counts(connection: sqlite3.Connection, tally: Tally) -> None:
    """Add to the ledger."""
    connection.executemany(_COUNT, [(*cell, count) for cell, count in tally.items()])


def append(connection: sqlite3.Connection, number: int, keys: Sequence[bytes], expires: int) -> None:
    """Add a group of messages as it came."""
    connection.execute("INSERT INTO added (number, keys, expires) VALUES (?, ?, ?)", (number, b"".join(keys), expires))


def forget_appended(connection: sqlite3.Connection, number: int) -> None:
    """Forget the groups up to this one: their messages are in the table."""
    connection.execute("DELETE FROM added WHERE number <= ?", (number,))


def insert(connection: sqlite3.Connection, keys: Sequence[bytes], expires: int) -> None:
    """Write messages into the table; one that is there from an earlier window gets a new one."""
    if not keys:
        return
    given: dict[str, object] = {"keys": b"".join(keys), "count": len(keys), "expires": expires}
    news = _changed(connection, _NEWS, given)
    if news < len(keys):
        connection.execute(_AGAIN, given)
    _resize(connection, news)


def move_all(
    connection: sqlite3.Connection, moves: Iterable[Move], limits: Limits, now: int, cycles: int, *, crowding: Crowding
) -> set[int]:
    """Write ranges of messages into the table; take out what is old or too much there: the ranges where that was so."""
    changed: set[int] = set()
    for move in moves:
        insert(connection, move.keys, move.expires)
        (size,) = connection.execute("SELECT size FROM position").fetchone()
        bounds = _bounds(move.number)
        forgotten = 0
        crowded = size > limits.max_rows
        if crowded or size // RANGES <= _CHEAP * len(move.keys) or cycles % _SEARCH_CYCLES == 0:
            forgotten = _changed(connection, _FORGET_EXPIRED, {**bounds, "now": now})
        if size - forgotten > limits.max_rows:
            most = -(-limits.max_rows // RANGES)
            if early := _changed(connection, _FORGET_OLDEST, {**bounds, "most": most}):
                crowding.tell(now)
            forgotten += early
        if forgotten:
            _resize(connection, -forgotten)
            changed.add(move.number)
    return changed


def beginnings(connection: sqlite3.Connection, number: int) -> list[bytes]:
    """The second and third byte of all keys of a range."""
    return [pair for (pair,) in connection.execute(_BEGINNINGS, _bounds(number))]


def _bounds(number: int) -> dict[str, object]:
    # Sixteen 0xff bytes are a key that BLAKE2b gives once in 10^38 messages: that one would never be forgotten.
    return {"low": bytes([number]), "high": bytes([number + 1]) if number + 1 < RANGES else b"\xff" * 16}


def forget_messages(connection: sqlite3.Connection) -> None:
    """Forget every message."""
    connection.execute("DELETE FROM messages")
    connection.execute("DELETE FROM added")
    connection.execute("UPDATE position SET size = 0")


def forget_minutes(connection: sqlite3.Connection, first: int) -> None:
    """Forget the counts before a minute."""
    connection.execute("DELETE FROM ledger WHERE minute < ?", (first,))


def _changed(connection: sqlite3.Connection, sql: str, parameters: dict[str, object]) -> int:
    """Run a statement; how many rows it changed. The driver's own count leaves out statements that begin with WITH."""
    connection.execute(sql, parameters)
    return int(connection.execute("SELECT changes()").fetchone()[0])


def _resize(connection: sqlite3.Connection, by: int) -> None:
    if by:
        connection.execute("UPDATE position SET size = size + ?", (by,))
