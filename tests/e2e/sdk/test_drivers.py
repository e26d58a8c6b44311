"""What the unmodified client libraries really send: the wire behaviour that the edge is built for.

A library that is updated and no longer does what stands here is a change of the product's input: look at the edge
before this table.
"""

from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.sdk.drivers import DRIVERS, DeliveryError
from tests.e2e.sdk.scenario import CALLS_PER_VISITOR, anonymous_id, user_id
from tests.support.recorder import Recorder, recording

_SHORT_PATHS = frozenset(f"POST /v1/{path}" for path in "pstiga")


@dataclass(frozen=True)
class Wire:
    """How a library speaks."""

    paths: frozenset[str]
    content_type: str
    envelope_keys: frozenset[str]
    compressed: bool = False
    largest_batch: int = 100


_SEGMENT_BATCH = frozenset({"batch", "writeKey", "sentAt"})
_BATCH_PATH = frozenset({"POST /v1/batch"})

WIRES = {
    "segment-python": Wire(_BATCH_PATH, "application/json", _SEGMENT_BATCH),
    "rudder-python": Wire(_BATCH_PATH, "application/json", frozenset({"batch", "sentAt"}), compressed=True),
    "segment-node": Wire(_BATCH_PATH, "application/json", _SEGMENT_BATCH, largest_batch=15),
    "rudder-node": Wire(
        _BATCH_PATH,
        "application/x-www-form-urlencoded",
        frozenset({"batch", "timestamp", "sentAt"}),
        compressed=True,
        largest_batch=20,
    ),
    "segment-browser": Wire(
        _SHORT_PATHS, "text/plain", frozenset({"writeKey", "messageId", "sentAt", "type"}), largest_batch=1
    ),
    "segment-browser-batching": Wire(frozenset({"POST /v1/b"}), "text/plain", _SEGMENT_BATCH, largest_batch=10),
}


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A collector that keeps what it is sent."""
    with recording() as running:
        yield running


@pytest.fixture(params=DRIVERS)
def library(request: pytest.FixtureRequest) -> str:
    """Each client library in turn."""
    name: str = request.param
    return name


def test_every_library_is_described() -> None:
    """A library without its wire behaviour written down would be driven and not examined."""
    assert DRIVERS.keys() == WIRES.keys()


def test_the_ids_that_a_driver_returns_are_the_ids_that_arrive(library: str, recorder: Recorder) -> None:
    """Each message arrives once, under the id that the driver returned, with an id that suits the collector."""
    ids = DRIVERS[library].run(recorder.endpoint, "key", 2, "run")
    assert len(ids) == len(set(ids)) == 2 * CALLS_PER_VISITOR
    assert Counter(event["messageId"] for event in recorder.events()) == Counter(ids)
    assert all(1 <= len(message_id) <= 100 for message_id in ids)


def test_every_call_is_made_anonymous_and_then_identified(library: str, recorder: Recorder) -> None:
    """Each visitor's events carry the anonymous id, and from the login on the user id too."""
    DRIVERS[library].run(recorder.endpoint, "key", 2, "run")
    for visitor in range(2):
        anonymous, user = anonymous_id("run", visitor), user_id("run", visitor)
        mine = [
            event for event in recorder.events() if anonymous in (event.get("anonymousId"), event.get("previousId"))
        ]
        before = {event["type"] for event in mine if event.get("userId") is None}
        after = {event["type"] for event in mine if event.get("userId") == user}
        assert before == {"page", "screen", "track", "identify", "group"}
        assert after == before | {"alias"}
        assert len(mine) == CALLS_PER_VISITOR


def test_a_library_speaks_as_the_edge_expects(library: str, recorder: Recorder) -> None:
    """Route, content type, compression, authorization, envelope and batch size are those that the edge is built for."""
    DRIVERS[library].run(recorder.endpoint, "key", 3, "run")
    wire = WIRES[library]
    assert {path for path in recorder.paths() if path.startswith("POST")} == wire.paths
    for request in recorder.posts():
        scheme, _, credentials = request.headers["Authorization"].partition(" ")
        assert (scheme, b64decode(credentials)) == ("Basic", b"key:")
        assert request.headers.get_content_type() == wire.content_type
        assert request.body.startswith(b"\x1f\x8b") == wire.compressed
        assert wire.envelope_keys <= request.envelope().keys()
        assert len(request.events()) <= wire.largest_batch
    assert wire.largest_batch == 1 or max(len(request.events()) for request in recorder.posts()) > 1


def test_text_arrives_as_it_was_written(library: str, recorder: Recorder) -> None:
    """Accents and symbols survive; traits stand at the top or, from rudder-python, in the context only."""
    DRIVERS[library].run(recorder.endpoint, "key", 1, "run")
    identifies = [event for event in recorder.events() if event["type"] == "identify"]
    assert len(identifies) == 2
    for event in identifies:
        traits = event["context"]["traits"] if library == "rudder-python" else event["traits"]
        assert traits["favourite"] == "Zoë's café ☕"


def test_identity_tokens_travel_with_the_events_of_their_user(library: str, recorder: Recorder) -> None:
    """A token is in the context of every call that its user makes, and of no other."""
    DRIVERS[library].run(recorder.endpoint, "key", 2, "run", tokens={user_id("run", 1): "a.b.c"})
    for event in recorder.events():
        expected = "a.b.c" if event.get("userId") == user_id("run", 1) else None
        assert event["context"].get("identityToken") == expected


def test_what_is_refused_for_a_moment_is_sent_again_under_the_same_ids(library: str, recorder: Recorder) -> None:
    """After a 503 a library sends again: nothing is lost, and an id stays what it was."""
    recorder.refuse_next = 2
    ids = DRIVERS[library].run(recorder.endpoint, "key", 1, "run")
    assert Counter(event["messageId"] for event in recorder.events()) == Counter(ids)
    assert len(recorder.refused) == 2
    assert {event["messageId"] for request in recorder.refused for event in request.events()} <= set(ids)


@pytest.mark.parametrize("library", ["segment-browser", "segment-browser-batching"])
def test_the_browser_asks_for_settings_and_for_permission(library: str, recorder: Recorder) -> None:
    """It begins with the source's settings, and asks before it sends its key in a header across origins."""
    DRIVERS[library].run(recorder.endpoint, "key", 1, "run")
    assert recorder.requests[0].path == "/v1/projects/key/settings"
    asked = {
        name
        for request in recorder.requests
        if request.method == "OPTIONS"
        for name in request.headers["Access-Control-Request-Headers"].split(",")
    }
    assert asked == {"authorization"}
    assert all(request.headers["Origin"].startswith("http://127.0.0.1:") for request in recorder.posts())


def test_a_driver_that_cannot_deliver_says_so(recorder: Recorder) -> None:
    """A library that is not done in time is an error, not an empty list."""
    recorder.refuse_next = 1_000
    with pytest.raises(DeliveryError, match="not done within"):
        DRIVERS["segment-python"].run(recorder.endpoint, "key", 1, "run", timeout_seconds=3)
