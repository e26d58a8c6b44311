"""The local span store, read side: what one request did, across all the processes that share a data directory.

Each process appends to segment files of its own, `spans/<service>-<pid>-<n>.jsonl`, one span a line
(`mesh/span_writer.py`). A reader needs no running process and no index: it looks for the trace id as bytes and decodes
only the lines that hold it.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

SPANS_DIRECTORY: Final = "spans"
SEGMENT_SUFFIX: Final = ".jsonl"

_TRACE_ID = re.compile(r"[0-9a-f]{32}")
# A trace that other traces' batches served may be linked from many; these many are followed, the latest first.
_MAX_LINKED_TRACES = 8
# Enough lines to hold the last request of a busy process, little enough to read at once.
_TAIL_BYTES = 256 * 1024
# Probes run by the clock and would always be the last trace.
_PROBES = ("grpc.health.", "grpc.reflection.")


class SpanLink(msgspec.Struct, frozen=True, omit_defaults=True):
    """Another span that this one has to do with, in this trace or another one."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any] = {}


class SpanEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """A moment within a span; `time_ns` is Unix time in nanoseconds."""

    name: str
    time_ns: int
    attributes: dict[str, Any] = {}


class SpanRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One ended span: ids in lower-case hex, times as Unix nanoseconds, kind and status as OpenTelemetry names them."""

    trace_id: str
    span_id: str
    service: str
    process_id: int
    name: str
    start_ns: int
    end_ns: int
    parent_span_id: str = ""
    kind: str = "INTERNAL"
    status: str = "UNSET"
    status_message: str = ""
    attributes: dict[str, Any] = {}
    events: tuple[SpanEvent, ...] = ()
    links: tuple[SpanLink, ...] = ()

    @property
    def duration_ns(self) -> int:
        """How long the span lasted; never negative, though a clock may have been set back meanwhile."""
        return max(0, self.end_ns - self.start_ns)

    def links_to(self, trace_id: str) -> bool:
        """Whether one of the links leads into the trace."""
        return any(link.trace_id == trace_id for link in self.links)


_DECODER = msgspec.json.Decoder(SpanRecord)


def find_trace(data_dir: Path, trace_id: str) -> list[SpanRecord]:
    """The spans of a trace, and the spans of other traces that link to it with all that they caused; by start time.

    A batch that served several requests belongs to one of their traces at most and links to the others: following the
    links shows it in each of them. Empty when nothing is stored under the id, or it is no trace id (32 hex digits).
    """
    trace_id = trace_id.strip().lower()
    if not _TRACE_ID.fullmatch(trace_id):
        return []
    hits = list(_scan(_segments(data_dir), [trace_id]))
    own = [record for record in hits if record.trace_id == trace_id]
    linking = [record for record in hits if record.trace_id != trace_id and record.links_to(trace_id)]
    found = {(record.trace_id, record.span_id): record for record in (*own, *_with_descendants(data_dir, linking))}
    return sorted(found.values(), key=lambda record: (record.start_ns, -record.end_ns))


def last_trace_id(data_dir: Path) -> str | None:
    """The trace of the request that was served last, or None when nothing is stored. Health probes do not count."""
    recent = {record.span_id: record for path in _segments(data_dir) for record in _tail(path)}
    entries = [
        record
        for record in recent.values()
        if record.parent_span_id not in recent and not record.name.startswith(_PROBES)
    ]
    served = [record for record in entries if record.kind == "SERVER"]
    last = max(served or entries, key=lambda record: record.end_ns, default=None)
    return last.trace_id if last else None


def _with_descendants(data_dir: Path, linking: Iterable[SpanRecord]) -> list[SpanRecord]:
    newest = sorted(linking, key=lambda record: record.start_ns, reverse=True)
    traces = list(dict.fromkeys(record.trace_id for record in newest))[:_MAX_LINKED_TRACES]
    if not traces:
        return []
    since = min(record.start_ns for record in newest)
    related = list(_scan(_segments(data_dir, since), traces))
    children: dict[tuple[str, str], list[SpanRecord]] = {}
    for record in related:
        children.setdefault((record.trace_id, record.parent_span_id), []).append(record)
    return _closure([record for record in newest if record.trace_id in traces], children)


def _closure(roots: list[SpanRecord], children: dict[tuple[str, str], list[SpanRecord]]) -> list[SpanRecord]:
    reached = list(roots)
    # Each parent gives its children away once, so that not even a forged cycle of parents turns this into a loop.
    for record in reached:
        reached.extend(children.pop((record.trace_id, record.span_id), ()))
    return reached


def _segments(data_dir: Path, since_ns: int = 0) -> list[Path]:
    """The segments that may hold a span which ended at `since_ns` or later."""
    ages = []
    for path in (data_dir / SPANS_DIRECTORY).glob(f"*{SEGMENT_SUFFIX}"):
        try:
            written = path.stat().st_mtime_ns
        except FileNotFoundError:  # pruned by its writer meanwhile
            continue
        if written >= since_ns:
            ages.append((written, path))
    return [path for _, path in sorted(ages)]


def _scan(paths: Iterable[Path], trace_ids: Collection[str]) -> Iterator[SpanRecord]:
    """Every readable span whose line holds one of the ids."""
    for path in paths:
        data = _read(path)
        for start in sorted({start for trace_id in trace_ids for start in _line_starts(data, trace_id.encode())}):
            yield from _decode(data[start : data.find(b"\n", start)])


def _line_starts(data: bytes, needle: bytes) -> Iterator[int]:
    """Where the complete lines that hold the needle start; a last line without its newline was torn by a crash."""
    at = data.find(needle)
    while at >= 0:
        end = data.find(b"\n", at)
        if end < 0:
            return
        yield data.rfind(b"\n", 0, at) + 1
        at = data.find(needle, end)


def _tail(path: Path) -> Iterator[SpanRecord]:
    data = _read(path, last_bytes=_TAIL_BYTES)
    # The first line may be cut by the window and the last by a crash: neither decodes then.
    for line in data.splitlines():
        yield from _decode(line)


def _decode(line: bytes) -> Iterator[SpanRecord]:
    try:
        yield _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return


def _read(path: Path, last_bytes: int | None = None) -> bytes:
    try:
        with path.open("rb") as file:
            if last_bytes is not None:
                file.seek(max(0, path.stat().st_size - last_bytes))
            return file.read()
    except FileNotFoundError:  # pruned by its writer meanwhile
        return b""
