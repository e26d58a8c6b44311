"""The types of what a store works with, by short names."""

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import Pool, PoolConnectionProxy

# asyncpg's classes are generic in its stubs only.
Row: TypeAlias = "Record"
Connection: TypeAlias = "PoolConnectionProxy[Record]"
ConnectionPool: TypeAlias = "Pool[Record]"
