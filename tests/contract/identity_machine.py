"""Random sequences of items against an oracle that is too small to be wrong, for every identity store."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from identity_svc.graph import Resolution
from identity_svc.store import IdentityStore
from tests.contract.identity_store import WORKSPACE, Item

# Few names, so that they meet often; some are used both as an anonymous id and as a user id.
_ANONYMOUS = st.sampled_from(["", "a", "b", "c", "d", "x"])
_USERS = st.sampled_from(["", "u", "v", "w", "x"])
_PREVIOUS = st.sampled_from(["", "", "", "a", "b", "e", "u", "x"])
ITEMS = st.builds(Item, _ANONYMOUS, _USERS, st.booleans(), _PREVIOUS).filter(
    lambda i: bool(i.anonymous_id or i.user_id)
)
BATCHES = st.lists(ITEMS, min_size=1, max_size=6)


@dataclass(eq=False)
class Person:
    """What the oracle knows of one person; `profile_id` is learned from the store when the person appears."""

    profile_id: str = ""
    user_id: str = ""
    anonymous_ids: set[str] = field(default_factory=set)
    merged: list[str] = field(default_factory=list)


class Oracle:
    """The rules, written as plainly as they can be said."""

    def __init__(self) -> None:
        self.people: list[Person] = []
        self.all_profile_ids: set[str] = set()

    def apply(self, item: Item, answer: Resolution) -> None:
        """Apply one item and check the store's answer to it."""
        if not item.user_id:
            person = self.visitor(item.anonymous_id) or self.appear(answer, Person(anonymous_ids={item.anonymous_id}))
            conflict = False
        else:
            person = self.user(item.user_id) or self.new_user(item, answer)
            conflict = self.join(person, item.anonymous_id) | self.alias(person, item.previous_id)
        assert answer.profile_id == person.profile_id, item
        assert answer.conflict == conflict, item
        assert list(answer.merged_profile_ids) == person.merged, item
        assert answer.assurance == (1 if not item.user_id else 3 if item.user_id_verified else 2)

    def visitor(self, anonymous_id: str) -> Person | None:
        """Whose anonymous id it is."""
        return next((person for person in self.people if anonymous_id in person.anonymous_ids), None)

    def user(self, user_id: str) -> Person | None:
        """Whose user id it is."""
        return next((person for person in self.people if person.user_id == user_id), None)

    def appear(self, answer: Resolution, person: Person) -> Person:
        """Add somebody who was never seen: the id must be new as well."""
        assert answer.profile_id not in self.all_profile_ids
        self.all_profile_ids.add(answer.profile_id)
        person.profile_id = answer.profile_id
        self.people.append(person)
        return person

    def new_user(self, item: Item, answer: Resolution) -> Person:
        """A user who was never seen is the visitor of the item, when that one is nobody's."""
        origin = self.visitor(item.anonymous_id) or (self.visitor(item.previous_id) if item.previous_id else None)
        if origin is not None and not origin.user_id:
            origin.user_id = item.user_id
            return origin
        return self.appear(answer, Person(user_id=item.user_id))

    def join(self, person: Person, anonymous_id: str) -> bool:
        """Join an anonymous id to a user; True when it is another user's."""
        if not anonymous_id:
            return False
        other = self.visitor(anonymous_id)
        if other is None:
            person.anonymous_ids.add(anonymous_id)
        elif other is not person and other.user_id:
            return True
        elif other is not person:
            self.people.remove(other)
            person.anonymous_ids |= other.anonymous_ids
            person.merged.append(other.profile_id)
        return False

    def alias(self, person: Person, previous_id: str) -> bool:
        """Join what an alias call replaces; True when it is another user."""
        if previous_id and self.visitor(previous_id) is None and self.user(previous_id) is not None:
            return self.user(previous_id) is not person
        return self.join(person, previous_id)


class IdentityMachine(RuleBasedStateMachine):
    """Drives a store; subclasses open it, and open it again with what was kept."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.oracle = Oracle()
        self.best: dict[str, int] = {}
        self.last: list[Item] = []
        self.store = self.run(self.open_store())

    async def open_store(self) -> IdentityStore:
        """Open the store; called again after each close."""
        raise NotImplementedError

    def run(self, work: Any) -> Any:
        """Await something."""
        return self.runner.run(_awaited(work))

    def check(self, items: list[Item], answers: list[Resolution]) -> None:
        """Compare a batch's answers with the oracle's."""
        for item, answer in zip(items, answers, strict=True):
            self.oracle.apply(item, answer)
            if item.user_id:
                self.best[item.user_id] = max(self.best.get(item.user_id, 0), answer.assurance)

    def facts(self) -> int:
        """How many facts are on record for everybody together."""
        return sum(len(self.run(self.store.history(WORKSPACE, p.profile_id))) for p in self.oracle.people)

    @rule(items=BATCHES)
    def resolve(self, items: list[Item]) -> None:
        """A batch gives what the oracle says."""
        self.check(items, self.run(self.store.resolve(WORKSPACE, items)))
        self.last = items

    @rule(first=BATCHES, second=BATCHES, third=BATCHES)
    def resolve_concurrently(self, first: list[Item], second: list[Item], third: list[Item]) -> None:
        """Batches in flight together give what they would give one after the other."""

        async def together() -> list[list[Resolution]]:
            return list(await asyncio.gather(*(self.store.resolve(WORKSPACE, b) for b in (first, second, third))))

        for items, answers in zip((first, second, third), self.run(together()), strict=True):
            self.check(items, answers)

    @precondition(lambda self: bool(self.last))
    @rule()
    def replay(self) -> None:
        """Sending the last batch again adds no fact."""
        self.check(self.last, self.run(self.store.resolve(WORKSPACE, self.last)))
        before = self.facts()
        self.check(self.last, self.run(self.store.resolve(WORKSPACE, self.last)))
        assert self.facts() == before

    @rule()
    def restart(self) -> None:
        """Closing and opening the store changes nothing that the next rules could see."""
        self.run(self.store.close())
        self.store = self.run(self.open_store())

    @rule()
    def rebuild(self) -> None:
        """The state is the fold of the history."""
        assert self.run(self.store.rebuild()) == 0

    @invariant()
    def every_id_leads_to_one_person(self) -> None:
        """Each profile holds exactly the names that the oracle gives it, under its own and all merged ids."""
        for person in self.oracle.people:
            profiles = [self.run(self.store.find_profile(WORKSPACE, i)) for i in (person.profile_id, *person.merged)]
            assert all(profile == profiles[0] for profile in profiles)
            profile = profiles[0]
            assert profile.profile_id == person.profile_id
            names = sorted((i.kind, i.value) for i in profile.identifiers)
            users = [(2, person.user_id)] if person.user_id else []
            assert names == sorted((1, value) for value in person.anonymous_ids) + users
            best = self.best[person.user_id] if person.user_id else 1
            assert profile.assurance == best

    def teardown(self) -> None:
        """Close the store and its loop."""
        self.run(self.store.close())
        self.runner.close()


async def _awaited(work: Any) -> Any:
    return await work
