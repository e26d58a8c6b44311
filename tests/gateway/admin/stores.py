"""The stores that the contract suite runs on, each new and empty."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.admin.records import Limits, SourceValues
from gateway.admin.rules import Rule, create, create_key
from gateway.admin.store import SourceStore, SqliteSourceStore, Written
from gateway.admin.store.port import Request
from gateway.admin.store.postgres import PostgresSourceStore

NOW = 1_750_000_000 * 10**9
VALUES = SourceValues((1, 2), Limits(5.5, 10), ("https://shop.example",))
KINDS = ("sqlite", "postgres")


@asynccontextmanager
async def open_kind(kind: str, request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[SourceStore]:
    """A store of one kind; PostgreSQL is started when it is asked for."""
    store: SourceStore
    if kind == "sqlite":
        store = SqliteSourceStore.open(folder / "sources.db")
    else:
        store = await PostgresSourceStore.open(request.getfixturevalue("postgres_url"))
    try:
        yield store
    finally:
        await store.close()


async def ask(store: SourceStore, rule: Rule, *, name: str = "web", workspace: str = "w", at_ns: int = NOW) -> Written:
    """Run a rule on a source."""
    return await store.change(Request(workspace, name, "admin", at_ns, rule))


async def with_key(store: SourceStore, *, name: str = "web", key_id: str = "k1") -> Written:
    """Make a source with one key, whose hash is its id's."""
    await ask(store, create(VALUES), name=name)
    return await ask(store, create_key(key_id, f"hash-{key_id}", "wk_0123456", None), name=name)
