"""A source's history, folded: what fits, what is kept, and what is a fault."""

import pytest

from gateway.admin.records import (
    MAX_KEYS,
    Change,
    Entry,
    HistoryBroken,
    Key,
    KeyCreated,
    KeyExpiring,
    KeyRevoked,
    SourceCreated,
    SourceDeleted,
    SourceUpdated,
    SourceValues,
    fold,
)
from gateway.admin.rules import MAX_ACTIVE_KEYS

VALUES = SourceValues((1,))
PLACE = ("w", "web")


def entries(*changes: Change) -> list[Entry]:
    """A history of one source; a change a nanosecond."""
    return [Entry(number, number, "admin", *PLACE, change) for number, change in enumerate(changes, start=1)]


def key(number: int) -> KeyCreated:
    """A new key."""
    return KeyCreated(Key(f"k{number}", f"h{number}", "wk_", number))


def test_a_source_remembers_so_many_keys() -> None:
    """Those that hold no longer make room, the oldest first; those that hold stay, however old."""
    assert MAX_ACTIVE_KEYS < MAX_KEYS
    history: list[Change] = [SourceCreated(VALUES), key(0)]
    for number in range(1, MAX_KEYS + 5):
        history += [key(number), KeyRevoked(f"k{number}")]
    record = fold(entries(*history))[PLACE]
    assert len(record.keys) == MAX_KEYS
    assert [one.id for one in record.keys[:3]] == ["k0", "k6", "k7"]
    assert record.keys[-1].id == f"k{MAX_KEYS + 4}"


def test_a_deleted_source_is_not_in_the_fold() -> None:
    """Until it is made anew."""
    assert fold(entries(SourceCreated(VALUES), SourceDeleted())) == {}
    (record,) = fold(entries(SourceCreated(VALUES), key(1), SourceDeleted(), SourceCreated(VALUES))).values()
    assert (record.keys, record.create_ns, record.revision) == ((), 4, 4)


@pytest.mark.parametrize(
    "history",
    [
        (SourceUpdated(VALUES),),
        (SourceCreated(VALUES), SourceCreated(VALUES)),
        (SourceCreated(VALUES), SourceDeleted(), key(1)),
        (SourceCreated(VALUES), KeyRevoked("k1")),
        (SourceCreated(VALUES), KeyExpiring("k1", 5)),
    ],
)
def test_a_change_that_does_not_fit_is_a_fault(history: tuple[Change, ...]) -> None:
    """No rule makes one: whoever reads such a history is told, and does not guess."""
    with pytest.raises(HistoryBroken):
        fold(entries(*history))


@pytest.mark.parametrize(
    ("one", "now_ns", "holds"),
    [
        (Key("k", "h", "p", 0), 2**62, True),
        (Key("k", "h", "p", 0, expire_ns=10), 9, True),
        (Key("k", "h", "p", 0, expire_ns=10), 10, False),
        (Key("k", "h", "p", 0, revoke_ns=10), 5, False),
        (Key("k", "h", "p", 0, expire_ns=10, revoke_ns=20), 5, False),
    ],
)
def test_when_a_key_holds(one: Key, now_ns: int, holds: object) -> None:
    """Until it expires, and never once it is revoked, whatever a clock that is behind believes."""
    assert one.holds(now_ns) is holds
