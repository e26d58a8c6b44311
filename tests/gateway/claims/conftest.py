"""Each store in turn."""

from pathlib import Path

import pytest

from tests.gateway.claims.stores import Clock, PostgresShelf, Shelf, SqliteShelf


@pytest.fixture(params=["sqlite", "postgres"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """An empty place for stores."""
    if request.param == "sqlite":
        return SqliteShelf(tmp_path)
    return PostgresShelf(request.getfixturevalue("postgres_url"))


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()
