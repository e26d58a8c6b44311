"""What only the store in a SQLite file promises: messages that move from what was appended into the table."""

import sqlite3
from pathlib import Path

from gateway.claims.port import Changes
from gateway.claims.sqlite import SqliteClaims
from gateway.ledger.tally import RECEIVED
from tests.gateway.claims.stores import Clock
from tests.gateway.claims.test_store import ALL, begin, cell, changes, keys, tally

GROUPS = 40
SIZE = 4


def group(number: int) -> Changes:
    """Some messages that nobody published before, and their counts."""
    return changes(published=keys(SIZE, first=SIZE * number), tally=tally((cell(), SIZE)))


async def refuse_forgetting(store: SqliteClaims, *, refused: bool) -> None:
    """Let the file refuse to give up what was appended, as a failing disk does at any statement."""
    statement = (
        "CREATE TRIGGER full BEFORE DELETE ON added BEGIN SELECT RAISE(ABORT, 'disk'); END"
        if refused
        else "DROP TRIGGER full"
    )
    await store._database.write(lambda connection: connection.execute(statement).close())


async def test_a_group_whose_tidying_fails_is_counted_once(tmp_path: Path, clock: Clock) -> None:
    """A group that was not written whole is not written at all, so that the next try does not count it again."""
    store = await SqliteClaims.open(tmp_path / "gateway.db", staged=1, now=clock)
    await begin(store)
    await refuse_forgetting(store, refused=True)
    failures = 0
    for number in range(GROUPS):
        each = group(number)
        try:
            await store.apply(each)
        except sqlite3.Error:
            failures += 1
            await refuse_forgetting(store, refused=False)
            await store.apply(each)
            await refuse_forgetting(store, refused=True)
    assert failures > 0
    total = GROUPS * SIZE
    assert await store.ledger(ALL) == {cell(minute=0): total, cell(RECEIVED, minute=0): total}
    assert len(await store.claim(keys(total))) == total
    await store.close(settled=True)


async def test_what_has_moved_into_the_table_is_not_kept_twice(tmp_path: Path, clock: Clock) -> None:
    """What was appended goes with a later group, so that the file does not grow; a start knows every message."""
    path = tmp_path / "gateway.db"
    store = await SqliteClaims.open(path, staged=1, now=clock)
    await begin(store)
    for number in range(GROUPS):
        await store.apply(group(number))
        ((appended,),) = store._database.fetch_all("SELECT count(*) FROM added")
        assert appended <= 4
    await store.close(settled=True)
    again = await SqliteClaims.open(path, staged=1, now=clock)
    assert len(await again.claim(keys(GROUPS * SIZE))) == GROUPS * SIZE
    await again.close(settled=True)
