"""Write keys: how one is made, and what is shown of it afterwards."""

import secrets
from dataclasses import dataclass
from typing import Final

from gateway.sources import hash_key
from mesh.ids import new_id

# For people and scanners to know one by. Letters, digits, "-" and "_" follow: a key is a Basic user name and stands in
# paths.
_MARK: Final = "wk_"
_RANDOM_BYTES: Final = 24
_SHOWN_CHARACTERS: Final = 10


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made; `secret` is the key itself, 192 random bits, of which only the hash is kept."""

    id: str
    secret: str
    sha256: str
    prefix: str

    def __repr__(self) -> str:
        return f"NewKey({self.id}, {self.prefix}...)"

    @classmethod
    def make(cls) -> "NewKey":
        """A new random one."""
        secret = _MARK + secrets.token_urlsafe(_RANDOM_BYTES)
        return cls(new_id(), secret, hash_key(secret), secret[:_SHOWN_CHARACTERS])
