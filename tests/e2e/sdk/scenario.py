"""What every client library is made to send: the same visits, so that what arrives can be compared across them.

A visitor comes anonymously, makes every call that can be made so, is joined to a user by `alias` and `identify`, and
makes every call again as that user.
"""

from collections.abc import Mapping
from typing import Any

Call = dict[str, Any]

CALLS_PER_VISITOR = 11


def anonymous_id(prefix: str, visitor: int) -> str:
    """Return the anonymous id of a visitor."""
    return f"{prefix}-anonymous-{visitor}"


def user_id(prefix: str, visitor: int) -> str:
    """Return the user id that a visitor identifies as."""
    return f"{prefix}-user-{visitor}"


def calls(prefix: str, count: int, tokens: Mapping[str, str] | None = None) -> list[Call]:
    """Return the calls of some visitors, in order, as Segment's spec writes them.

    Args:
        prefix: what all their ids begin with.
        count: how many visitors.
        tokens: identity tokens by user id; a user's calls carry theirs as `context.identityToken`.
    """
    return [call for visitor in range(count) for call in _visit(prefix, visitor, tokens or {})]


def _visit(prefix: str, visitor: int, tokens: Mapping[str, str]) -> list[Call]:
    anonymous, user = anonymous_id(prefix, visitor), user_id(prefix, visitor)
    token = {"context": {"identityToken": tokens[user]}} if user in tokens else {}
    known = {"anonymousId": anonymous, "userId": user, **token}
    return [
        *_all_but_alias({"anonymousId": anonymous}, visitor),
        {"type": "alias", "previousId": anonymous, "userId": user, **token},
        *_all_but_alias(known, visitor),
    ]


def _all_but_alias(who: Mapping[str, Any], visitor: int) -> list[Call]:
    page = {"url": f"https://shop.example/products/{visitor}?utm_source=newsletter", "path": f"/products/{visitor}"}
    traits = {"plan": "pro", "favourite": "Zoë's café ☕", "visits": visitor}
    return [
        # First: a browser's library puts the user id on the calls that come after `identify`.
        {"type": "identify", "traits": traits, **who},
        {"type": "page", "category": "Shop", "name": "Product", "properties": page, **who},
        {"type": "screen", "category": "Shop", "name": "Product", "properties": {"tab": 2}, **who},
        {"type": "track", "event": "Product Viewed", "properties": {"price": 19.9, "sku": f"sku-{visitor}"}, **who},
        {"type": "group", "groupId": "group-1", "traits": {"name": "Acme"}, **who},
    ]
