"""identity_svc.merge: who joins whom, as a table."""

import pytest

from identity_svc.graph import Node
from identity_svc.merge import MOST_MERGED, Joining, joining

USER = Node("p1", user_id="u1", user_assurance=2)


@pytest.mark.parametrize(
    ("visitor", "expected"),
    [
        (None, Joining.LINK),
        (USER, Joining.NOTHING),
        (Node("p1", user_id="u1", user_assurance=3), Joining.NOTHING),
        (Node("p2"), Joining.MERGE),
        (Node("p2", user_id="u2", user_assurance=2), Joining.CONFLICT),
    ],
)
def test_an_anonymous_id_joins_a_user_by_whose_it_is(visitor: Node | None, expected: Joining) -> None:
    """Nobody's joins, the same profile's has joined, a visitor's merges, another user's stays."""
    assert joining(visitor, USER) is expected


def test_a_person_has_a_bounded_number_of_merged_profiles() -> None:
    """Anyone with a write key can name a user: the list that every later answer carries must not grow without end."""
    full = Node("p1", user_id="u1", merged_profile_ids=("p",) * MOST_MERGED)
    almost = Node("p1", user_id="u1", merged_profile_ids=("p",) * (MOST_MERGED - 1))
    assert joining(Node("p2"), almost) is Joining.MERGE
    assert joining(Node("p2"), full) is Joining.CONFLICT
    assert joining(None, full) is Joining.LINK
