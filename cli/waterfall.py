"""One request's spans in the order of a waterfall: who called whom, when, and for how long. `cli/trace.py` draws it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mesh.spans import SpanRecord

_NANOS_PER_MICRO = 1_000
_NANOS_PER_MILLI = 1_000_000
_NANOS_PER_SECOND = 1_000_000_000

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One span in its place.

    Args:
        span: The span.
        depth: How many spans it stands below.
        linked: Whether it stands where it does by a link: it belongs to another trace, which served this request too.
    """

    span: SpanRecord
    depth: int
    linked: bool


class Waterfall:
    """The spans of one request, callers above what they called, siblings by start time.

    A span whose caller is not there stands below the span that it links to, else at the top: so a batch that was
    recorded in another request's trace is shown under the request that it served.

    Args:
        spans: At least one.
    """

    def __init__(self, spans: Sequence[SpanRecord]) -> None:
        self._spans = {_key(span): span for span in sorted(spans, key=lambda span: (span.start_ns, -span.end_ns))}
        self._children: dict[Key | None, list[SpanRecord]] = {}
        for span in self._spans.values():
            self._children.setdefault(self._place(span), []).append(span)
        self.rows = list(self._rows())
        self.start_ns = min(span.start_ns for span in spans)
        self.total_ns = max(1, max(span.end_ns for span in spans) - self.start_ns)

    @property
    def trace_id(self) -> str:
        """The trace of the first span at the top."""
        return self.rows[0].span.trace_id

    @property
    def errors(self) -> int:
        """How many spans failed."""
        return sum(row.span.status == "ERROR" for row in self.rows)

    @property
    def processes(self) -> int:
        """How many processes took part."""
        return len({(row.span.service, row.span.process_id) for row in self.rows})

    def services(self) -> list[str]:
        """The services that took part, in order of appearance."""
        return list(dict.fromkeys(row.span.service for row in self.rows))

    def other_traces(self) -> list[str]:
        """The traces that spans link to and that are not shown here."""
        shown = {span.trace_id for span in self._spans.values()}
        links = (link.trace_id for row in self.rows for link in row.span.links)
        return [trace_id for trace_id in dict.fromkeys(links) if trace_id not in shown]

    def offset_ns(self, span: SpanRecord) -> int:
        """How long after the first span it started."""
        return span.start_ns - self.start_ns

    def bar(self, span: SpanRecord, width: int) -> tuple[int, int]:
        """Where its bar begins in a line of so many cells, and how many it takes: at least one, within the line."""
        begin = min(width - 1, self.offset_ns(span) * width // self.total_ns)
        length = -(-span.duration_ns * width // self.total_ns)
        return begin, max(1, min(length, width - begin))

    def _place(self, span: SpanRecord) -> Key | None:
        caller = (span.trace_id, span.parent_span_id)
        if caller in self._spans:
            return caller
        served = ((link.trace_id, link.span_id) for link in span.links)
        return next((key for key in served if key in self._spans and key != _key(span)), None)

    def _rows(self) -> Iterator[Row]:
        # A stack instead of recursion: a forged trace may be deeper than the interpreter's. What stands in a cycle is
        # reachable from no top; it is shown after the rest.
        placed: set[Key] = set()
        for top in (*self._children.get(None, ()), *self._spans.values()):
            stack = [(top, 0)]
            while stack:
                span, depth = stack.pop()
                if _key(span) in placed:
                    continue
                placed.add(_key(span))
                yield Row(span, depth, linked=self._is_linked(span))
                stack.extend((child, depth + 1) for child in reversed(self._children.get(_key(span), ())))

    def _is_linked(self, span: SpanRecord) -> bool:
        place = self._place(span)
        return place is not None and place != (span.trace_id, span.parent_span_id)


def duration_text(nanoseconds: int) -> str:
    """A duration in the unit that leaves one to three digits before the point."""
    if nanoseconds < _NANOS_PER_MILLI:
        return f"{nanoseconds / _NANOS_PER_MICRO:.0f} µs"
    if nanoseconds < _NANOS_PER_SECOND:
        return f"{nanoseconds / _NANOS_PER_MILLI:.1f} ms"
    return f"{nanoseconds / _NANOS_PER_SECOND:.2f} s"


def _key(span: SpanRecord) -> Key:
    return span.trace_id, span.span_id
