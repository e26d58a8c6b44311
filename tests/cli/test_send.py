"""What `clew send` sends, and what it makes of the answers."""

import io
import json
import socket
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from cli.endpoints import Endpoints, NotRunning
from cli.layout import Layout, write_private
from cli.send import BadEvent, RefusedRequest, Sending, post, read_file, send
from gateway.decode import decode_request


@pytest.mark.parametrize("call", ["track", "identify", "page", "screen", "group", "alias"])
def test_every_call_from_flags_is_one_that_the_gateway_takes(call: str) -> None:
    """The name goes where the call has it, the properties of identify and group as traits."""
    payload = Sending(call, "x", user="u", properties='{"n": 1}').payload()
    decoded = decode_request(json.dumps(payload).encode(), None, 0)
    (event,) = decoded.events
    named = {"track": event.event, "group": event.group_id, "alias": event.previous_id}.get(call, event.name)
    assert named == "x"
    assert (event.traits_json if call in {"identify", "group"} else event.properties_json) == '{"n": 1}'


def test_a_visitor_is_made_up_where_nobody_is_named() -> None:
    """A user alone is enough; two sends are two messages."""
    first, second = Sending("page").payload(), Sending("page").payload()
    assert first["anonymousId"] != second["anonymousId"]
    assert first["messageId"] != second["messageId"]
    assert "anonymousId" not in Sending("page", user="u").payload()


@pytest.mark.parametrize("properties", ["[]", "1", "{", "'", "[" * 100_000, '{"n": ' + "9" * 5_000 + "}", "\x00"])
def test_properties_that_are_no_object_are_refused(properties: str) -> None:
    """With a message, however odd the text."""
    with pytest.raises(BadEvent, match="--properties"):
        Sending("track", "x", properties=properties).payload()


@pytest.mark.parametrize(
    ("content", "count"),
    [
        ('{"type":"page","userId":"u"}', 1),
        ('[{"type":"page","userId":"u"},{"type":"page","userId":"v"}]', 2),
        ('{"batch":[{"type":"page","userId":"u"}]}', 1),
        ('{\n"type":"page",\n"userId":"u"\n}\n', 1),
        ('{"type":"page","userId":"u"}\n\n{"type":"page","userId":"v"}\n', 2),
        ('{"type":"page","userId":"u"}\r\n{"type":"page","userId":"v"}', 2),
        ('{"type":"page","name":"a\u2028b","userId":"u"}\n{"type":"page","userId":"v"}', 2),
    ],
)
def test_a_file_holds_events_in_any_of_four_shapes(tmp_path: Path, content: str, count: int) -> None:
    """One, a list, a batch, or one a line, where a line ends as JSON Lines says."""
    path = tmp_path / "events.json"
    path.write_text(content, newline="")
    assert len(decode_request(read_file(path), None, 0).events) == count


def test_standard_input_is_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the usual name."""
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"type":"page"}'))
    assert read_file(Path("-")) == b'{"type":"page"}'


@pytest.mark.parametrize("content", ["", "\n", " \r\n\n"])
def test_an_empty_file_is_said_to_be_empty(tmp_path: Path, content: str) -> None:
    """And not sent for the edge to find malformed."""
    path = tmp_path / "none"
    path.write_text(content)
    with pytest.raises(BadEvent, match="none is empty"):
        read_file(path)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{"a":1}\n{"a":\n{"a":2}', 2),
        ('{"a":\n{"a":1}\n', 1),
        ('{"a":1}\n\n{"a":2}\nnonsense\n', 4),
        ('{"a":1}\n{"a":' + "[" * 100_000, 2),
    ],
)
def test_a_line_that_is_no_json_is_named(tmp_path: Path, content: str, line: int) -> None:
    """By its number in the file, where the others are an event a line."""
    path = tmp_path / "lines"
    path.write_text(content)
    with pytest.raises(BadEvent, match=f"lines, line {line} is no JSON"):
        read_file(path)


@pytest.mark.parametrize("content", ['{\n"a": [\n{}\n]\n', '[\n{"a": 1},\n{"a": 2}\n'])
def test_json_over_several_lines_is_for_the_edge_to_refuse(tmp_path: Path, content: str) -> None:
    """It names the byte at which it is malformed, which is no line of events."""
    path = tmp_path / "broken"
    path.write_text(content)
    assert read_file(path).decode() == content


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """Absent, a directory, or no text."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none", tmp_path, binary):
        with pytest.raises(BadEvent, match="cannot be read"):
            read_file(path)


class _Edge(BaseHTTPRequestHandler):
    """Answers what the path says."""

    def do_POST(self) -> None:
        """Status and body stand in the path."""
        self.rfile.read(int(self.headers["Content-Length"]))
        _, status, kind = self.path.removesuffix("/v1/batch").split("/")
        if status == "0":
            self.close_connection = True
            return
        body = b"<html>" if kind == "html" else json.dumps({"success": kind == "good", "code": "X"}).encode()
        self.send_response(int(status))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep the tests' output quiet."""


@pytest.fixture
def edge() -> Iterator[str]:
    """A server that answers to order."""
    server = HTTPServer(("127.0.0.1", 0), _Edge)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def endpoints(url: str) -> Endpoints:
    """A mesh whose edge is there."""
    return Endpoints(url, "127.0.0.1:1", {}, "key", "token")


def test_a_refusal_is_no_answer(edge: str) -> None:
    """Its problem is kept as it came."""
    with pytest.raises(RefusedRequest) as refused:
        post(endpoints(f"{edge}/401/problem"), b"{}", write_key="k")
    assert refused.value.problem == {"success": False, "code": "X"}


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        ({"detail": "no such key", "code": "K", "trace_id": "f" * 32}, f"no such key (K, trace {'f' * 32})"),
        ({"title": "Gone", "code": "G"}, "Gone (G)"),
        ({}, "the edge does not say why"),
    ],
)
def test_a_refusal_is_a_sentence(problem: dict[str, Any], said: str) -> None:
    """What is wrong, then the code and the trace, as far as they are told."""
    assert str(RefusedRequest(problem)) == said


@pytest.mark.parametrize("path", ["/200/html", "/502/html", "/0/nothing"])
def test_another_server_on_the_port_is_no_traceback(edge: str, path: str) -> None:
    """Something that is not clew answers, or hangs up."""
    with pytest.raises(NotRunning):
        post(endpoints(edge + path), b"{}", write_key="k")


def test_a_key_that_no_header_can_carry_is_no_traceback(edge: str) -> None:
    """Pasted with its line end, for example."""
    with pytest.raises(NotRunning, match="cannot be asked"):
        post(endpoints(f"{edge}/200/good"), b"{}", write_key="k\nx")


def test_an_edge_that_is_gone_is_said_as_elsewhere() -> None:
    """With its address, and what may have ended."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(NotRunning) as gone:
        post(endpoints(url), b"{}", write_key="k")
    assert str(gone.value) == f"{url} does not answer (Connection refused); is `clew up` still running?"


@pytest.mark.parametrize(("path", "status"), [("/200/good", 0), ("/200/bad", 1), ("/401/bad", 1), ("/200/html", 1)])
def test_the_exit_status_says_whether_all_was_taken(tmp_path: Path, edge: str, path: str, status: int) -> None:
    """0 only for a success without a rejected event."""
    fields = ("http", "kafka", "grpc", "write_key", "admin_token")
    made = endpoints(edge + path)
    write_private(Layout(tmp_path).endpoints, {name: getattr(made, name) for name in fields})
    assert send(tmp_path, b"{}", write_key="", token="") == status


def test_without_a_mesh_nothing_is_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message says what to start."""
    assert send(tmp_path, b"{}", write_key="", token="") == 1
    assert "start `clew up`" in capsys.readouterr().err
