"""The clients that may ask for tokens, and how they prove who they are.

A client's secret is random and long, not a password that somebody chose: nobody can guess it from its digest, so a
plain SHA-256 is enough, and asking for a token costs no 43 ms of Argon2.
"""

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec

from identity_svc.errors import InvalidClient
from mesh.settings import SettingsError

_VARIABLE = "CLEW_CLIENTS_FILE"
# RFC 6749 section 3.3: what a scope may be made of, so that a list of them can be joined by blanks.
Scope = Annotated[str, msgspec.Meta(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,64}$")]


class Client(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One registered client, as it stands in the file."""

    client_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    secret_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    scopes: list[Scope] = []


# Compared with when the client is unknown, so that an unknown id takes as long as a wrong secret. SHA-256 of nothing
# known: no secret has this digest.
_NOBODY = Client(client_id="nobody", secret_sha256="f" * 64)


class ClientRegistry:
    """The registered clients by id."""

    def __init__(self, clients: Iterable[Client]) -> None:
        self._clients = {client.client_id: client for client in clients}

    @classmethod
    def load(cls, path: Path | None) -> "ClientRegistry":
        """Read the file; without one nobody is registered.

        Raises:
            SettingsError: The file cannot be read, is no list of clients, or names a client twice.
        """
        if path is None:
            return cls([])
        try:
            clients = msgspec.json.decode(path.read_bytes(), type=list[Client])
        except OSError as error:
            raise SettingsError([f"{_VARIABLE}: {path} cannot be read: {error.strerror}"]) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SettingsError([f"{_VARIABLE}: {path} is no list of clients: {error}"]) from error
        registry = cls(clients)
        if len(registry._clients) < len(clients):
            raise SettingsError([f"{_VARIABLE}: {path} names a client twice. Give every client an id of its own"])
        return registry

    def authenticate(self, client_id: str, client_secret: str) -> Client:
        """Return the client whose id and secret these are; takes the same time whichever of them is wrong.

        Raises:
            InvalidClient: They match no registered client.
        """
        client = self._clients.get(client_id, _NOBODY)
        digest = hashlib.sha256(client_secret.encode()).hexdigest()
        if not hmac.compare_digest(digest, client.secret_sha256):
            raise InvalidClient
        return client
