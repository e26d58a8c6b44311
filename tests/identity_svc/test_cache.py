"""GenerationCache: bounded, and what is in use stays."""

from hypothesis import given
from hypothesis import strategies as st

from identity_svc.store.cache import GenerationCache

_KEYS = st.integers(0, 12)


@given(st.integers(2, 10), st.lists(st.tuples(_KEYS, st.booleans())))
def test_it_never_holds_more_than_its_limit_and_never_a_stale_value(limit: int, steps: list[tuple[int, bool]]) -> None:
    """Whatever is put and looked up, the size stays bounded, and what is found is what was put last."""
    cache: GenerationCache[int, int] = GenerationCache(limit)
    latest: dict[int, int] = {}
    for value, (key, put) in enumerate(steps, start=1):
        if put:
            cache.put(key, value)
            latest[key] = value
            assert cache.get(key) == value
        else:
            assert cache.get(key) in {None, latest.get(key)}
        assert len(cache) <= limit


def test_what_is_used_survives_what_is_not() -> None:
    """A key that is looked up now and then outlives any number of keys that are seen once."""
    cache: GenerationCache[int, str] = GenerationCache(10)
    cache.put(0, "in use")
    for key in range(1, 1_000):
        cache.put(key, "seen once")
        if key % 4 == 0:
            assert cache.get(0) == "in use"
    assert cache.get(1) is None


def test_clear_forgets_everything() -> None:
    """After clear nothing is found."""
    cache: GenerationCache[int, str] = GenerationCache(10)
    cache.put(1, "one")
    cache.clear()
    assert cache.get(1) is None
    assert len(cache) == 0
