"""What this process keeps in memory of the ledger: standings, within a bound, and how far each workspace has come."""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from consent_svc.decision import Standing, fold
from consent_svc.ledger import Entry

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Load:
    """A read of the ledger that has begun; `generation` tells whether the cache was emptied meanwhile."""

    workspace: str
    subjects: Collection[str]
    generation: int


class Standings:
    """The standings of the subjects asked for last, at most `capacity` of them; those with nothing on record count too.

    A cached standing holds every entry that was applied: a read that was overtaken by an entry of the same subject is
    not kept, so that a withdrawal can never be covered by what was read before it.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._cached: OrderedDict[_Key, Standing] = OrderedDict()
        self._generation = 0
        self._loading = 0
        self._overtaken: set[_Key] = set()

    def __len__(self) -> int:
        return len(self._cached)

    def cached(self, workspace: str, subjects: Iterable[str]) -> dict[str, Standing]:
        """Return the standings that are in memory, by subject."""
        found = {}
        for subject in subjects:
            key = (workspace, subject)
            standing = self._cached.get(key)
            if standing is not None:
                self._cached.move_to_end(key)
                found[subject] = standing
        return found

    def begin_load(self, workspace: str, subjects: Collection[str]) -> Load:
        """Announce a read of the ledger; `end_load` must follow, whatever becomes of it."""
        self._loading += 1
        return Load(workspace, subjects, self._generation)

    def end_load(self, load: Load, entries: Mapping[str, list[Entry]] | None) -> dict[str, Standing]:
        """Keep what was read, None if it failed, as far as nothing has overtaken it; return it by subject."""
        loaded = {} if entries is None else {subject: fold(entries.get(subject, ())) for subject in load.subjects}
        if load.generation == self._generation:
            self._keep({(load.workspace, subject): standing for subject, standing in loaded.items()})
        self._loading -= 1
        if not self._loading:
            self._overtaken.clear()
        return loaded

    def apply(self, workspace: str, entry: Entry) -> None:
        """Add a committed entry to its subject's standing, if that is in memory. Applying it twice changes nothing."""
        key = (workspace, entry.subject)
        standing = self._cached.get(key)
        if standing is not None:
            self._cached[key] = fold((entry,), onto=standing)
        elif self._loading:
            self._overtaken.add(key)

    def forget_all(self) -> None:
        """Empty the cache, and keep nothing of the reads that are under way."""
        self._cached.clear()
        self._generation += 1

    def _keep(self, loaded: Mapping[_Key, Standing]) -> None:
        for key, standing in loaded.items():
            if key not in self._overtaken:
                self._cached[key] = standing
        while len(self._cached) > self._capacity:
            self._cached.popitem(last=False)


class Epochs:
    """How far each workspace has come: the last epoch up to which *every* entry is in force here.

    Entries that are committed together may be applied in any order; an epoch that claimed more than was applied would
    let a decision pass for one that knew a withdrawal.
    """

    def __init__(self, last: Mapping[str, int]) -> None:
        self._reached = dict(last)
        self._ahead: dict[str, set[int]] = {}

    def reached(self, workspace: str) -> int:
        """Return the last epoch that is in force; 0 when the ledger of the workspace is empty."""
        return self._reached.get(workspace, 0)

    def apply(self, workspace: str, epoch: int) -> None:
        """Count an applied entry."""
        self._ahead.setdefault(workspace, set()).add(epoch)
        self._advance(workspace, self.reached(workspace))

    def catch_up(self, last: Mapping[str, int]) -> None:
        """Count all entries up to the last ones of the ledger, which were just read."""
        for workspace, epoch in last.items():
            self._advance(workspace, max(epoch, self.reached(workspace)))

    def _advance(self, workspace: str, reached: int) -> None:
        ahead = self._ahead.pop(workspace, set())
        while reached + 1 in ahead:
            reached += 1
        self._reached[workspace] = reached
        if still_ahead := {epoch for epoch in ahead if epoch > reached}:
            self._ahead[workspace] = still_ahead
