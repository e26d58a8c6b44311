"""What every identity store must do. An adapter's test module subclasses this and says how its store is opened.

class TestSqlite(IdentityStoreContract):
    @pytest.fixture
    def open_store(self, tmp_path): ...
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from identity_svc.graph import Assertion, Assurance, Cause, IdentifierKey, Kind, Merge, Resolution
from identity_svc.store import IdentityStore

OpenStore = Callable[[], Awaitable[IdentityStore]]

WORKSPACE = "acme"


@dataclass(frozen=True)
class Item:
    """A query, with the wire's field names."""

    anonymous_id: str = ""
    user_id: str = ""
    user_id_verified: bool = False
    previous_id: str = ""


async def resolve(store: IdentityStore, *items: Item, workspace: str = WORKSPACE) -> list[Resolution]:
    """Resolve items as one batch."""
    return await store.resolve(workspace, items)


async def resolve_one(store: IdentityStore, item: Item, workspace: str = WORKSPACE) -> Resolution:
    """Resolve one item as a batch of its own."""
    (result,) = await store.resolve(workspace, [item])
    return result


class IdentityStoreContract:
    """The behaviour that callers rely on, whatever the store is made of."""

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[IdentityStore]:
        """An empty store."""
        opened = await open_store()
        yield opened
        await opened.close()

    async def test_a_new_visitor_gets_a_profile_and_keeps_it(self, store: IdentityStore) -> None:
        """An unknown anonymous id gets a profile; the same id again gets the same one."""
        first = await resolve_one(store, Item("a1"))
        assert first == await resolve_one(store, Item("a1"))
        assert (first.assurance, first.merged_profile_ids, first.conflict) == (Assurance.ANONYMOUS, (), False)

    async def test_identifiers_that_come_together_are_one_person(self, store: IdentityStore) -> None:
        """Two unknown identifiers in one item get one profile between them."""
        together = await resolve_one(store, Item("a1", "u1"))
        anonymous = await resolve_one(store, Item("a1"))
        user = await resolve_one(store, Item(user_id="u1"))
        assert together.profile_id == anonymous.profile_id == user.profile_id

    async def test_a_login_keeps_the_visitors_profile_id(self, store: IdentityStore) -> None:
        """A user id that is new joins the profile that the visitor already has."""
        before = await resolve_one(store, Item("a1"))
        after = await resolve_one(store, Item("a1", "u1"))
        assert after.profile_id == before.profile_id
        assert after.merged_profile_ids == ()

    async def test_a_new_device_joins_the_users_profile(self, store: IdentityStore) -> None:
        """An anonymous id that is new joins the profile that the user already has."""
        user = await resolve_one(store, Item("a1", "u1"))
        assert (await resolve_one(store, Item("a2", "u1"))).profile_id == user.profile_id
        assert (await resolve_one(store, Item("a2"))).profile_id == user.profile_id

    async def test_a_known_visitor_merges_into_a_known_user(self, store: IdentityStore) -> None:
        """A visitor's profile becomes an alias of the user's; the results name what was merged."""
        user = await resolve_one(store, Item("a1", "u1"))
        visitor = await resolve_one(store, Item("a2"))
        merged = await resolve_one(store, Item("a2", "u1"))
        assert merged.profile_id == user.profile_id
        assert merged.merged_profile_ids == (visitor.profile_id,)
        assert await resolve_one(store, Item("a2")) == merged._replace(assurance=Assurance.ANONYMOUS)

    async def test_two_users_are_never_one_person(self, store: IdentityStore) -> None:
        """On a shared device the second user gets a profile of their own, and the result says conflict."""
        first = await resolve_one(store, Item("a1", "u1"))
        second = await resolve_one(store, Item("a1", "u2"))
        assert second.profile_id != first.profile_id
        assert second.conflict
        assert (await resolve_one(store, Item("a1"))).profile_id == first.profile_id
        assert await resolve_one(store, Item("a1", "u2")) == second

    async def test_items_are_applied_in_order(self, store: IdentityStore) -> None:
        """Within one batch later items see what earlier ones made known."""
        results = await resolve(store, Item("a1"), Item("a2", "u1"), Item("a1", "u1"), Item("a1"), Item("a1", "u2"))
        visitor, user, merged, again, other = results
        assert merged.profile_id == user.profile_id == again.profile_id
        assert merged.merged_profile_ids == (visitor.profile_id,)
        assert other.conflict

    async def test_an_alias_joins_the_previous_anonymous_id(self, store: IdentityStore) -> None:
        """Alias ties the previous id, known as an anonymous one, to the user; a new user takes over its profile."""
        before = await resolve_one(store, Item("a1"))
        after = await resolve_one(store, Item(user_id="u1", previous_id="a1"))
        assert after.profile_id == before.profile_id
        assert not after.conflict

    async def test_an_alias_of_an_unknown_id_takes_it_as_anonymous(self, store: IdentityStore) -> None:
        """A previous id that nobody knows becomes an anonymous id of the user."""
        user = await resolve_one(store, Item(user_id="u1", previous_id="a9"))
        assert (await resolve_one(store, Item("a9"))).profile_id == user.profile_id

    async def test_an_alias_never_joins_two_users(self, store: IdentityStore) -> None:
        """A previous id that is another user's name, or belongs to another user, is a conflict and joins nothing."""
        first = await resolve_one(store, Item("a1", "u1"))
        by_name = await resolve_one(store, Item(user_id="u2", previous_id="u1"))
        by_device = await resolve_one(store, Item(user_id="u2", previous_id="a1"))
        assert by_name.conflict
        assert by_device.conflict
        assert by_name.profile_id == by_device.profile_id != first.profile_id

    async def test_an_alias_to_itself_changes_nothing(self, store: IdentityStore) -> None:
        """A user id that is its own previous id is no conflict."""
        user = await resolve_one(store, Item(user_id="u1"))
        assert await resolve_one(store, Item(user_id="u1", previous_id="u1")) == user
        assert len(await store.history(WORKSPACE, user.profile_id)) == 1

    async def test_assurance_is_the_items_own_and_the_best_is_kept(self, store: IdentityStore) -> None:
        """A result carries its own item's evidence; the profile remembers the best that was ever given."""
        asserted = await resolve_one(store, Item("a1", "u1"))
        verified = await resolve_one(store, Item("a1", "u1", user_id_verified=True))
        later = await resolve_one(store, Item("a1", "u1"))
        assert [r.assurance for r in (asserted, verified, later)] == [2, 3, 2]
        profile = await store.find_profile(WORKSPACE, asserted.profile_id)
        assert profile is not None
        assert profile.assurance == Assurance.VERIFIED
        assert {i.value: i.assurance for i in profile.identifiers} == {"a1": 1, "u1": 3}

    async def test_a_profile_is_found_under_all_of_its_names(self, store: IdentityStore) -> None:
        """By its id, by that of a profile merged into it, and by each identifier; anything else is None."""
        visitor = await resolve_one(store, Item("a2"))
        user = await resolve_one(store, Item("a1", "u1"))
        await resolve_one(store, Item("a2", "u1"))
        keys: list[str | IdentifierKey] = [user.profile_id, visitor.profile_id]
        keys += [(WORKSPACE, int(Kind.ANONYMOUS_ID), "a2"), (WORKSPACE, int(Kind.USER_ID), "u1")]
        found = [await store.find_profile(WORKSPACE, key) for key in keys]
        profile = found[0]
        assert profile is not None
        assert found == [profile] * 4
        assert profile.profile_id == user.profile_id
        assert [i.value for i in profile.identifiers] == ["a2", "u1", "a1"]
        assert list(profile.merged_profile_ids) == [visitor.profile_id]
        assert profile.create_ns <= profile.update_ns
        assert await store.find_profile(WORKSPACE, (WORKSPACE, int(Kind.USER_ID), "a2")) is None
        assert await store.find_profile(WORKSPACE, "00000000-0000-7000-8000-000000000000") is None

    async def test_workspaces_never_meet(self, store: IdentityStore) -> None:
        """The same identifiers in two workspaces are two people, and one cannot look up the other's."""
        ours = await resolve_one(store, Item("a1", "u1"))
        theirs = await resolve_one(store, Item("a1", "u1"), workspace="umbrella")
        assert ours.profile_id != theirs.profile_id
        assert await store.find_profile("umbrella", ours.profile_id) is None
        assert await store.history("umbrella", ours.profile_id) == []

    async def test_history_explains_a_merge_by_the_item_that_caused_it(self, store: IdentityStore) -> None:
        """Every fact is kept with the item that made it known, in the order of its discovery."""
        visitor = await resolve_one(store, Item("a2"))
        user = await resolve_one(store, Item(user_id="u1"))
        await resolve_one(store, Item("a2", "u1", user_id_verified=True))
        facts = await store.history(WORKSPACE, visitor.profile_id)
        first, second, upgrade, merge = facts
        assert isinstance(first, Assertion)
        assert first.cause == Cause("a2", "", user_id_verified=False, previous_id="")
        assert isinstance(second, Assertion)
        assert (second.key[2], second.assurance) == ("u1", Assurance.ASSERTED)
        assert isinstance(upgrade, Assertion)
        assert (upgrade.key[2], upgrade.assurance) == ("u1", Assurance.VERIFIED)
        assert isinstance(merge, Merge)
        assert (merge.merged_profile_id, merge.into_profile_id) == (visitor.profile_id, user.profile_id)
        assert merge.cause == Cause("a2", "u1", user_id_verified=True, previous_id="")

    async def test_a_replay_changes_nothing(self, store: IdentityStore) -> None:
        """The same items again give the same profiles and add no fact."""
        items = [Item("a1"), Item("a2", "u1"), Item("a1", "u1"), Item("a1", "u2"), Item(user_id="u2", previous_id="a3")]
        await resolve(store, *items)
        settled = await resolve(store, *items)
        length = len(await store.history(WORKSPACE, settled[0].profile_id))
        assert await resolve(store, *items) == settled
        assert len(await store.history(WORKSPACE, settled[0].profile_id)) == length

    async def test_concurrent_batches_agree(self, store: IdentityStore) -> None:
        """Batches that create the same identifiers at the same time get the same profiles."""
        batches = [resolve(store, Item("a1"), Item("a1", "u1"), Item("a2", "u1"), Item(f"b{n}")) for n in range(20)]
        results = await asyncio.gather(*batches)
        assert {result[1].profile_id for result in results} == {results[0][0].profile_id}
        assert {result[2].profile_id for result in results} == {results[0][0].profile_id}
        assert len({result[3].profile_id for result in results}) == 20
        assert len(await store.history(WORKSPACE, results[0][0].profile_id)) == 3

    async def test_a_restart_changes_nothing(self, open_store: OpenStore) -> None:
        """All that was answered is still so after the store was closed and opened again."""
        items = [Item("a1"), Item("a2", "u1"), Item("a1", "u1"), Item("a1", "u2", user_id_verified=True)]
        store = await open_store()
        await resolve(store, *items)
        settled = await resolve(store, *items)
        before = await store.find_profile(WORKSPACE, settled[0].profile_id)
        await store.close()
        store = await open_store()
        assert await resolve(store, *items) == settled
        assert await store.find_profile(WORKSPACE, settled[0].profile_id) == before
        await store.close()

    async def test_the_state_is_the_fold_of_the_history(self, store: IdentityStore) -> None:
        """Rebuilding the current state from the history finds nothing to correct."""
        await resolve(store, Item("a1"), Item("a2", "u1"), Item("a1", "u1"), Item("a2", "u1", user_id_verified=True))
        assert await store.rebuild() == 0

    async def test_any_text_is_an_identifier(self, store: IdentityStore) -> None:
        """Identifiers are compared byte for byte: case, blanks, NUL and look-alikes all count."""
        values = ["x", "X", " x", "x\0", "x\0y", "é", "e\u0301", "\U0001f600", "%", "'", "x" * 256]
        results = await resolve(store, *[Item(value) for value in values])
        assert len({result.profile_id for result in results}) == len(values)
        for value, result in zip(values, results, strict=True):
            profile = await store.find_profile(WORKSPACE, (WORKSPACE, int(Kind.ANONYMOUS_ID), value))
            assert profile is not None
            assert profile.profile_id == result.profile_id

    async def test_a_large_batch_is_one_call(self, store: IdentityStore) -> None:
        """The largest batch that the contract allows, half of it known, is answered in order."""
        known = [Item(f"a{n}") for n in range(1_250)]
        first = await resolve(store, *known)
        both = await resolve(store, *known, *[Item(f"a{n}", f"u{n}") for n in range(1_250)])
        ids = [result.profile_id for result in first]
        assert [result.profile_id for result in both] == ids + ids
