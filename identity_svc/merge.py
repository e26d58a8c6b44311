"""The rules by which identifiers become one person. Two user ids never do, whatever links them."""

from enum import Enum
from typing import Protocol

from identity_svc.graph import Assertion, Assurance, Cause, Fact, IdentifierKey, Kind, Merge, Node, Query, Resolution

# Plain integers: the fast path below runs for every event, and building keys of enum members costs it a quarter more.
_ANONYMOUS_ID, _USER_ID = int(Kind.ANONYMOUS_ID), int(Kind.USER_ID)
_ANONYMOUS, _ASSERTED, _VERIFIED = int(Assurance.ANONYMOUS), int(Assurance.ASSERTED), int(Assurance.VERIFIED)

MOST_MERGED = 250
"""Most profiles that are merged into one. No person has as many devices; who has is a shared login or an attack. The
largest batch, 2,500 users with so many each, still fits into one message (`mesh.server.MAX_MESSAGE_BYTES`)."""


class Joining(Enum):
    """What is to be done with an anonymous id that came together with a user id."""

    NOTHING = "they are one profile already"
    LINK = "nobody has it: it joins the user's profile"
    MERGE = "it has a profile without a user: that one merges into the user's"
    CONFLICT = "it is another user's, or the user has too many already: it stays there"


def joining(visitor: Node | None, user: Node) -> Joining:
    """Decide how the anonymous id of a profile (None: of no profile yet) joins a user's profile."""
    if visitor is None:
        return Joining.LINK
    if visitor.profile_id == user.profile_id:
        return Joining.NOTHING
    refused = visitor.user_id or len(user.merged_profile_ids) >= MOST_MERGED
    return Joining.CONFLICT if refused else Joining.MERGE


class Graph(Protocol):
    """What the rules need of the graph: to look a name up, to make ids, and to note what became known."""

    def find(self, key: IdentifierKey) -> Node | None:
        """Return the profile that an identifier belongs to now (never a merged one), or None."""

    def new_profile_id(self) -> str:
        """Return an id that no profile has."""

    def now_ns(self) -> int:
        """Return the time that new facts are recorded at."""

    def record(self, fact: Fact, *changed: Node) -> None:
        """Note a fact and the profiles as they are with it: what is looked up from now on sees them."""


class Resolver:
    """Resolves the queries of one workspace in order, recording whatever each of them makes newly known.

    Idempotent: a query that was resolved before finds all that it would record.
    """

    def __init__(self, graph: Graph, workspace: str) -> None:
        self._graph = graph
        self._find = graph.find
        self._workspace = workspace

    def resolve(self, query: Query) -> Resolution:
        """Tie the query's identifiers together and return whose they are."""
        user_id = query.user_id
        if not user_id:
            node = self._visitor(query)
            return Resolution(node.profile_id, _ANONYMOUS, node.merged_profile_ids, conflict=False)
        anonymous_id = query.anonymous_id
        visitor = self._find((self._workspace, _ANONYMOUS_ID, anonymous_id)) if anonymous_id else None
        user = self._user(query, user_id, visitor)
        conflict = False
        # The first half of the condition is the common case, and spares it a call.
        if anonymous_id and visitor is not user:
            user, conflict = self._join(query, anonymous_id, visitor, user)
        if query.previous_id:
            user, refused = self._alias(query, user)
            conflict = conflict or refused
        assurance = _VERIFIED if query.user_id_verified else _ASSERTED
        return Resolution(user.profile_id, assurance, user.merged_profile_ids, conflict)

    def _visitor(self, query: Query) -> Node:
        """Find or create the profile of an anonymous id that came alone."""
        key = (self._workspace, _ANONYMOUS_ID, query.anonymous_id)
        return self._find(key) or self._assert(query, key, Node(self._graph.new_profile_id()), _ANONYMOUS)

    def _user(self, query: Query, user_id: str, visitor: Node | None) -> Node:
        """Find the user's profile, or make it: of the visitor's when that is nobody's yet, so that its id survives."""
        key = (self._workspace, _USER_ID, user_id)
        evidence = _VERIFIED if query.user_id_verified else _ASSERTED
        user = self._find(key)
        if user is None:
            origin = visitor or self._previous_visitor(query)
            free = origin is not None and not origin.user_id
            base = origin if origin is not None and free else Node(self._graph.new_profile_id())
            return self._assert(query, key, base, evidence)
        if user.user_assurance < evidence:
            return self._assert(query, key, user, evidence)
        return user

    def _previous_visitor(self, query: Query) -> Node | None:
        if not query.previous_id:
            return None
        return self._find((self._workspace, _ANONYMOUS_ID, query.previous_id))

    def _alias(self, query: Query, user: Node) -> tuple[Node, bool]:
        """Join the id that an alias call replaces: an anonymous id when it is known as one, else maybe a user id."""
        previous_id = query.previous_id
        visitor = self._previous_visitor(query)
        if visitor is None:
            named = self._find((self._workspace, _USER_ID, previous_id))
            if named is not None:
                return user, named.profile_id != user.profile_id
        return self._join(query, previous_id, visitor, user)

    def _join(self, query: Query, anonymous_id: str, visitor: Node | None, user: Node) -> tuple[Node, bool]:
        """Join an anonymous id to a user's profile; returns that profile and whether it was refused."""
        if visitor is not None:
            # The user may just have joined the visitor's profile, which is another node since.
            visitor = self._find((self._workspace, _ANONYMOUS_ID, anonymous_id))
        match joining(visitor, user):
            case Joining.LINK:
                key = (self._workspace, _ANONYMOUS_ID, anonymous_id)
                return self._assert(query, key, user, _ANONYMOUS), False
            case Joining.MERGE if visitor is not None:
                return self._merge(query, visitor, user), False
            case outcome:
                return user, outcome is Joining.CONFLICT

    def _assert(self, query: Query, key: IdentifierKey, node: Node, assurance: int) -> Node:
        """Record that an identifier belongs to a profile, and return the profile with it."""
        if key[1] == _USER_ID:
            node = Node(node.profile_id, key[2], assurance, "", node.merged_profile_ids)
        fact = Assertion(key, node.profile_id, assurance, _cause(query), self._graph.now_ns())
        self._graph.record(fact, node)
        return node

    def _merge(self, query: Query, visitor: Node, user: Node) -> Node:
        """Record that a visitor's profile is the user's, and return the user's with it."""
        merged = (*user.merged_profile_ids, *visitor.merged_profile_ids, visitor.profile_id)
        into = Node(user.profile_id, user.user_id, user.user_assurance, "", merged)
        alias = Node(visitor.profile_id, merged_into=user.profile_id)
        fact = Merge(self._workspace, visitor.profile_id, user.profile_id, _cause(query), self._graph.now_ns())
        self._graph.record(fact, into, alias)
        return into


def _cause(query: Query) -> Cause:
    return Cause(query.anonymous_id, query.user_id, bool(query.user_id_verified), query.previous_id)
