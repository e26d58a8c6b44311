"""The identity graph: identifiers tied to profiles, profiles merged into one another, and the facts that made it so."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol, TypeAlias


class Kind(IntEnum):
    """What kind of name an identifier is; the numbers of `clew.identity.v1.IdentifierKind`."""

    ANONYMOUS_ID = 1
    USER_ID = 2


class Assurance(IntEnum):
    """How well it is known who somebody is; the numbers of `clew.identity.v1.Assurance`, higher is better known."""

    ANONYMOUS = 1
    ASSERTED = 2
    VERIFIED = 3


# Workspace, kind, value. A plain tuple, and profile ids as plain strings: hundreds of thousands of them are kept in
# memory, and the garbage collector need not walk what holds no references to containers.
IdentifierKey: TypeAlias = tuple[str, int, str]


class Query(Protocol):
    """The identifiers that one event carries; a `clew.identity.v1.IdentityQuery` is one as it stands."""

    @property
    def anonymous_id(self) -> str:
        """Random id of the visitor, or empty."""

    @property
    def user_id(self) -> str:
        """The customer's id of the user, or empty."""

    @property
    def user_id_verified(self) -> bool:
        """A token's subject proved the user id."""

    @property
    def previous_id(self) -> str:
        """The id that an alias call replaces by the user id, or empty; without a user id it says nothing."""


class Resolution(NamedTuple):
    """Who an event is from."""

    profile_id: str
    assurance: int
    merged_profile_ids: tuple[str, ...]
    conflict: bool


@dataclass(frozen=True, slots=True)
class Node:
    """One profile as resolving needs it: whose it is and what became of it.

    A profile has at most one user id. Only a profile without one is ever merged into another, and only into one that
    has one: so a chain of merges is one step long.
    """

    profile_id: str
    user_id: str = ""
    user_assurance: int = 0
    merged_into: str = ""
    merged_profile_ids: tuple[str, ...] = ()


class Cause(NamedTuple):
    """The item that made a fact known, as it was sent; an empty string where it said nothing."""

    anonymous_id: str
    user_id: str
    user_id_verified: bool
    previous_id: str


class Assertion(NamedTuple):
    """Fact: an identifier belongs to a profile, with this proof. Said again only with a better proof."""

    key: IdentifierKey
    profile_id: str
    assurance: int
    cause: Cause
    recorded_ns: int


class Merge(NamedTuple):
    """Fact: two profiles were found to be one person; the merged one is an alias of the other from then on."""

    workspace: str
    merged_profile_id: str
    into_profile_id: str
    cause: Cause
    recorded_ns: int


Fact: TypeAlias = Assertion | Merge


class ProfileIdentifier(NamedTuple):
    """One identifier of a profile and how it got there."""

    kind: int
    value: str
    assurance: int
    first_seen_ns: int


@dataclass(frozen=True, slots=True)
class Profile:
    """One customer with all names: those of the profile itself and of all that were merged into it, oldest first."""

    profile_id: str
    identifiers: Sequence[ProfileIdentifier]
    merged_profile_ids: Sequence[str]
    create_ns: int
    update_ns: int

    @property
    def assurance(self) -> int:
        """The best assurance that any of the identifiers has."""
        return max(identifier.assurance for identifier in self.identifiers)
