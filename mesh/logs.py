"""Logs: one JSON object a line on standard error, each with the trace that it belongs to.

    structlog.get_logger().info("store opened", path=str(path))

The standard library's `logging` goes the same way, so that what libraries say looks the same. Protobuf messages given
as values are redacted by their privacy options; text is written as it is, so never put a message into the event's text.
"""

import json
import logging
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TextIO

import msgspec
import structlog
from google.protobuf.message import Message
from opentelemetry.trace import format_span_id, format_trace_id, get_current_span
from structlog.typing import EventDict, Processor, WrappedLogger

from mesh.redaction import redact

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
# Every line begins with these, in this order: what a reader looks for when scanning.
_FIRST_KEYS: Final = ("time", "level", "service", "event")


def configure_logs(service: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Send all logs of the process, structlog's and the standard library's, to standard error as JSON lines.

    Uncaught exceptions and Python's warnings are logged too, so that a line that is no JSON never comes from Python.

    Args:
        service: The process's name, in every line.
        level: The least severe level that is written: debug, info, warning, error or critical.
        stream: Where to write instead of standard error.

    Raises:
        ValueError: There is no such level.
    """
    threshold = _LEVELS.get(level.lower())
    if threshold is None:
        raise ValueError(f"log level {level!r} is none of {', '.join(_LEVELS)}; use one of them")
    target = sys.stderr if stream is None else stream
    structlog.configure(
        processors=[*_processors(service), _render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        # Loggers are module globals: without the cache a later configuration, as in tests, reaches them all.
        cache_logger_on_first_use=False,
    )
    _route_standard_library(_processors(service), threshold, target)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _route_standard_library(processors: list[Processor], threshold: int, target: TextIO) -> None:
    handler = logging.StreamHandler(target)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *processors],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _render],
    )
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(threshold)
    logging.captureWarnings(capture=True)


def _processors(service: str) -> list[Processor]:
    def add_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        add_service,
        _add_time,
        _add_trace,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]


def _add_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["time"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


def _add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    context = get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = format_trace_id(context.trace_id)
        event["span_id"] = format_span_id(context.span_id)
    return event


def _render(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    ordered = {key: event.pop(key) for key in _FIRST_KEYS if key in event}
    ordered |= {key: _sized(value) for key, value in event.items()}
    try:
        return msgspec.json.encode(ordered, enc_hook=_plain).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        return _render_leniently(ordered)


def _render_leniently(event: dict[str, Any]) -> str:
    """The line for values that strict JSON refuses, such as lone surrogates; a log call never fails."""
    try:
        return json.dumps(event, default=_plain, skipkeys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        kept = {key: str(event[key]) for key in _FIRST_KEYS if key in event}
        return json.dumps({**kept, "unprintable": sorted(str(key) for key in event if key not in kept)})


def _sized(value: Any) -> Any:
    """Bytes are somebody's payload: only their number is told."""
    return f"[{len(value)} bytes]" if isinstance(value, bytes | bytearray | memoryview) else value


def _plain(value: Any) -> Any:
    """What stands for a value without a JSON form; of an unknown object only its type, as its text may tell all."""
    match value:
        case Message():
            return redact(value)
        case Path() | BaseException():
            return str(value)
        case Mapping():
            return dict(value)
        case Sequence():
            return list(value)
        case _:
            return f"<{type(value).__qualname__}>"


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    structlog.get_logger().critical("uncaught exception", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        name = args.thread.name if args.thread else ""
        exc_info = (args.exc_type, args.exc_value, args.exc_traceback)
        structlog.get_logger().critical("uncaught exception in a thread", thread=name, exc_info=exc_info)
