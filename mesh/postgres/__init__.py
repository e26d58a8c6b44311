"""PostgreSQL for processes that share a store: a pool, transactions, numbered migrations.

It needs the `postgres` extra (asyncpg); nothing else imports it, so that the core install works without.
"""

from mesh.postgres.connection import Connection
from mesh.postgres.database import Database

__all__ = ["Connection", "Database"]
