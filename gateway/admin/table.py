"""The sources of the file and of the store, joined: as they are shown, and as requests look them up.

What requests look up is kept up to date source by source, so that a change costs the same however many there are.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.admin.records import Key, Limits, SourceRecord, SourceValues
from gateway.http.cors import ANY_ORIGIN
from gateway.sources import Source, SourceLimits

FILE_KEY_MARK: Final = "file-"
_SHOWN_OF_HASH: Final = 12

Place = tuple[str, str]
"""Workspace and name of a source."""


class SourceTable:
    """What is known of all sources.

    Args:
        file: The sources of the sources file, by the hash of each key.
    """

    def __init__(self, file: Mapping[str, Source]) -> None:
        self._file = dict(file)
        self._file_sources = {(source.workspace, source.name): source for source in file.values()}
        self._records: dict[Place, SourceRecord] = {}
        self._ends: dict[str, int] = {}
        self.by_hash: dict[str, Source] = dict(file)
        """The sources by the hash of each key that holds; one dictionary for as long as the table lives."""

    def in_file(self, place: Place) -> bool:
        """Whether the sources file has a source of that name."""
        return place in self._file_sources

    def clear(self) -> None:
        """Know no stored source any more."""
        for place in list(self._records):
            self.remove(place)

    def remove(self, place: Place) -> None:
        """A stored source is gone, if it was there."""
        record = self._records.pop(place, None)
        for key in record.keys if record else ():
            if key.sha256 not in self._file:
                self.by_hash.pop(key.sha256, None)
                self._ends.pop(key.sha256, None)

    def put(self, record: SourceRecord, now_ns: int) -> None:
        """A stored source is like this now."""
        place = (record.workspace, record.name)
        self.remove(place)
        self._records[place] = record
        if record.values.disabled:
            return
        source = self._file_sources.get(place) or _source(record)
        for key in record.keys:
            if key.holds(now_ns) and key.sha256 not in self._file:
                self.by_hash[key.sha256] = source
                if key.expire_ns is not None:
                    self._ends[key.sha256] = key.expire_ns

    def end_keys(self, now_ns: int) -> int | None:
        """Let keys whose time is over hold no longer; when the next one ends, None: none is known to."""
        for digest in [digest for digest, end_ns in self._ends.items() if end_ns <= now_ns]:
            del self._ends[digest], self.by_hash[digest]
        return min(self._ends.values(), default=None)

    def get(self, place: Place) -> SourceRecord | None:
        """One source as it is shown, or None."""
        stored, source = self._records.get(place), self._file_sources.get(place)
        return stored if source is None else self._as_record(place, source, stored)

    def source(self, place: Place) -> Source | None:
        """One source as requests look it up; None when there is none of that name, or it is disabled."""
        if place in self._file_sources:
            return self._file_sources[place]
        record = self._records.get(place)
        return None if record is None or record.values.disabled else _source(record)

    def shown(self) -> Iterator[tuple[Place, SourceRecord]]:
        """All sources as they are shown, by workspace and name: those of the file as if they were stored."""
        for place in sorted({*self._records, *self._file_sources}):
            record = self.get(place)
            if record is not None:
                yield place, record

    def _as_record(self, place: Place, source: Source, stored: SourceRecord | None) -> SourceRecord:
        keys = tuple(
            Key(FILE_KEY_MARK + digest[:_SHOWN_OF_HASH], digest, "", 0)
            for digest, owner in self._file.items()
            if (owner.workspace, owner.name) == place
        )
        return SourceRecord(*place, _values(source), 0, 0, 0, keys + (stored.keys if stored else ()))


def _source(record: SourceRecord) -> Source:
    values = record.values
    limits = SourceLimits(values.limits.events_per_second, values.limits.burst) if values.limits else None
    origins = ANY_ORIGIN if values.allowed_origins is None else values.allowed_origins
    return Source(record.workspace, record.name, frozenset(values.purposes), limits, origins)


def _values(source: Source) -> SourceValues:
    limits = Limits(source.limits.events_per_second, source.limits.burst) if source.limits else None
    origins = None if source.allowed_origins == ANY_ORIGIN else source.allowed_origins
    return SourceValues(tuple(sorted(source.purposes)), limits, origins)
