"""Which failures of PostgreSQL mean that the store cannot answer, and which are faults of the caller."""

import asyncpg

from mesh.errors import StorageUnavailable

# Classes of SQLSTATE (PostgreSQL manual, appendix A) that another attempt, or an operator, may mend.
_UNAVAILABLE = (
    "08",  # the connection broke
    "25006",  # read-only: the server is a standby now
    "40",  # rolled back: deadlock, serialization failure
    "53",  # out of disk, memory or connections
    "55P03",  # a lock was not to be had in time
    "57",  # an operator or a timeout ended it, or the server is starting or stopping
    "58",  # the system below failed
    "XX",  # PostgreSQL itself failed
)


def storage_error(error: Exception) -> Exception:
    """Turn a failure of the database into StorageUnavailable; a broken constraint or a caller's own error stays."""
    if not _is_unavailable(error):
        return error
    # PostgreSQL's own words name hosts, tables and values: they stay with the cause, which is logged and never sent.
    unavailable = StorageUnavailable("the store could not be read or written")
    unavailable.__cause__ = error
    return unavailable


def _is_unavailable(error: Exception) -> bool:
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate).startswith(_UNAVAILABLE)
    # asyncpg's own: the pool is closing, the connection was lost in the middle of an operation, it was busy.
    return isinstance(error, OSError | TimeoutError | asyncpg.InterfaceError)
