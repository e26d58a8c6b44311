"""Logs: one JSON object a line, with its trace, and without what is nobody's business."""

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry.trace import NonRecordingSpan, SpanContext, use_span

from clew.identity.v1.identity_service_pb2 import IssueTokenRequest
from mesh.logs import configure_logs


class Lines(io.StringIO):
    """A stream that reads back as the logged objects."""

    def objects(self) -> list[dict[str, Any]]:
        """Every line, which must be JSON."""
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Logs of level info and above, kept in memory; what was configured before is restored."""
    root = logging.getLogger()
    before = (root.handlers, root.level, sys.excepthook, threading.excepthook)
    stream = Lines()
    configure_logs("svc", "info", stream)
    yield stream
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers, _, sys.excepthook, threading.excepthook = before
    root.setLevel(before[1])


def test_a_line_says_when_how_bad_who_and_what(lines: Lines) -> None:
    """Time (UTC, milliseconds), level, service and event come first, then the values."""
    structlog.get_logger().info("store opened", path=Path("/data"), rows=3)
    (line,) = lines.objects()
    assert list(line) == ["time", "level", "service", "event", "path", "rows"]
    assert (line["level"], line["service"], line["event"]) == ("info", "svc", "store opened")
    assert (line["path"], line["rows"]) == ("/data", 3)
    assert line["time"].endswith("Z")
    assert len(line["time"]) == len("2026-01-01T00:00:00.000Z")


def test_a_line_belongs_to_its_trace(lines: Lines) -> None:
    """Inside a span both ids are there, outside neither."""
    with use_span(NonRecordingSpan(SpanContext(1, 2, is_remote=False))):
        structlog.get_logger().info("inside")
        logging.getLogger("library").warning("inside too")
    structlog.get_logger().info("outside")
    inside, library, outside = lines.objects()
    assert (inside["trace_id"], inside["span_id"]) == (f"{1:032x}", f"{2:016x}")
    assert library["trace_id"] == inside["trace_id"]
    assert "trace_id" not in outside


def test_the_standard_library_logs_alike(lines: Lines) -> None:
    """A library's record has the same form, its arguments filled in, its logger named; warnings come the same way."""
    logging.getLogger("library.part").error("lost %d of %s", 2, "three")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", stacklevel=1)
    record, warning = lines.objects()
    assert (record["event"], record["level"], record["logger"]) == ("lost 2 of three", "error", "library.part")
    assert "old" in warning["event"]


def test_less_severe_lines_are_not_written(lines: Lines) -> None:
    """Below the threshold nothing is written, from either side."""
    structlog.get_logger().debug("detail")
    logging.getLogger("library").info("fine")
    logging.getLogger("library").debug("detail")
    assert [line["event"] for line in lines.objects()] == ["fine"]


def test_messages_are_redacted_wherever_they_stand(lines: Lines) -> None:
    """A protobuf value shows its operational fields only, also within a list or a mapping."""
    request = IssueTokenRequest(client_id="backend", client_secret="hush", subject="jane@example.com")
    structlog.get_logger().info("call", request=request, batch=[request], by_name={"a": request})
    (line,) = lines.objects()
    assert (
        line["request"]["client_id"] == line["batch"][0]["client_id"] == line["by_name"]["a"]["client_id"] == "backend"
    )
    assert "hush" not in lines.getvalue()
    assert "jane" not in lines.getvalue()


class Awkward:
    """An object whose text tells too much."""

    def __repr__(self) -> str:
        return "jane@example.com"


def test_a_log_call_never_fails_and_never_tells_too_much(lines: Lines) -> None:
    """Whatever the value is, a line of JSON comes out; payload bytes and unknown objects are not shown."""
    cycle: list[object] = []
    cycle.append(cycle)
    values: list[object] = [b"payload", Awkward(), "\ud800", 2**70, float("nan"), {("a", "b"): 1}, cycle, {1, 2}, None]
    for value in values:
        structlog.get_logger().info("odd", value=value)
    assert [line["event"] for line in lines.objects()] == ["odd"] * len(values)
    assert "jane" not in lines.getvalue()
    assert lines.objects()[0]["value"] == "[7 bytes]"
    assert lines.objects()[3]["value"] == 2**70


def test_exceptions_carry_their_traceback(lines: Lines) -> None:
    """A logged exception has its traceback in one field of the one line."""
    try:
        raise ValueError("bad")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = lines.objects()
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: bad")


def test_uncaught_exceptions_are_logged(lines: Lines) -> None:
    """What nobody caught, in the main thread or another one, is a line as well; Ctrl-C is not."""
    error = ValueError("bad")
    sys.excepthook(ValueError, error, None)
    thread = threading.Thread(target=[].pop, name="worker")
    thread.start()
    thread.join()
    main, other = lines.objects()
    assert (main["level"], main["event"]) == ("critical", "uncaught exception")
    assert "ValueError: bad" in main["exception"]
    assert (other["thread"], other["level"]) == ("worker", "critical")


def test_ctrl_c_is_not_logged(lines: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    """A keyboard interrupt goes the interpreter's own way."""
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert not lines.getvalue()
    assert "KeyboardInterrupt" in capsys.readouterr().err


def test_an_unknown_level_is_refused() -> None:
    """A level that does not exist is named, with those that do."""
    with pytest.raises(ValueError, match="'loud' is none of debug, info"):
        configure_logs("svc", "loud")
