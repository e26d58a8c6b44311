"""The SQL of the SQLite store: facts in, state out."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

from identity_svc.graph import Assertion, Cause, Fact, IdentifierKey, Kind, Merge, Node, Profile, ProfileIdentifier
from mesh.sqlite import Database

# Names in one SELECT. Lists are padded to one of two lengths, so that only two texts of each statement are prepared.
_FEW, _MANY = 4, 256

_INSERT_ASSERTION = "INSERT INTO assertions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_MERGE = "INSERT INTO merges VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_FOLD_IDENTIFIER = """
INSERT INTO identifiers (workspace, kind, value, profile_id, assurance, first_seq, first_seen_ns, changed_ns)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (workspace, kind, value) DO UPDATE SET
    assurance = max(assurance, excluded.assurance),
    first_seen_ns = min(first_seen_ns, excluded.first_seen_ns),
    changed_ns = max(changed_ns, excluded.changed_ns)
"""
_FOLD_PROFILE = """
INSERT INTO profiles (profile_id, workspace, user_id) VALUES (?, ?, ?)
ON CONFLICT (profile_id) DO UPDATE SET user_id = excluded.user_id WHERE excluded.user_id IS NOT NULL
"""
_FOLD_MERGE = "UPDATE profiles SET merged_into = ?, merged_seq = ?, merged_ns = ? WHERE profile_id = ?"
_LAST_SEQ = """
SELECT max(coalesce((SELECT max(seq) FROM assertions), 0), coalesce((SELECT max(seq) FROM merges), 0))
"""
_REBUILDS = (
    "DELETE FROM identifiers",
    "INSERT INTO identifiers SELECT * FROM identifiers_fold",
    "DELETE FROM profiles",
    "INSERT INTO profiles SELECT * FROM profiles_fold",
)
_COUNT_DIFFERENCES = """
SELECT (SELECT count(*) FROM (SELECT * FROM identifiers EXCEPT SELECT * FROM identifiers_fold))
     + (SELECT count(*) FROM (SELECT * FROM identifiers_fold EXCEPT SELECT * FROM identifiers))
     + (SELECT count(*) FROM (SELECT * FROM profiles EXCEPT SELECT * FROM profiles_fold))
     + (SELECT count(*) FROM (SELECT * FROM profiles_fold EXCEPT SELECT * FROM profiles))
"""
_FAMILY = "(SELECT ? UNION SELECT profile_id FROM profiles WHERE merged_into = ?)"


def append_facts(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
    """Append facts to the history and fold them into the current state. Runs inside a write."""
    (last,) = connection.execute(_LAST_SEQ).fetchone()
    sequence = count(last + 1)
    assertions: list[tuple[object, ...]] = []
    merges: list[tuple[object, ...]] = []
    for seq, fact in zip(sequence, facts, strict=False):
        if isinstance(fact, Assertion):
            assertions.append((seq, *fact.key, fact.profile_id, fact.assurance, *_cause_row(fact), fact.recorded_ns))
        else:
            ids = (fact.workspace, fact.merged_profile_id, fact.into_profile_id)
            merges.append((seq, *ids, *_cause_row(fact), fact.recorded_ns))
    connection.executemany(_INSERT_ASSERTION, assertions)
    connection.executemany(_FOLD_IDENTIFIER, [(*row[1:6], row[0], row[-1], row[-1]) for row in assertions])
    connection.executemany(_FOLD_PROFILE, [_profile_row(fact) for fact in facts if isinstance(fact, Assertion)])
    # Last, because what merges may have been created in this very write.
    connection.executemany(_INSERT_MERGE, merges)
    connection.executemany(
        _FOLD_MERGE, [(into, seq, recorded_ns, merged) for seq, _, merged, into, *_, recorded_ns in merges]
    )


def rebuild(connection: sqlite3.Connection) -> int:
    """Replace the current state by the fold of the history; returns how many rows differed. Runs inside a write."""
    (differences,) = connection.execute(_COUNT_DIFFERENCES).fetchone()
    if differences:
        for statement in _REBUILDS:
            connection.execute(statement)
    return int(differences)


def load_links(database: Database, keys: Iterable[IdentifierKey]) -> dict[IdentifierKey, str]:
    """Return the profile id that each of the identifiers was tied to; unknown ones are left out."""
    groups: dict[tuple[str, int], list[str]] = {}
    for workspace, kind, value in keys:
        groups.setdefault((workspace, kind), []).append(value)
    links: dict[IdentifierKey, str] = {}
    for (workspace, kind), values in groups.items():
        sql = "SELECT value, profile_id FROM identifiers WHERE workspace = ? AND kind = ? AND value IN"
        for value, profile_id in _select_in(database, sql, values, (workspace, kind)):
            links[workspace, kind, value] = profile_id
    return links


def load_nodes(database: Database, profile_ids: Iterable[str]) -> dict[str, Node]:
    """Return the profiles with these ids, and those that they were merged into."""
    sql = """
    SELECT p.profile_id, coalesce(p.user_id, ''), coalesce(i.assurance, 0), coalesce(p.merged_into, '')
    FROM profiles AS p
    LEFT JOIN identifiers AS i ON i.workspace = p.workspace AND i.kind = 2 AND i.value = p.user_id
    WHERE p.profile_id IN"""
    rows = {row[0]: row for row in _select_in(database, sql, profile_ids)}
    targets = {row[3] for row in rows.values()} - {""} - rows.keys()
    rows |= {row[0]: row for row in _select_in(database, sql, targets)}
    merged = _load_merged(database, [row[0] for row in rows.values() if row[1]])
    return {
        profile_id: Node(profile_id, user_id, assurance, target, tuple(merged.get(profile_id, ())))
        for profile_id, user_id, assurance, target in rows.values()
    }


def load_profile(database: Database, workspace: str, key: str | IdentifierKey) -> Profile | None:
    """Return a profile under all of its names, or None."""
    profile_id = key if isinstance(key, str) else load_links(database, [key]).get(key)
    canonical = _canonical(database, workspace, profile_id) if profile_id else None
    if canonical is None:
        return None
    identifiers = database.fetch_all(
        "SELECT kind, value, assurance, first_seen_ns, changed_ns FROM identifiers"  # noqa: S608 - a constant
        f" WHERE profile_id IN {_FAMILY} ORDER BY first_seq",
        (canonical, canonical),
    )
    merges = database.fetch_all(
        "SELECT profile_id, merged_ns FROM profiles WHERE merged_into = ? ORDER BY merged_seq", (canonical,)
    )
    return Profile(
        profile_id=canonical,
        identifiers=[ProfileIdentifier(*row[:4]) for row in identifiers],
        merged_profile_ids=[row[0] for row in merges],
        create_ns=min(row[3] for row in identifiers),
        update_ns=max([row[4] for row in identifiers] + [row[1] for row in merges]),
    )


def load_history(database: Database, workspace: str, profile_id: str) -> list[Fact]:
    """Return the facts about a profile and all that were merged into it, oldest first."""
    canonical = _canonical(database, workspace, profile_id)
    assertions = database.fetch_all(
        f"SELECT * FROM assertions WHERE profile_id IN {_FAMILY}",  # noqa: S608 - a constant
        (canonical, canonical),
    )
    merges = database.fetch_all("SELECT * FROM merges WHERE into_profile_id = ?", (canonical,))
    facts: dict[int, Fact] = {}
    for seq, space, kind, value, profile, assurance, *cause, recorded_ns in assertions:
        facts[seq] = Assertion((space, kind, value), profile, assurance, _cause(cause), recorded_ns)
    for seq, space, merged, into, *cause, recorded_ns in merges:
        facts[seq] = Merge(space, merged, into, _cause(cause), recorded_ns)
    return [facts[seq] for seq in sorted(facts)]


def _canonical(database: Database, workspace: str, profile_id: str) -> str | None:
    sql = "SELECT coalesce(merged_into, profile_id) FROM profiles WHERE profile_id = ? AND workspace = ?"
    rows = database.fetch_all(sql, (profile_id, workspace))
    return str(rows[0][0]) if rows else None


def _load_merged(database: Database, targets: Iterable[str]) -> dict[str, list[str]]:
    """Return, oldest first, the profiles that were merged into each of these."""
    rows = _select_in(
        database, "SELECT merged_seq, merged_into, profile_id FROM profiles WHERE merged_into IN", targets
    )
    merged: dict[str, list[str]] = {}
    for _, target, profile_id in sorted(rows):
        merged.setdefault(target, []).append(profile_id)
    return merged


def _select_in(
    database: Database, sql: str, values: Iterable[str], prefix: tuple[object, ...] = ()
) -> Iterator[tuple[Any, ...]]:
    """Run `sql (?, ?, ...)` over the values, some hundred at a time."""
    wanted = list(values)
    for start in range(0, len(wanted), _MANY):
        chunk = wanted[start : start + _MANY]
        size = _FEW if len(chunk) <= _FEW else _MANY
        padded = chunk + [chunk[-1]] * (size - len(chunk))
        yield from database.fetch_all(f"{sql} ({','.join('?' * size)})", (*prefix, *padded))


def _profile_row(fact: Assertion) -> tuple[object, ...]:
    workspace, kind, value = fact.key
    return (fact.profile_id, workspace, value if kind == Kind.USER_ID else None)


def _cause_row(fact: Fact) -> tuple[object, ...]:
    cause = fact.cause
    return (cause.anonymous_id, cause.user_id, int(cause.user_id_verified), cause.previous_id)


def _cause(row: Sequence[Any]) -> Cause:
    anonymous_id, user_id, verified, previous_id = row
    return Cause(anonymous_id, user_id, bool(verified), previous_id)


def identifier_keys(workspace: str, anonymous_id: str, user_id: str, previous_id: str) -> Iterator[IdentifierKey]:
    """Yield every name that resolving a query may look up."""
    for kind, value in (
        (Kind.ANONYMOUS_ID, anonymous_id),
        (Kind.USER_ID, user_id),
        (Kind.ANONYMOUS_ID, previous_id),
        (Kind.USER_ID, previous_id),
    ):
        if value:
            yield workspace, int(kind), value
