"""The local span store: what was written is found, in bounded space, whatever crashed meanwhile."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode

from mesh.span_writer import SegmentWriter, SpanStoreExporter, encode_span
from mesh.spans import SpanEvent, SpanLink, SpanRecord, find_trace, last_trace_id

TRACE_A = "a" * 32
TRACE_B = "b" * 32
TRACE_C = "c" * 32


def record(trace_id: str = TRACE_A, span_id: str = "1" * 16, **changes: Any) -> SpanRecord:
    """A span; times follow the span ids unless given."""
    start = int(span_id[:4], 16)
    values: dict[str, Any] = {"service": "svc", "process_id": 1, "name": "work", "start_ns": start, "end_ns": start + 5}
    return SpanRecord(trace_id=trace_id, span_id=span_id, **(values | changes))


def store(data_dir: Path, *records: SpanRecord, service: str = "svc") -> None:
    """Write the spans as one process of the service would."""
    writer = SegmentWriter(data_dir, service)
    writer.write(b"".join(encode_span(item) for item in records))
    writer.close()


def names(data_dir: Path, trace_id: str) -> list[str]:
    """The names of a trace's spans, in order."""
    return [span.name for span in find_trace(data_dir, trace_id)]


def segments(data_dir: Path) -> list[Path]:
    """The store's files."""
    return sorted((data_dir / "spans").iterdir())


def test_a_span_reads_back_as_it_was_written(tmp_path: Path) -> None:
    """Attributes, events, links, status and times survive."""
    written = record(
        kind="SERVER",
        status="ERROR",
        status_message='quote " and \n line',
        parent_span_id="2" * 16,
        attributes={"text": "é", "n": 3, "ok": True, "share": 0.5, "list": ["a", "b"]},
        events=(SpanEvent("retry", 7, {"attempt": 2}),),
        links=(SpanLink(TRACE_B, "3" * 16, {"why": "batched"}),),
    )
    store(tmp_path, written)
    assert find_trace(tmp_path, TRACE_A) == [written]


def test_the_exporter_keeps_what_the_sdk_recorded(tmp_path: Path) -> None:
    """A span of the SDK arrives whole: kind, parent, status, attributes, events, links, process."""
    provider = TracerProvider(resource=Resource({}), shutdown_on_exit=False)
    exporter = SpanStoreExporter(SegmentWriter(tmp_path, "svc"), "svc")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    link = Link(SpanContext(0xB, 0xC, is_remote=True), {"n": 1})
    with tracer.start_as_current_span("outer", kind=SpanKind.CLIENT) as outer:
        inner = tracer.start_span("inner", links=[link], attributes={"items": 3})
        inner.add_event("cut", {"at": 2}, timestamp=99)
        inner.set_status(StatusCode.ERROR, "late")
        inner.end()
    provider.force_flush()
    first, second = find_trace(tmp_path, f"{outer.get_span_context().trace_id:032x}")
    assert (first.name, first.kind, first.parent_span_id, first.status) == ("outer", "CLIENT", "", "UNSET")
    assert (second.parent_span_id, second.status, second.status_message) == (first.span_id, "ERROR", "late")
    assert second.attributes == {"items": 3}
    assert second.events == (SpanEvent("cut", 99, {"at": 2}),)
    assert second.links == (SpanLink(f"{0xB:032x}", f"{0xC:016x}", {"n": 1}),)
    assert second.process_id == os.getpid()
    provider.shutdown()


def test_spans_of_all_services_come_together(tmp_path: Path) -> None:
    """One trace is put together from every process's files, by start time, an enclosing span first."""
    store(tmp_path, record(span_id="3" * 16, name="consent"), record(TRACE_B, name="other"), service="consent")
    store(tmp_path, record(name="child"), record(span_id="1" * 15 + "2", name="edge", end_ns=10**6), service="gateway")
    assert names(tmp_path, TRACE_A) == ["edge", "child", "consent"]


def test_a_batch_is_found_from_each_request_that_it_served(tmp_path: Path) -> None:
    """A span of another trace that links here comes along with all that it caused, without its siblings."""
    batch = record(TRACE_B, "3" * 16, name="batch", parent_span_id="9" * 16, links=(SpanLink(TRACE_A, "1" * 16),))
    store(tmp_path, record(name="request"), record(TRACE_B, "2" * 16, name="sibling", parent_span_id="9" * 16), batch)
    call = record(TRACE_B, "4" * 16, name="call", parent_span_id=batch.span_id)
    store(tmp_path, record(TRACE_B, "5" * 16, name="serve", parent_span_id=call.span_id), call, service="identity")
    assert names(tmp_path, TRACE_A) == ["request", "batch", "call", "serve"]
    assert names(tmp_path, TRACE_B) == ["sibling", "batch", "call", "serve"]


def test_a_trace_id_in_an_attribute_is_no_link(tmp_path: Path) -> None:
    """Only ids that are ids count: a span that mentions the trace in its text is not part of it."""
    store(tmp_path, record(TRACE_B, name="mentions", attributes={"note": TRACE_A}))
    assert find_trace(tmp_path, TRACE_A) == []


def test_a_cycle_of_parents_ends(tmp_path: Path) -> None:
    """Spans that name each other as parents, which only a broken client makes, do not hang the reader."""
    one = record(TRACE_B, "2" * 16, parent_span_id="3" * 16, links=(SpanLink(TRACE_A, "1" * 16),))
    store(tmp_path, one, record(TRACE_B, "3" * 16, parent_span_id="2" * 16))
    assert len(find_trace(tmp_path, TRACE_A)) == 2


@pytest.mark.parametrize("trace_id", ["", "last", "A" * 31, "g" * 32, "../../etc/passwd", "a" * 33])
def test_what_is_no_trace_id_finds_nothing(tmp_path: Path, trace_id: str) -> None:
    """Text that is not 32 hex digits is not looked for."""
    store(tmp_path, record())
    assert find_trace(tmp_path, trace_id) == []


def test_a_trace_id_may_be_pasted(tmp_path: Path) -> None:
    """Upper case and surrounding space, as copied from a log, do not matter."""
    store(tmp_path, record())
    assert len(find_trace(tmp_path, f" {TRACE_A.upper()}\n")) == 1


def test_an_empty_store_has_no_traces(tmp_path: Path) -> None:
    """Before anything was written there is nothing, and that is no error."""
    assert find_trace(tmp_path, TRACE_A) == []
    assert last_trace_id(tmp_path) is None


@pytest.mark.parametrize(
    "torn", [b'{"trace_id":"' + TRACE_A.encode(), b"\x00" * 10, b"not json\n", b'{"trace_id": 5}\n', b"\n"]
)
def test_what_a_crash_leaves_is_skipped(tmp_path: Path, torn: bytes) -> None:
    """A torn or foreign line is passed over, and the good ones around it are found."""
    store(tmp_path, record())
    (segment,) = segments(tmp_path)
    segment.write_bytes(torn + b"\n" + segment.read_bytes() + torn)
    assert names(tmp_path, TRACE_A) == ["work"]
    assert last_trace_id(tmp_path) == TRACE_A


def test_a_killed_process_leaves_a_readable_store(tmp_path: Path) -> None:
    """A process that is killed while it writes loses at most its last block."""
    script = f"""
import sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from mesh.span_writer import SegmentWriter
from tests_record import line
writer = SegmentWriter(Path({str(tmp_path)!r}), "svc")
while True:
    writer.write(line * 20)
    print("x", flush=True)
"""
    (tmp_path / "tests_record.py").write_text(f"line = {encode_span(record())!r}")
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    # The same span many times is one span.
    assert len(find_trace(tmp_path, TRACE_A)) == 1


def test_the_store_stays_within_its_budget(tmp_path: Path) -> None:
    """Old segments go when the total is reached; the newest spans are always there; others' files are left alone."""
    store(tmp_path, record(TRACE_C, name="of another"), service="svc-2")
    writer = SegmentWriter(tmp_path, "svc", max_bytes=64 * 1024)
    padding = "x" * 1000
    for number in range(500):
        writer.write(encode_span(record(f"{number + 1:032x}", attributes={"padding": padding})))
    own = [path for path in segments(tmp_path) if path.name.startswith(f"svc-{os.getpid()}-")]
    assert sum(path.stat().st_size for path in own) <= 64 * 1024
    assert len(own) > 4
    assert len(find_trace(tmp_path, f"{500:032x}")) == 1
    assert find_trace(tmp_path, f"{1:032x}") == []
    assert names(tmp_path, TRACE_C) == ["of another"]
    writer.close()


def test_a_block_larger_than_a_segment_is_still_written(tmp_path: Path) -> None:
    """One oversized block gets a segment of its own."""
    writer = SegmentWriter(tmp_path, "svc", max_bytes=8 * 1024)
    writer.write(encode_span(record(attributes={"padding": "x" * 5000})))
    assert len(find_trace(tmp_path, TRACE_A)) == 1
    writer.close()


def test_processes_of_one_service_do_not_share_files(tmp_path: Path) -> None:
    """Every writer starts a segment of its own, also after a restart with the same process id."""
    for number in range(3):
        store(tmp_path, record(span_id=f"{number + 1:016x}"))
    assert [path.name for path in segments(tmp_path)] == [f"svc-{os.getpid()}-{n}.jsonl" for n in (1, 2, 3)]
    assert len(find_trace(tmp_path, TRACE_A)) == 3


def test_a_writer_whose_file_was_pruned_starts_another(tmp_path: Path) -> None:
    """When a replica prunes the live file away, later spans are not written into the void."""
    writer = SegmentWriter(tmp_path, "svc")
    writer.write(encode_span(record()))
    segments(tmp_path)[0].unlink()
    writer.write(encode_span(record(name="later")))
    assert names(tmp_path, TRACE_A) == ["later"]
    writer.close()


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    """Segments are private to the user that runs the mesh."""
    store(tmp_path, record())
    assert stat.S_IMODE(segments(tmp_path)[0].stat().st_mode) == 0o600


def test_a_service_name_cannot_leave_the_store(tmp_path: Path) -> None:
    """A name with path separators becomes a plain file name."""
    store(tmp_path, record(), service="../../evil")
    assert [path.name for path in segments(tmp_path)] == [f".._.._evil-{os.getpid()}-1.jsonl"]


def test_text_that_is_no_unicode_does_not_lose_the_span(tmp_path: Path) -> None:
    """Lone surrogates and huge numbers are escaped; the rest of the span is unharmed."""
    store(
        tmp_path,
        record(
            name="bad \ud800", attributes={"n": 2**80, "list": ["\udfff"], "fine": 1}, events=(SpanEvent("\ud800", 1),)
        ),
    )
    (span,) = find_trace(tmp_path, TRACE_A)
    assert span.name == "bad \\ud800"
    assert span.attributes == {"n": str(2**80), "list": ["\\udfff"], "fine": 1}


def test_a_full_disk_costs_spans_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused write is reported as a failed export, and the next one that works is whole."""
    provider = TracerProvider(resource=Resource({}), shutdown_on_exit=False)
    tracer = provider.get_tracer("test")
    exporter = SpanStoreExporter(SegmentWriter(tmp_path, "svc"), "svc")
    span: Any = tracer.start_span("work")
    span.end()
    real = os.write

    def half(file: int, data: bytes) -> int:
        if len(data) < 50:
            raise OSError(28, "No space left on device")
        return real(file, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half)
    assert exporter.export([span]) is SpanExportResult.FAILURE
    assert exporter.export([span]) is SpanExportResult.FAILURE
    monkeypatch.undo()
    assert exporter.export([span]) is SpanExportResult.SUCCESS
    assert len(find_trace(tmp_path, f"{span.get_span_context().trace_id:032x}")) == 1
    exporter.shutdown()


def test_last_is_the_request_that_ended_last(tmp_path: Path) -> None:
    """Of all processes' entry spans the latest counts; probes, and calls within a trace, do not."""
    store(tmp_path, record(TRACE_A, "1" * 16, kind="SERVER", end_ns=50))
    store(
        tmp_path,
        record(TRACE_B, "2" * 16, kind="SERVER", end_ns=90),
        record(TRACE_B, "3" * 16, kind="SERVER", parent_span_id="2" * 16, end_ns=80),
        record(TRACE_C, "4" * 16, kind="SERVER", name="grpc.health.v1.Health/Check", end_ns=200),
        record(TRACE_C, "5" * 16, name="background", end_ns=300),
        service="identity",
    )
    assert last_trace_id(tmp_path) == TRACE_B


def test_last_finds_background_work_when_nothing_was_served(tmp_path: Path) -> None:
    """A process that serves nobody still has a last trace."""
    store(tmp_path, record(TRACE_A, name="sweep"))
    assert last_trace_id(tmp_path) == TRACE_A


def test_a_trace_is_found_quickly_in_a_full_store(tmp_path: Path) -> None:
    """Sixteen MiB of other spans take well under a second: ids are looked for as bytes, other lines not decoded."""
    writer = SegmentWriter(tmp_path, "svc")
    filler = b"".join(encode_span(record(f"{number:032x}", attributes={"k": "v" * 100})) for number in range(1, 4000))
    for _ in range(16 * 2**20 // len(filler)):
        writer.write(filler)
    writer.write(encode_span(record()))
    writer.close()
    begun = time.perf_counter()
    assert len(find_trace(tmp_path, TRACE_A)) == 1
    # Measured: 10 ms. A reader that decodes all lines needs seconds.
    assert time.perf_counter() - begun < 0.5


def test_lines_are_plain_json(tmp_path: Path) -> None:
    """The files are for other tools as well: one JSON object a line, absent where empty."""
    store(tmp_path, record())
    assert json.loads(segments(tmp_path)[0].read_text()) == {
        "trace_id": TRACE_A,
        "span_id": "1" * 16,
        "service": "svc",
        "process_id": 1,
        "name": "work",
        "start_ns": 0x1111,
        "end_ns": 0x1116,
    }
