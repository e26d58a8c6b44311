"""The local span store, write side: an exporter that appends ended spans to bounded segment files.

It runs on the span processor's own thread, never on an event loop. A file belongs to one process, so writers need no
lock; what a crash leaves behind is at worst one torn last line, which readers skip.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, format_span_id, format_trace_id

from mesh.spans import SEGMENT_SUFFIX, SPANS_DIRECTORY, SpanEvent, SpanLink, SpanRecord

DEFAULT_STORE_BYTES: Final = 32 * 1024 * 1024

# Pruning forgets one segment at a time: an eighth of the history.
_SEGMENTS = 8
_MAX_INT64 = 2**63 - 1
_UNSAFE_IN_NAMES = re.compile(r"[^A-Za-z0-9_.]+")

_ENCODER = msgspec.json.Encoder(enc_hook=repr)
_log = structlog.get_logger()


class SegmentWriter:
    """Appends blocks of lines to numbered segments and deletes the service's oldest ones beyond a total of bytes.

    Several processes of one service share the budget. Not thread-safe: one exporter thread owns it.
    """

    def __init__(self, data_dir: Path, service: str, max_bytes: int = DEFAULT_STORE_BYTES) -> None:
        self._directory = data_dir / SPANS_DIRECTORY
        self._service = _UNSAFE_IN_NAMES.sub("_", service) or "unknown"
        self._max_bytes = max_bytes
        self._segment_bytes = max(1, max_bytes // _SEGMENTS)
        self._names = re.compile(rf"{re.escape(self._service)}-(\d+)-(\d+){re.escape(SEGMENT_SUFFIX)}")
        self._file: int | None = None
        self._size = 0

    def write(self, block: bytes) -> None:
        """Append whole lines; OSError when the disk refuses, after which the next write starts a new segment."""
        if self._file is None or self._size + len(block) > self._segment_bytes or self._is_unlinked(self._file):
            self._file = self._rotate()
        try:
            self._append(self._file, block)
        except OSError:
            # A block may stand there in part: what follows must not continue its torn line.
            self.close()
            raise

    def close(self) -> None:
        """Close the current segment; a later write opens another one."""
        if self._file is not None:
            os.close(self._file)
        self._file, self._size = None, 0

    def _append(self, file: int, block: bytes) -> None:
        rest = memoryview(block)
        while rest:
            written = os.write(file, rest)
            self._size += written
            rest = rest[written:]

    def _rotate(self) -> int:
        self.close()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._prune()
        number = max((n for pid, n in self._numbers() if pid == os.getpid()), default=0) + 1
        path = self._directory / f"{self._service}-{os.getpid()}-{number}{SEGMENT_SUFFIX}"
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _prune(self) -> None:
        """Delete the oldest segments until a full new one fits into the budget."""
        oldest_first = sorted(self._sizes())
        total = sum(size for _, size, _ in oldest_first)
        for _, size, path in oldest_first:
            if total + self._segment_bytes <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _sizes(self) -> Iterator[tuple[int, int, Path]]:
        """When each segment of the service was written last, its size and its path."""
        for path in self._directory.iterdir():
            # Another process of the service may have pruned it since it was listed.
            with contextlib.suppress(FileNotFoundError):
                if self._names.fullmatch(path.name):
                    stat = path.stat()
                    yield stat.st_mtime_ns, stat.st_size, path

    def _numbers(self) -> list[tuple[int, int]]:
        matches = (self._names.fullmatch(path.name) for path in self._directory.iterdir())
        return [(int(match[1]), int(match[2])) for match in matches if match]

    @staticmethod
    def _is_unlinked(file: int) -> bool:
        """Whether another process of the service pruned the file away: writing on would be for nobody."""
        return os.fstat(file).st_nlink == 0


class SpanStoreExporter(SpanExporter):
    """Writes each batch of ended spans as one block of JSON lines.

    Fails open: spans that cannot be written are lost and said so once, the traffic that they describe is not touched.
    """

    def __init__(self, writer: SegmentWriter, service: str) -> None:
        self._writer = writer
        self._service = service
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append the spans; FAILURE when the disk refuses them."""
        block = b"".join(encode_span(record) for span in spans if (record := record_of(span, self._service)))
        try:
            self._writer.write(block)
        except OSError as error:
            self._report(error)
            return SpanExportResult.FAILURE
        self._failing = False
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the segment."""
        self._writer.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held back: each export has reached the operating system when it returns."""
        del timeout_millis
        return True

    def _report(self, error: OSError) -> None:
        if not self._failing:
            _log.warning("spans cannot be stored", error=str(error))
        self._failing = True


def record_of(span: ReadableSpan, service: str) -> SpanRecord | None:
    """The stored form of a span; None for one without a context or times, which no tracer produces."""
    context = span.context
    if context is None or span.start_time is None or span.end_time is None:
        return None
    return SpanRecord(
        trace_id=format_trace_id(context.trace_id),
        span_id=format_span_id(context.span_id),
        service=service,
        process_id=os.getpid(),
        name=span.name,
        start_ns=span.start_time,
        end_ns=span.end_time,
        parent_span_id=format_span_id(span.parent.span_id) if span.parent else "",
        kind=span.kind.name,
        status=span.status.status_code.name,
        status_message=span.status.description or "",
        attributes=dict(span.attributes or {}),
        events=tuple(_event(event) for event in span.events),
        links=tuple(_link(link) for link in span.links),
    )


def encode_span(record: SpanRecord) -> bytes:
    """One JSON line. Text that is no Unicode and numbers beyond 64 bits are escaped rather than losing the span."""
    try:
        return _ENCODER.encode(record) + b"\n"
    except (ValueError, OverflowError):
        return _ENCODER.encode(_escaped(msgspec.structs.asdict(record))) + b"\n"


def _event(event: Event) -> SpanEvent:
    return SpanEvent(event.name, event.timestamp or 0, dict(event.attributes or {}))


def _link(link: Link) -> SpanLink:
    context = link.context
    return SpanLink(format_trace_id(context.trace_id), format_span_id(context.span_id), dict(link.attributes or {}))


def _escaped(value: Any) -> Any:
    escaped = value
    match value:
        case str():
            escaped = value.encode(errors="backslashreplace").decode()
        case int() if abs(value) > _MAX_INT64:
            escaped = str(value)
        case msgspec.Struct():
            escaped = _escaped(msgspec.structs.asdict(value))
        case Mapping():
            escaped = {_escaped(key): _escaped(item) for key, item in value.items()}
        case list() | tuple():
            escaped = [_escaped(item) for item in value]
    return escaped
