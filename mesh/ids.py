"""Identifiers that we mint."""

import uuid_utils


def new_id() -> str:
    """Mint a UUIDv7 (RFC 9562): unique without coordination, in order of creation, which keeps indexes compact."""
    return str(uuid_utils.uuid7())
