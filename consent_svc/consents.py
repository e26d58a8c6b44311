"""The service's use of its parts: decide from memory, record durably before memory, and never the other way round."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from consent_svc.categories import CategoryMap
from consent_svc.decision import Basis, Standing, decide, join
from consent_svc.ledger import Entry, Statement, check_decide_time
from consent_svc.paging import before_epoch_of, page_token
from consent_svc.standings import Epochs, Standings
from consent_svc.store import ConsentStore
from mesh.clock import Clock


class Query(NamedTuple):
    """Whose consent is asked for, and what the client library presented."""

    subject: str
    merged_subjects: Sequence[str]
    preferences: Mapping[str, bool]


class Verdict(NamedTuple):
    """The allowed purposes as a mask, and where the decision comes from."""

    granted: int
    basis: Basis


@dataclass(frozen=True, slots=True)
class Page:
    """Entries of a person's history, newest first; the token is empty on the last page."""

    entries: Sequence[Entry]
    next_token: str


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decided: the purposes allowed by default, and what the customer's categories mean."""

    essential: int
    categories: CategoryMap


class Consents:
    """Decides and records consent. Fails closed: what can be neither remembered nor read is an error, not a yes.

    Make one with `start`; all methods are for one event loop. One instance owns its store: entries that somebody else
    appended would not be seen.
    """

    def __init__(self, store: ConsentStore, clock: Clock, policy: Policy, standings: Standings, epochs: Epochs) -> None:
        self._store = store
        self._clock = clock
        self._policy = policy
        self._standings = standings
        self._epochs = epochs
        self._appends: set[asyncio.Task[Entry]] = set()
        self._doubtful = False

    @classmethod
    async def start(cls, store: ConsentStore, clock: Clock, policy: Policy, cache_size: int) -> Self:
        """Read how far each workspace has come; standings are read when they are asked for.

        Raises:
            StorageUnavailable: the ledger cannot be read.
        """
        return cls(store, clock, policy, Standings(cache_size), Epochs(await store.last_epochs()))

    async def check(self, workspace: str, queries: Sequence[Query]) -> tuple[int, list[Verdict]]:
        """Return the epoch of the decisions and one verdict per query, in order. No I/O for subjects in memory.

        Raises:
            StorageUnavailable: a subject is not in memory and the ledger cannot be read.
        """
        if self._doubtful:
            await self._read_anew()
        # Before the standings: an entry that arrives meanwhile may be in them, and must not be promised.
        epoch = self._epochs.reached(workspace)
        standings = await self._standings_of(workspace, queries)
        return epoch, [self._decide(query, standings) for query in queries]

    async def record(self, statement: Statement) -> Entry:
        """Append to the ledger; every check that starts after the return sees it.

        Raises:
            DecideTimeRefused: the choice is said to have been made in the future, or before 1970.
            StorageUnavailable: the entry could not be written; it may or may not stand.
        """
        check_decide_time(statement.decide_ns, self._clock.now_ns())
        append = asyncio.create_task(self._append(statement))
        self._appends.add(append)
        append.add_done_callback(self._append_done)
        # A caller that goes away cannot take back what is being committed, and memory must learn of it all the same.
        return await asyncio.shield(append)

    async def history(self, workspace: str, subject: str, page_size: int, token: str) -> Page:
        """Return a page of a person's entries, newest first.

        Raises:
            PageTokenRefused: the token was not issued for this history.
            StorageUnavailable: the ledger cannot be read.
        """
        before_epoch = before_epoch_of(token, workspace, subject)
        # One more than asked for tells whether there is another page.
        entries = await self._store.history(workspace, subject, before_epoch, page_size + 1)
        if len(entries) <= page_size:
            return Page(entries, next_token="")
        kept = entries[:page_size]
        return Page(kept, page_token(workspace, subject, kept[-1].epoch))

    async def close(self) -> None:
        """Wait for the entries that are being written."""
        await asyncio.gather(*self._appends, return_exceptions=True)

    def _decide(self, query: Query, standings: Mapping[str, Standing]) -> Verdict:
        standing = standings[query.subject]
        if query.merged_subjects:
            standing = join((standing, *(standings[subject] for subject in query.merged_subjects)))
        withheld = self._policy.categories.withheld(query.preferences) if query.preferences else 0
        return Verdict(*decide(standing, withheld, self._policy.essential))

    async def _standings_of(self, workspace: str, queries: Sequence[Query]) -> dict[str, Standing]:
        subjects = _subjects(queries)
        found = self._standings.cached(workspace, subjects)
        if len(found) < len(subjects):
            found.update(await self._load(workspace, subjects - found.keys()))
        return found

    async def _load(self, workspace: str, subjects: set[str]) -> dict[str, Standing]:
        load = self._standings.begin_load(workspace, subjects)
        entries = None
        try:
            entries = await self._store.entries_of(workspace, subjects)
        finally:
            loaded = self._standings.end_load(load, entries)
        return loaded

    async def _append(self, statement: Statement) -> Entry:
        try:
            entry = await self._store.append(statement, self._clock.now_ns())
        except BaseException:
            # A commit that failed half way may stand after all: what is in memory can no longer be trusted.
            self._doubtful = True
            raise
        self._standings.apply(statement.workspace, entry)
        self._epochs.apply(statement.workspace, entry.epoch)
        return entry

    def _append_done(self, append: asyncio.Task[Entry]) -> None:
        self._appends.discard(append)
        if not append.cancelled():
            # Looked at here, since the caller may have gone away; whoever is still waiting gets the error raised.
            append.exception()

    async def _read_anew(self) -> None:
        """Forget what may be wrong and read how far the ledger has come."""
        self._doubtful = False
        # At once: a check that overtakes this one must not use what is in memory.
        self._standings.forget_all()
        try:
            last = await self._store.last_epochs()
        except BaseException:
            self._doubtful = True
            raise
        # Again: what was read before `last` was may lack an entry that `last` counts.
        self._standings.forget_all()
        self._epochs.catch_up(last)


def _subjects(queries: Iterable[Query]) -> set[str]:
    subjects = set()
    for query in queries:
        subjects.add(query.subject)
        subjects.update(query.merged_subjects)
    return subjects
