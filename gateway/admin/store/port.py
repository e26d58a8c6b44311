"""What the directory of sources needs from whatever keeps them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec import json

from gateway.admin.records import Change, Entry, SourceRecord, advance
from gateway.admin.rules import Rule

decode_record = json.Decoder(SourceRecord).decode
CHANGED_SINCE = (
    "SELECT changed.workspace, changed.source, record FROM"
    " (SELECT DISTINCT workspace, source FROM source_changes WHERE revision > {since}) AS changed"
    " LEFT JOIN sources ON sources.workspace = changed.workspace AND sources.name = changed.source"
)
"""The query behind `load`, for adapters whose database knows SQL; `since` is its parameter in that database's form."""
_decode_change = json.Decoder(Change).decode


@dataclass(frozen=True, slots=True)
class Request:
    """A change that is asked for: of which source, by whom, when (Unix nanoseconds), and by which rule."""

    workspace: str
    source: str
    actor: str
    now_ns: int
    rule: Rule


@dataclass(frozen=True, slots=True)
class Written:
    """What stands after a change: the source, None when it was deleted, and the number of the store's last change."""

    record: SourceRecord | None
    revision: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Sources as of one moment, and the number of the last change that they show.

    `gone` names what was changed since the moment that was asked for and is not there.
    """

    records: list[SourceRecord]
    revision: int
    gone: list[tuple[str, str]]


class SourceStore(Protocol):
    """Sources, their keys, and the history of their changes, which is only ever added to.

    Every method raises `StorageUnavailable` when the store cannot answer.
    """

    async def change(self, request: Request) -> Written:
        """Run a rule on the source as it is and record what it returns, all of it or nothing, durably.

        Changes take turns, over all processes that share the store: a rule sees every change before it. What the rule
        raises is raised here, and nothing is recorded.
        """
        ...

    async def load(self, since: int = 0) -> Snapshot:
        """Return the sources that were changed after a revision; 0: all of them."""
        ...

    async def revision(self) -> int:
        """Return the number of the last change; 0 before the first."""
        ...

    async def history(self, workspace: str, source: str, before: int | None, limit: int) -> list[Entry]:
        """Return up to `limit` changes of a source, newest first, from below a number when one is given."""
        ...

    async def record_uses(self, uses: Mapping[str, int]) -> None:
        """Note when keys, by their hash, were used (Unix nanoseconds); what is earlier than known is ignored."""
        ...

    async def last_uses(self) -> Mapping[str, int]:
        """Return when each key was used last, by its hash, as far as it was noted."""
        ...

    async def watch(self, changed: Callable[[], None]) -> None:
        """Call back soon after another process has changed something, until the store is closed.

        At times in vain, and it may miss one: whoever watches also asks for the revision now and then. A store that
        no other process can change returns at once.
        """
        ...

    @property
    def shared(self) -> bool:
        """Whether other processes may change it."""
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of the store. Idempotent."""
        ...


def entries_of(request: Request, record: SourceRecord | None, last_revision: int) -> list[Entry]:
    """What the request's rule makes of a source, numbered from behind the last change."""
    return [
        Entry(revision, request.now_ns, request.actor, request.workspace, request.source, change)
        for revision, change in enumerate(request.rule(record, request.now_ns), start=last_revision + 1)
    ]


def after(record: SourceRecord | None, entries: list[Entry]) -> SourceRecord | None:
    """The source after some changes."""
    for entry in entries:
        record = advance(record, entry)
    return record


def snapshot_of(rows: Iterable[tuple[str, str, str | None]], revision: int) -> Snapshot:
    """From rows of workspace, name and record, which is absent where the source is gone."""
    records: list[SourceRecord] = []
    gone: list[tuple[str, str]] = []
    for workspace, name, record in rows:
        if record is None:
            gone.append((workspace, name))
        else:
            records.append(decode_record(record))
    return Snapshot(records, revision, gone)


def read_entry(row: tuple[Any, ...]) -> Entry:
    """The entry in a row of the history: revision, time, actor, workspace, source, change."""
    revision, at_ns, actor, workspace, source, change = row
    return Entry(revision, at_ns, actor, workspace, source, _decode_change(change))
